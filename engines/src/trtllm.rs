//! TensorRT-LLM `trtllm-serve`: Prometheus text at `/prometheus/metrics`; `/metrics` is JSON, see [`crate::documents`].
//!
//! Names were checked against `metrics/collector.py` of 1.1.0rc (89fd9b74, names without a prefix) and of 2026, and against
//! `serve/openai_server.py` (00057725), which writes `undefined` as model name. Gauges carry `pid`.
//!
//! What is left out: `kv_cache_reused_blocks_total` and `kv_cache_missed_blocks_total` count blocks; `prompt_cached_tokens_total` counts
//! the tokens.

use crate::dialect::{Dialect, Series, after_prefix, histogram, one, part};
use crate::field::{Field, Part};
use crate::outcomes::{FINISHED_REASON, OutcomeSeries, by_label};
use crate::plan::Required;
use crate::sample::Engine;

pub(crate) static DIALECT: Dialect = Dialect {
    engine: Engine::TensorRtLlm,
    key: |name| after_prefix(name, "trtllm").or_else(|| bare(name)),
    series: SERIES,
    outcomes: OUTCOMES,
    label_numbers: &[],
    marks: &[
        "num_requests_completed_total",
        "num_requests_running",
        "prompt_tokens_total",
        "max_num_active_requests",
    ],
    generation: |traits| {
        if traits.has(0) || traits.has(1) || traits.has(2) || traits.has(3) {
            "2026"
        } else if traits.any {
            "1.1"
        } else {
            ""
        }
    },
    required: |_| REQUIRED,
    hint: |traits| {
        if !traits.any {
            "there are no trtllm_ series: set return_perf_metrics: true and enable_iter_perf_stats: true, and scrape /prometheus/metrics"
        } else if traits.has(0) || traits.has(2) {
            "set enable_iter_perf_stats: true, which turns on the gauges of queue and cache"
        } else {
            "this version of TensorRT-LLM publishes latencies only at /prometheus/metrics: use a newer one with \
             enable_iter_perf_stats: true, or scrape its JSON at /metrics"
        }
    },
    only_with: &[(Field::PrefixQueryTokens, Field::PrefixHitTokens)],
};

pub(crate) const REQUIRED: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "trtllm_num_requests_waiting",
    },
    Required {
        field: Field::Running,
        name: "trtllm_num_requests_running",
    },
    Required {
        field: Field::KvCacheUsage,
        name: "trtllm_kv_cache_utilization",
    },
];

const SERIES: &[Series] = &[
    one("num_requests_waiting", Field::Waiting),
    one("num_requests_running", Field::Running),
    one("max_num_active_requests", Field::MaxConcurrency),
    one("kv_cache_utilization", Field::KvCacheUsage),
    part("kv_cache_used_blocks", Field::KvCacheUsage, Part::First).older(1),
    part("kv_cache_max_blocks", Field::KvCacheUsage, Part::Second).older(1),
    part("kv_cache_max_blocks", Field::KvCapacity, Part::First),
    part("kv_cache_tokens_per_block", Field::KvCapacity, Part::Second),
    one("kv_cache_host_utilization", Field::HostCacheUsage),
    one("kv_cache_hit_rate", Field::PrefixHitRatio),
    one("prompt_tokens_total", Field::PromptTokens),
    one("prompt_tokens_total", Field::PrefixQueryTokens),
    one("prompt_cached_tokens_total", Field::PrefixHitTokens),
    one("generation_tokens_total", Field::GeneratedTokens),
    one("request_success_total", Field::RequestsSucceeded).only("finished_reason", |reason| !is_failure(reason)),
    one("request_success_total", Field::RequestsFailed).only("finished_reason", is_failure),
    one("request_error_total", Field::RequestsFailed),
    histogram("time_to_first_token_seconds", Field::TimeToFirstToken),
    // One observation per request.
    histogram("time_per_output_token_seconds", Field::PerOutputToken),
    histogram("e2e_request_latency_seconds", Field::EndToEnd),
    histogram("request_queue_time_seconds", Field::QueueTime),
];

const OUTCOMES: &[OutcomeSeries] = &[
    by_label("request_success_total", FINISHED_REASON, "success"),
    // The status that was answered, such as 400.
    by_label("request_error_total", "http_code", "error").counter(1),
];

/// What `finished_reason` calls an end that is none.
fn is_failure(reason: &str) -> bool {
    matches!(
        reason,
        "cancelled" | "canceled" | "abort" | "aborted" | "timeout" | "timed_out" | "error"
    )
}

/// The names of 1.1.0rc.
fn bare(name: &[u8]) -> Option<&[u8]> {
    const NAMES: [&str; 5] = [
        "request_success_total",
        "time_to_first_token_seconds",
        "time_per_output_token_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
    ];
    NAMES
        .iter()
        .any(|known| {
            matches!(
                name.strip_prefix(known.as_bytes()),
                Some(b"" | b"_bucket" | b"_sum" | b"_count")
            )
        })
        .then_some(name)
}
