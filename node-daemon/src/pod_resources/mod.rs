//! Which pods of the node have which GPUs, asked of the kubelet over its PodResources socket. Opt-in: the socket belongs to root.
//!
//! A call that fails is told and leaves the last list as it is, to grow old; it never becomes an empty list.

mod answer;
mod knowledge;
mod kubelet;

/// Generated from `proto/podresources/v1/podresources.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod wire {
    tonic::include_proto!("v1");
}

use crate::metrics::DaemonMetrics;
use infmon_runtime::{Backoff, BackoffPolicy};
use infmon_samples::GpuOwner;
pub(crate) use knowledge::{Freshness, Knowledge};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How the kubelet is asked.
#[derive(Clone, Debug)]
pub struct PodResourcesOptions {
    /// The kubelet's socket.
    pub socket: PathBuf,
    /// Name of the daemon's own pod: a list without it is not complete. Empty when it runs in none.
    pub own_pod: String,
    /// Time between two calls.
    pub period: Duration,
    /// Time for one call.
    pub deadline: Duration,
    /// Waits between calls that fail.
    pub backoff: BackoffPolicy,
}

impl PodResourcesOptions {
    /// Options with the times that suit a kubelet.
    #[must_use]
    pub fn new(socket: PathBuf, own_pod: String) -> Self {
        Self {
            socket,
            own_pod,
            period: Duration::from_secs(10),
            deadline: Duration::from_secs(2),
            backoff: BackoffPolicy {
                first: Duration::from_secs(1),
                max: Duration::from_secs(20),
            },
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Call(#[from] kubelet::CallError),
    #[error(transparent)]
    Answer(#[from] answer::AnswerError),
}

async fn ask(options: &PodResourcesOptions) -> Result<Vec<GpuOwner>, AskError> {
    let answer = kubelet::list(&options.socket, options.deadline).await?;
    Ok(answer::owners(answer, &options.own_pod)?)
}

/// Asks again and again until `shutdown`, one call at a time.
pub(crate) async fn follow(
    options: PodResourcesOptions,
    sender: watch::Sender<Arc<Knowledge>>,
    metrics: DaemonMetrics,
    shutdown: CancellationToken,
) {
    let mut known = Knowledge::default();
    let mut backoff = Backoff::new(options.backoff);
    metrics.learned_owners(sender.borrow().clone());
    loop {
        let asked = Instant::now();
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = ask(&options) => outcome,
        };
        metrics.asked_for_owners(outcome.is_ok());
        let socket = options.socket.display();
        let wait = match outcome {
            Ok(owners) => {
                if known.succeeded(asked, owners) {
                    let devices = known.devices();
                    tracing::info!(%socket, devices, "the kubelet tells which pods have which GPUs");
                }
                backoff.reset();
                options.period
            }
            Err(error) => {
                if known.failed(asked, error.to_string()) {
                    tracing::warn!(%socket, %error, "the kubelet does not tell which pods have which GPUs, trying again");
                }
                backoff.next_delay()
            }
        };
        let next = Arc::new(known.clone());
        metrics.learned_owners(Arc::clone(&next));
        sender.send_replace(next);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
