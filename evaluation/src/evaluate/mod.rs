//! Judges a monitor: one [`Finding`] per condition type, with evidence in the message.

mod availability;
mod gpus;
mod memory_risk;

use crate::{EndpointState, Hold, Moment, Observations, Place, Resolution, Totals};
use infmon_crds::v1alpha1::{ConditionType, InferenceMonitorSpec, InferenceMonitorStatus, Load, OomRisk, reason};
use std::collections::BTreeSet;
use std::time::Duration;

pub use gpus::GpuVerdict;

/// Everything a judgement is made of.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What the user declared.
    pub spec: &'a InferenceMonitorSpec,
    /// The endpoints found.
    pub resolution: &'a Resolution,
    /// What the daemons reported.
    pub observations: &'a Observations,
    /// Since when this process has been watching the monitor.
    pub watched_since: Moment,
    /// Now.
    pub now: Moment,
}

/// What must be remembered from one judgement to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    queue: Hold,
    kv_cache: Hold,
    headroom: Hold,
}

impl Memory {
    /// The memory after a restart, as far as the status written before tells.
    #[must_use]
    pub fn from_status(status: &InferenceMonitorStatus) -> Self {
        let standing = |kind: ConditionType, reasons: &[&str]| {
            Hold::standing(status.conditions.iter().any(|condition| {
                condition.type_ == kind.as_str()
                    && condition.status == "True"
                    && reasons.contains(&condition.reason.as_str())
            }))
        };
        Self {
            queue: standing(ConditionType::QueueDepthHigh, &[reason::ABOVE_THRESHOLD]),
            kv_cache: standing(ConditionType::OomRisk, &[reason::KV_CACHE_EXHAUSTION]),
            headroom: standing(ConditionType::OomRisk, &[reason::LOW_HEADROOM]),
        }
    }
}

/// Three-valued outcome of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The condition holds.
    True,
    /// It does not.
    False,
    /// Nobody can say.
    Unknown,
}

impl Outcome {
    /// As written in a condition's status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The outcome for one condition type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Condition type.
    pub kind: ConditionType,
    /// Outcome.
    pub outcome: Outcome,
    /// One of [`reason`].
    pub reason: &'static str,
    /// Evidence and next step, for people.
    pub message: String,
}

/// The judgement of one monitor.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// One finding per condition type, in the order of [`ConditionType::ALL`].
    pub findings: Vec<Finding>,
    /// Load.
    pub load: Load,
    /// Engines seen, joined by a comma.
    pub engine: Option<String>,
    /// Metric generations seen, joined by a comma.
    pub engine_generation: Option<String>,
    /// Endpoints with fresh data.
    pub fresh: usize,
    /// All endpoints.
    pub endpoints: usize,
    /// Requests that wait.
    pub waiting: Option<f64>,
    /// Requests that run.
    pub running: Option<f64>,
    /// KV cache use of the fullest endpoint, 0-1.
    pub kv_cache_usage: Option<f64>,
    /// Risk that memory runs out.
    pub oom_risk: OomRisk,
    /// GPUs that serve this monitor, worst first.
    pub gpus: Vec<GpuVerdict>,
    /// Age of the oldest GPU sample used; `None` without GPU data.
    pub gpu_age: Option<Duration>,
    /// False while data that must be on its way has not come yet: a status written before should stay then.
    pub settled: bool,
    /// When to judge again even if nothing new is reported; `None` when nothing is pending.
    pub due: Option<Moment>,
}

impl Verdict {
    /// The finding of a type.
    #[must_use]
    pub fn finding(&self, kind: ConditionType) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.kind == kind)
    }

    /// GPUs that lose clocks above the threshold.
    #[must_use]
    pub fn throttled_gpus(&self) -> usize {
        self.gpus.iter().filter(|gpu| gpu.throttled.is_some()).count()
    }
}

