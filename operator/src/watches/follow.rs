//! One watch, for ever: list, watch, list again when the server says so, wait longer after each failure.

use futures::StreamExt;
use kube::Resource;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio_util::sync::CancellationToken;

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
    let stream = watcher::watcher(api, config).default_backoff();
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
