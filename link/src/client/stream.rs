//! One connection and its stream, from the first packet to the last.

use super::{OperatorState, Shared};
use crate::codec::{decode_plan, encode_hello, encode_report};
use crate::wire::node_link_client::NodeLinkClient;
use crate::wire::{FromNode, from_node, to_node};
use crate::{MESSAGE_LIMIT_BYTES, PROTOCOL_VERSION};
use futures::StreamExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use infmon_runtime::{DeadlineExceeded, deadline, tls};
use infmon_samples::Report;
use rustls_pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::WatchStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("cannot read {}: {source}; the pod needs this file mounted", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the token in {} is not one line of printable text", .0.display())]
    Token(PathBuf),
    #[error("{} is no CA bundle: {source}", path.display())]
    Authorities { path: PathBuf, source: tls::TlsError },
    #[error("{0:?} is not a server name")]
    ServerName(String),
    #[error("cannot connect: {0}; is the operator running, and does a NetworkPolicy allow the way?")]
    Connect(#[source] io::Error),
    #[error("TLS failed: {0}; does the CA file belong to this operator?")]
    Tls(#[source] io::Error),
    #[error("HTTP/2 failed: {0}")]
    Http(#[source] hyper::Error),
    #[error(transparent)]
    Deadline(#[from] DeadlineExceeded),
    #[error("the operator refuses this node: {}", words(.0))]
    Refused(Box<Status>),
    #[error("{}", words(.0))]
    Ended(Box<Status>),
}

/// The text of a status, with its code where the text alone says too little.
fn words(status: &Status) -> String {
    match status.code() {
        Code::Ok => "the operator ended the stream".to_owned(),
        Code::Unavailable | Code::Aborted if !status.message().is_empty() => status.message().to_owned(),
        code => format!("{} ({code:?})", status.message()),
    }
}

/// Connects, and runs the stream until it ends; says why it ended.
pub(super) async fn run(address: SocketAddr, shared: &Shared) -> LinkError {
    match exchange(address, shared).await {
        Ok(status) => LinkError::Ended(Box::new(status)),
        Err(error) => error,
    }
}

async fn exchange(address: SocketAddr, shared: &Shared) -> Result<Status, LinkError> {
    let options = &shared.options;
    let authorization = read_token(&options.token_file).await?;
    let (sender, _connection) = deadline("connecting", options.connect_deadline, connect(address, shared)).await??;
    let service = tower::service_fn(move |request| sender.clone().send_request(request));
    let origin = http::Uri::builder()
        .scheme("https")
        .authority(options.server_name.as_str())
        .path_and_query("/")
        .build()
        .map_err(|_| LinkError::ServerName(options.server_name.clone()))?;
    let mut client = NodeLinkClient::with_origin(service, origin)
        .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
        .max_encoding_message_size(MESSAGE_LIMIT_BYTES);

    let opened = Instant::now();
    let hello = from_node::Message::Hello(encode_hello(&options.identity, PROTOCOL_VERSION));
    // Only reports made after we are let in: the ages in an older one are those of the time when it was made. The stream of a watch
    // channel holds one report, the newest, however slow the operator takes them.
    let (let_in, admitted) = oneshot::channel();
    let reports = futures::stream::once(admitted)
        .flat_map(|reports| futures::stream::iter(reports.ok()).flat_map(WatchStream::from_changes));
    let reports =
        reports.map(move |report: Arc<Report>| from_node::Message::Report(encode_report(&report, opened.elapsed())));
    let outbound = futures::stream::once(std::future::ready(hello)).chain(reports);
    let mut request = Request::new(outbound.map(|message| FromNode { message: Some(message) }));
    request.metadata_mut().insert("authorization", authorization);

    let refused = |status| LinkError::Refused(Box::new(status));
    let admission = deadline(
        "admission by the operator",
        options.admission_deadline,
        client.connect(request),
    );
    let mut inbound = admission.await?.map_err(refused)?.into_inner();
    // Fails only when the stream has ended already, which the loop below finds out.
    let mut reports = shared.reports.clone();
    reports.mark_unchanged();
    let _ = let_in.send(reports);
    shared.set_state(address, OperatorState::Connected);
    tracing::info!(operator = %address, "connected");
    loop {
        match inbound.message().await {
            Ok(Some(message)) => {
                // A message that only a newer operator knows is none for us.
                if let Some(to_node::Message::Plan(plan)) = message.message {
                    shared.choose(|choice| choice.received(address, decode_plan(plan)));
                }
            }
            Ok(None) => return Ok(Status::ok("")),
            Err(status) => return Ok(status),
        }
    }
}

type Sender = http2::SendRequest<tonic::body::Body>;

/// TCP, TLS and HTTP/2. The connection lives as long as the handle.
async fn connect(address: SocketAddr, shared: &Shared) -> Result<(Sender, AbortOnDropHandle<()>), LinkError> {
    let options = &shared.options;
    let ca = read(&options.ca_file).await?;
    let config = tls::client_config(&ca, &[b"h2"]).map_err(|source| LinkError::Authorities {
        path: options.ca_file.clone(),
        source,
    })?;
    let name = ServerName::try_from(options.server_name.clone())
        .map_err(|_| LinkError::ServerName(options.server_name.clone()))?;
    let stream = TcpStream::connect(address).await.map_err(LinkError::Connect)?;
    stream.set_nodelay(true).map_err(LinkError::Connect)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(LinkError::Tls)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .max_send_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(LinkError::Http)?;
    let connection = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(operator = %address, %error, "connection ended");
        }
    });
    Ok((sender, AbortOnDropHandle::new(connection)))
}

async fn read(path: &Path) -> Result<Vec<u8>, LinkError> {
    tokio::fs::read(path).await.map_err(|source| LinkError::File {
        path: path.to_owned(),
        source,
    })
}

/// The token as metadata that is never printed.
async fn read_token(path: &Path) -> Result<MetadataValue<Ascii>, LinkError> {
    let bytes = read(path).await?;
    let token = std::str::from_utf8(&bytes)
        .ok()
        .map(str::trim)
        .filter(|token| !token.is_empty());
    let value = token.and_then(|token| MetadataValue::try_from(format!("Bearer {token}")).ok());
    let mut value = value.ok_or_else(|| LinkError::Token(path.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
