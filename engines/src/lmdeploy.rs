//! LMDeploy.
//!
//! Names were checked against 0.16.0 (1263d5cd) and the first version with metrics (1e8ce56d, July 2025). On by default since 0.11.0. With
//! data parallelism each rank has an HTTP server of its own: scrape each.

use crate::dialect::{Dialect, LabelNumber, Series, after_prefix, histogram, one};
use crate::field::Field;
use crate::outcomes::{FINISHED_REASON, OutcomeSeries, by_label, of_one};
use crate::plan::Required;
use crate::sample::Engine;

pub(crate) static DIALECT: Dialect = Dialect {
    engine: Engine::LmDeploy,
    key: |name| after_prefix(name, "lmdeploy"),
    series: SERIES,
    outcomes: OUTCOMES,
    label_numbers: &[LabelNumber {
        key: "backend_config_info",
        label: "max_batch_size",
        field: Field::MaxConcurrency,
    }],
    marks: &["num_api_requests_waiting", "num_requests_finished"],
    generation: |traits| match (traits.has(0), traits.has(1)) {
        (true, _) => "0.11+",
        (false, true) => "before-0.11",
        (false, false) => "",
    },
    required: |_| REQUIRED,
    hint: |traits| {
        if traits.any {
            "this version of LMDeploy does not publish the series, or names it in a way that is not known yet"
        } else {
            "there are no lmdeploy: series: start LMDeploy without --disable-metrics, before 0.11.0 with --enable-metrics"
        }
    },
    only_with: &[(Field::PrefixQueryTokens, Field::PrefixHitTokens)],
};

const REQUIRED: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "lmdeploy:num_requests_waiting",
    },
    Required {
        field: Field::Running,
        name: "lmdeploy:num_requests_running",
    },
    Required {
        field: Field::KvCacheUsage,
        name: "lmdeploy:gpu_cache_usage_perc",
    },
];

const SERIES: &[Series] = &[
    // The engine's queue, and the one in front of it.
    one("num_requests_waiting", Field::Waiting),
    one("num_api_requests_waiting", Field::Waiting).adding(1),
    one("num_requests_running", Field::Running),
    one("gpu_cache_usage_perc", Field::KvCacheUsage),
    one("prompt_tokens_total", Field::PromptTokens),
    one("generation_tokens_total", Field::GeneratedTokens),
    one("cached_tokens_total", Field::PrefixHitTokens),
    one("prompt_tokens_total", Field::PrefixQueryTokens),
    one("prefix_cache_hit_rate", Field::PrefixHitRatio),
    // `finished_reason` is the text of a Python enum, and errors are among the successes.
    one("request_success_total", Field::RequestsSucceeded).only("finished_reason", is_success),
    one("request_success_total", Field::RequestsFailed).only("finished_reason", |reason| !is_success(reason)),
    // Gauges that only rise.
    one("num_requests_succeeded", Field::RequestsSucceeded).older(1),
    one("num_requests_failed", Field::RequestsFailed).older(1),
    histogram("time_to_first_token_seconds", Field::TimeToFirstToken),
    // Seconds, in spite of the missing suffix.
    histogram("iter_token_latency", Field::InterToken),
    histogram("time_per_output_token_seconds", Field::PerOutputToken),
    histogram("e2e_request_latency_seconds", Field::EndToEnd),
    histogram("request_queue_time_seconds", Field::QueueTime),
];

const OUTCOMES: &[OutcomeSeries] = &[
    by_label("request_success_total", FINISHED_REASON, "success"),
    // Before it: gauges that only rise.
    of_one("num_requests_succeeded", "succeeded").older(1),
    of_one("num_requests_failed", "failed").older(1),
];

fn is_success(reason: &str) -> bool {
    let reason = reason.rsplit_once('.').map_or(reason, |(_, reason)| reason);
    matches!(reason, "SUCCESS" | "FINISH")
}
