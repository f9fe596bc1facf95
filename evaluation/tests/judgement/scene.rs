//! A monitor, its servers and its GPUs over time.

// Another test has this file by its path.
#[path = "scene/gpu.rs"]
mod gpu;

pub(crate) use gpu::{Gpu, gpu};

use infmon_crds::v1alpha1::{ConditionType, InferenceMonitorSpec, Thresholds};
use infmon_engines::{Engine, EngineSample, Mapping};
use infmon_evaluation::metric::{self, Metric, Reading};
use infmon_evaluation::{
    Finding, Input, Memory, Moment, Observations, Outcome, Place, Resolution, ResolvedEndpoint, Verdict, evaluate,
};
use infmon_gpu::{DriverState, GpuSample};
use infmon_samples::{
    Failure, FailureKind, GpuIncident, GpuOutage, GpuOwners, GpuReport, HostMemory, NodeIdentity, Observation,
    ProcessLookup, Recognition, Report, Scheme, SwitchIncident, Target, TargetId, TargetReport,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The scene starts here: long after the process, so that settling is over unless a test asks for it.
pub(crate) const START: u64 = 1000;
/// Namespace of the monitor and its pods.
pub(crate) const NAMESPACE: &str = "prod";

pub(crate) fn spec() -> InferenceMonitorSpec {
    InferenceMonitorSpec {
        engine: infmon_crds::v1alpha1::EngineChoice::Auto,
        custom: None,
        endpoints: Vec::new(),
        metrics_path: None,
        scheme: infmon_crds::v1alpha1::Scheme::Http,
        sample_period_milliseconds: 1000,
        stale_after_seconds: 10,
        thresholds: Thresholds::default(),
    }
}

pub(crate) fn target(id: &str, address: &str) -> Target {
    Target {
        id: TargetId(id.to_owned()),
        scheme: Scheme::Http,
        address: address.to_owned(),
        metrics_path: "/metrics".into(),
        engine: None,
        mapping: Mapping::default(),
        period: Duration::from_secs(1),
        deadline: Duration::from_millis(900),
        body_limit_bytes: 1 << 20,
        access: infmon_samples::Access::default(),
        pod_uid: None,
    }
}

/// One inference server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: ResolvedEndpoint,
    last: Option<(Duration, EngineSample, Recognition)>,
    failure: Option<Failure>,
    pub(crate) host: Option<HostMemory>,
    reported: bool,
}

/// A server that waits for nothing and runs `running` requests.
pub(crate) fn server(name: &str) -> Server {
    let sample = EngineSample {
        engine: Some(Engine::Vllm),
        generation: "v1-0.12+".into(),
        waiting: Some(0.0),
        running: Some(2.0),
        kv_cache_usage: Some(0.2),
        preemptions_total: Some(0.0),
        ..EngineSample::default()
    };
    Server {
        endpoint: ResolvedEndpoint {
            group: "servers".into(),
            name: name.to_owned(),
            place: Place::Node("n1".into()),
            serving: true,
            labels: std::collections::BTreeMap::new(),
            devices: Vec::new(),
            pod_uid: format!("uid-{name}"),
            target: Some(target(name, "10.0.0.1:8000")),
        },
        last: Some((Duration::from_millis(400), sample, Recognition::default())),
        failure: None,
        host: None,
        reported: true,
    }
}

impl Server {
    pub(crate) fn on(mut self, node: &str) -> Self {
        self.endpoint.place = Place::Node(node.into());
        self
    }

    pub(crate) fn anywhere(mut self) -> Self {
        self.endpoint.place = Place::Anywhere;
        self
    }

    pub(crate) fn not_ready(mut self) -> Self {
        self.endpoint.serving = false;
        self
    }

    pub(crate) fn device(mut self, id: &str) -> Self {
        self.endpoint.devices.push(id.to_owned());
        self
    }

