//! Hugging Face Text Generation Inference (TGI) 3.
//!
//! Names were checked against 3.3.7 (db931fcf). Counters have no `_total`, there is no model name, and a metric is created when it
//! is first used: a server without traffic exposes `tgi_batch_max_total_tokens` alone.
//!
//! What is left out, and why:
//!
//! * There is no time to first token. `tgi_request_inference_duration` covers a whole request.
//! * `tgi_batch_current_max_tokens / tgi_batch_max_total_tokens` is the share of the token budget that is reserved, not of
//!   the KV cache that is used: TGI plans ahead and never evicts.

use crate::dialect::{Dialect, Series, after_prefix, histogram, one};
use crate::field::Field;
use crate::outcomes::{OutcomeSeries, by_label, of_one};
use crate::plan::Required;
use crate::sample::Engine;

pub(crate) static DIALECT: Dialect = Dialect {
    engine: Engine::Tgi,
    key: |name| after_prefix(name, "tgi"),
    series: SERIES,
    outcomes: OUTCOMES,
    label_numbers: &[],
    marks: &[],
    generation: |traits| if traits.any { "3" } else { "" },
    required: |_| REQUIRED,
    hint: |traits| {
        if traits.any {
            "TGI creates a metric when it is first used: send a request, or wait for one"
        } else {
            "there are no tgi_ series: ask the port that serves requests, the one of --prometheus-port serves nothing"
        }
    },
    only_with: &[],
};

const REQUIRED: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "tgi_queue_size",
    },
    Required {
        field: Field::Running,
        name: "tgi_batch_current_size",
    },
];

const SERIES: &[Series] = &[
    // Set when a request comes or a batch is taken: it may lag.
    one("queue_size", Field::Waiting),
    one("batch_current_size", Field::Running),
    one("request_input_length_sum", Field::PromptTokens),
    one("request_generated_tokens_sum", Field::GeneratedTokens),
    one("request_success", Field::RequestsSucceeded),
    // By `err`: overloaded, validation, template, incomplete, generation, dropped.
    one("request_failure", Field::RequestsFailed),
    // Inference time by tokens of a request: prefill is smeared in.
    histogram("request_mean_time_per_token_duration", Field::PerOutputToken),
    histogram("request_duration", Field::EndToEnd),
    histogram("request_queue_duration", Field::QueueTime),
];

const OUTCOMES: &[OutcomeSeries] = &[
    of_one("request_success", "success"),
    by_label("request_failure", "err", "failure").counter(1),
];
