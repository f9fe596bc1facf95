//! One GET, by the rules of the node daemon: no redirects, no proxy, no encoding, a deadline and a limit, and credentials for one server
//! alone.

use super::url::Url;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use infmon_engines::{Engine, HttpProblem, explain_http_of};
use infmon_node_daemon::tls;
use infmon_samples::{Access, Credentials};
use rustls::pki_types::ServerName;
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// For all of one GET: who asks by hand waits a little longer than a scrape does.
const DEADLINE: Duration = Duration::from_secs(5);
/// What is read of the body of an error, to find its message.
const ERROR_BODY_BYTES: usize = 4 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum GetError {
    #[error("cannot resolve the host: {0}; check the name")]
    Resolve(io::Error),
    #[error("connection refused; is the server up, and is this its port?")]
    Refused,
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS failed: {0}; does the server speak HTTPS on this port?")]
    Tls(io::Error),
    #[error("{0}")]
    Refuses(String),
    #[error("the name leads to another machine, where credentials would go in the clear: use https://")]
    Exposed,
    #[error(transparent)]
    Setup(#[from] tls::SetupError),
    #[error("this host cannot be asked: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("{}", http_words(.0))]
    Http(hyper::Error),
    #[error("the body is encoded ({0}), although it was asked for as it is; turn compression off for this path")]
    Encoded(String),
    #[error("the body is larger than {} MiB; is this an aggregated endpoint, not one server?", .0 >> 20)]
    TooLarge(usize),
}

fn http_words(error: &hyper::Error) -> String {
    if error.is_parse() {
        return "the answer is not HTTP/1.1; check the port and the scheme".to_owned();
    }
    match error.source() {
        Some(source) => format!("the connection broke off: {source}; see the server's log"),
        None => format!("the connection broke off: {error}; see the server's log"),
    }
}

/// What a server answered: the body of a success, the beginning of the body otherwise.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Who asks, and what one server is shown.
#[derive(Debug, Default)]
pub(super) struct Client {
    shown: Option<(Url, Access)>,
}

impl Client {
    /// Shows `credentials` to the server of `url` and to no other.
    ///
    /// # Errors
    /// When they would go in the clear.
    pub(super) fn of(url: &Url, credentials: Credentials) -> Result<Self, &'static str> {
        if !url.tls && credentials.are_secret() && !url.is_loopback() {
            return Err("credentials go over https:// or to this machine only: they would be sent in the clear");
        }
        let access = Access {
            verify_certificate: true,
            credentials: Some(Arc::new(credentials)),
        };
        Ok(Self {
            shown: Some((url.clone(), access)),
        })
    }

    fn access(&self, url: &Url) -> Access {
        let shown = self.shown.as_ref().filter(|(server, _)| server.is_same_server(url));
        shown.map(|(_, access)| access.clone()).unwrap_or_default()
    }

    /// GETs `url`, whatever the status is.
    ///
    /// # Errors
    /// When there is no answer within the deadline, with what to do about it; the text begins with the URL.
    pub(super) async fn ask(&self, url: &Url, limit: usize) -> Result<Answer, String> {
        match tokio::time::timeout(DEADLINE, exchange(url, &self.access(url), limit)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("{url}: {error}")),
            Err(_) => Err(format!(
                "{url}: no complete answer within {} s; is the host right, and is the server up and not overloaded?",
                DEADLINE.as_secs()
            )),
        }
    }

    /// The body of a successful GET of `url`.
    ///
    /// # Errors
    /// When the server gives none, with what to do about it; the text begins with the URL.
    pub(super) async fn get(&self, url: &Url, limit: usize) -> Result<Vec<u8>, String> {
        let answer = self.ask(url, limit).await?;
        if answer.status.is_success() {
            Ok(answer.body)
        } else {
            Err(self.refusal(url, &answer, None))
        }
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, url: &Url, answer: &Answer, engine: Option<Engine>) -> String {
        let shown = self.access(url).credentials;
        // A server may echo what it is shown, and what is printed here is passed on.
        let secret = shown.as_ref().is_some_and(|given| given.are_secret());
        let body: &[u8] = if secret { b"" } else { &answer.body };
        let explanation = explain_http_of(engine, answer.status.as_u16(), body, url.path.as_str());
        let next = match (explanation.kind, shown) {
            (HttpProblem::Unauthorized, None) => "; give --bearer-token-file or --basic-auth-file",
            (HttpProblem::Unauthorized, Some(_)) => "; it was shown the credentials of the command line: correct them",
            _ => "",
        };
        format!("{url}: {}{next}", explanation.message)
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn exchange(url: &Url, access: &Access, limit: usize) -> Result<Answer, GetError> {
    let io = connect(url, access).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(GetError::Http)?;
    // Errors reach the request that they concern.
    let connection = tokio::spawn(connection);
    let sent = sender.send_request(request(url, access)?).await;
    // A server of TLS 1.3 refuses a client certificate only now.
    let response = sent.map_err(|error| match tls::explain(&error, &url.host, access) {
        Some(words) => GetError::Refuses(words),
        None => GetError::Http(error),
    })?;
    refuse_encoding(&response)?;
    let status = response.status();
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    if status.is_success() {
        if !read(&mut incoming, limit, &mut body).await? {
            return Err(GetError::TooLarge(limit));
        }
    } else {
        read(&mut incoming, ERROR_BODY_BYTES, &mut body).await?;
    }
    connection.abort();
    Ok(Answer { status, body })
}

async fn connect(url: &Url, access: &Access) -> Result<Box<dyn Io>, GetError> {
    let mut addresses: Vec<_> = tokio::net::lookup_host((url.host.as_str(), url.port))
        .await
        .map_err(GetError::Resolve)?
        .collect();
    if !url.tls && access.credentials.as_ref().is_some_and(|given| given.are_secret()) {
        // Whatever a name server says of localhost.
        addresses.retain(|address| address.ip().is_loopback());
        if addresses.is_empty() {
            return Err(GetError::Exposed);
        }
    }
    // A name with an IPv6 and an IPv4 address often answers on one of them only (localhost).
    let stream = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => GetError::Refused,
            _ => GetError::Connect(error),
        })?;
    if !url.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|error| GetError::Tls(io::Error::other(error)))?;
    let handshake = tls::connector(access)?.connect(name, stream).await;
    let stream = handshake.map_err(|error| match tls::explain(&error, &url.host, access) {
        Some(words) => GetError::Refuses(words),
        None => GetError::Tls(error),
    })?;
    Ok(Box::new(stream))
}

