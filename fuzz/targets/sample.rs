//! What every sample has to be, whatever it was read from.

use infmon_engines::EngineSample;

/// Panics at a number that no sample may hold.
pub(crate) fn check(sample: &EngineSample) {
    let numbers = [
        sample.waiting,
        sample.running,
        sample.max_concurrency,
        sample.kv_cache_usage,
        sample.kv_cache_capacity_tokens,
        sample.host_cache_usage,
        sample.prompt_tokens_total,
        sample.generated_tokens_total,
        sample.preemptions_total,
        sample.prefix_cache_hit_tokens_total,
        sample.prefix_cache_query_tokens_total,
        sample.prefix_cache_hit_ratio,
        sample.requests_succeeded_total,
        sample.requests_failed_total,
    ];
    let outcomes = sample.request_outcomes.values().copied();
    for number in numbers.into_iter().flatten().chain(outcomes) {
        assert!(number.is_finite() && number >= 0.0, "{number}");
    }
    for share in [
        sample.kv_cache_usage,
        sample.host_cache_usage,
        sample.prefix_cache_hit_ratio,
    ] {
        assert!(share.is_none_or(|share| share <= 1.0), "{share:?}");
    }
    assert!(sample.request_outcomes.len() <= infmon_engines::REASON_LIMIT);
    let latency = &sample.latency;
    for histogram in [
        &latency.time_to_first_token,
        &latency.inter_token,
        &latency.per_output_token,
        &latency.end_to_end,
        &latency.queue_time,
    ]
    .into_iter()
    .flatten()
    {
        assert!(histogram.count >= 0.0 && histogram.count.is_finite() && histogram.sum_seconds.is_finite());
        assert!(
            histogram
                .buckets
                .is_sorted_by(|a, b| a.1 <= b.1 && b.0.is_none_or(|b| a.0.is_some_and(|a| a < b)))
        );
        assert!(histogram.buckets.last().is_some_and(|last| last.0.is_none()));
    }
}
