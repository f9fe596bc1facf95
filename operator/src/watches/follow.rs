//! One watch, for ever: list, watch, list again when the server says so, wait longer after each failure.

use futures::StreamExt;
use infmon_runtime::{Backoff, BackoffPolicy};
use kube::Resource;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Waits of a watch that fails. The 30 to 60 s that the library goes up to by default would leave this replica without what changed
/// meanwhile for as long after a restart of the API server.
struct Waits(Backoff);

impl Default for Waits {
    fn default() -> Self {
        Self(Backoff::new(BackoffPolicy {
            first: Duration::from_secs(1),
            max: Duration::from_secs(5),
        }))
    }
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next_delay())
    }
}

impl kube::runtime::utils::Backoff for Waits {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Hands every event of a watch to `handle` until `shutdown`. Failures are logged once per streak and retried with backoff and jitter.
pub(super) async fn follow<K>(
    what: &'static str,
    api: Api<K>,
    config: watcher::Config,
    mut handle: impl FnMut(Event<K>) + Send,
    shutdown: CancellationToken,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default + Clone + Debug,
{
    let stream = watcher::watcher(api, config).backoff(Waits::default());
    futures::pin_mut!(stream);
    let mut failing = false;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = stream.next() => event,
        };
        match event {
            Some(Ok(event)) => {
                if failing {
                    tracing::info!(watch = what, "watch works again");
                    failing = false;
                }
                handle(event);
            }
            Some(Err(error)) => {
                if !failing {
                    tracing::warn!(watch = what, %error, "watch failed, trying again");
                    failing = true;
                }
            }
            // The stream of a watcher does not end.
            None => return,
        }
    }
}