fn request(url: &Url, access: &Access) -> Result<Request<Empty<Bytes>>, GetError> {
    let mut request = Request::get(url.path.as_str())
        .header(HOST, url.authority())
        .header(ACCEPT, HeaderValue::from_static("text/plain;version=0.0.4"))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(
            USER_AGENT,
            HeaderValue::from_static(concat!("infmon/", env!("CARGO_PKG_VERSION"))),
        );
    let shown = access
        .credentials
        .as_ref()
        .and_then(|given| given.authorization.as_ref());
    if let Some(authorization) = shown {
        let mut value = HeaderValue::from_str(authorization.reveal()).map_err(hyper::http::Error::from)?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    Ok(request.body(Empty::new())?)
}

/// Reads up to `limit` bytes; false when there is more.
async fn read(incoming: &mut Incoming, limit: usize, body: &mut Vec<u8>) -> Result<bool, GetError> {
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(GetError::Http)?.into_data() else {
            continue;
        };
        let room = limit.saturating_sub(body.len());
        body.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An encoded body could be a decompression bomb, and a server that ignores `identity` is misconfigured.
fn refuse_encoding(response: &Response<Incoming>) -> Result<(), GetError> {
    let mut encodings = response.headers().get_all(CONTENT_ENCODING).iter();
    match encodings.find(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(value) => Err(GetError::Encoded(
            value.to_str().unwrap_or("?").chars().take(20).collect(),
        )),
    }
}
