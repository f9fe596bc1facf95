//! OOMRisk, first form: KV cache, preemptions, free device memory.

use super::gpus::Serving;
use super::{CLEAR_AFTER_SLOW, Finding, Input, Outcome, anchor, clears, seconds_of, unknown};
use crate::mapping::unmapped;
use crate::words::{count, percent, seconds};
use crate::{EndpointState, GpuVerdict, Hold, Totals};
use infmon_crds::v1alpha1::{ConditionType, OomRisk, SampleField, reason};
use std::time::Duration;

/// Preemptions per second above which they count: six a minute. One now and then is normal under load; each costs a recomputation.
const PREEMPTIONS_PER_SECOND: f64 = 0.1;
/// KV cache use from which on the cache is as good as full: the next request that grows evicts another.
const KV_CACHE_FULL: f64 = 0.97;
const LOWER_CONCURRENCY: &str =
    "add replicas or lower the number of concurrent requests (vLLM: --max-num-seqs; llama-server: --parallel)";

/// Memory of the signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) kv_cache: Hold,
    pub(super) preemptions: Hold,
    pub(super) headroom: Hold,
}

/// The signs as they are now; `None` where nobody knows.
struct Signs<'a> {
    usage: Option<f64>,
    preemptions: Option<f64>,
    /// The GPU with the least free memory, and that memory in bytes.
    tightest: Option<(&'a GpuVerdict, u64)>,
}

pub(super) fn judge(
    input: &Input<'_>,
    totals: &Totals<'_>,
    gpus: &Serving,
    holds: Holds,
    settling: bool,
) -> (Finding, OomRisk, Holds) {
    let thresholds = &input.spec.thresholds;
    let signs = Signs {
        usage: totals.kv_cache_usage.filter(|_| totals.enough()),
        preemptions: totals.preemptions_per_second.filter(|_| totals.enough()),
        tightest: gpus
            .verdicts
            .iter()
            .filter_map(|gpu| Some((gpu, gpu.sample.memory_free_bytes?)))
            .min_by_key(|(_, free)| *free),
    };
    let kv_above = f64::from(thresholds.kv_cache_usage_percent.above);
    let headroom = &thresholds.gpu_memory_headroom_mib;
    let bound = u64::try_from(headroom.below).unwrap_or(0) << 20;
    let preemptions_for = if holds.preemptions.is_raised() {
        CLEAR_AFTER_SLOW
    } else {
        Duration::ZERO
    };
    let holds = Holds {
        kv_cache: holds.kv_cache.update(
            signs.usage.map(|usage| usage * 100.0 > kv_above),
            input.now,
            seconds_of(thresholds.kv_cache_usage_percent.for_seconds),
        ),
        preemptions: holds.preemptions.update(
            signs.preemptions.map(|rate| rate > PREEMPTIONS_PER_SECOND),
            input.now,
            preemptions_for,
        ),
        headroom: holds.headroom.update(
            signs.tightest.map(|(_, free)| free < bound),
            input.now,
            seconds_of(headroom.for_seconds),
        ),
    };
    let found = |reason, risk, message: String| {
        let finding = Finding {
            kind: ConditionType::OomRisk,
            outcome: Outcome::True,
            reason,
            message: format!("{message} {}", anchor(reason)),
        };
        (finding, risk)
    };
    let (finding, risk) = match (&signs, holds) {
        (Signs { usage: Some(usage), .. }, Holds { kv_cache, .. }) if kv_cache.is_raised() => {
            let evicted = holds.preemptions.is_raised() && signs.preemptions.is_some();
            let risk = if evicted || *usage >= KV_CACHE_FULL {
                OomRisk::High
            } else {
                OomRisk::Medium
            };
            found(
                reason::KV_CACHE_EXHAUSTION,
                risk,
                kv_message(input, totals, &signs, *usage, kv_cache),
            )
        }
        (
            Signs {
                preemptions: Some(rate),
                ..
            },
            Holds { preemptions, .. },
        ) if preemptions.is_raised() => {
            let message = if *rate > PREEMPTIONS_PER_SECOND {
                format!(
                    "{} (threshold {PREEMPTIONS_PER_SECOND}/s). Next: {LOWER_CONCURRENCY}.",
                    evicting(*rate)
                )
            } else {
                format!("{rate:.2} preemptions/s: {}.", clears(CLEAR_AFTER_SLOW))
            };
            found(reason::PREEMPTIONS, OomRisk::High, message)
        }
        (
            Signs {
                tightest: Some((gpu, free)),
                ..
            },
            Holds { headroom, .. },
        ) if headroom.is_raised() => found(
            reason::LOW_HEADROOM,
            OomRisk::Medium,
            headroom_message(input, gpu, *free),
        ),
        _ => {
            return (
                calm(input, totals, &signs, holds, settling),
                risk_of_calm(totals, &signs, holds),
                holds,
            );
        }
    };
    (finding, risk, holds)
}

