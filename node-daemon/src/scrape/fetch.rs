//! One HTTP GET at a time to one server, over a connection that is kept.

use super::address::AddressPolicy;
use super::large::{LargeBodies, Leave, ORDINARY_BODY_BYTES};
use crate::tls::{self, SetupError};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use infmon_samples::{Access, FailureKind, Scheme, Target};
use rustls::pki_types::ServerName;
use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// What is read of the body of an error, to find its message.
const ERROR_BODY_BYTES: usize = 4 * 1024;
/// Head of a response, and what hyper reads of a body at a time.
const READ_BUFFER_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;

/// Why a GET gave no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0:?} is neither ip:port nor host:port; correct the address")]
    Address(String),
    #[error("cannot resolve the host: {0}; check the name and the cluster DNS")]
    Resolve(#[source] io::Error),
    #[error("{0} is on this machine or link-local and is not scraped")]
    Forbidden(SocketAddr),
    #[error("no connection within {} ms; is the server up, is the scheme right, and does a NetworkPolicy allow the node daemon?", .0.as_millis())]
    ConnectTimeout(Duration),
    #[error("{}", connect_words(.0))]
    Connect(#[source] io::Error),
    #[error("TLS failed: {0}; does the server speak HTTPS on this port?")]
    Tls(#[source] io::Error),
    #[error("{0}")]
    TlsRefused(String),
    #[error("{0}")]
    TlsSetup(#[from] SetupError),
    #[error("TLS cannot be set up: the task that does it ended")]
    TlsTask,
    #[error("the credentials of {0} are not sent in the clear; use https://")]
    Exposed(String),
    #[error("the credentials of {0} do not fit into a header; correct them")]
    Header(String),
    #[error("{}", http_words(error, *answered))]
    Http { error: hyper::Error, answered: bool },
    #[error("the body is encoded ({0}), although it was asked for as it is; turn compression off for this path")]
    Encoded(String),
    #[error("the body is larger than {0} bytes; is this an aggregated endpoint, not one server?")]
    TooLarge(usize),
}

fn connect_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused; is the server still starting, and is this its port?".to_owned()
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("{error}; has the pod gone, or does a NetworkPolicy stop the node daemon?")
        }
        _ => format!("cannot connect: {error}"),
    }
}

fn http_words(error: &hyper::Error, answered: bool) -> String {
    if error.is_parse_too_large() {
        return "the head of the answer is larger than 64 KiB or has more than 64 headers; is this an inference server?".to_owned();
    }
    if error.is_parse() {
        return "the answer is not HTTP/1.1; check the port and the scheme".to_owned();
    }
    if answered {
        return "the connection broke off within the body; see the server's log".to_owned();
    }
    match error.source() {
        Some(source) => format!("the connection broke off before an answer: {source}; see the server's log"),
        None => format!("the connection broke off before an answer: {error}; see the server's log"),
    }
}

