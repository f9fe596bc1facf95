//! Pods and EndpointSlices, only of namespaces that have monitors.

use super::follow::follow;
use super::prune;
use crate::world::SharedWorld;
use infmon_runtime::Latch;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the set of namespaces is compared with what is watched.
const LOOK_EVERY: Duration = Duration::from_millis(250);

struct Watched {
    stop: CancellationToken,
    services: bool,
    listed: watch::Receiver<bool>,
}

/// Keeps one pod watch (and one EndpointSlice watch where a monitor names a Service) per namespace in use until `shutdown`. Releases
/// `latch` when the monitors known at the start have their pods listed.
pub async fn run(
    client: kube::Client,
    world: SharedWorld,
    mut monitors_listed: watch::Receiver<bool>,
    latch: Latch,
    shutdown: CancellationToken,
) {
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    let mut latch = Some(latch);
    let tasks = TaskTracker::new();
    tokio::select! {
        () = shutdown.cancelled() => return,
        _ = monitors_listed.wait_for(|listed| *listed) => {}
    }
    loop {
        let wanted = world.read(|world, _| world.namespaces_in_use());
        watched.retain(|namespace, watched| {
            let keep = wanted.get(namespace) == Some(&watched.services);
            if !keep {
                watched.stop.cancel();
                if !wanted.contains_key(namespace) {
                    world.change(|world, _| world.forget_namespace(namespace));
                }
            }
            keep
        });
        for (namespace, services) in wanted {
            watched
                .entry(namespace.clone())
                .or_insert_with(|| start(&tasks, &client, &world, &namespace, services, &shutdown));
        }
        if watched.values().all(|watched| *watched.listed.borrow())
            && let Some(latch) = latch.take()
        {
            latch.release();
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    tasks.close();
    tasks.wait().await;
}

fn start(
    tasks: &TaskTracker,
    client: &kube::Client,
    world: &SharedWorld,
    namespace: &str,
    services: bool,
    shutdown: &CancellationToken,
) -> Watched {
    let stop = shutdown.child_token();
    let (listed, receiver) = watch::channel(false);
    tasks.spawn(pods(
        client.clone(),
        world.clone(),
        namespace.to_owned(),
        listed,
        stop.clone(),
    ));
    if services {
        tasks.spawn(slices(
            client.clone(),
            world.clone(),
            namespace.to_owned(),
            stop.clone(),
        ));
    }
    Watched {
        stop,
        services,
        listed: receiver,
    }
}

async fn pods(
    client: kube::Client,
    world: SharedWorld,
    namespace: String,
    listed: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let mut listing = BTreeSet::new();
    let handle = |event: Event<Pod>| match event {
        Event::Init => listing.clear(),
        Event::InitApply(object) => {
            if let Some(pod) = prune::pod(object) {
                listing.insert(pod.name.clone());
                world.change(|world, _| world.apply_pod(&namespace, pod));
            }
        }
        Event::InitDone => {
            let present = std::mem::take(&mut listing);
            world.change(|world, _| world.retain_pods(&namespace, &present));
            listed.send_replace(true);
        }
        Event::Apply(object) => {
            if let Some(pod) = prune::pod(object) {
                world.change(|world, _| world.apply_pod(&namespace, pod));
            }
        }
        Event::Delete(object) => {
            if let Some(name) = object.metadata.name {
                world.change(|world, _| world.delete_pod(&namespace, &name));
            }
        }
    };
    follow("pods", api, watcher::Config::default(), handle, stop).await;
}

async fn slices(client: kube::Client, world: SharedWorld, namespace: String, stop: CancellationToken) {
    let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    let mut listing = BTreeSet::new();
    let handle = |event: Event<EndpointSlice>| match event {
        Event::Init => listing.clear(),
        Event::InitApply(object) => {
            if let Some((name, slice)) = prune::slice(object) {
                listing.insert(name.clone());
                world.change(|world, _| world.apply_slice(&namespace, &name, slice));
            }
        }
        Event::InitDone => {
            let present = std::mem::take(&mut listing);
            world.change(|world, _| world.retain_slices(&namespace, &present));
        }
        Event::Apply(object) => {
            if let Some((name, slice)) = prune::slice(object) {
                world.change(|world, _| world.apply_slice(&namespace, &name, slice));
            }
        }
        Event::Delete(object) => {
            if let Some(name) = object.metadata.name {
                world.change(|world, _| world.delete_slice(&namespace, &name));
            }
        }
    };
    follow("endpointslices", api, watcher::Config::default(), handle, stop).await;
}
