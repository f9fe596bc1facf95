//! Monitors of all namespaces.

use super::follow::follow;
use crate::world::{MonitorKey, SharedWorld};
use infmon_crds::v1alpha1::InferenceMonitor;
use infmon_runtime::Latch;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use std::collections::BTreeSet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Follows monitors; `listed` turns true after the first full list.
pub async fn run(
    client: kube::Client,
    world: SharedWorld,
    listed: watch::Sender<bool>,
    latch: Latch,
    shutdown: CancellationToken,
) {
    // The guard lets one object that this version cannot read pass by without stopping the watch of all others.
    let api: Api<DeserializeGuard<InferenceMonitor>> = Api::all(client);
    let mut listing = BTreeSet::new();
    let mut latch = Some(latch);
    let handle = |event: Event<DeserializeGuard<InferenceMonitor>>| match event {
        Event::Init => listing.clear(),
        Event::InitApply(object) => {
            if let Some(monitor) = readable(object) {
                listing.extend(MonitorKey::of(&monitor));
                world.change(|world, now| world.apply_monitor(monitor, now));
            }
        }
        Event::InitDone => {
            let present = std::mem::take(&mut listing);
            world.change(|world, _| world.retain_monitors(&present));
            listed.send_replace(true);
            if let Some(latch) = latch.take() {
                latch.release();
            }
        }
        Event::Apply(object) => {
            if let Some(monitor) = readable(object) {
                world.change(|world, now| world.apply_monitor(monitor, now));
            }
        }
        Event::Delete(object) => {
            let key = match &object.0 {
                Ok(monitor) => MonitorKey::of(monitor),
                Err(error) => error
                    .metadata
                    .namespace
                    .clone()
                    .zip(error.metadata.name.clone())
                    .map(|(namespace, name)| MonitorKey { namespace, name }),
            };
            if let Some(key) = key {
                world.change(|world, _| world.delete_monitor(&key));
            }
        }
    };
    follow("inferencemonitors", api, watcher::Config::default(), handle, shutdown).await;
}

fn readable(object: DeserializeGuard<InferenceMonitor>) -> Option<InferenceMonitor> {
    match object.0 {
        Ok(mut monitor) => {
            monitor.metadata.managed_fields = None;
            Some(monitor)
        }
        Err(error) => {
            tracing::error!(
                namespace = error.metadata.namespace,
                name = error.metadata.name,
                error = error.error,
                "cannot read an InferenceMonitor: is the CRD newer than this operator?"
            );
            None
        }
    }
}