    pub(crate) fn says(mut self, change: impl FnOnce(&mut EngineSample)) -> Self {
        if let Some((_, sample, _)) = &mut self.last {
            change(sample);
        }
        self
    }

    pub(crate) fn waiting(self, waiting: f64) -> Self {
        self.says(|sample| sample.waiting = Some(waiting))
    }

    pub(crate) fn running(self, running: f64) -> Self {
        self.says(|sample| sample.running = Some(running))
    }

    pub(crate) fn kv(self, usage: f64) -> Self {
        self.says(|sample| sample.kv_cache_usage = Some(usage))
    }

    pub(crate) fn age(mut self, millis: u64) -> Self {
        if let Some((age, ..)) = &mut self.last {
            *age = Duration::from_millis(millis);
        }
        self
    }

    /// No good scrape yet.
    pub(crate) fn no_sample(mut self) -> Self {
        self.last = None;
        self
    }

    /// Its daemon does not know it.
    pub(crate) fn unreported(mut self) -> Self {
        self.reported = false;
        self
    }

    pub(crate) fn failing(mut self, kind: FailureKind, message: &str, seconds: u64) -> Self {
        self.failure = Some(Failure {
            kind,
            message: message.into(),
            since: Duration::from_secs(seconds),
        });
        self
    }

    pub(crate) fn lacks(mut self, series: &[&str], hint: &str) -> Self {
        if let Some((_, _, recognition)) = &mut self.last {
            recognition.missing = series.iter().map(|name| (*name).to_owned()).collect();
            recognition.hint = hint.into();
        }
        self
    }
}

/// A monitor over time.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) spec: InferenceMonitorSpec,
    pub(crate) servers: Vec<Server>,
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) problems: Vec<String>,
    pub(crate) partial: bool,
    pub(crate) drivers: BTreeMap<String, DriverState>,
    /// GPUs of nodes that do not answer.
    pub(crate) outages: Vec<(String, GpuOutage)>,
    /// What happened to GPUs of nodes; the ages are those at the moment of each report.
    pub(crate) incidents: Vec<(String, GpuIncident)>,
    pub(crate) switch_incidents: Vec<(String, SwitchIncident)>,
    /// What the kubelets of nodes say, where they are asked.
    pub(crate) owners: BTreeMap<String, GpuOwners>,
    /// Whether the daemons of nodes tell whose the processes are, where they look.
    pub(crate) lookups: BTreeMap<String, ProcessLookup>,
    pub(crate) silent: BTreeSet<String>,
    pub(crate) watched_since: Moment,
    pub(crate) memory: Memory,
    pub(crate) now: u64,
    pub(crate) observations: Observations,
    pub(crate) resolution: Resolution,
    counted: Option<u64>,
}

pub(crate) fn scene(servers: impl IntoIterator<Item = Server>) -> Scene {
    Scene {
        spec: spec(),
        servers: servers.into_iter().collect(),
        gpus: Vec::new(),
        problems: Vec::new(),
        partial: false,
        drivers: BTreeMap::new(),
        outages: Vec::new(),
        incidents: Vec::new(),
        switch_incidents: Vec::new(),
        owners: BTreeMap::new(),
        lookups: BTreeMap::new(),
        silent: BTreeSet::new(),
        watched_since: Moment::default(),
        memory: Memory::default(),
        now: START,
        observations: Observations::default(),
        resolution: Resolution::default(),
        counted: None,
    }
}

impl Scene {
    pub(crate) fn gpu(mut self, gpu: Gpu) -> Self {
        self.gpus.push(gpu);
        self
    }

    /// The daemon of this node is not connected.
    pub(crate) fn silent(mut self, node: &str) -> Self {
        self.silent.insert(node.into());
        self
    }

    pub(crate) fn driver(mut self, node: &str, state: DriverState) -> Self {
        self.drivers.insert(node.into(), state);
        self
    }

