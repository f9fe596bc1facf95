//! The admin server of every binary, over plain HTTP.
//!
//! | endpoint | answers |
//! |---|---|
//! | `GET /livez` | 200 while the process can answer at all. Never depends on GPUs, the API server or any peer: a restart heals none of them |
//! | `GET /readyz` | 200 when every latch of [`Readiness`] is released, else 503 with what is waited for, one line each |
//! | `GET /metrics` | OpenMetrics text |
//!
//! There are no profiling or debug endpoints on purpose.

use crate::readiness::Readiness;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Probes and a few scrapers need a handful; more is somebody holding connections open.
const MAX_CONNECTIONS: usize = 64;
/// Also bounds how long an idle connection is kept.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// An accept error such as "too many open files" lasts; without a pause the loop would spin on it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// `GET /metrics` content type.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A bound admin server; [`AdminServer::run`] serves it.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    router: Router,
}

#[derive(Clone, Debug)]
struct Shared {
    readiness: Readiness,
    registry: Arc<Registry>,
}

impl AdminServer {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(address: SocketAddr, readiness: Readiness, registry: Arc<Registry>) -> io::Result<Self> {
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(Shared { readiness, registry });
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            router,
        })
    }

    /// Serves further routes as well, for example a read-only status page.
    #[must_use]
    pub fn with_routes(mut self, routes: Router) -> Self {
        self.router = self.router.merge(routes);
        self
    }

    /// The address listened on.
    ///
    /// # Errors
    /// When the socket cannot tell.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                // Full: dropping the stream answers with a reset, and probes try again.
                Ok((stream, _)) => {
                    if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                        connections.spawn(serve(stream, self.router.clone(), shutdown.clone(), place));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "admin server cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.close();
        connections.wait().await;
    }
}

async fn serve(stream: TcpStream, router: Router, shutdown: CancellationToken, _place: OwnedSemaphorePermit) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // Errors are the peer's: a broken request or a reset.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_millis(500), connection).await;
        }
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let pending = shared.readiness.pending();
    if pending.is_empty() {
        return "ok\n".into_response();
    }
    let text = pending
        .iter()
        .fold(String::new(), |text, line| text + "waiting for " + line + "\n");
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = String::with_capacity(8 * 1024);
    match prometheus_client::encoding::text::encode(&mut text, &shared.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Running {
        address: SocketAddr,
        readiness: Readiness,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn running() -> Running {
        let readiness = Readiness::new();
        let mut registry = Registry::default();
        crate::process::register(&mut registry, "test", "0.0.0");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = AdminServer::bind(any, readiness.clone(), Arc::new(registry))
            .await
            .unwrap();
        let stop = CancellationToken::new();
        Running {
            address: server.local_address().unwrap(),
            readiness,
            stop: stop.clone(),
            task: tokio::spawn(server.run(stop)),
        }
    }

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_probes_and_metrics() {
        let server = running().await;
        let latch = server.readiness.latch("first plan");
        assert!(get(server.address, "GET /livez").await.starts_with("HTTP/1.1 200"));
        let waiting = get(server.address, "GET /readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("waiting for first plan"));
        latch.release();
        assert!(get(server.address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = get(server.address, "GET /metrics").await;
        assert!(
            metrics.contains(OPENMETRICS) && metrics.ends_with("# EOF\n"),
            "{metrics}"
        );
    }

    #[tokio::test]
    async fn serves_nothing_else() {
        let server = running().await;
        for path in ["/", "/debug/pprof", "/config", "/metrics/../livez"] {
            assert!(
                get(server.address, &format!("GET {path}"))
                    .await
                    .starts_with("HTTP/1.1 404"),
                "{path}"
            );
        }
        assert!(get(server.address, "POST /metrics").await.starts_with("HTTP/1.1 405"));
    }

    #[tokio::test]
    async fn ends_although_a_connection_is_held_open() {
        let server = running().await;
        let _idle = TcpStream::connect(server.address).await.unwrap();
        assert!(get(server.address, "GET /livez").await.starts_with("HTTP/1.1 200"));
        server.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), server.task)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn connections_held_open_are_bounded() {
        let server = running().await;
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            held.push(TcpStream::connect(server.address).await.unwrap());
        }
        let mut one_more = TcpStream::connect(server.address).await.unwrap();
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_secs(5), one_more.read(&mut byte))
            .await
            .unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}