/// A sign that stood and is not known now may still stand; without fresh data from the servers nothing is said either.
fn is_known(totals: &Totals<'_>, signs: &Signs<'_>, holds: Holds) -> bool {
    let lost = (holds.kv_cache.is_raised() && signs.usage.is_none())
        || (holds.preemptions.is_raised() && signs.preemptions.is_none())
        || (holds.headroom.is_raised() && signs.tightest.is_none());
    totals.enough() && !lost && (signs.usage.is_some() || signs.tightest.is_some())
}

fn risk_of_calm(totals: &Totals<'_>, signs: &Signs<'_>, holds: Holds) -> OomRisk {
    if is_known(totals, signs, holds) {
        OomRisk::Low
    } else {
        OomRisk::Unknown
    }
}

fn calm(input: &Input<'_>, totals: &Totals<'_>, signs: &Signs<'_>, holds: Holds, settling: bool) -> Finding {
    let kind = ConditionType::OomRisk;
    if !totals.enough() {
        return unknown(kind, totals, settling, "the use of memory");
    }
    let unmapped = unmapped(input.spec, &[SampleField::KvCacheUsage]);
    if !is_known(totals, signs, holds) {
        let message = match (signs.usage, signs.tightest) {
            (None, None) => "Neither KV cache use nor free GPU memory is known.",
            (None, _) => "KV cache use is no longer known.",
            (_, None) => "Free GPU memory is no longer known.",
            _ => "Preemptions are no longer known.",
        };
        let next = unmapped
            .filter(|_| signs.usage.is_none())
            .map_or_else(String::new, |next| format!(" Next: {next}."));
        return Finding {
            kind,
            outcome: Outcome::Unknown,
            reason: reason::SERIES_MISSING,
            message: format!("{message}{next} {}", anchor(reason::SERIES_MISSING)),
        };
    }
    let thresholds = &input.spec.thresholds;
    let kv_cache = match signs.usage {
        Some(usage) => format!(
            "KV cache at {} (threshold {}%)",
            percent(usage),
            thresholds.kv_cache_usage_percent.above
        ),
        None => match unmapped {
            Some(unmapped) => format!("KV cache use is not known ({unmapped})"),
            None => "KV cache use is not published".into(),
        },
    };
    let memory = match signs.tightest {
        Some((_, free)) => format!(
            "{} MiB of GPU memory free (threshold {} MiB)",
            free >> 20,
            thresholds.gpu_memory_headroom_mib.below
        ),
        None => "free GPU memory is not known".into(),
    };
    Finding {
        kind,
        outcome: Outcome::False,
        reason: reason::BELOW_THRESHOLD,
        message: format!("{kv_cache}, {memory}."),
    }
}

fn kv_message(input: &Input<'_>, totals: &Totals<'_>, signs: &Signs<'_>, usage: f64, hold: Hold) -> String {
    let threshold = &input.spec.thresholds.kv_cache_usage_percent;
    let hold_for = seconds_of(threshold.for_seconds);
    if usage * 100.0 <= f64::from(threshold.above) {
        return format!(
            "KV cache at {} (threshold {}%): {}.",
            percent(usage),
            threshold.above,
            clears(hold_for)
        );
    }
    let full = totals
        .endpoints
        .iter()
        .filter(|(endpoint, state)| endpoint.serving && above(state, f64::from(threshold.above)))
        .count();
    let standing = hold
        .unchanged_for(input.now)
        .map_or_else(String::new, |time| format!(" for {}", seconds(time + hold_for)));
    let evicted = signs
        .preemptions
        .filter(|rate| *rate > PREEMPTIONS_PER_SECOND)
        .map_or_else(String::new, |rate| format!(", and {}", evicting(rate)));
    format!(
        "KV cache at {}, above {}% on {full} of {}{standing}{evicted}. Next: {LOWER_CONCURRENCY}.",
        percent(usage),
        threshold.above,
        count(totals.judged(), "endpoint")
    )
}

fn headroom_message(input: &Input<'_>, gpu: &GpuVerdict, free: u64) -> String {
    let threshold = &input.spec.thresholds.gpu_memory_headroom_mib;
    let total = gpu
        .sample
        .memory_total_bytes
        .map_or_else(String::new, |total| format!(" of {} MiB", total >> 20));
    let numbers = format!(
        "{} has {} MiB free{total} (threshold {} MiB for {} s)",
        gpu.label(),
        free >> 20,
        threshold.below,
        threshold.for_seconds
    );
    if free >> 20 >= u64::try_from(threshold.below).unwrap_or(0) {
        return format!("{numbers}: {}.", clears(seconds_of(threshold.for_seconds)));
    }
    format!(
        "{numbers}. {} Next: see what else allocates there (nvidia-smi); vLLM: lower --gpu-memory-utilization.",
        gpu.serves()
    )
}

fn evicting(rate: f64) -> String {
    format!("{rate:.1} preemptions/s: running requests are evicted and recomputed")
}

fn above(state: &EndpointState<'_>, percent: f64) -> bool {
    matches!(state, EndpointState::Fresh { observation, .. }
        if observation.sample.kv_cache_usage.is_some_and(|usage| usage * 100.0 > percent))
}
