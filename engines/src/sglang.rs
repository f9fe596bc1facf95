//! SGLang, `GET /metrics` with `--enable-metrics`.
//!
//! Names, units and labels were checked against the wheels 0.4.1, 0.4.6, 0.4.9, 0.5.2, 0.5.6, 0.5.9 and 0.5.23.
//!
//! Folding: `dp_rank`s have queues and caches of their own and add up. With `--enable-metrics-for-all-schedulers` each `tp_rank`,
//! `pp_rank` and `moe_ep_rank` exports a copy of its queue. With priority scheduling `priority=""` holds the total and `priority="n"` the parts.
//!
//! With prefill and decode on servers of their own, a request passes through more queues, and is in one at a time (`srt/disaggregation/prefill.py`,
//! `decode.py`): prefill: bootstrap (called prealloc before 0.5.23), waiting, batch, inflight; decode: prealloc, transfer, waiting, batch. Those before
//! the batch are `waiting`, as SGLang's own `num_waiting_reqs` counts them (`get_load` of 0.5.6, `load_inquirer.py` of 0.5.23). Left out:
//!
//! * `num_prefill_inflight_queue_reqs` (`infight` up to 0.4.9): their prefill is done, and their KV cache is being sent.
//! * `num_decode_host_receive_queue_reqs` (0.5.23): some of those in the transfer queue.
//! * Requests that a decode server took back for want of memory are in a queue that no series tells, and so are missing in `waiting`.
//!
//! What is left out, and why:
//!
//! * `cache_hit_rate` is that of the last prefill batch alone (issues 5625, 26608), `gen_throughput` that of the last interval, and it sticks when
//!   the server is idle (issue 4244). The hit rate is `cached_tokens_total / prompt_tokens_total`.
//! * `realtime_tokens_total` (0.5.9) moves during a generation, `prompt_tokens_total` and `generation_tokens_total` when a
//!   request ends. To take one where the other is not there yet would look like a restart.
//! * `num_retracted_reqs` is a gauge of one step, not a count.
//! * `token_usage` leaves evictable prefix cache out, as the other engines do (PR 22726).

use crate::dialect::{Dialect, Series, Traits, after_prefix, histogram, one, part};
use crate::field::{Field, Part};
use crate::outcomes::{OutcomeSeries, of_one};
use crate::plan::Required;
use crate::sample::Engine;

pub(crate) static DIALECT: Dialect = Dialect {
    engine: Engine::Sglang,
    key: |name| after_prefix(name, "sglang"),
    series: SERIES,
    outcomes: OUTCOMES,
    label_numbers: &[],
    marks: &[
        "num_pages",
        "realtime_tokens_total",
        "cache_config_info",
        "max_total_num_tokens",
        "queue_time_s_count",
        "queue_time_s",
        "avg_request_queue_latency",
        "cached_tokens_total",
    ],
    generation,
    required: |_| REQUIRED,
    hint: |traits| {
        if !traits.any {
            "there are no sglang: series: start SGLang with --enable-metrics"
        } else if traits.sample {
            "this version of SGLang does not publish the series, or names it in a way that is not known yet"
        } else {
            "SGLang publishes its gauges after the first request: send one, or wait for it"
        }
    },
    only_with: &[(Field::PrefixQueryTokens, Field::PrefixHitTokens)],
};

const REQUIRED: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "sglang:num_queue_reqs",
    },
    Required {
        field: Field::Running,
        name: "sglang:num_running_reqs",
    },
    Required {
        field: Field::KvCacheUsage,
        name: "sglang:token_usage",
    },
];

const SERIES: &[Series] = &[
    one("num_queue_reqs", Field::Waiting).only("priority", str::is_empty),
    // Since 0.4.9: requests whose grammar is compiled before they may queue.
    one("num_grammar_queue_reqs", Field::Waiting)
        .only("priority", str::is_empty)
        .adding(1),
    // Queues of servers that only prefill or only decode; the first name was given up for the second in 0.5.23.
    one("num_prefill_prealloc_queue_reqs", Field::Waiting)
        .only("priority", str::is_empty)
        .adding(2),
    one("num_prefill_bootstrap_queue_reqs", Field::Waiting)
        .only("priority", str::is_empty)
        .adding(2),
    one("num_decode_prealloc_queue_reqs", Field::Waiting)
        .only("priority", str::is_empty)
        .adding(3),
    one("num_decode_transfer_queue_reqs", Field::Waiting)
        .only("priority", str::is_empty)
        .adding(4),
    // `/v1/loads?format=prometheus`.
    one("num_waiting_reqs", Field::Waiting).older(1),
    // The parts, where no total is there.
    one("num_queue_reqs", Field::Waiting).only("priority", is_part).older(2),
    one("num_running_reqs", Field::Running).only("priority", str::is_empty),
    one("num_running_reqs", Field::Running)
        .only("priority", is_part)
        .older(1),
    one("max_running_requests", Field::MaxConcurrency),
    one("token_usage", Field::KvCacheUsage).only("priority", str::is_empty),
    // Since 0.5.6.
    one("max_total_num_tokens", Field::KvCapacity),
    part("hicache_host_used_tokens", Field::HostCacheUsage, Part::First),
    part("hicache_host_total_tokens", Field::HostCacheUsage, Part::Second),
    // Both include cached tokens and move when a request ends.
    one("prompt_tokens_total", Field::PromptTokens),
    one("prompt_tokens_total", Field::PrefixQueryTokens),
    one("generation_tokens_total", Field::GeneratedTokens),
    // By `cache_source` since 0.5.23: device, host and storage, or `total` in their place where no details are known.
    one("cached_tokens_total", Field::PrefixHitTokens),
    // Since 0.5.9; before, per request and when it ends (0.5.6), and a running total (0.4.9 to 0.5.2).
    one("num_retracted_requests_total", Field::Preemptions),
    one("num_retractions_sum", Field::Preemptions).older(1),
    one("total_retracted_reqs", Field::Preemptions).older(2),
    one("num_requests_total", Field::RequestsSucceeded),
    one("num_aborted_requests_total", Field::RequestsFailed),
    histogram("time_to_first_token_seconds", Field::TimeToFirstToken),
    histogram("inter_token_latency_seconds", Field::InterToken),
    // 0.4.1.
    histogram("time_per_output_token_seconds", Field::InterToken).older(1),
    histogram("request_time_per_output_token_seconds", Field::PerOutputToken),
    histogram("e2e_request_latency_seconds", Field::EndToEnd),
    histogram("queue_time_seconds", Field::QueueTime),
    // 0.5.2.
    histogram("queue_time_s", Field::QueueTime).older(1),
];

/// Without a reason. `http_responses_total{status_code}` counts scrapes and probes too.
const OUTCOMES: &[OutcomeSeries] = &[
    of_one("num_requests_total", "processed"),
    of_one("num_aborted_requests_total", "aborted").counter(1),
];

fn is_part(priority: &str) -> bool {
    !priority.is_empty()
}

fn generation(traits: Traits) -> &'static str {
    let [
        num_pages,
        realtime,
        cache_config,
        max_tokens,
        queue_s,
        queue_s_family,
        average,
        cached,
    ] = [0, 1, 2, 3, 4, 5, 6, 7].map(|mark| traits.has(mark));
    if num_pages {
        "0.5.23+"
    } else if realtime || cache_config {
        "0.5.9+"
    } else if max_tokens {
        "0.5.6+"
    } else if queue_s || queue_s_family {
        "0.5.2+"
    } else if average || cached {
        "0.4.6+"
    } else if traits.sample {
        "0.4"
    } else {
        ""
    }
}
