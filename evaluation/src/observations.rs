//! What the node daemons reported, with ages turned into moments on arrival.

use crate::memory::{CacheRise, CacheTrend, GrowthTrend, HostObservation, part_key};
use crate::traffic::{Counter, LatencyKind, Part, Window};
use crate::users::GpuUsers;
use crate::{Moment, Place};
use infmon_engines::{Engine, EngineSample};
use infmon_gpu::{CauseDuty, DriverState, GpuSample, StandingFault, ThrottleCounter, ThrottleWindow};
use infmon_samples::{
    Failure, GPU_OWNERS_STALE_AFTER, GpuIncident, GpuOutage, GpuOwner, GpuOwners, NodeIdentity, Observation,
    ProcessLookup, Report, SwitchIncident, TargetId, TargetReport,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest window that a spec can ask for (`throttledPercent.forSeconds`).
const THROTTLE_WINDOW: Duration = Duration::from_secs(600);
/// Windows up to this one are kept apart: the grain of a history is a 64th of it, too coarse for a window of 5 s if it holds 600 s.
const SHORT_THROTTLE_WINDOW: Duration = Duration::from_secs(64);
/// A server that gave no sample for longer may be another process since. Longer than the longest sample period.
const ANSWERS_AGAIN_AFTER: Duration = Duration::from_secs(90);

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub struct TargetObservation {
    /// The last good sample and when its body was read.
    pub last: Option<(Moment, Observation)>,
    /// Why the newest scrape failed, and since when scrapes have been failing.
    pub failure: Option<(Moment, Failure)>,
    /// Since when it has been giving samples without a longer break.
    pub answering_since: Option<Moment>,
    /// Host memory of its pod; `None` where nobody reads it.
    pub host: Option<Box<HostObservation>>,
    /// How much its counters grew over the last minute.
    window: Window,
    cache: CacheTrend,
}

impl TargetObservation {
    /// Preemptions per second over the last minute; `None` when too little of it is known.
    #[must_use]
    pub fn preemption_rate(&self) -> Option<f64> {
        // Over a shorter time one or two preemptions would look like a storm.
        self.rate(Counter::Preemptions, Duration::from_secs(20))
    }

    /// How fast its KV cache fills; `None` where it does not, or too little is known.
    #[must_use]
    pub fn cache_rise(&self) -> Option<CacheRise> {
        self.cache.rise()
    }

    /// How much a counter grew over the window.
    pub(crate) fn grown(&self, counter: Counter) -> Option<u64> {
        self.window.counter(self.sample()?, counter)
    }

    /// True while requests run whose tokens the server counts when they end: a counter that stands still says nothing then.
    pub(crate) fn counts_tokens_later(&self) -> bool {
        self.sample().is_some_and(|sample| {
            let runs = sample.running.is_none_or(|running| running > 0.0);
            runs && sample.engine_behind().is_some_and(Engine::counts_tokens_at_the_end)
        })
    }

    /// Requests that ended per second, by reason, when at least so much time is known.
    pub(crate) fn outcome_rates(&self, least: Duration) -> Option<impl Iterator<Item = (&str, f64)>> {
        let covered = self.window.covered();
        let outcomes = self.window.outcomes().filter(|_| covered >= least)?;
        Some(outcomes.map(move |(reason, ended)| (reason, ended as f64 / covered.as_secs_f64())))
    }

    /// The same of a counter.
    pub(crate) fn rate(&self, counter: Counter, least: Duration) -> Option<f64> {
        let covered = self.window.covered();
        let grown = self.grown(counter).filter(|_| covered >= least)?;
        if grown == 0 && counter.is_of_tokens() && self.counts_tokens_later() {
            return None;
        }
        Some(grown as f64 / covered.as_secs_f64())
    }

    /// The observations of a latency over the last 30 s.
    pub(crate) fn latency(&self, kind: LatencyKind) -> Option<Part<'_>> {
        self.window.latency(self.sample()?, kind)
    }

    /// Number and sum of those of the last seconds.
    pub(crate) fn newest_latency(&self, kind: LatencyKind, slots: usize) -> Option<(u64, f64)> {
        self.window.newest(self.sample()?, kind, slots)
    }

    /// The time that the window covers.
    pub(crate) fn covered(&self) -> Duration {
        self.window.covered()
    }

    /// The same for latencies.
    pub(crate) fn latencies_covered(&self) -> Duration {
        self.window.latencies_covered()
    }

    fn sample(&self) -> Option<&EngineSample> {
        self.last.as_ref().map(|(_, observation)| &observation.sample)
    }

    fn apply(&mut self, report: TargetReport, now: Moment) {
        let TargetReport {
            last,
            failure,
            host_memory,
            ..
        } = report;
        // A sample from before the start of our time would look younger than it is: to start with old data would be to invent it.
        if let Some(observation) = last
            && let Some(taken) = now.checked_before(observation.age)
        {
            let newer = self.last.as_ref().is_none_or(|(known, _)| taken > *known);
            if newer {
                let before = self.last.as_ref().map(|(_, observation)| &observation.sample);
                self.window.push(before, taken, &observation.sample);
                self.cache.push(taken, observation.sample.kv_cache_usage);
                let goes_on = self
                    .last
                    .as_ref()
                    .is_some_and(|(known, _)| taken.since(*known) < ANSWERS_AGAIN_AFTER);
                if !goes_on {
                    self.answering_since = Some(taken);
                }
                self.last = Some((taken, observation));
            }
        }
        // What was read before goes on to grow old.
        if let Some(memory) = host_memory {
            self.host.get_or_insert_default().push(memory, now);
        }
        self.failure = failure.map(|failure| (now.before(failure.since), failure));
    }
}

