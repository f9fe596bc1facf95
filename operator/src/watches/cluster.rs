//! Nodes and our own DaemonSets: what the leader needs to decide where daemons run.

use super::follow::follow;
use crate::daemon_sets::PROFILE_LABEL;
use crate::driver_upgrade::wants_release;
use crate::world::SharedWorld;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Labels of nodes and generations of our DaemonSets. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, BTreeMap<String, String>>,
    nodes_listed: bool,
    /// Those of `nodes` whose GPU driver is about to be replaced.
    upgrading: BTreeSet<String>,
    /// Generation by profile.
    daemon_sets: BTreeMap<String, Option<i64>>,
    daemon_sets_listed: bool,
}

impl ClusterView {
    /// Both lists have been read once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let state = self.lock();
        state.nodes_listed && state.daemon_sets_listed
    }

    /// Labels of the nodes, by name.
    #[must_use]
    pub fn nodes(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.lock().nodes.clone()
    }

    /// Nodes whose GPU driver is about to be replaced.
    fn upgrading(&self) -> BTreeSet<String> {
        self.lock().upgrading.clone()
    }

    /// Generation of the DaemonSets that carry our label, by profile.
    #[must_use]
    pub fn daemon_sets(&self) -> BTreeMap<String, Option<i64>> {
        self.lock().daemon_sets.clone()
    }

    /// Waits for a change.
    pub async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, act: impl FnOnce(&mut State)) {
        act(&mut self.lock());
        self.inner.changed.notify_one();
    }
}

/// Follows the nodes, metadata only. The world learns whose driver is being upgraded.
pub async fn follow_nodes(client: kube::Client, view: ClusterView, world: SharedWorld, shutdown: CancellationToken) {
    let api: Api<PartialObjectMeta<Node>> = Api::all(client);
    let mut listing = BTreeMap::new();
    let entry = |node: PartialObjectMeta<Node>| Some((node.metadata.name?, node.metadata.labels.unwrap_or_default()));
    let mut upgrading = BTreeSet::new();
    let mut handle = |event: Event<PartialObjectMeta<Node>>| match event {
        Event::Init => listing.clear(),
        Event::InitApply(node) => listing.extend(entry(node)),
        Event::InitDone => {
            let nodes = std::mem::take(&mut listing);
            view.update(|state| {
                let upgrading = nodes.iter().filter(|(_, labels)| wants_release(labels));
                state.upgrading = upgrading.map(|(name, _)| name.clone()).collect();
                state.nodes = nodes;
                state.nodes_listed = true;
            });
        }
        Event::Apply(node) => {
            if let Some((name, labels)) = entry(node) {
                // Nodes change all the time; their labels hardly ever do.
                let same = view.lock().nodes.get(&name) == Some(&labels);
                if !same {
                    view.update(|state| {
                        if wants_release(&labels) {
                            state.upgrading.insert(name.clone());
                        } else {
                            state.upgrading.remove(&name);
                        }
                        state.nodes.insert(name, labels);
                    });
                }
            }
        }
        Event::Delete(node) => {
            if let Some(name) = node.metadata.name {
                view.update(|state| {
                    state.nodes.remove(&name);
                    state.upgrading.remove(&name);
                });
            }
        }
    };
    let learn = |event: Event<PartialObjectMeta<Node>>| {
        handle(event);
        let now = view.upgrading();
        if now != upgrading {
            upgrading.clone_from(&now);
            tracing::info!(nodes = ?now, "nodes whose GPU driver is being upgraded");
            world.change(|world, _| world.set_driver_upgrades(now));
        }
    };
    follow("nodes", api, watcher::Config::default(), learn, shutdown).await;
}

/// Follows the DaemonSets of `namespace` that carry our label.
pub async fn follow_daemon_sets(client: kube::Client, namespace: &str, view: ClusterView, shutdown: CancellationToken) {
    let api: Api<PartialObjectMeta<DaemonSet>> = Api::namespaced(client, namespace);
    let mut listing = BTreeMap::new();
    let entry = |set: PartialObjectMeta<DaemonSet>| {
        let profile = set.metadata.labels.as_ref()?.get(PROFILE_LABEL)?.clone();
        Some((profile, set.metadata.generation))
    };
    let handle = |event: Event<PartialObjectMeta<DaemonSet>>| match event {
        Event::Init => listing.clear(),
        Event::InitApply(set) => listing.extend(entry(set)),
        Event::InitDone => {
            let sets = std::mem::take(&mut listing);
            view.update(|state| {
                state.daemon_sets = sets;
                state.daemon_sets_listed = true;
            });
        }
        Event::Apply(set) => {
            if let Some((profile, generation)) = entry(set) {
                view.update(|state| {
                    state.daemon_sets.insert(profile, generation);
                });
            }
        }
        Event::Delete(set) => {
            if let Some((profile, _)) = entry(set) {
                view.update(|state| {
                    state.daemon_sets.remove(&profile);
                });
            }
        }
    };
    let config = watcher::Config::default().labels(PROFILE_LABEL);
    follow("daemonsets", api, config, handle, shutdown).await;
}