/// Judges a monitor.
#[must_use]
pub fn evaluate(input: Input<'_>, memory: Memory) -> (Verdict, Memory) {
    let Input {
        spec,
        resolution,
        observations,
        now,
        ..
    } = input;
    let stale_after = Duration::from_secs(u64::try_from(spec.stale_after_seconds).unwrap_or(10));
    let totals = Totals::of(resolution, observations, stale_after, now);
    // Until data can have come, silence means nothing: connect, plan, first scrape, first report.
    let settling = now.since(input.watched_since) < stale_after;
    let settled = !settling || (totals.complete() && totals.needed > 0);

    let ready = availability::ready(&input, &totals, settling);
    let reachable = availability::reachable(&totals, settling);
    let recognized = availability::recognized(&totals, settling);
    let gpus = gpus::serving(&input, stale_after);
    let throttled = gpus::throttled(&input, &gpus, settling);
    let (queue_depth, queue) = queue_depth(&input, &totals, memory.queue, settling);
    let (oom, oom_risk, kv_cache, headroom) =
        memory_risk::judge(&input, &totals, &gpus, memory.kv_cache, memory.headroom, settling);

    let load = load(&totals, &queue_depth, &throttled, oom_risk);
    let (engine, engine_generation) = engines(&totals);
    let memory = Memory {
        queue,
        kv_cache,
        headroom,
    };
    let verdict = Verdict {
        load,
        engine,
        engine_generation,
        fresh: totals.fresh,
        endpoints: totals.endpoints.len(),
        waiting: totals.waiting.filter(|_| totals.enough()),
        running: totals.running.filter(|_| totals.enough()),
        kv_cache_usage: totals.kv_cache_usage.filter(|_| totals.enough()),
        oom_risk,
        gpu_age: gpus.age,
        gpus: gpus.verdicts,
        settled,
        due: due(&input, memory, &totals, stale_after),
        findings: vec![ready, reachable, recognized, throttled, oom, queue_depth],
    };
    (verdict, memory)
}

fn queue_depth(input: &Input<'_>, totals: &Totals<'_>, hold: Hold, settling: bool) -> (Finding, Hold) {
    let kind = ConditionType::QueueDepthHigh;
    let threshold = &input.spec.thresholds.queue_depth;
    let waiting = totals.waiting.filter(|_| totals.enough());
    let per_endpoint = waiting.map(|waiting| waiting / totals.fresh.max(1) as f64);
    let beyond = per_endpoint.map(|value| value > f64::from(threshold.per_endpoint));
    let hold = hold.update(beyond, input.now, seconds_of(threshold.for_seconds));
    let (Some(waiting), Some(per_endpoint)) = (waiting, per_endpoint) else {
        return (unknown(kind, totals, settling, "the number of waiting requests"), hold);
    };
    let bound = format!("threshold {} for {} s", threshold.per_endpoint, threshold.for_seconds);
    let finding = if hold.is_raised() {
        let worst = totals
            .endpoints
            .iter()
            .filter_map(|(endpoint, state)| match state {
                EndpointState::Fresh { observation, .. } => Some((endpoint, observation.sample.waiting?)),
                _ => None,
            })
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let worst = match worst {
            Some((endpoint, value)) if totals.fresh > 1 => format!(", worst {} with {value:.0}", endpoint.name),
            _ => String::new(),
        };
        Finding {
            kind,
            outcome: Outcome::True,
            reason: reason::ABOVE_THRESHOLD,
            message: format!(
                "{waiting:.0} requests wait, {per_endpoint:.1} per endpoint ({bound}){worst}. Next: add replicas. {}",
                anchor(reason::ABOVE_THRESHOLD)
            ),
        }
    } else {
        Finding {
            kind,
            outcome: Outcome::False,
            reason: reason::BELOW_THRESHOLD,
            message: format!("{waiting:.0} requests wait, {per_endpoint:.1} per endpoint ({bound})."),
        }
    };
    (finding, hold)
}

/// Rules of `status.load`, also in docs/conditions.md#load.
fn load(totals: &Totals<'_>, queue_depth: &Finding, throttled: &Finding, oom_risk: OomRisk) -> Load {
    let (Some(waiting), Some(running)) = (totals.waiting, totals.running) else {
        return Load::Unknown;
    };
    if !totals.enough() {
        Load::Unknown
    } else if queue_depth.outcome == Outcome::True || oom_risk == OomRisk::High {
        Load::Overloaded
    } else if waiting > 0.0 || throttled.outcome == Outcome::True || oom_risk == OomRisk::Medium {
        Load::Degraded
    } else if running > 0.0 {
        Load::Healthy
    } else {
        Load::Idle
    }
}

