//! Whether a new status is worth a write.

use super::LIST_MAX;
use infmon_crds::v1alpha1::{ConditionType, InferenceMonitorStatus, Summary, reason};
use std::collections::BTreeSet;

/// Points of percent by which the KV cache must have moved to be worth a write.
const KV_CACHE_STEP: i64 = 5;

/// How much a new status matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing that anybody would want written.
    None,
    /// Numbers moved far enough, a reason changed or the lists differ: write when the monitor's last write is old enough.
    Summary,
    /// A condition turned, or the spec changed: write now.
    Transition,
}

/// Compares the status that was written with a new one. Messages and times do not count: they change with every sample, but for
/// that of a spec that is at fault.
///
/// Numbers are compared by their distance from what was written, so that one that swings around a rounding boundary is written once.
#[must_use]
pub fn change(previous: &InferenceMonitorStatus, next: &InferenceMonitorStatus) -> Change {
    if turned(previous, next) {
        Change::Transition
    } else if moved(previous, next) {
        Change::Summary
    } else {
        Change::None
    }
}

/// Only our own conditions, by type: others may keep theirs in the same list, in any order.
fn turned(previous: &InferenceMonitorStatus, next: &InferenceMonitorStatus) -> bool {
    let of = |status: &InferenceMonitorStatus, kind: ConditionType| {
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind.as_str());
        condition.map(|condition| (condition.status.clone(), condition.observed_generation))
    };
    previous.observed_generation != next.observed_generation
        || ConditionType::ALL
            .into_iter()
            .any(|kind| of(previous, kind) != of(next, kind))
}

fn moved(previous: &InferenceMonitorStatus, next: &InferenceMonitorStatus) -> bool {
    let exact = |status: &InferenceMonitorStatus| {
        let summary = status.summary.clone().unwrap_or_default();
        (
            (status.load, status.engine.clone(), status.engine_generation.clone()),
            (summary.endpoints, summary.gpus, summary.throttled, summary.oom_risk),
            ConditionType::ALL.map(|kind| told(status, kind)),
        )
    };
    let empty = Summary::default();
    let (before, after) = (
        previous.summary.as_ref().unwrap_or(&empty),
        next.summary.as_ref().unwrap_or(&empty),
    );
    exact(previous) != exact(next)
        || endpoints(previous) != endpoints(next)
        || gpus(previous) != gpus(next)
        || far(before.waiting, after.waiting, requests_apart)
        || far(before.running, after.running, requests_apart)
        || far(percent(before), percent(after), |before, after| {
            before.abs_diff(after) >= KV_CACHE_STEP.unsigned_abs()
        })
}

fn far(before: Option<i64>, after: Option<i64>, apart: impl Fn(i64, i64) -> bool) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => apart(before, after),
        (before, after) => before != after,
    }
}

/// Small numbers exactly, large ones by more than a tenth; and always whether there is anything at all.
fn requests_apart(before: i64, after: i64) -> bool {
    (before == 0) != (after == 0) || before.abs_diff(after) > before.max(after).unsigned_abs() / 10
}

fn percent(summary: &Summary) -> Option<i64> {
    summary.kv_cache_usage.as_deref()?.trim_end_matches('%').parse().ok()
}

/// The reason; where the spec is at fault its message, which holds no measured number: who mends one fault wants to read of the next.
fn told(status: &InferenceMonitorStatus, kind: ConditionType) -> Option<String> {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.as_str())?;
    let words = if condition.reason == reason::INVALID_SPEC {
        &condition.message
    } else {
        &condition.reason
    };
    Some(words.clone())
}

/// Endpoints and their states. A full list holds those with the longest queues of many, who change places all the time: then only
/// endpoints that are not well count.
fn endpoints(status: &InferenceMonitorStatus) -> BTreeSet<(&str, &str)> {
    let full = status.endpoints.len() >= LIST_MAX;
    status
        .endpoints
        .iter()
        .filter(|endpoint| !full || endpoint.state != "Fresh")
        .map(|endpoint| (endpoint.target.as_str(), endpoint.state.as_str()))
        .collect()
}

/// GPUs, the causes for which they lose clocks, without the shares, and the pods that they serve.
fn gpus(status: &InferenceMonitorStatus) -> BTreeSet<(&str, Option<&str>, Vec<&str>)> {
    let full = status.gpus.len() >= LIST_MAX;
    status
        .gpus
        .iter()
        .filter(|gpu| !full || gpu.throttled.is_some())
        .map(|gpu| {
            let cause = gpu.throttled.as_deref().and_then(|text| text.split(' ').next());
            let pods = gpu.pods.iter().map(|pod| pod.target.as_str()).collect();
            (gpu.uuid.as_str(), cause, pods)
        })
        .collect()
}
