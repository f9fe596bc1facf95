//! A gateway in front of servers that may all be gone: it holds requests until one is there.
//!
//! When the last replica of a service is scaled away, no server is left to show a queue, and nothing would ever wake the
//! service again. This gateway is where the queue is then: it forwards `/v1/...` to one backend, usually a Service, and while no
//! server takes a request it keeps the request and counts it as waiting.
//!
//! A request whose server goes away before it answers is handed on again: its client has seen nothing of it yet.

mod counts;
mod forward;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    routing::{any, get},
};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

pub use counts::Counts;

/// What requests that are under way get when the gateway is told to end.
const END: Duration = Duration::from_secs(5);

/// How a gateway works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port` of the servers.
    pub backend: String,
    /// How many requests may wait; one more is refused with 503.
    pub hold_at_most: u64,
    /// How long a request may wait for a server; then it is answered with 503.
    pub hold_for: Duration,
    /// How long a server may take for an answer; then the request is answered with 504.
    pub answer_within: Duration,
}

/// A gateway's settings and counts.
#[derive(Debug)]
struct Gateway {
    settings: Settings,
    counts: Counts,
}

/// Serves requests, and `/metrics` and `/health` of its own, until it is told to stop.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(settings: Settings, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let gateway = Arc::new(Gateway {
        settings,
        counts: Counts::default(),
    });
    let routes = Router::new()
        .route("/v1/{*path}", any(forward::forward))
        .route("/metrics", get(exposition))
        .route("/health", get(|| async { "ok\n" }))
        .with_state(gateway);
    let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
    let serving = serving.into_future();
    tokio::pin!(serving);
    let done = tokio::select! {
        result = &mut serving => result,
        // What waits may do so for minutes: its clients are told by the end of the connection.
        () = async { stop.cancelled().await; sleep(END).await } => Ok(()),
    };
    done.context("failed to serve")
}

async fn exposition(State(gateway): State<Arc<Gateway>>) -> ([(http::HeaderName, &'static str); 1], String) {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        gateway.counts.exposition(),
    )
}
