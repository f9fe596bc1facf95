//! From a verdict to the status of the resource, and whether that is worth a write.

use crate::totals::misread;
use crate::words::{percent, seconds, truncated};
use crate::{
    EndpointState, GpuVerdict, Moment, Observations, Outcome, Place, Resolution, ResolvedEndpoint, Verdict,
    endpoint_state,
};
use infmon_crds::v1alpha1::{EndpointStatus, GpuPodStatus, GpuStatus, InferenceMonitorStatus, Summary, reason};
use infmon_samples::FailureKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::time::Duration;

mod change;

pub use change::{Change, change};

/// Longest condition message; the API allows 32 KiB, people do not.
const MESSAGE_MAX: usize = 1024;
/// Endpoints and GPUs listed in a status.
pub(crate) const LIST_MAX: usize = 32;
/// Pods listed with one GPU.
const GPU_PODS_MAX: usize = 8;
/// GPU instances of MIG listed with one pod.
const MIG_INSTANCES_MAX: usize = 8;
/// Longest name that comes from outside: the bounds of the resource are the API server's reason to refuse a whole status.
const NAME_MAX: usize = 128;
/// Longest uuid of a GPU.
const UUID_MAX: usize = 96;
/// Longest name of a pod or a host with its port.
const TARGET_MAX: usize = 253;
/// Longest message of one endpoint.
const ENDPOINT_MESSAGE_MAX: usize = 512;

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
    let throttled = (verdict.gpus_judged > 0).then(|| verdict.throttled_gpus());
    // An engine is no number: which one it was stays true while its servers are away.
    let (engine, engine_generation) = match &verdict.engine {
        Some(engine) => (Some(engine.clone()), verdict.engine_generation.clone()),
        None => (previous.engine.clone(), previous.engine_generation.clone()),
    };
    InferenceMonitorStatus {
        observed_generation: generation,
        load: Some(verdict.load),
        engine,
        engine_generation: engine_generation.map(|text| truncated(&text, NAME_MAX)),
        summary: Some(Summary {
            endpoints: format!("{}/{}", verdict.fresh, verdict.endpoints),
            waiting: verdict.waiting.map(whole),
            running: verdict.running.map(whole),
            kv_cache_usage: verdict.kv_cache_usage.map(percent),
            gpus: gpus_known.then_some(verdict.gpus.len() as i64),
            throttled_gpus: throttled.map(|throttled| throttled as i64),
            throttled: throttled.map(|throttled| format!("{throttled}/{}", verdict.gpus.len())),
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
            let rank = match state {
                EndpointState::Failing { .. } | EndpointState::Misread { .. } => 0,
                EndpointState::NoDaemon => 1,
                EndpointState::Stale { .. } => 2,
                EndpointState::Waiting => 3,
                EndpointState::Fresh { .. } => 4,
                EndpointState::NotServing => 5,
            };
            let status = endpoint_status(endpoint, &state);
            (rank, -status.waiting.unwrap_or(0), status)
        })
        .collect();
    ranked.sort_by(|a, b| (a.0, a.1, &a.2.target).cmp(&(b.0, b.1, &b.2.target)));
    ranked.into_iter().take(LIST_MAX).map(|(_, _, status)| status).collect()
}

fn endpoint_status(endpoint: &ResolvedEndpoint, state: &EndpointState<'_>) -> EndpointStatus {
    let (words, message) = match state {
        EndpointState::Failing { failure, for_time } => {
            let said = truncated(&failure.message, ENDPOINT_MESSAGE_MAX - 32);
            (
                failure.kind.as_str(),
                Some(format!("{said} (for {})", seconds(*for_time))),
            )
        }
        EndpointState::Misread { asked, found } => (FailureKind::UnknownEngine.as_str(), Some(misread(*asked, *found))),
        EndpointState::NoDaemon => ("NoNodeDaemon", Some("no node daemon is connected there".to_owned())),
        EndpointState::Stale { age } => ("Stale", Some(format!("last sample {} ago", seconds(*age)))),
        EndpointState::Waiting => ("Waiting", None),
        EndpointState::Fresh { .. } => ("Fresh", None),
        EndpointState::NotServing => ("NotServing", Some("the pod is not Ready".to_owned())),
    };
    let sample = match state {
        EndpointState::Fresh { observation, .. } => Some(&observation.sample),
        _ => None,
    };
    let usable = |value: Option<f64>| value.filter(|value| value.is_finite() && *value >= 0.0);
    EndpointStatus {
        endpoint: endpoint.group.clone(),
        target: truncated(&endpoint.name, TARGET_MAX),
        labels: endpoint.labels.clone(),
        node: match &endpoint.place {
            Place::Node(node) => Some(node.clone()),
            Place::Anywhere | Place::Nowhere => None,
        },
        state: words.into(),
        waiting: usable(sample.and_then(|sample| sample.waiting)).map(whole),
        running: usable(sample.and_then(|sample| sample.running)).map(whole),
        kv_cache_usage: usable(sample.and_then(|sample| sample.kv_cache_usage)).map(percent),
        message: message.map(|message| truncated(&message, ENDPOINT_MESSAGE_MAX)),
    }
}

/// A condition whose status differs from the one before, or that now warns: worth an Event.
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
/// tells something bad: a new monitor that is healthy is no news. A GPU that comes near its slowdown is told though nothing turns.
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
            let warns = finding.reason == reason::NEAR_SLOWDOWN
                && known.is_none_or(|condition| condition.reason != reason::NEAR_SLOWDOWN);
            match known {
                _ if warns => {}
                Some(condition) if condition.status == finding.outcome.as_str() => return None,
                // To and from Unknown is told by Ready alone; one Event per condition would say the same thing eight times.
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
                warning: bad || warns,
            })
        })
        .collect()
}

fn gpu_status(gpu: &GpuVerdict) -> GpuStatus {
    let sample = &gpu.sample;
    GpuStatus {
        node: gpu.node.clone(),
        index: i64::from(sample.index),
        uuid: truncated(&sample.uuid, UUID_MAX),
        name: (!sample.name.is_empty()).then(|| truncated(&sample.name, NAME_MAX)),
        throttled: gpu
            .throttled
            .map(|(cause, duty, _)| format!("{} {:.0}%", cause.as_str(), duty * 100.0)),
        temperature_celsius: sample.temperature_celsius.map(i64::from),
        memory_usage: sample
            .memory_total_bytes
            .zip(sample.memory_free_bytes)
            .filter(|(total, _)| *total > 0)
            .map(|(total, free)| percent(total.saturating_sub(free) as f64 / total as f64)),
        attribution: Some(gpu.attribution.as_str().to_owned()),
        pods: gpu
            .pods
            .iter()
            .take(GPU_PODS_MAX)
            .map(|pod| gpu_pod(gpu, pod))
            .collect(),
    }
}

fn gpu_pod(gpu: &GpuVerdict, pod: &str) -> GpuPodStatus {
    let bytes = gpu.processes.get(pod).and_then(|processes| processes.bytes);
    GpuPodStatus {
        target: truncated(pod, TARGET_MAX),
        memory_mib: bytes.map(|bytes| i64::try_from(bytes >> 20).unwrap_or(i64::MAX)),
        mig_gpu_instances: gpu
            .parts
            .iter()
            .filter(|part| part.pods.iter().any(|name| name == pod))
            .map(|part| i64::from(part.instance.gpu_instance))
            .take(MIG_INSTANCES_MAX)
            .collect(),
    }
}

fn whole(value: f64) -> i64 {
    // Saturates and maps NaN to 0 by definition of `as`; the totals hold neither.
    value.round() as i64
}
