//! Judges a monitor: one [`Finding`] per condition type, with evidence in the message.

mod availability;
mod damped;
mod gpus;
mod health;
mod heat;
mod latency;
mod load;
mod memory_risk;
mod ownership;
mod queue;
mod utilization;

use crate::words::{anchor, seconds, some_have};
use crate::{EndpointState, Hold, Moment, Observations, Resolution, Totals, Traffic};
use damped::{CLEAR_AFTER, CLEAR_AFTER_SLOW, Damped};
use infmon_crds::v1alpha1::{ConditionType, InferenceMonitorSpec, InferenceMonitorStatus, Load, OomRisk, reason};
use infmon_samples::GPU_OWNERS_STALE_AFTER;
use std::collections::BTreeSet;
use std::time::Duration;

pub use gpus::GpuVerdict;
pub use ownership::{Attribution, Part, PodProcesses, Sharing};

/// Everything a judgement is made of.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Namespace of the monitor and of its pods.
    pub namespace: &'a str,
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
    load: load::Memory,
    latency: latency::Memories,
    memory_risk: memory_risk::Holds,
    reachable: Damped,
    recognized: Damped,
    gpus_healthy: Damped,
    throttled: Damped,
    heat: heat::Holds,
    utilization: utilization::Holds,
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
            load: load::Memory::from_status(status),
            latency: latency::Memories::from_status(status),
            memory_risk: memory_risk::Holds {
                kv_cache: standing(ConditionType::OomRisk, &[reason::KV_CACHE_EXHAUSTION]),
                preemptions: standing(ConditionType::OomRisk, &[reason::PREEMPTIONS]),
                headroom: standing(ConditionType::OomRisk, &[reason::LOW_HEADROOM]),
                growth: standing(ConditionType::OomRisk, &[reason::DEVICE_MEMORY_GROWTH]),
                host: standing(ConditionType::OomRisk, &[reason::HOST_MEMORY_PRESSURE]),
            },
            reachable: Damped::from_status(ConditionType::EndpointsReachable, status),
            recognized: Damped::from_status(ConditionType::MetricsRecognized, status),
            gpus_healthy: Damped::from_status(ConditionType::GpusHealthy, status),
            throttled: Damped::from_status(ConditionType::Throttled, status),
            heat: heat::Holds::from_status(status),
            utilization: utilization::Holds {
                low: standing(ConditionType::Underutilized, &[reason::LOW_UTILIZATION]),
                not_used: standing(ConditionType::Underutilized, &[reason::GPU_NOT_USED]),
            },
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
    /// What passed through the service in the last minute.
    pub traffic: Traffic,
    /// Risk that memory runs out.
    pub oom_risk: OomRisk,
    /// Time until the memory of a GPU or the host memory of a pod is full, where it grows towards that; the shortest.
    pub memory_exhaustion: Option<Duration>,
    /// GPUs that serve this monitor, worst first.
    pub gpus: Vec<GpuVerdict>,
    /// Age of the oldest GPU sample used; `None` without GPU data.
    pub gpu_age: Option<Duration>,
    /// Those of `gpus` whose counters tell whether they lose clocks.
    pub gpus_judged: usize,
    /// Every endpoint can be measured, every node of the monitor gives GPU data, and every GPU was judged.
    pub gpus_complete: bool,
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

    /// The same as a number that stands for all GPUs of the monitor; `None` when it would stand for some of them only.
    #[must_use]
    pub fn throttled_gpus_of_all(&self) -> Option<usize> {
        (self.gpus_complete && self.gpu_age.is_some()).then(|| self.throttled_gpus())
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
    let stale_after = spec.stale_after();
    let totals = Totals::of(resolution, observations, stale_after, now);
    let settles = input.watched_since.after(settling_time(stale_after));
    let settling = now < settles;
    let inherits = input
        .watched_since
        .after(settling_time(stale_after).max(RECONNECTED_WITHIN));
    let throttled_clear = seconds_of(spec.thresholds.throttled_percent.for_seconds).min(CLEAR_AFTER_SLOW);

    let ready = availability::ready(&input, &totals, settling);
    let reachable = availability::reachable(&input, &totals, settling);
    let (reachable, reachable_memory) = memory.reachable.apply(reachable, now, CLEAR_AFTER);
    let recognized = availability::recognized(&totals, settling);
    let (recognized, recognized_memory) = memory.recognized.apply(recognized, now, CLEAR_AFTER);
    let mut gpus = gpus::serving(&input, stale_after);
    let (heat, heat_memory) = heat::judge(&input, &gpus, memory.heat);
    let throttled = gpus::throttled(&input, &gpus, settling);
    let (throttled, throttled_memory) = memory.throttled.apply(throttled, now, throttled_clear);
    let throttled = heat.warn(&input, throttled);
    if let Some((gpu, what, next)) = heat.fault(&input) {
        let fault = health::temperature_high(gpu, what, next);
        gpus.health.note(fault);
    }
    let gpus_healthy = health::gpus_healthy(&gpus, settling, memory.gpus_healthy.is_raised());
    let (gpus_healthy, gpus_healthy_memory) = memory.gpus_healthy.apply(gpus_healthy, now, CLEAR_AFTER_SLOW);
    let (queue_depth, queue) = queue::judge(&input, &totals, memory.queue, settling);
    let memory_judged = memory_risk::judge(&input, &totals, &gpus, memory.memory_risk, settling);
    let (latency_high, latency) = latency::judge(&input, &totals, memory.latency, settling);
    let (underutilized, utilization) = utilization::judge(&input, &totals, &gpus, memory.utilization, settling);
    let traffic = if totals.enough() {
        Traffic::of(&totals)
    } else {
        Traffic::default()
    };
    let signs = load::Signs {
        queue_depth: queue_depth.outcome == Outcome::True,
        throttled: throttled.outcome == Outcome::True,
        slow: latency_high.outcome == Outcome::True,
        oom_risk: memory_judged.load_risk,
    };
    let (load, load_memory) = load::judge(&totals, &traffic, &signs, memory.load, now);

    let next = Memory {
        queue,
        load: load_memory,
        latency,
        memory_risk: memory_judged.holds,
        reachable: reachable_memory,
        recognized: recognized_memory,
        gpus_healthy: gpus_healthy_memory,
        throttled: throttled_memory,
        heat: heat_memory,
        utilization,
    };
    let due = next
        .due(spec, throttled_clear)
        .chain([
            (totals.fresh > 0).then(|| now.before(totals.age).after(stale_after + STALE_SLACK)),
            gpus.age.map(|age| now.before(age).after(stale_after + STALE_SLACK)),
            gpus.health
                .age
                .map(|age| now.before(age).after(stale_after + STALE_SLACK)),
            gpus.health.over_at,
            gpus.list_age
                .map(|age| now.after(GPU_OWNERS_STALE_AFTER.saturating_sub(age) + STALE_SLACK)),
            Some(settles),
            Some(inherits),
        ])
        .flatten()
        .filter(|moment| *moment > now)
        .min();
    let (engine, engine_generation) = engines(&totals);
    let shown = |value: Option<f64>| value.filter(|_| totals.enough());
    let verdict = Verdict {
        load,
        engine,
        engine_generation,
        fresh: totals.fresh,
        endpoints: totals.endpoints.len(),
        waiting: shown(totals.waiting),
        running: shown(totals.running),
        kv_cache_usage: shown(totals.kv_cache_usage),
        traffic,
        oom_risk: memory_judged.risk,
        memory_exhaustion: memory_judged.exhaustion,
        gpu_age: gpus.age,
        gpus_judged: gpus.judged,
        gpus_complete: gpus.complete() && !resolution.partial,
        gpus: gpus.verdicts,
        // Data that is on its way may still turn what a status written before a restart says.
        settled: now >= inherits
            || (totals.complete()
                && totals.needed > 0
                && throttled.reason != reason::WAITING_FOR_DATA
                && gpus_healthy.reason != reason::WAITING_FOR_DATA
                && latency_high.reason != reason::TOO_FEW_REQUESTS),
        due,
        findings: vec![
            ready,
            reachable,
            recognized,
            gpus_healthy,
            throttled,
            memory_judged.finding,
            queue_depth,
            latency_high,
            underutilized,
        ],
    };
    (verdict, next)
}

