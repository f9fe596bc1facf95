//! The KV cache: full, filling, and requests that are evicted for it.

use super::{Holds, Sign};
use crate::evaluate::{CLEAR_AFTER_SLOW, Input, clears, seconds_of};
use crate::memory::CacheRise;
use crate::words::{count, percent, seconds};
use crate::{EndpointState, Hold, Totals};
use infmon_crds::v1alpha1::{InferenceMonitorSpec, OomRisk, reason};
use std::time::Duration;

/// Preemptions per second above which they count: six a minute. One now and then is normal under load; each costs a recomputation.
const PREEMPTIONS_PER_SECOND: f64 = 0.1;
/// KV cache use from which on the cache is as good as full: the next request that grows evicts another.
const KV_CACHE_FULL: f64 = 0.97;
/// A cache that is above its threshold, fills while requests wait, and is full within so long is as bad as a full one.
const FULL_SOON: Duration = Duration::from_secs(60);
const LOWER_CONCURRENCY: &str =
    "add replicas or lower the number of concurrent requests (vLLM: --max-num-seqs; llama-server: --parallel)";

/// Time for which the cache must be above its threshold.
pub(super) fn full_for(spec: &InferenceMonitorSpec) -> Duration {
    seconds_of(spec.thresholds.kv_cache_usage_percent.for_seconds)
}

/// The signs as they are now; `None` where nobody knows.
pub(super) struct Signs {
    pub(super) usage: Option<f64>,
    pub(super) preemptions: Option<f64>,
    /// The cache that is full first, of those that fill while requests wait for them.
    rise: Option<CacheRise>,
}

impl Signs {
    pub(super) fn of(totals: &Totals<'_>) -> Self {
        let enough = totals.enough();
        let rises = totals.endpoints.iter().filter_map(|(endpoint, state)| match state {
            EndpointState::Fresh {
                observation, target, ..
            } if endpoint.serving && observation.sample.waiting.is_some_and(|waiting| waiting > 0.0) => {
                target.cache_rise()
            }
            _ => None,
        });
        Self {
            usage: totals.kv_cache_usage.filter(|_| enough),
            preemptions: totals.preemptions_per_second.filter(|_| enough),
            rise: rises.min_by_key(|rise| rise.time_to_full).filter(|_| enough),
        }
    }

    pub(super) fn full(&self, input: &Input<'_>, hold: Hold) -> Hold {
        let above = f64::from(input.spec.thresholds.kv_cache_usage_percent.above);
        let beyond = self.usage.map(|usage| usage * 100.0 > above);
        hold.update(beyond, input.now, full_for(input.spec))
    }

    pub(super) fn evicting(&self, input: &Input<'_>, hold: Hold) -> Hold {
        let hold_for = if hold.is_raised() {
            CLEAR_AFTER_SLOW
        } else {
            Duration::ZERO
        };
        let beyond = self.preemptions.map(|rate| rate > PREEMPTIONS_PER_SECOND);
        hold.update(beyond, input.now, hold_for)
    }

    pub(super) fn exhaustion_sign(&self, input: &Input<'_>, totals: &Totals<'_>, holds: Holds) -> Option<Sign> {
        let usage = self.usage.filter(|_| holds.kv_cache.is_raised())?;
        let evicted = holds.preemptions.is_raised() && self.preemptions.is_some();
        let full_soon = self.rise.is_some_and(|rise| rise.time_to_full < FULL_SOON);
        Some(Sign {
            reason: reason::KV_CACHE_EXHAUSTION,
            risk: if evicted || usage >= KV_CACHE_FULL || full_soon {
                OomRisk::High
            } else {
                OomRisk::Medium
            },
            message: self.exhaustion_message(input, totals, usage, holds.kv_cache),
        })
    }

    fn exhaustion_message(&self, input: &Input<'_>, totals: &Totals<'_>, usage: f64, hold: Hold) -> String {
        let threshold = &input.spec.thresholds.kv_cache_usage_percent;
        let hold_for = full_for(input.spec);
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
        let rising = self
            .rise
            .filter(|_| usage < KV_CACHE_FULL)
            .map_or_else(String::new, |rise| {
                format!(
                    ", rising {:.1}% a second while requests wait (full in {})",
                    rise.per_second * 100.0,
                    seconds(rise.time_to_full)
                )
            });
        let evicted = self
            .preemptions
            .filter(|rate| *rate > PREEMPTIONS_PER_SECOND)
            .map_or_else(String::new, |rate| format!(", and {}", evicting_words(rate)));
        format!(
            "KV cache at {}, above {}% on {full} of {}{standing}{rising}{evicted}. Next: {LOWER_CONCURRENCY}.",
            percent(usage),
            threshold.above,
            count(totals.judged(), "endpoint")
        )
    }

    pub(super) fn preemption_sign(&self, holds: Holds) -> Option<Sign> {
        let rate = self.preemptions.filter(|_| holds.preemptions.is_raised())?;
        let message = if rate > PREEMPTIONS_PER_SECOND {
            format!(
                "{} (threshold {PREEMPTIONS_PER_SECOND}/s). Next: {LOWER_CONCURRENCY}.",
                evicting_words(rate)
            )
        } else {
            format!("{rate:.2} preemptions/s: {}.", clears(CLEAR_AFTER_SLOW))
        };
        Some(Sign {
            reason: reason::PREEMPTIONS,
            risk: OomRisk::High,
            message,
        })
    }
}

fn evicting_words(rate: f64) -> String {
    format!("{rate:.1} preemptions/s: running requests are evicted and recomputed")
}

fn above(state: &EndpointState<'_>, percent: f64) -> bool {
    matches!(state, EndpointState::Fresh { observation, .. }
        if observation.sample.kv_cache_usage.is_some_and(|usage| usage * 100.0 > percent))
}
