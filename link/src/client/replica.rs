//! Keeps the stream to one replica: connects, and connects again after a wait that grows.

use super::stream::{self, LinkError};
use super::{OperatorState, Shared};
use infmon_runtime::Backoff;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// One replica of the operator.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) address: SocketAddr,
    /// False once the operator's name no longer resolves to this address. A stream that works is kept all the same.
    pub(super) wanted: Arc<AtomicBool>,
    pub(super) shared: Arc<Shared>,
}

impl Replica {
    /// Runs until the address is no longer wanted and its stream has ended.
    pub(super) async fn keep(self) -> SocketAddr {
        let Self {
            address,
            wanted,
            shared,
        } = self;
        let mut backoff = Backoff::new(shared.options.backoff);
        let mut told = None;
        shared.set_state(address, OperatorState::Connecting);
        // Thousands of daemons find a new replica in the same DNS answer.
        tokio::time::sleep(shared.options.backoff.first.mul_f64(rand::random::<f64>())).await;
        loop {
            let begun = Instant::now();
            let error = stream::run(address, &shared).await;
            shared.choose(|choice| choice.lost(address, Instant::now()));
            if !wanted.load(Ordering::Relaxed) {
                break;
            }
            if begun.elapsed() >= shared.options.stable_after {
                backoff.reset();
            }
            let wait = backoff.next_delay();
            let message = error.to_string();
            tell(address, &error, &message, &mut told);
            shared.set_state(address, OperatorState::Failed { message });
            tokio::time::sleep(wait).await;
        }
        shared.links.send_if_modified(|links| links.remove(&address).is_some());
        address
    }
}

/// Logs an error once, until another one comes.
fn tell(address: SocketAddr, error: &LinkError, message: &str, told: &mut Option<String>) {
    if told.as_deref() == Some(message) {
        tracing::debug!(operator = %address, error = message, "no stream to the operator");
        return;
    }
    match error {
        LinkError::Ended(_) => tracing::info!(operator = %address, reason = message, "stream ended"),
        _ => tracing::warn!(operator = %address, error = message, "no stream to the operator"),
    }
    *told = Some(message.to_owned());
}
