//! The whole state of the operator, in memory: what users declared, what the cluster looks like, what the daemons reported.
//!
//! A plain struct that changes synchronously; every replica holds one. Nothing here talks to anybody, so the standalone process uses
//! it as it is.

mod handle;
mod monitor;
mod namespace;
#[cfg(test)]
mod tests;

pub use handle::{Nodes, SharedWorld};
pub use monitor::{Judged, Monitor, MonitorKey};
pub use namespace::{EndpointSliceView, NamespaceView};

use infmon_crds::v1alpha1::{InferenceMonitor, InferenceMonitorStatus};
use infmon_evaluation::cluster::{Pod, SecretReading};
use infmon_evaluation::credentials::secrets_named;
use infmon_evaluation::metric::{self, Metric, Reading};
use infmon_evaluation::status::{Change, change, endpoints, status, transitions};
use infmon_evaluation::{
    AddressPolicy, Input, Memory, Moment, Observations, Place, PlanRevisions, evaluate, plan, resolve,
};
use infmon_samples::{NodeIdentity, Plan, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A node that has not reported for so long is forgotten. Long enough for `no node daemon connected` to be told with its name.
const FORGET_NODES_AFTER: Duration = Duration::from_secs(600);

/// The whole state of the operator.
#[derive(Debug, Default)]
pub struct World {
    policy: AddressPolicy,
    monitors: BTreeMap<MonitorKey, Monitor>,
    namespaces: BTreeMap<String, NamespaceView>,
    observations: Observations,
    plans: PlanRevisions,
    /// Monitors by the nodes that their endpoints run on, so that a report wakes only those it concerns.
    by_node: BTreeMap<String, BTreeSet<MonitorKey>>,
    /// Monitors with url endpoints: any node may report for them.
    anywhere: BTreeSet<MonitorKey>,
    /// Monitors to judge again.
    dirty: BTreeSet<MonitorKey>,
    /// Nodes whose GPU driver is being upgraded: their daemons are to let go of it.
    driver_upgrades: BTreeSet<String>,
    /// Resolutions, connections or upgrades changed, so plans must be made again.
    plans_stale: bool,
}

impl World {
    /// An empty world under an address policy.
    #[must_use]
    pub fn new(policy: AddressPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    // === what users declare ===

    /// A monitor came or changed.
    pub fn apply_monitor(&mut self, object: InferenceMonitor, now: Moment) {
        let Some(key) = MonitorKey::of(&object) else { return };
        match self.monitors.get_mut(&key) {
            Some(known) if known.uid() == object.metadata.uid => known.replace(object),
            _ => {
                self.monitors.insert(key.clone(), Monitor::new(object, now));
            }
        }
        self.resolve(&key);
    }

    /// A monitor went.
    pub fn delete_monitor(&mut self, key: &MonitorKey) {
        self.monitors.remove(key);
        self.dirty.remove(key);
        self.anywhere.remove(key);
        for keys in self.by_node.values_mut() {
            keys.remove(key);
        }
        self.plans_stale = true;
    }

    /// Keeps only these monitors: the end of a full list.
    pub fn retain_monitors(&mut self, present: &BTreeSet<MonitorKey>) {
        let gone: Vec<MonitorKey> = self
            .monitors
            .keys()
            .filter(|key| !present.contains(key))
            .cloned()
            .collect();
        for key in gone {
            self.delete_monitor(&key);
        }
    }

    // === what the cluster looks like ===

    /// A pod came or changed.
    pub fn apply_pod(&mut self, namespace: &str, pod: Pod) {
        let view = self.namespaces.entry(namespace.to_owned()).or_default();
        if view.apply_pod(pod) {
            self.resolve_namespace(namespace);
        }
    }

    /// A pod went.
    pub fn delete_pod(&mut self, namespace: &str, name: &str) {
        if self
            .namespaces
            .get_mut(namespace)
            .is_some_and(|view| view.delete_pod(name))
        {
            self.resolve_namespace(namespace);
        }
    }

    /// Keeps only these pods of a namespace: the end of a full list.
    pub fn retain_pods(&mut self, namespace: &str, present: &BTreeSet<String>) {
        let view = self.namespaces.entry(namespace.to_owned()).or_default();
        view.retain_pods(present);
        self.resolve_namespace(namespace);
    }

    /// An EndpointSlice came or changed.
    pub fn apply_slice(&mut self, namespace: &str, name: &str, slice: EndpointSliceView) {
        if self
            .namespaces
            .entry(namespace.to_owned())
            .or_default()
            .apply_slice(name, slice)
        {
            self.resolve_namespace(namespace);
        }
    }

    /// An EndpointSlice went.
    pub fn delete_slice(&mut self, namespace: &str, name: &str) {
        if self
            .namespaces
            .get_mut(namespace)
            .is_some_and(|view| view.delete_slice(name))
        {
            self.resolve_namespace(namespace);
        }
    }

    /// Keeps only these EndpointSlices of a namespace: the end of a full list.
    pub fn retain_slices(&mut self, namespace: &str, present: &BTreeSet<String>) {
        self.namespaces
            .entry(namespace.to_owned())
            .or_default()
            .retain_slices(present);
        self.resolve_namespace(namespace);
    }

    /// A Secret that monitors name was read, or could not be.
    pub fn apply_secret(&mut self, namespace: &str, name: &str, reading: SecretReading) {
        let view = self.namespaces.entry(namespace.to_owned()).or_default();
        if view.apply_secret(name, reading) {
            self.resolve_namespace(namespace);
        }
    }

    /// No monitor names a Secret any more: what was in it is let go.
    pub fn forget_secret(&mut self, namespace: &str, name: &str) {
        let known = self.namespaces.get_mut(namespace);
        if known.is_some_and(|view| view.forget_secret(name)) {
            self.resolve_namespace(namespace);
        }
    }

    /// A namespace is no longer watched.
    pub fn forget_namespace(&mut self, namespace: &str) {
        self.namespaces.remove(namespace);
    }

    fn resolve_namespace(&mut self, namespace: &str) {
        let keys: Vec<MonitorKey> = self
            .monitors
            .keys()
            .filter(|key| key.namespace == namespace)
            .cloned()
            .collect();
        for key in keys {
            self.resolve(&key);
        }
    }

    fn resolve(&mut self, key: &MonitorKey) {
        let Some(monitor) = self.monitors.get_mut(key) else {
            return;
        };
        let empty = NamespaceView::default();
        let view = self.namespaces.get(&key.namespace).unwrap_or(&empty);
        let resolution = resolve(&monitor.object.spec, view, &self.policy);
        self.dirty.insert(key.clone());
        if resolution == monitor.resolution {
            return;
        }
        for endpoint in &monitor.resolution.endpoints {
            if let Place::Node(node) = &endpoint.place
                && let Some(keys) = self.by_node.get_mut(node)
            {
                keys.remove(key);
            }
        }
        self.anywhere.remove(key);
        for endpoint in &resolution.endpoints {
            match &endpoint.place {
                Place::Node(node) => {
                    self.by_node.entry(node.clone()).or_default().insert(key.clone());
                }
                Place::Anywhere => {
                    self.anywhere.insert(key.clone());
                }
                Place::Nowhere => {}
            }
        }
        self.by_node.retain(|_, keys| !keys.is_empty());
        monitor.resolution = resolution;
        self.plans_stale = true;
    }

    /// The GPU driver of these nodes, and of no others, is being upgraded.
    pub fn set_driver_upgrades(&mut self, nodes: BTreeSet<String>) {
        self.plans_stale |= self.driver_upgrades != nodes;
        self.driver_upgrades = nodes;
    }

    // === what the daemons report ===

    /// A daemon's stream opened.
    pub fn node_connected(&mut self, identity: NodeIdentity) {
        let node = identity.node.clone();
        self.observations.connected(identity);
        self.plans_stale = true;
        self.wake_node(&node);
    }

    /// A daemon's stream closed.
    pub fn node_disconnected(&mut self, node: &str) {
        self.observations.disconnected(node);
        self.plans_stale = true;
        self.wake_node(node);
    }

    /// A daemon reported. What it says of servers that are not in its plan is dropped: a daemon speaks for its own node only.
    pub fn node_reported(&mut self, node: &str, mut report: Report, now: Moment) {
        // Targets of a plan are in the order of their ids.
        let planned = self
            .plans
            .get(node)
            .map(|plan| plan.targets.as_slice())
            .unwrap_or_default();
        report
            .targets
            .retain(|reported| planned.binary_search_by(|target| target.id.cmp(&reported.id)).is_ok());
        self.observations.report(node, report, now);
        self.wake_node(node);
    }

    fn wake_node(&mut self, node: &str) {
        if let Some(keys) = self.by_node.get(node) {
            self.dirty.extend(keys.iter().cloned());
        }
        self.dirty.extend(self.anywhere.iter().cloned());
    }

    // === decisions ===

    /// Makes the plans again where something changed; returns the plans that differ. Their revisions are higher than `stamp`, which must
    /// be comparable between replicas: the wall clock in milliseconds.
    pub fn take_plan_changes(&mut self, stamp: u64) -> Vec<(String, Arc<Plan>)> {
        if !std::mem::take(&mut self.plans_stale) {
            return Vec::new();
        }
        let connected = self.observations.connected_nodes();
        let targets = plan(self.monitors.values().map(|monitor| &monitor.resolution), &connected);
        self.plans.advance_to(stamp);
        self.plans.update(targets, &self.driver_upgrades)
    }

    /// The plan of a node.
    #[must_use]
    pub fn plan_of(&self, node: &str) -> Option<Arc<Plan>> {
        self.plans.get(node).cloned()
    }

    /// Monitors to judge now: those that something happened to, and those whose time has come.
    pub fn take_due(&mut self, now: Moment) -> Vec<MonitorKey> {
        let mut due = std::mem::take(&mut self.dirty);
        due.extend(
            self.monitors
                .iter()
                .filter(|(_, monitor)| monitor.due.is_some_and(|at| at <= now))
                .map(|(key, _)| key.clone()),
        );
        due.into_iter().collect()
    }

    /// When the next monitor must be judged even if nothing happens.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.monitors.values().filter_map(|monitor| monitor.due).min()
    }

    /// Judges a monitor; `None` when it is gone.
    pub fn judge(&mut self, key: &MonitorKey, now: Moment, wall_clock: jiff::Timestamp) -> Option<Judged> {
        let monitor = self.monitors.get_mut(key)?;
        let spec = &monitor.object.spec;
        let input = Input {
            namespace: &key.namespace,
            spec,
            resolution: &monitor.resolution,
            observations: &self.observations,
            watched_since: monitor.watched_since,
            now,
        };
        let (verdict, memory) = evaluate(input, monitor.memory);
        let stale_after = monitor.object.spec.stale_after();
        let listed = endpoints(&monitor.resolution, &self.observations, stale_after, now);
        let next = status(
            &verdict,
            &monitor.written,
            monitor.object.metadata.generation,
            listed,
            wall_clock,
        );
        // A status written by the replica before us must not flicker through Unknown while the daemons reconnect to us.
        monitor.inherited &= !verdict.settled;
        let change = if monitor.inherited {
            Change::None
        } else {
            change(&monitor.written, &next)
        };
        let judged = Judged {
            change,
            transitions: transitions(&verdict, &monitor.written),
        };
        monitor.memory = memory;
        monitor.due = verdict.due;
        monitor.verdict = Some((now, verdict));
        monitor.next = next;
        monitor.change = change;
        Some(judged)
    }

    /// Forgets nodes that have been silent for long.
    pub fn forget_silent_nodes(&mut self, now: Moment) {
        self.observations.forget_silent(now, FORGET_NODES_AFTER);
    }

    // === what others read ===

    /// Monitors.
    pub fn monitors(&self) -> impl Iterator<Item = (&MonitorKey, &Monitor)> {
        self.monitors.iter()
    }

    /// One monitor.
    #[must_use]
    pub fn monitor(&self, key: &MonitorKey) -> Option<&Monitor> {
        self.monitors.get(key)
    }

    /// Takes note of a status that the API server accepted.
    pub fn status_written(&mut self, key: &MonitorKey, written: InferenceMonitorStatus, now: Moment) {
        if let Some(monitor) = self.monitors.get_mut(key) {
            monitor.written = written;
            monitor.change = change(&monitor.written, &monitor.next);
            monitor.inherited = false;
            monitor.written_at = Some(now);
        }
    }

    /// Observations of all nodes.
    #[must_use]
    pub fn observations(&self) -> &Observations {
        &self.observations
    }

    /// Namespaces that have monitors, and whether any of those names a Service.
    #[must_use]
    pub fn namespaces_in_use(&self) -> BTreeMap<String, bool> {
        let mut namespaces = BTreeMap::new();
        for (key, monitor) in &self.monitors {
            let services = monitor
                .object
                .spec
                .endpoints
                .iter()
                .any(|endpoint| endpoint.service.is_some());
            *namespaces.entry(key.namespace.clone()).or_insert(false) |= services;
        }
        namespaces
    }

    /// Secrets that monitors name for servers that may be asked, as namespace and name, with uids and generations of the monitors:
    /// one that changes is a reason to read again.
    #[must_use]
    pub fn secrets_in_use(&self) -> BTreeMap<(String, String), BTreeSet<(String, i64)>> {
        let mut secrets: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (key, monitor) in &self.monitors {
            let generation = monitor.object.metadata.generation.unwrap_or(0);
            for name in secrets_named(&monitor.object.spec, &self.policy) {
                let users = secrets.entry((key.namespace.clone(), name)).or_default();
                users.insert((monitor.uid().unwrap_or_default(), generation));
            }
        }
        secrets
    }

    /// Nodes that endpoints run on and that have not reported yet.
    #[must_use]
    pub fn nodes_awaited(&self) -> BTreeSet<String> {
        self.by_node
            .keys()
            .filter(|node| self.observations.node(node).is_none_or(|node| node.reported.is_none()))
            .cloned()
            .collect()
    }

    /// Reads a metric of a monitor.
    ///
    /// # Errors
    /// In words, when the value is not known. `None` when there is no such monitor.
    pub fn read_metric(&self, key: &MonitorKey, metric: Metric, now: Moment) -> Option<Result<Reading, String>> {
        let monitor = self.monitors.get(key)?;
        let stale_after = monitor.object.spec.stale_after();
        let throttled = monitor.verdict.as_ref().and_then(|(judged, verdict)| {
            let age = verdict.gpu_age? + now.since(*judged);
            let gpus = verdict.throttled_gpus_of_all()?;
            (age <= stale_after).then_some(Reading {
                value: gpus as f64,
                age,
                window: None,
            })
        });
        let reading = metric::read(
            metric,
            &monitor.object.spec,
            &monitor.resolution,
            &self.observations,
            throttled,
            now,
        );
        Some(reading.map_err(|words| format!("InferenceMonitor {}/{}: {words}", key.namespace, key.name)))
    }
}

/// The memory of a monitor as its written status tells it.
fn memory_of(object: &InferenceMonitor) -> Memory {
    object.status.as_ref().map(Memory::from_status).unwrap_or_default()
}
