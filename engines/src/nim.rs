//! NVIDIA NIM for LLMs 1.x, `/v1/metrics`: names without a prefix.
//!
//! Names were checked against the capture of a running 1.x server in DataDog's integrations-core (8b7db5d2). There
//! `time_per_output_token_seconds` has 169 observations for 174 tokens of 5 requests: it is inter-token latency.
//!
//! NIM 2.x and later is a proxy in front of vLLM or SGLang, and serves their series: these are read as such.

use crate::dialect::{Dialect, Series, histogram, one};
use crate::field::Field;
use crate::outcomes::{FINISHED_REASON, OutcomeSeries, by_label, of_one};
use crate::plan::Required;
use crate::sample::Engine;

/// What the generation of NIM 2.x begins with, by the engine behind it.
pub(crate) const BEHIND: [(Engine, &str); 2] = [(Engine::Vllm, "2.x-vllm-"), (Engine::Sglang, "2.x-sglang-")];

pub(crate) static DIALECT: Dialect = Dialect {
    engine: Engine::Nim,
    key: |name| is_known(name).then_some(name),
    series: SERIES,
    outcomes: OUTCOMES,
    label_numbers: &[],
    marks: &[],
    generation: |traits| if traits.any { "1.x" } else { "" },
    required: |_| REQUIRED,
    hint: |traits| {
        if traits.any {
            "this version of NIM does not publish the series, or names it in a way that is not known yet"
        } else {
            "there are no series of NIM: its metrics are at /v1/metrics"
        }
    },
    only_with: &[],
};

const REQUIRED: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "num_requests_waiting",
    },
    Required {
        field: Field::Running,
        name: "num_requests_running",
    },
    Required {
        field: Field::KvCacheUsage,
        name: "gpu_cache_usage_perc",
    },
];

const SERIES: &[Series] = &[
    one("num_requests_waiting", Field::Waiting),
    one("num_requests_running", Field::Running),
    one("num_request_max", Field::MaxConcurrency),
    // A fraction, in spite of its name.
    one("gpu_cache_usage_perc", Field::KvCacheUsage),
    one("prompt_tokens_total", Field::PromptTokens),
    one("generation_tokens_total", Field::GeneratedTokens),
    one("request_success_total", Field::RequestsSucceeded),
    one("request_failure_total", Field::RequestsFailed),
    histogram("time_to_first_token_seconds", Field::TimeToFirstToken),
    histogram("time_per_output_token_seconds", Field::InterToken),
    histogram("e2e_request_latency_seconds", Field::EndToEnd),
];

const OUTCOMES: &[OutcomeSeries] = &[
    by_label("request_finish_total", FINISHED_REASON, "finish"),
    of_one("request_success_total", "success").older(1),
    of_one("request_failure_total", "failure").counter(1),
];

/// Names that are NIM's own; without a prefix, all others may be anybody's.
fn is_known(name: &[u8]) -> bool {
    const STARTS: [&str; 6] = [
        "num_request",
        "gpu_cache_",
        "prompt_tokens_total",
        "generation_tokens_total",
        "request_",
        "e2e_request_latency_seconds",
    ];
    STARTS.iter().any(|start| name.starts_with(start.as_bytes()))
        || name.starts_with(b"time_to_first_token_seconds")
        || name.starts_with(b"time_per_output_token_seconds")
}