impl FetchError {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::Address(_)
            | Self::Resolve(_)
            | Self::Forbidden(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::TlsRefused(_)
            | Self::TlsSetup(_)
            | Self::TlsTask
            | Self::Exposed(_)
            | Self::Header(_) => FailureKind::Unreachable,
            Self::ConnectTimeout(_) => FailureKind::Timeout,
            Self::Http { error, .. } if error.is_parse() => FailureKind::Malformed,
            Self::Http { .. } => FailureKind::Unreachable,
            Self::Encoded(_) => FailureKind::Malformed,
            Self::TooLarge(_) => FailureKind::BodyTooLarge,
        }
    }

    /// True when the server closed a kept connection at the moment we used it: normal, and worth one new connection.
    fn is_stale_connection(&self) -> bool {
        matches!(self, Self::Http { error, answered: false } if !error.is_parse())
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// GETs from one server.
pub(super) struct Fetcher {
    address: String,
    authority: Option<HeaderValue>,
    scheme: Scheme,
    access: Access,
    /// Made for the first connection.
    tls: Option<TlsConnector>,
    policy: AddressPolicy,
    connection: Option<Connection>,
    body: Vec<u8>,
    large_bodies: LargeBodies,
    leave: Option<Leave>,
}

impl Fetcher {
    pub(super) fn new(target: &Target, policy: AddressPolicy, large_bodies: LargeBodies) -> Self {
        Self {
            address: target.address.clone(),
            authority: HeaderValue::from_str(&target.address).ok(),
            scheme: target.scheme,
            access: target.access.clone(),
            tls: None,
            policy,
            connection: None,
            body: Vec::new(),
            large_bodies,
            leave: None,
        }
    }

    /// The body of the last GET.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// GETs `path`. A body of at most `limit` bytes is read for a success, the beginning of it for an error.
    ///
    /// Dropping the future drops the connection with it, so that no late answer meets the next request.
    pub(super) async fn get(
        &mut self,
        path: &PathAndQuery,
        limit: usize,
        connect_within: Duration,
    ) -> Result<StatusCode, FetchError> {
        self.let_go();
        if let Some(connection) = self.connection.take()
            && connection.sender.is_ready()
        {
            match self.exchange(connection, path, limit).await {
                Err(error) if error.is_stale_connection() => {}
                result => return result,
            }
        }
        let connecting = tokio::time::timeout(connect_within, self.connect()).await;
        let connection = connecting.map_err(|_| FetchError::ConnectTimeout(connect_within))??;
        self.exchange(connection, path, limit).await
    }

    /// Gives the memory of the body back: between two scrapes the reader keeps its layout, and that is as large as the body.
    pub(super) fn let_go(&mut self) {
        self.body = Vec::new();
        self.leave = None;
    }

    async fn connect(&mut self) -> Result<Connection, FetchError> {
        let address = self.resolve().await?;
        self.refuse_exposure(address)?;
        let stream = TcpStream::connect(address).await.map_err(FetchError::Connect)?;
        stream.set_nodelay(true).map_err(FetchError::Connect)?;
        let io: Box<dyn Io> = match self.scheme {
            Scheme::Http => Box::new(stream),
            Scheme::Https => {
                let tls = self.connector().await?;
                let handshake = tls.connect(server_name(&self.address)?, stream).await;
                Box::new(handshake.map_err(|error| self.tls_refused(error))?)
            }
        };
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(READ_BUFFER_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| FetchError::Http { error, answered: false })?;
        let driver = tokio::spawn(async move {
            // Errors reach the request that they concern.
            let _ = driver.await;
        });
        Ok(Connection {
            sender,
            _driver: AbortOnDropHandle::new(driver),
        })
    }

    /// Credentials go to a server that proves its name, or to this machine where its owner names the targets. Whoever plans sees to
    /// that as well.
    fn refuse_exposure(&self, address: SocketAddr) -> Result<(), FetchError> {
        let protected = match self.scheme {
            Scheme::Http => self.policy == AddressPolicy::Any && address.ip().is_loopback(),
            Scheme::Https => self.access.verify_certificate,
        };
        match &self.access.credentials {
            Some(credentials) if credentials.are_secret() && !protected => {
                Err(FetchError::Exposed(credentials.source.clone()))
            }
            _ => Ok(()),
        }
    }

    async fn connector(&mut self) -> Result<TlsConnector, FetchError> {
        if let Some(made) = &self.tls {
            return Ok(made.clone());
        }
        let access = self.access.clone();
        let made = tokio::task::spawn_blocking(move || tls::connector(&access)).await;
        let made = made.map_err(|_| FetchError::TlsTask)??;
        self.tls = Some(made.clone());
        Ok(made)
    }

    fn tls_refused(&self, error: io::Error) -> FetchError {
        match tls::explain(&error, self.host(), &self.access) {
            Some(words) => FetchError::TlsRefused(words),
            None => FetchError::Tls(error),
        }
    }

    fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or("", |(host, _)| host)
    }

    async fn resolve(&self) -> Result<SocketAddr, FetchError> {
        let address = match self.address.parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) if !is_host_and_port(&self.address) => return Err(FetchError::Address(self.address.clone())),
            Err(_) => {
                let mut addresses = tokio::net::lookup_host(&self.address)
                    .await
                    .map_err(FetchError::Resolve)?;
                let none = || FetchError::Resolve(io::Error::other("the name has no address"));
                addresses.next().ok_or_else(none)?
            }
        };
        // After resolving, so that no name leads where no address may.
        if self.policy.allows(address) {
            Ok(address)
        } else {
            Err(FetchError::Forbidden(address))
        }
    }

    async fn exchange(
        &mut self,
        mut connection: Connection,
        path: &PathAndQuery,
        limit: usize,
    ) -> Result<StatusCode, FetchError> {
        let request = self.request(path)?;
        let sent = connection.sender.send_request(request).await;
        // A server of TLS 1.3 refuses a client certificate only now.
        let response = sent.map_err(|error| match tls::explain(&error, self.host(), &self.access) {
            Some(words) => FetchError::TlsRefused(words),
            None => FetchError::Http { error, answered: false },
        })?;
        let status = response.status();
        refuse_encoding(&response)?;
        let mut body = response.into_body();
        let limit = if status.is_success() { limit } else { ERROR_BODY_BYTES };
        self.body.clear();
        if body.size_hint().lower() > limit as u64 && status.is_success() {
            return Err(FetchError::TooLarge(limit));
        }
        let complete = self.read(&mut body, limit).await;
        let complete = complete.map_err(|error| FetchError::Http { error, answered: true })?;
        if complete {
            self.connection = Some(connection);
        } else if status.is_success() {
            self.body.clear();
            return Err(FetchError::TooLarge(limit));
        }
        Ok(status)
    }

    /// Reads up to `limit` bytes; false when there is more.
    async fn read(&mut self, body: &mut Incoming, limit: usize) -> Result<bool, hyper::Error> {
        let promised = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        if let Some(bytes) = promised.filter(|bytes| *bytes <= limit.min(ORDINARY_BODY_BYTES)) {
            self.body.reserve_exact(bytes);
        }
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if data.len() > limit - self.body.len() {
                return Ok(false);
            }
            if self.leave.is_none() && self.body.len() + data.len() > ORDINARY_BODY_BYTES {
                let rest = body.size_hint().exact().and_then(|rest| usize::try_from(rest).ok());
                let whole = rest.map_or(limit, |rest| limit.min(self.body.len() + data.len() + rest));
                self.leave = Some(self.large_bodies.leave(whole).await);
                self.body.reserve_exact(whole - self.body.len());
            }
            self.body.extend_from_slice(&data);
        }
        Ok(true)
    }

    fn request(&self, path: &PathAndQuery) -> Result<Request<Empty<Bytes>>, FetchError> {
        let authority = self
            .authority
            .clone()
            .ok_or_else(|| FetchError::Address(self.address.clone()))?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = path.clone().into();
        let headers = request.headers_mut();
        headers.insert(HOST, authority);
        headers.insert(ACCEPT, HeaderValue::from_static("text/plain;version=0.0.4"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let agent = concat!("infmon-node-daemon/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(credentials) = &self.access.credentials
            && let Some(authorization) = &credentials.authorization
        {
            let mut value = HeaderValue::from_str(authorization.reveal())
                .map_err(|_| FetchError::Header(credentials.source.clone()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// Whom the certificate must be for: what the plan names, never what a name server made of it.
fn server_name(address: &str) -> Result<ServerName<'static>, FetchError> {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return Ok(ServerName::from(address.ip()));
    }
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Address(address.to_owned()))
}

fn is_host_and_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// An encoded body could be a decompression bomb, and a server that ignores `identity` is misconfigured.
fn refuse_encoding(response: &Response<Incoming>) -> Result<(), FetchError> {
    let mut encodings = response.headers().get_all(CONTENT_ENCODING).iter();
    match encodings.find(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(value) => {
            let name = value.to_str().unwrap_or("?").chars().take(20).collect();
            Err(FetchError::Encoded(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_what_the_plan_names_or_for_nothing() {
        for (address, name) in [
            ("llm.example.com:443", Some("llm.example.com")),
            ("10.1.2.3:8443", Some("10.1.2.3")),
            ("[fd00::1]:443", Some("fd00::1")),
            // Resolvers take these two for 127.0.0.1.
            ("127.1:443", None),
            ("0x7f000001:443", Some("0x7f000001")),
            ("-llm.example.com:443", None),
            ("llm..example.com:443", None),
        ] {
            let name = name.and_then(|name| ServerName::try_from(name).ok());
            assert_eq!(server_name(address).ok(), name, "{address}");
        }
    }
}
