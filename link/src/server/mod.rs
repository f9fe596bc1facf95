//! The operator's end: accepts daemons, lets in those that prove who they are, and hands their reports on.
//!
//! Everything before authentication is bounded in time, bytes and number, since anybody who reaches the port can cause it.

mod connection;
mod registry;
mod service;
mod session;
#[cfg(test)]
mod tests;

use infmon_runtime::ServerTls;
use infmon_samples::{NodeIdentity, Plan, Report};
use registry::Registry;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the operator does with daemons.
///
/// Calls for one node never overlap and come in order: `connected`, then `report`s, then `disconnected`; or `connected` again when a
/// newer stream took over, without a `disconnected` between. Apart from `authenticate` they run on the stream's task: keep them short.
pub trait NodeSessions: Send + Sync + 'static {
    /// Checks the bearer token and that it belongs to the node the daemon claims to be on. Nothing is kept for the node before.
    fn authenticate(
        &self,
        claimed: &NodeIdentity,
        bearer: &str,
    ) -> impl Future<Output = Result<Authenticated, AuthError>> + Send;

    /// A stream of the node begins. The receiver gives the plan now and every change of it; when its sender is dropped the stream ends.
    fn connected(&self, node: &NodeIdentity) -> watch::Receiver<Arc<Plan>>;

    /// The node reports. Time on the way is already part of the ages.
    fn report(&self, node: &NodeIdentity, report: Report);

    /// The stream of the node has ended.
    fn disconnected(&self, node: &NodeIdentity);
}

/// A daemon that proved who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Authenticated {
    /// When the proof ends. The stream is closed then, and the daemon connects again with a newer token; choose a moment well before
    /// the token really expires.
    pub valid_until: Option<Instant>,
}

/// Why a daemon is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token is not good, or belongs to another node. The text is told to the daemon.
    #[error("{0}")]
    Denied(String),
    /// Whether the token is good could not be found out, for example because the API server is away.
    #[error("{0}")]
    Unavailable(String),
}

/// Limits of a [`LinkServer`]. The defaults hold 5,000 nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkServerOptions {
    /// Connections in all; more are closed at once.
    pub max_connections: usize,
    /// Connections that have not authenticated yet; more wait in the backlog of the socket.
    pub max_pending: usize,
    /// Authentications at the same time, so that a reconnect storm does not become a storm of token reviews.
    pub max_authentications: usize,
    /// Time for the TLS handshake.
    pub handshake_deadline: Duration,
    /// Time from there to the Hello.
    pub first_message_deadline: Duration,
    /// Time for the authentication, with the wait for a free place.
    pub authentication_deadline: Duration,
    /// Time between HTTP/2 pings, which find peers that vanished.
    pub keepalive_interval: Duration,
    /// Time for the answer to a ping.
    pub keepalive_timeout: Duration,
    /// Reports of one node per second; more end its stream.
    pub max_reports_per_second: u32,
}

impl Default for LinkServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_pending: 512,
            max_authentications: 32,
            handshake_deadline: Duration::from_secs(5),
            first_message_deadline: Duration::from_secs(5),
            authentication_deadline: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
            max_reports_per_second: 50,
        }
    }
}

/// Counts of a [`LinkServer`], for its metrics.
#[derive(Debug, Default)]
pub struct LinkServerCounts {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections closed because there were too many.
    pub overflowed: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub failed_handshakes: AtomicU64,
    /// Streams refused: no token, bad token, other protocol version, no Hello in time.
    pub refused: AtomicU64,
    /// Streams that were let in.
    pub sessions: AtomicU64,
    /// Reports received.
    pub reports: AtomicU64,
}

/// Adds one to a count.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Everything that connections share.
#[derive(Debug)]
struct Shared<S> {
    sessions: Arc<S>,
    tls: ServerTls,
    options: LinkServerOptions,
    registry: Arc<Registry>,
    authentications: Semaphore,
    counts: Arc<LinkServerCounts>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// The operator's end of all streams.
#[derive(Debug)]
pub struct LinkServer<S> {
    shared: Arc<Shared<S>>,
}

impl<S: NodeSessions> LinkServer<S> {
    /// A server that [`LinkServer::serve`] starts. The TLS configuration should offer the protocol `h2`.
    #[must_use]
    pub fn new(sessions: Arc<S>, tls: ServerTls, options: LinkServerOptions) -> Self {
        let shared = Shared {
            sessions,
            tls,
            authentications: Semaphore::new(options.max_authentications),
            options,
            registry: Arc::default(),
            counts: Arc::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Counts for metrics.
    #[must_use]
    pub fn counts(&self) -> Arc<LinkServerCounts> {
        Arc::clone(&self.shared.counts)
    }

    /// Serves until `shutdown`, then ends every stream with words and waits for them (a second at most each).
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let _stop = self.shared.shutdown.clone().drop_guard();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = connection::accept(&self.shared, listener) => {}
        }
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}