fn engines(totals: &Totals<'_>) -> (Option<String>, Option<String>) {
    let mut engines = BTreeSet::new();
    let mut generations = BTreeSet::new();
    for (_, state) in &totals.endpoints {
        if let EndpointState::Fresh { observation, .. } = state {
            if let Some(engine) = observation.sample.engine {
                engines.insert(engine.as_str());
            }
            if !observation.sample.generation.is_empty() {
                generations.insert(observation.sample.generation.as_str());
            }
        }
    }
    let join = |set: BTreeSet<&str>| (!set.is_empty()).then(|| set.into_iter().collect::<Vec<_>>().join(","));
    (join(engines), join(generations))
}

/// When time alone changes the judgement: a hold that ends, a sample that turns stale, the end of the settling time.
fn due(input: &Input<'_>, memory: Memory, totals: &Totals<'_>, stale_after: Duration) -> Option<Moment> {
    let thresholds = &input.spec.thresholds;
    let mut moments = vec![
        memory.queue.due(seconds_of(thresholds.queue_depth.for_seconds)),
        memory
            .kv_cache
            .due(seconds_of(thresholds.kv_cache_usage_percent.for_seconds)),
        memory
            .headroom
            .due(seconds_of(thresholds.gpu_memory_headroom_mib.for_seconds)),
    ];
    if totals.fresh > 0 {
        let slack = Duration::from_millis(50);
        moments.push(Some(input.now.before(totals.age).after(stale_after + slack)));
    }
    let settles = input.watched_since.after(stale_after);
    moments.push((settles > input.now).then_some(settles));
    moments.into_iter().flatten().filter(|moment| *moment > input.now).min()
}

pub(crate) fn seconds_of(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Where a reason is explained.
pub(crate) fn anchor(reason: &str) -> String {
    format!("docs/conditions.md#{}", reason.to_ascii_lowercase())
}

/// The finding for a value that nobody knows.
fn unknown(kind: ConditionType, totals: &Totals<'_>, settling: bool, what: &str) -> Finding {
    let waiting = settling
        || (totals
            .endpoints
            .iter()
            .all(|(_, state)| matches!(state, EndpointState::Waiting))
            && totals.needed > 0);
    let (reason, message) = if totals.endpoints.is_empty() {
        (
            reason::NO_ENDPOINTS,
            format!("No endpoint is selected, so {what} is not known."),
        )
    } else if totals.needed == 0 && totals.fresh == 0 {
        (
            reason::WAITING_FOR_DATA,
            format!("No endpoint takes requests yet, so {what} is not known."),
        )
    } else if totals.fresh > 0 && totals.missing == 0 {
        (
            reason::SERIES_MISSING,
            format!("The servers do not publish {what}; see MetricsRecognized."),
        )
    } else if waiting {
        (
            reason::WAITING_FOR_DATA,
            format!("Waiting for the first samples; {what} is not known yet."),
        )
    } else {
        (
            reason::STALE_DATA,
            format!(
                "{} of {} endpoints have no fresh sample, so {what} is not known: {}.",
                totals.missing,
                totals.needed,
                totals.lacking()
            ),
        )
    };
    Finding {
        kind,
        outcome: Outcome::Unknown,
        reason,
        message,
    }
}

/// Nodes on which the endpoints of a resolution run.
pub(crate) fn nodes_of(resolution: &Resolution) -> BTreeSet<&str> {
    resolution
        .endpoints
        .iter()
        .filter_map(|endpoint| match &endpoint.place {
            Place::Node(node) => Some(node.as_str()),
            Place::Anywhere | Place::Nowhere => None,
        })
        .collect()
}

/// Whether the observations hold anything of a node's GPUs that is young enough.
pub(crate) fn fresh_gpus(observations: &Observations, node: &str, stale_after: Duration, now: Moment) -> bool {
    observations
        .node(node)
        .and_then(|node| node.gpus_taken)
        .is_some_and(|taken| now.since(taken) <= stale_after)
}