/// Lost clocks of one GPU over time.
#[derive(Clone, Debug)]
pub struct ThrottleHistory {
    short: ThrottleWindow,
    long: ThrottleWindow,
}

impl Default for ThrottleHistory {
    fn default() -> Self {
        Self {
            short: ThrottleWindow::new(SHORT_THROTTLE_WINDOW),
            long: ThrottleWindow::new(THROTTLE_WINDOW),
        }
    }
}

impl ThrottleHistory {
    fn push(&mut self, taken: Moment, counters: &[ThrottleCounter]) {
        self.short.push(taken.0, counters);
        self.long.push(taken.0, counters);
    }

    /// Duty by cause over the last `window`, as [`ThrottleWindow::duty_over`].
    #[must_use]
    pub fn duty_over(&self, window: Duration) -> Vec<CauseDuty> {
        if window <= SHORT_THROTTLE_WINDOW {
            self.short.duty_over(window)
        } else {
            self.long.duty_over(window)
        }
    }
}

/// A kubelet's list of the owners of GPUs. It is complete: who is not in it has no GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnersList {
    /// Who has which GPUs.
    pub owners: Vec<GpuOwner>,
    /// When it came, and how old it was then: a list from before the start of our time is as good as any.
    came: (Moment, Duration),
}

impl OwnersList {
    /// Time since the kubelet was asked.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        let (came, age) = self.came;
        age.saturating_add(now.since(came))
    }
}

/// What the kubelet of a node says of the owners of its GPUs.
#[derive(Clone, Debug, Default)]
pub struct OwnersObservation {
    /// The last list; `None` before the first.
    pub list: Option<OwnersList>,
    /// Why the newest call failed, and since when calls have been failing.
    pub failure: Option<(Moment, String)>,
}

impl OwnersObservation {
    fn apply(&mut self, owners: GpuOwners, now: Moment) {
        // A daemon that restarted has no list for a moment; the one from before goes on to grow old.
        if let Some(age) = owners.age {
            self.list = Some(OwnersList {
                owners: owners.owners,
                came: (now, age),
            });
        }
        let failure = owners.failure;
        self.failure = failure.map(|failure| (now.before(failure.since), failure.message));
    }

    /// The list, while it is young enough to be used.
    #[must_use]
    pub fn fresh(&self, now: Moment) -> Option<&OwnersList> {
        self.list
            .as_ref()
            .filter(|list| list.age(now) <= GPU_OWNERS_STALE_AFTER)
    }
}

/// What is known of one node.
#[derive(Debug, Default)]
pub struct NodeObservation {
    /// The daemon that reports.
    pub identity: NodeIdentity,
    /// Its stream is open.
    pub connected: bool,
    /// When its newest report came.
    pub reported: Option<Moment>,
    /// State of the driver.
    pub driver: DriverState,
    /// GPUs and when they were sampled.
    pub gpus: Vec<GpuSample>,
    /// When the GPUs were sampled.
    pub gpus_taken: Option<Moment>,
    /// The GPUs that do not answer, with ages as of `reported`.
    pub outages: Vec<GpuOutage>,
    /// What happened to GPUs, with ages as of `reported`.
    pub incidents: Vec<GpuIncident>,
    /// What happened to NVSwitches, with ages as of `reported`.
    pub switch_incidents: Vec<SwitchIncident>,
    /// Since when faults stand, by GPU uuid.
    pub standing_since: BTreeMap<(String, StandingFault), Moment>,
    /// Owners of the GPUs; `None` where the daemon does not ask the kubelet.
    pub owners: Option<OwnersObservation>,
    /// Whether the daemon tells whose the processes on the GPUs are; `None` where it does not look.
    pub process_lookup: Option<ProcessLookup>,
    /// Pods whose processes were seen on the GPUs.
    pub users: GpuUsers,
    /// Lost clocks over time, by GPU uuid.
    pub throttle: BTreeMap<String, ThrottleHistory>,
    /// Memory that is not free over time, by GPU uuid; of a GPU that MIG divides, of each instance.
    pub memory: BTreeMap<String, GrowthTrend>,
    /// Servers.
    pub targets: BTreeMap<TargetId, TargetObservation>,
}

