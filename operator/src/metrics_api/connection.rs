//! One connection: handshake, requests, and when it ends.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{authentication::PeerCertificates, server::ServeOptions};

/// The client at the other end of a connection, as its requests see it.
#[derive(Debug)]
pub(super) struct Peer {
    certificates: PeerCertificates,
    is_known: AtomicBool,
    requests: AtomicUsize,
    last_used: Mutex<Instant>,
    close: CancellationToken,
}

impl Peer {
    fn new(certificates: PeerCertificates) -> Self {
        Self {
            certificates,
            is_known: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
            close: CancellationToken::new(),
        }
    }

    /// What it presented in the handshake.
    pub(super) fn certificates(&self) -> &PeerCertificates {
        &self.certificates
    }

    /// Notes whether a request named a known caller. A connection without one ends with the answer, as in apiserver
    /// `pkg/endpoints/filters/authentication.go` (the HTTP/2 mitigation): it costs strangers a handshake per request.
    pub(super) fn note_authenticated(&self, is_known: bool) {
        if is_known {
            self.is_known.store(true, Ordering::Relaxed);
        } else {
            self.close.cancel();
        }
    }

    /// Whether nothing was asked for too long. Whoever never showed an identity has less time.
    fn is_idle(&self, options: &ServeOptions) -> bool {
        let limit = if self.is_known.load(Ordering::Relaxed) {
            options.idle
        } else {
            options.idle_stranger
        };
        self.requests.load(Ordering::Relaxed) == 0 && self.last_used().elapsed() >= limit
    }

    fn last_used(&self) -> Instant {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> RequestInFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        RequestInFlight(Arc::clone(self))
    }
}

/// Counts a request for as long as it lives.
struct RequestInFlight(Arc<Peer>);

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        *self.0.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection until its client leaves, is idle for too long, or `closing` is cancelled; then the requests in
/// flight are finished.
pub(super) async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    options: ServeOptions,
    closing: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set TCP_NODELAY");
    }
    let handshake = tokio::time::timeout(options.handshake, acceptor.accept(stream));
    let tls = match closing.run_until_cancelled(handshake).await {
        Some(Ok(Ok(tls))) => tls,
        // Port probes end here, so this is no warning.
        Some(Ok(Err(error))) => return tracing::debug!(%error, "a TLS handshake failed"),
        Some(Err(_)) => return tracing::debug!("a TLS handshake took too long"),
        None => return,
    };
    let (_, session) = tls.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let chain = session
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|der| der.clone().into_owned());
    let peer = Arc::new(Peer::new(PeerCertificates::new(chain.collect())));

    let service = service_fn({
        let peer = Arc::clone(&peer);
        move |request: Request<Incoming>| {
            let in_flight = peer.begin();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Arc::clone(&peer));
            let answer = router.clone().call(request);
            async move {
                let answer = answer.await;
                drop(in_flight);
                answer
            }
        }
    });
    let builder = builder(is_http2);
    let connection = builder.serve_connection(TokioIo::new(tls), service);
    tokio::pin!(connection);

    let end = async {
        let mut beat = tokio::time::interval(options.idle_stranger.min(options.idle) / 2);
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                () = peer.close.cancelled() => return,
                _ = beat.tick() => if peer.is_idle(&options) { return },
            }
        }
    };
    let result = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = end => None,
    };
    let result = match result {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            // A client that does not read its answers does not keep the connection.
            match tokio::time::timeout(options.finish, connection).await {
                Ok(result) => result,
                Err(_) => return tracing::debug!("a connection did not finish in time"),
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(error, "a connection failed");
    }
}

/// The HTTP limits. Requests have no bodies and short headers; answers are a few kilobytes.
fn builder(is_http2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(90))
        .max_headers(128)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(64 * 1024)
        .max_pending_accept_reset_streams(32)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    if is_http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}
