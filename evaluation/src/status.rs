//! From a verdict to the status of the resource, and whether that is worth a write.

use crate::totals::seconds;
use crate::{EndpointState, GpuVerdict, Moment, Observations, Outcome, Place, Resolution, Verdict, endpoint_state};
use infmon_crds::v1alpha1::{EndpointStatus, GpuStatus, InferenceMonitorStatus, Summary};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::time::Duration;

/// Longest condition message; the API allows 32 KiB, people do not.
const MESSAGE_MAX: usize = 1024;
/// Endpoints and GPUs listed in a status.
const LIST_MAX: usize = 32;

/// The status for a verdict. Conditions keep their transition time while their status stays.
#[must_use]
pub fn status(
    verdict: &Verdict,
    previous: &InferenceMonitorStatus,
    generation: Option<i64>,
    endpoints: Vec<EndpointStatus>,
    wall_clock: jiff::Timestamp,
) -> InferenceMonitorStatus {
    let conditions = verdict
        .findings
        .iter()
        .map(|finding| {
            let known = previous
                .conditions
                .iter()
                .find(|condition| condition.type_ == finding.kind.as_str());
            let last_transition_time = match known {
                Some(condition) if condition.status == finding.outcome.as_str() => {
                    condition.last_transition_time.clone()
                }
                // Seconds, as metav1.Time has them: a finer time would never compare equal to what the API server gives back.
                _ => Time(jiff::Timestamp::from_second(wall_clock.as_second()).unwrap_or(wall_clock)),
            };
            Condition {
                type_: finding.kind.as_str().into(),
                status: finding.outcome.as_str().into(),
                reason: finding.reason.into(),
                message: truncated(&finding.message, MESSAGE_MAX),
                observed_generation: generation,
                last_transition_time,
            }
        })
        .collect();
    let gpus_known = verdict.gpu_age.is_some();
    let throttled = verdict.throttled_gpus();
    InferenceMonitorStatus {
        observed_generation: generation,
        load: Some(verdict.load),
        engine: verdict.engine.clone().or_else(|| previous.engine.clone()),
        engine_generation: verdict
            .engine_generation
            .clone()
            .or_else(|| previous.engine_generation.clone()),
        summary: Some(Summary {
            endpoints: format!("{}/{}", verdict.fresh, verdict.endpoints),
            waiting: verdict.waiting.map(whole),
            running: verdict.running.map(whole),
            kv_cache_usage: verdict.kv_cache_usage.map(percent),
            gpus: gpus_known.then_some(verdict.gpus.len() as i64),
            throttled_gpus: gpus_known.then_some(throttled as i64),
            throttled: gpus_known.then(|| format!("{throttled}/{}", verdict.gpus.len())),
            oom_risk: verdict.oom_risk,
        }),
        conditions,
        endpoints,
        gpus: verdict.gpus.iter().take(LIST_MAX).map(gpu_status).collect(),
    }
}

/// The endpoint list of a status: worst first, bounded.
#[must_use]
pub fn endpoints(
    resolution: &Resolution,
    observations: &Observations,
    stale_after: Duration,
    now: Moment,
) -> Vec<EndpointStatus> {
    let mut ranked: Vec<(u8, i64, EndpointStatus)> = resolution
        .endpoints
        .iter()
        .map(|endpoint| {
            let state = endpoint_state(endpoint, observations, stale_after, now);
            let (rank, words, message) = match &state {
                EndpointState::Failing { failure, for_time } => (
                    0,
                    failure.kind.as_str(),
                    Some(format!("{} (for {})", failure.message, seconds(*for_time))),
                ),
                EndpointState::NoDaemon => (1, "NoNodeDaemon", Some("no node daemon is connected there".to_owned())),
                EndpointState::Stale { age } => (2, "Stale", Some(format!("last sample {} ago", seconds(*age)))),
                EndpointState::Waiting => (3, "Waiting", None),
                EndpointState::Fresh { .. } => (4, "Fresh", None),
                EndpointState::NotServing => (5, "NotServing", Some("the pod is not Ready".to_owned())),
            };
            let sample = match &state {
                EndpointState::Fresh { observation, .. } => Some(&observation.sample),
                _ => None,
            };
            let status = EndpointStatus {
                endpoint: endpoint.group.clone(),
                target: endpoint.name.clone(),
                node: match &endpoint.place {
                    Place::Node(node) => Some(node.clone()),
                    Place::Anywhere | Place::Nowhere => None,
                },
                state: words.into(),
                waiting: sample.and_then(|sample| sample.waiting).map(whole),
                running: sample.and_then(|sample| sample.running).map(whole),
                kv_cache_usage: sample.and_then(|sample| sample.kv_cache_usage).map(percent),
                message: message.map(|message| truncated(&message, 512)),
            };
            (rank, -status.waiting.unwrap_or(0), status)
        })
        .collect();
    ranked.sort_by(|a, b| (a.0, a.1, &a.2.target).cmp(&(b.0, b.1, &b.2.target)));
    ranked.into_iter().take(LIST_MAX).map(|(_, _, status)| status).collect()
}