    /// The daemon of this node tells whose the processes are.
    pub(crate) fn looks_up(mut self, node: &str) -> Self {
        self.lookups.insert(node.into(), ProcessLookup::default());
        self
    }

    /// The kubelet of this node says so.
    pub(crate) fn kubelet(mut self, node: &str, says: GpuOwners) -> Self {
        self.owners.insert(node.into(), says);
        self
    }

    pub(crate) fn problem(mut self, words: &str) -> Self {
        self.problems.push(words.into());
        self
    }

    /// The same of something that takes requests.
    pub(crate) fn partial(mut self, words: &str) -> Self {
        self.partial = true;
        self.problem(words)
    }

    pub(crate) fn spec(mut self, change: impl FnOnce(&mut InferenceMonitorSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// The process began to watch only so many seconds ago.
    pub(crate) fn watched_for(mut self, seconds: u64) -> Self {
        self.watched_since = Moment::from_secs(self.now - seconds);
        self
    }

    pub(crate) fn server_mut(&mut self, change: impl Fn(Server) -> Server) {
        self.servers = self.servers.drain(..).map(change).collect();
    }

    fn nodes(&self) -> BTreeSet<String> {
        let of_servers = self.servers.iter().map(|server| match &server.endpoint.place {
            Place::Node(node) => node.clone(),
            Place::Anywhere | Place::Nowhere => "n1".into(),
        });
        of_servers.chain(self.gpus.iter().map(|gpu| gpu.node.clone())).collect()
    }

    /// Every daemon that is not silent reports.
    pub(crate) fn report(&mut self) {
        let elapsed = self.counted.map_or(0, |at| self.now - at);
        self.counted = Some(self.now);
        for gpu in &mut self.gpus {
            for counter in &mut gpu.sample.throttle {
                let share = gpu.duty.get(&counter.cause).copied().unwrap_or_default();
                counter.nanoseconds += (share * 1e9) as u64 * elapsed;
            }
        }
        let now = Moment::from_secs(self.now);
        for node in self.nodes() {
            if self.silent.contains(&node) {
                self.observations.disconnected(&node);
                continue;
            }
            let identity = NodeIdentity {
                node: node.clone(),
                ..NodeIdentity::default()
            };
            self.observations.connected(identity);
            let samples: Vec<GpuSample> = self
                .gpus
                .iter()
                .filter(|gpu| gpu.node == node)
                .map(|gpu| gpu.sample.clone())
                .collect();
            let ready = DriverState::Ready {
                driver_version: "580.95.05".into(),
            };
            let driver = self.drivers.get(&node).cloned().unwrap_or(ready.clone());
            let report = Report {
                plan_revision: 1,
                gpus: GpuReport {
                    age: (!samples.is_empty() && driver == ready).then_some(Duration::from_millis(200)),
                    driver,
                    samples,
                    outages: of_node(&self.outages, &node),
                    incidents: of_node(&self.incidents, &node),
                    switch_incidents: of_node(&self.switch_incidents, &node),
                    owners: self.owners.get(&node).cloned(),
                    process_lookup: self.lookups.get(&node).cloned(),
                },
                targets: self.targets(&node),
            };
            self.observations.report(&node, report, now);
        }
    }

    fn targets(&self, node: &str) -> Vec<TargetReport> {
        let here = |server: &&Server| match &server.endpoint.place {
            Place::Node(place) => place == node,
            Place::Anywhere => node == "n1",
            Place::Nowhere => false,
        };
        let reported = self.servers.iter().filter(|server| server.reported).filter(here);
        reported
            .map(|server| TargetReport {
                id: TargetId(server.endpoint.name.clone()),
                last: server.last.clone().map(|(age, sample, recognition)| Observation {
                    age,
                    took: Duration::from_millis(3),
                    sample,
                    recognition,
                }),
                failure: server.failure.clone(),
                host_memory: server.host,
            })
            .collect()
    }

    /// Judges without a new report.
    pub(crate) fn judge(&mut self) -> Verdict {
        self.resolution = Resolution {
            endpoints: self.servers.iter().map(|server| server.endpoint.clone()).collect(),
            problems: self.problems.clone(),
            partial: self.partial,
        };
        let input = Input {
            namespace: NAMESPACE,
            spec: &self.spec,
            resolution: &self.resolution,
            observations: &self.observations,
            watched_since: self.watched_since,
            now: Moment::from_secs(self.now),
        };
        let (verdict, memory) = evaluate(input, self.memory);
        self.memory = memory;
        verdict
    }

    /// Reports and judges now.
    pub(crate) fn look(&mut self) -> Verdict {
        self.report();
        self.judge()
    }

    /// Reports and judges each second for so long; the last judgement.
    pub(crate) fn run(&mut self, seconds: u64) -> Verdict {
        for _ in 0..seconds {
            self.look();
            self.now += 1;
        }
        self.look()
    }

    pub(crate) fn metric(&mut self, metric: Metric) -> Result<Reading, String> {
        let verdict = self.look();
        let age = verdict.gpu_age.unwrap_or_default();
        let throttled = verdict.throttled_gpus_of_all().map(|gpus| Reading {
            value: gpus as f64,
            age,
            window: None,
        });
        let now = Moment::from_secs(self.now);
        metric::read(metric, &self.spec, &self.resolution, &self.observations, throttled, now)
    }

    pub(crate) fn endpoints(&mut self) -> Vec<infmon_crds::v1alpha1::EndpointStatus> {
        self.look();
        let (stale_after, now) = (Duration::from_secs(10), Moment::from_secs(self.now));
        infmon_evaluation::status::endpoints(&self.resolution, &self.observations, stale_after, now)
    }
}

fn of_node<T: Clone>(all: &[(String, T)], node: &str) -> Vec<T> {
    let here = all.iter().filter(|(of, _)| of == node);
    here.map(|(_, entry)| entry.clone()).collect()
}

pub(crate) fn finding(verdict: &Verdict, kind: ConditionType) -> &Finding {
    verdict.finding(kind).unwrap()
}

/// Outcome and reason, short: `True Monitoring`.
pub(crate) fn short(verdict: &Verdict, kind: ConditionType) -> String {
    let finding = finding(verdict, kind);
    format!("{} {}", finding.outcome.as_str(), finding.reason)
}

/// Every message must be fit to be shown: a sentence with its period or an anchor at the end, one line, no double space.
pub(crate) fn assert_presentable(verdict: &Verdict) {
    assert_eq!(
        verdict.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(),
        ConditionType::ALL
    );
    for Finding {
        kind,
        reason,
        message,
        outcome,
        ..
    } in &verdict.findings
    {
        assert!(infmon_crds::v1alpha1::reason::ALL.contains(reason), "{kind:?} {reason}");
        let anchor = format!(" docs/conditions.md#{}", reason.to_lowercase());
        let text = message.strip_suffix(anchor.as_str()).unwrap_or(message);
        assert!(text.len() > 4, "{kind:?}: {message:?}");
        assert!(text.ends_with('.') && !text.ends_with(".."), "{kind:?}: {message:?}");
        assert!(
            !message.contains("  ") && !message.contains('\n'),
            "{kind:?}: {message:?}"
        );
        assert!(
            !message.contains("NaN") && !message.contains("inf "),
            "{kind:?}: {message:?}"
        );
        assert_eq!(
            message.matches("docs/").count(),
            usize::from(text != message),
            "{message:?}"
        );
        let bad =
            *outcome == Outcome::True && !kind.true_is_good() || *outcome == Outcome::False && kind.true_is_good();
        let clearing = message.contains("clears when");
        assert!(
            !bad || clearing || text != message,
            "a finding names its anchor: {message:?}"
        );
    }
}