impl NodeObservation {
    /// Keeps what the GPUs had in use. Occupied is what is not free: it counts whoever took it, and the driver's own reserve.
    fn look_at_memory(&mut self, taken: Moment) {
        let mut known = std::mem::take(&mut self.memory);
        let mut look = |key: String, total: Option<u64>, free: Option<u64>| {
            // A moment without the numbers is a hole in the series and not its end.
            let mut trend = known.remove(&key).unwrap_or_default();
            if let Some((total, free)) = total.zip(free).filter(|(total, free)| free <= total) {
                trend.push(taken, total - free, total);
            }
            self.memory.insert(key, trend);
        };
        for gpu in &self.gpus {
            match &gpu.mig_instances {
                None => look(gpu.uuid.clone(), gpu.memory_total_bytes, gpu.memory_free_bytes),
                Some(instances) => {
                    for part in instances {
                        look(part_key(gpu, part), part.memory_total_bytes, part.memory_free_bytes);
                    }
                }
            }
        }
    }

    /// Keeps when each fault of the newest samples was first seen.
    fn look_at_faults(&mut self, taken: Moment) {
        let known = std::mem::take(&mut self.standing_since);
        let faults = self.gpus.iter().flat_map(|gpu| {
            let standing = gpu.health.standing();
            standing.map(|fault| (gpu.uuid.clone(), fault))
        });
        self.standing_since = faults
            .map(|key| {
                let since = known.get(&key).copied().unwrap_or(taken);
                (key, since)
            })
            .collect();
    }
}

/// What all node daemons reported.
#[derive(Debug, Default)]
pub struct Observations {
    nodes: BTreeMap<String, NodeObservation>,
}

impl Observations {
    /// A daemon's stream opened.
    pub fn connected(&mut self, identity: NodeIdentity) {
        let node = self.nodes.entry(identity.node.clone()).or_default();
        node.identity = identity;
        node.connected = true;
    }

    /// A daemon's stream closed. What it said stays, and grows old.
    pub fn disconnected(&mut self, node: &str) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.connected = false;
        }
    }

    /// Takes a report in. Targets that the daemon no longer reports are forgotten.
    pub fn report(&mut self, node: &str, report: Report, now: Moment) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.reported = Some(now);
        node.driver = report.gpus.driver;
        node.outages = report.gpus.outages;
        node.incidents = report.gpus.incidents;
        node.switch_incidents = report.gpus.switch_incidents;
        match report.gpus.owners {
            Some(owners) => node.owners.get_or_insert_default().apply(owners, now),
            None => node.owners = None,
        }
        node.process_lookup = report.gpus.process_lookup;
        if node.process_lookup.is_none() {
            node.users = GpuUsers::default();
        }
        if let Some(age) = report.gpus.age {
            if let Some(taken) = now.checked_before(age)
                && node.gpus_taken.is_none_or(|known| taken > known)
            {
                for sample in &report.gpus.samples {
                    node.throttle
                        .entry(sample.uuid.clone())
                        .or_default()
                        .push(taken, &sample.throttle);
                }
                let present: BTreeSet<&str> = report.gpus.samples.iter().map(|sample| sample.uuid.as_str()).collect();
                node.throttle.retain(|uuid, _| present.contains(uuid.as_str()));
                node.users.push(taken, &report.gpus.samples);
                node.gpus = report.gpus.samples;
                node.look_at_faults(taken);
                node.look_at_memory(taken);
                node.gpus_taken = Some(taken);
            }
        } else {
            node.gpus.clear();
            node.standing_since.clear();
            node.gpus_taken = None;
        }
        let reported: BTreeSet<TargetId> = report.targets.iter().map(|target| target.id.clone()).collect();
        node.targets.retain(|id, _| reported.contains(id));
        for target in report.targets {
            node.targets.entry(target.id.clone()).or_default().apply(target, now);
        }
    }

    /// Drops nodes that have been silent for longer than `limit`, so that a cluster that changes does not grow the state for ever.
    pub fn forget_silent(&mut self, now: Moment, limit: Duration) {
        self.nodes
            .retain(|_, node| node.connected || node.reported.is_some_and(|at| now.since(at) <= limit));
    }

    /// One node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeObservation> {
        self.nodes.get(name)
    }

    /// What is known of a server that is measured from `place`, and the node that measures it.
    #[must_use]
    pub fn target(&self, place: &Place, id: &TargetId) -> Option<(&str, &TargetObservation)> {
        match place {
            Place::Node(name) => {
                let (name, node) = self.nodes.get_key_value(name)?;
                node.targets.get(id).map(|target| (name.as_str(), target))
            }
            Place::Anywhere => self
                .nodes
                .iter()
                .filter_map(|(name, node)| node.targets.get(id).map(|target| (name.as_str(), target)))
                // What a daemon that is gone said last must not hide what the one that took over says now.
                .max_by_key(|(name, target)| {
                    let connected = self.nodes.get(*name).is_some_and(|node| node.connected);
                    let told = target.last.is_some() || target.failure.is_some();
                    (connected && told, target.last.as_ref().map(|(taken, _)| *taken))
                }),
            Place::Nowhere => None,
        }
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (&String, &NodeObservation)> {
        self.nodes.iter()
    }

    /// Nodes whose daemon's stream is open.
    #[must_use]
    pub fn connected_nodes(&self) -> BTreeSet<String> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.connected)
            .map(|(name, _)| name.clone())
            .collect()
    }
}