/// A judgement that waits for a sample to turn stale comes just after that.
const STALE_SLACK: Duration = Duration::from_millis(50);

/// A daemon that lost an operator tries again every 15 s at least: until then its silence is no reason to change what was written.
const RECONNECTED_WITHIN: Duration = Duration::from_secs(20);

/// For so long silence means nothing: connect (a daemon retries within seconds), plan, first scrape, first report.
fn settling_time(stale_after: Duration) -> Duration {
    stale_after.clamp(Duration::from_secs(10), Duration::from_secs(30))
}

impl Memory {
    /// When a hold ends if nothing changes.
    fn due(self, spec: &InferenceMonitorSpec, throttled_clear: Duration) -> impl Iterator<Item = Option<Moment>> {
        let thresholds = &spec.thresholds;
        let [near_slowdown, hot] = self.heat.due(thresholds);
        [
            self.queue.due(seconds_of(thresholds.queue_depth.for_seconds)),
            self.load.due(),
            self.latency.due(thresholds),
            self.reachable.due(CLEAR_AFTER),
            self.recognized.due(CLEAR_AFTER),
            self.throttled.due(throttled_clear),
            near_slowdown,
            hot,
            self.gpus_healthy.due(CLEAR_AFTER_SLOW),
            self.utilization
                .low
                .due(seconds_of(thresholds.gpu_utilization_percent.for_seconds)),
            self.utilization.not_used.due(utilization::NOT_USED_FOR),
        ]
        .into_iter()
        .chain(self.memory_risk.due(spec))
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

pub(crate) fn seconds_of(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The finding for a value that nobody knows.
fn unknown(kind: ConditionType, totals: &Totals<'_>, settling: bool, what: &str) -> Finding {
    let waiting = |(_, state): &(_, EndpointState<'_>)| matches!(state, EndpointState::Waiting);
    let (reason, message) = if settling && !totals.enough() {
        (
            reason::WAITING_FOR_DATA,
            format!("Waiting for the first samples; {what} is not known yet."),
        )
    } else if totals.endpoints.is_empty() {
        (
            reason::NO_ENDPOINTS,
            format!("No endpoint is selected, so {what} is not known."),
        )
    } else if totals.needed == 0 {
        (
            reason::NO_ENDPOINTS,
            format!("No endpoint takes requests, so {what} is not known."),
        )
    } else if totals.enough() {
        (
            reason::SERIES_MISSING,
            format!("Not every server publishes {what}; see MetricsRecognized."),
        )
    } else if totals
        .endpoints
        .iter()
        .filter(|(endpoint, _)| endpoint.serving)
        .all(waiting)
    {
        (
            reason::WAITING_FOR_DATA,
            format!("Waiting for the first samples; {what} is not known yet."),
        )
    } else {
        (
            reason::STALE_DATA,
            format!(
                "{} no fresh sample, so {what} is not known: {}. {}",
                some_have(totals.missing, totals.needed),
                totals.lacking(),
                anchor(reason::STALE_DATA)
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

/// The finding for a value that `spec.custom` names no series for; `next` says so.
fn not_mapped(kind: ConditionType, what: &str, next: &str) -> Finding {
    Finding {
        kind,
        outcome: Outcome::Unknown,
        reason: reason::SERIES_MISSING,
        message: format!("Nobody says {what}. Next: {next}. {}", anchor(reason::SERIES_MISSING)),
    }
}

/// What a finding says while its value is back on the good side and the time to clear has not passed yet.
fn clears(hold_for: Duration) -> String {
    format!(
        "back within the threshold; the condition clears when that has held for {}",
        seconds(hold_for)
    )
}
