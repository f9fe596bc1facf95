//! QueueDepthHigh: requests that wait per endpoint.

use super::{Finding, Input, Outcome, anchor, clears, not_mapped, seconds_of, unknown};
use crate::mapping::unmapped;
use crate::words::count;
use crate::{EndpointState, Hold, Totals};
use infmon_crds::v1alpha1::{ConditionType, SampleField, reason};

pub(super) fn judge(input: &Input<'_>, totals: &Totals<'_>, hold: Hold, settling: bool) -> (Finding, Hold) {
    let kind = ConditionType::QueueDepthHigh;
    let threshold = &input.spec.thresholds.queue_depth;
    let queued = totals.queued.filter(|_| totals.enough());
    let per_endpoint = queued.map(|queued| queued / totals.judged() as f64);
    let beyond = per_endpoint.map(|value| value > f64::from(threshold.per_endpoint));
    let hold = hold.update(beyond, input.now, seconds_of(threshold.for_seconds));
    let (Some(queued), Some(per_endpoint), Some(beyond)) = (queued, per_endpoint, beyond) else {
        let what = "the number of waiting requests";
        let finding = unmapped(input.spec, &[SampleField::Waiting])
            .filter(|_| totals.enough())
            .map_or_else(
                || unknown(kind, totals, settling, what),
                |next| not_mapped(kind, what, &next),
            );
        return (finding, hold);
    };
    let partly = if totals.missing > 0 {
        format!(" Counted: {} of {}.", totals.judged(), count(totals.needed, "endpoint"))
    } else {
        String::new()
    };
    let numbers = format!(
        "{queued:.0} {} wait{}, {per_endpoint:.1} per endpoint (threshold {} for {} s)",
        if queued.round() == 1.0 { "request" } else { "requests" },
        if queued.round() == 1.0 { "s" } else { "" },
        threshold.per_endpoint,
        threshold.for_seconds
    );
    let (outcome, reason, message) = match (hold.is_raised(), beyond) {
        (true, true) => (
            Outcome::True,
            reason::ABOVE_THRESHOLD,
            format!(
                "{numbers}{}.{partly} Next: add replicas. {}",
                worst(totals),
                anchor(reason::ABOVE_THRESHOLD)
            ),
        ),
        (true, false) => (
            Outcome::True,
            reason::ABOVE_THRESHOLD,
            format!("{numbers}: {}.{partly}", clears(seconds_of(threshold.for_seconds))),
        ),
        (false, _) => (Outcome::False, reason::BELOW_THRESHOLD, format!("{numbers}.{partly}")),
    };
    let finding = Finding {
        kind,
        outcome,
        reason,
        message,
    };
    (finding, hold)
}

/// `, worst vllm-x2x1l with 9`.
fn worst(totals: &Totals<'_>) -> String {
    totals
        .endpoints
        .iter()
        .filter(|(endpoint, _)| endpoint.serving && totals.judged() > 1)
        .filter_map(|(endpoint, state)| match state {
            EndpointState::Fresh { observation, .. } => Some((&endpoint.name, observation.sample.waiting?)),
            _ => None,
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map_or_else(String::new, |(name, waiting)| {
            format!(", worst {name} with {waiting:.0}")
        })
}