/// How much a new status matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing that anybody would want written.
    None,
    /// The quantised summary or the lists differ: write when the monitor's last write is old enough.
    Summary,
    /// A condition turned, or the spec changed: write now.
    Transition,
}

/// Compares two statuses. Messages and times do not count: they change with every sample.
#[must_use]
pub fn change(previous: &InferenceMonitorStatus, next: &InferenceMonitorStatus) -> Change {
    let key = |status: &InferenceMonitorStatus| {
        status
            .conditions
            .iter()
            .map(|condition| {
                (
                    condition.type_.clone(),
                    condition.status.clone(),
                    condition.reason.clone(),
                    condition.observed_generation,
                )
            })
            .collect::<Vec<_>>()
    };
    if key(previous) != key(next) || previous.observed_generation != next.observed_generation {
        return Change::Transition;
    }
    if quantised(previous) != quantised(next) {
        Change::Summary
    } else {
        Change::None
    }
}

/// What of a summary is worth a write: small numbers exactly, large ones to about a tenth, the KV cache to 5 %.
fn quantised(status: &InferenceMonitorStatus) -> impl PartialEq + use<> {
    let summary = status.summary.clone().unwrap_or_default();
    let kv = summary
        .kv_cache_usage
        .as_deref()
        .and_then(|text| text.trim_end_matches('%').parse::<i64>().ok());
    (
        (status.load, status.engine.clone(), status.engine_generation.clone()),
        (summary.endpoints, summary.throttled, summary.oom_risk),
        (
            summary.waiting.map(coarse),
            summary.running.map(coarse),
            kv.map(|percent| (percent + 2) / 5),
        ),
        status
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.target.clone(), endpoint.state.clone()))
            .collect::<std::collections::BTreeSet<_>>(),
    )
}

fn coarse(value: i64) -> i64 {
    match value {
        ..=20 => value,
        21..=200 => (value + 5) / 10 * 10,
        _ => {
            let step = 10_i64.pow(value.ilog10().saturating_sub(1));
            (value + step / 2) / step * step
        }
    }
}

/// A condition whose status differs from the one before: worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Condition type.
    pub kind: String,
    /// New outcome.
    pub outcome: Outcome,
    /// New reason.
    pub reason: String,
    /// New message.
    pub message: String,
    /// It got worse.
    pub warning: bool,
}

/// Conditions whose status differs, in the order of the findings. A condition that is seen for the first time counts only when it
/// tells something bad: a new monitor that is healthy is no news.
#[must_use]
pub fn transitions(verdict: &Verdict, previous: &InferenceMonitorStatus) -> Vec<Transition> {
    verdict
        .findings
        .iter()
        .filter_map(|finding| {
            let known = previous
                .conditions
                .iter()
                .find(|condition| condition.type_ == finding.kind.as_str());
            let bad = match finding.outcome {
                Outcome::True => !finding.kind.true_is_good(),
                Outcome::False => finding.kind.true_is_good(),
                Outcome::Unknown => false,
            };
            match known {
                Some(condition) if condition.status == finding.outcome.as_str() => return None,
                // To and from Unknown is told by Ready alone; one Event per condition would say the same thing six times.
                Some(condition)
                    if (condition.status == "Unknown" || finding.outcome == Outcome::Unknown)
                        && !bad
                        && finding.kind != infmon_crds::v1alpha1::ConditionType::Ready =>
                {
                    return None;
                }
                None if !bad => return None,
                _ => {}
            }
            Some(Transition {
                kind: finding.kind.as_str().into(),
                outcome: finding.outcome,
                reason: finding.reason.into(),
                message: finding.message.clone(),
                warning: bad,
            })
        })
        .collect()
}

fn gpu_status(gpu: &GpuVerdict) -> GpuStatus {
    let sample = &gpu.sample;
    GpuStatus {
        node: gpu.node.clone(),
        index: i64::from(sample.index),
        uuid: sample.uuid.clone(),
        name: (!sample.name.is_empty()).then(|| sample.name.clone()),
        throttled: gpu
            .throttled
            .map(|(cause, duty, _)| format!("{} {:.0}%", cause.as_str(), duty * 100.0)),
        temperature_celsius: sample.temperature_celsius.map(i64::from),
        memory_usage: sample
            .memory_total_bytes
            .zip(sample.memory_free_bytes)
            .filter(|(total, _)| *total > 0)
            .map(|(total, free)| percent(total.saturating_sub(free) as f64 / total as f64)),
    }
}

/// Cuts at a character boundary and says so.
fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

fn whole(value: f64) -> i64 {
    // Saturates and maps NaN to 0 by definition of `as`; the totals hold neither.
    value.round() as i64
}

fn percent(ratio: f64) -> String {
    format!("{:.0}%", ratio * 100.0)
}
