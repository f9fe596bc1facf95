//! Accepts connections: TLS, HTTP/2 with limits, one stream each.

use super::service::{Admission, NodeLinkService, Stage};
use super::{NodeSessions, Shared, count};
use crate::MESSAGE_LIMIT_BYTES;
use crate::wire::node_link_server::NodeLinkServer;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use infmon_runtime::deadline;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tower::Service;

/// An accept error such as "too many open files" lasts; without a pause the loop would spin on it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for the last frames of a stream that has ended.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes a peer may send before it has authenticated: a Hello is below 1 KiB.
const PENDING_LIMIT_BYTES: usize = 16 * 1024;
/// Window of a stream and of a connection: what a peer can make us hold.
const WINDOW_BYTES: u32 = 64 * 1024;
/// A projected token is 1 to 2 KiB.
const HEADER_LIMIT_BYTES: u32 = 16 * 1024;

pub(super) async fn accept<S: NodeSessions>(shared: &Arc<Shared<S>>, listener: TcpListener) {
    let connections = Arc::new(Semaphore::new(shared.options.max_connections));
    let pending = Arc::new(Semaphore::new(shared.options.max_pending));
    loop {
        let Ok(pending) = Arc::clone(&pending).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                count(&shared.counts.connections);
                let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
                    count(&shared.counts.overflowed);
                    tracing::warn!(%peer, limit = shared.options.max_connections, "too many connections");
                    continue;
                };
                let shared = Arc::clone(shared);
                let tasks = shared.tasks.clone();
                tasks.spawn(async move {
                    if let Err(error) = serve(shared, stream, pending).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "link server cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<S: NodeSessions>(
    shared: Arc<Shared<S>>,
    stream: TcpStream,
    pending: OwnedSemaphorePermit,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let options = &shared.options;
    let accepted = TlsAcceptor::from(shared.tls.current()).accept(stream);
    let handshake = deadline("TLS handshake", options.handshake_deadline, accepted).await;
    let stream = handshake.map_err(io::Error::other).flatten().inspect_err(|_| {
        count(&shared.counts.failed_handshakes);
    })?;

    let admission = Arc::new(Admission::new());
    let mut stage = admission.stage();
    let service = NodeLinkServer::new(NodeLinkService::new(Arc::clone(&shared), Arc::clone(&admission)))
        .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
        .max_encoding_message_size(MESSAGE_LIMIT_BYTES);
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let request = request.map(|body| PendingBody::new(body, Arc::clone(&admission)));
        service.clone().call(request)
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(1)
        .max_header_list_size(HEADER_LIMIT_BYTES)
        .max_pending_accept_reset_streams(8)
        .max_local_error_reset_streams(8)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(WINDOW_BYTES as usize)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // The service has deadlines of its own; this one is for peers that never open a stream, or open ones that lead nowhere.
    let pending_deadline = options.first_message_deadline + options.authentication_deadline;
    tokio::select! {
        result = connection.as_mut() => return result.map_err(io::Error::other),
        _ = tokio::time::timeout(pending_deadline, stage.wait_for(|stage| *stage != Stage::Pending)) => {}
        () = shared.shutdown.cancelled() => {}
    }
    drop(pending);
    if *stage.borrow() == Stage::Admitted {
        tokio::select! {
            result = connection.as_mut() => return result.map_err(io::Error::other),
            _ = stage.wait_for(|stage| *stage == Stage::Ended) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    let flushed = deadline("last frames", FLUSH_DEADLINE, connection).await;
    flushed.map_err(io::Error::other)?.map_err(io::Error::other)
}

/// A request body that ends in an error when a peer sends more than a Hello before it has authenticated.
#[derive(Debug)]
struct PendingBody {
    body: Incoming,
    admission: Arc<Admission>,
    bytes: usize,
}

impl PendingBody {
    fn new(body: Incoming, admission: Arc<Admission>) -> Self {
        Self {
            body,
            admission,
            bytes: 0,
        }
    }
}

impl Body for PendingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        let length = frame
            .iter()
            .flatten()
            .filter_map(Frame::data_ref)
            .map(Bytes::len)
            .sum::<usize>();
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > PENDING_LIMIT_BYTES && !self.admission.is_admitted() {
            return Poll::Ready(Some(Err(io::Error::other("too many bytes before the authentication"))));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
