//! OOMRisk, first form: KV cache, preemptions, free device memory.

use super::gpus::Serving;
use super::{Finding, Input, Outcome, anchor, seconds_of, unknown};
use crate::totals::seconds;
use crate::{EndpointState, Hold, Totals};
use infmon_crds::v1alpha1::{ConditionType, OomRisk, reason};

/// Preemptions per second above which they count: six a minute. One now and then is normal under load; each costs a recomputation.
const PREEMPTIONS_PER_SECOND: f64 = 0.1;
/// KV cache use from which on the cache is as good as full: the next request that grows evicts another.
const KV_CACHE_FULL: f64 = 0.97;

pub(super) fn judge(
    input: &Input<'_>,
    totals: &Totals<'_>,
    gpus: &Serving,
    kv_hold: Hold,
    headroom_hold: Hold,
    settling: bool,
) -> (Finding, OomRisk, Hold, Hold) {
    let kind = ConditionType::OomRisk;
    let kv_threshold = &input.spec.thresholds.kv_cache_usage_percent;
    let headroom_threshold = &input.spec.thresholds.gpu_memory_headroom_mib;

    let usage = totals.kv_cache_usage.filter(|_| totals.enough());
    let kv_hold = kv_hold.update(
        usage.map(|usage| usage * 100.0 > f64::from(kv_threshold.above)),
        input.now,
        seconds_of(kv_threshold.for_seconds),
    );
    let tightest = gpus
        .verdicts
        .iter()
        .filter_map(|gpu| Some((gpu, gpu.sample.memory_free_bytes?)))
        .min_by_key(|(_, free)| *free);
    let bound = u64::try_from(headroom_threshold.below).unwrap_or(0) << 20;
    let headroom_hold = headroom_hold.update(
        tightest.map(|(_, free)| free < bound),
        input.now,
        seconds_of(headroom_threshold.for_seconds),
    );
    let preemptions = totals
        .preemptions_per_second
        .filter(|rate| totals.enough() && *rate > PREEMPTIONS_PER_SECOND);
    let preempting =
        preemptions.map(|rate| format!("{rate:.1} preemptions/s: running requests are evicted and recomputed"));

    if usage.is_none() && tightest.is_none() {
        let finding = unknown(kind, totals, settling, "the use of memory");
        return (finding, OomRisk::Unknown, kv_hold, headroom_hold);
    }

    let found = |reason, risk, message: String| {
        (
            Finding {
                kind,
                outcome: Outcome::True,
                reason,
                message: format!("{message} {}", anchor(reason)),
            },
            risk,
        )
    };
    let (finding, risk) = if let (true, Some(usage)) = (kv_hold.is_raised(), usage) {
        let full = totals
            .endpoints
            .iter()
            .filter(|(_, state)| above(state, f64::from(kv_threshold.above)))
            .count();
        let standing = kv_hold.unchanged_for(input.now).map_or_else(String::new, |time| {
            format!(" for {}", seconds(time + seconds_of(kv_threshold.for_seconds)))
        });
        let evicting = preempting
            .as_deref()
            .map_or_else(String::new, |text| format!(" and {text}"));
        let risk = if preemptions.is_some() || usage >= KV_CACHE_FULL {
            OomRisk::High
        } else {
            OomRisk::Medium
        };
        found(
            reason::KV_CACHE_EXHAUSTION,
            risk,
            format!(
                "KV cache at {:.0}%, above {}% on {full} of {} endpoints{standing}{evicting}. Next: add replicas or lower the number of concurrent requests (vLLM: --max-num-seqs; llama-server: -np).",
                usage * 100.0,
                kv_threshold.above,
                totals.fresh
            ),
        )
    } else if let Some(text) = preempting {
        found(
            reason::PREEMPTIONS,
            OomRisk::Medium,
            format!("{text}. Next: add replicas or lower the number of concurrent requests (vLLM: --max-num-seqs)."),
        )
    } else if let (true, Some((gpu, free))) = (headroom_hold.is_raised(), tightest) {
        found(
            reason::LOW_HEADROOM,
            OomRisk::Medium,
            format!(
                "{} has {} MiB free of {} MiB (threshold {} MiB for {} s). {} Next: see what else allocates there; vLLM: lower --gpu-memory-utilization.",
                gpu.label(),
                free >> 20,
                gpu.sample.memory_total_bytes.unwrap_or(0) >> 20,
                headroom_threshold.below,
                headroom_threshold.for_seconds,
                gpu.serves()
            ),
        )
    } else {
        let mut parts = Vec::new();
        match usage {
            Some(usage) => parts.push(format!(
                "KV cache at {:.0}% (threshold {}%)",
                usage * 100.0,
                kv_threshold.above
            )),
            None => parts.push("KV cache use is not known".into()),
        }
        match tightest {
            Some((_, free)) => parts.push(format!(
                "{} MiB GPU memory free (threshold {} MiB)",
                free >> 20,
                headroom_threshold.below
            )),
            None => parts.push("GPU memory is not known".into()),
        }
        let finding = Finding {
            kind,
            outcome: Outcome::False,
            reason: reason::BELOW_THRESHOLD,
            message: format!("{}.", parts.join(", ")),
        };
        (finding, OomRisk::Low)
    };
    (finding, risk, kv_hold, headroom_hold)
}

fn above(state: &EndpointState<'_>, percent: f64) -> bool {
    matches!(state, EndpointState::Fresh { observation, .. }
        if observation.sample.kv_cache_usage.is_some_and(|usage| usage * 100.0 > percent))
}
