//! Bodies of real servers with the load's numbers in place of theirs.
//!
//! Everything that is not a number of the load (names, labels, order, comments, series that nothing here simulates) stays as the
//! running server sent it, so that readers are tested against what they meet.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::load::{Distribution, Load};

/// `GET /metrics` of a running vLLM 0.32.0 server; its model is called `tiny-random`.
const VLLM: &str = include_str!("bodies/vllm-0.32.0-queued.prom");
const VLLM_MODEL: &str = "model_name=\"tiny-random\"";
/// `GET /metrics` of a running llama-server b11669.
const LLAMA: &str = include_str!("bodies/llama-server-0.7.0-b11669-queued.prom");

/// Tokens that one simulated llama.cpp slot has room for.
const SLOT_CONTEXT_TOKENS: u64 = 8192;

/// The metrics body of a vLLM server under this load.
pub(crate) fn vllm(load: &Load) -> String {
    let model = load
        .model
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    fill(VLLM, |name, labels| vllm_value(load, name, labels)).replace(VLLM_MODEL, &format!("model_name=\"{model}\""))
}

/// The metrics body of a llama-server under this load.
pub(crate) fn llama(load: &Load) -> String {
    fill(LLAMA, |name, _| {
        let value = match name.strip_prefix("llamacpp:")? {
            "requests_processing" => load.running,
            "requests_deferred" => load.waiting,
            "prompt_tokens_total" => load
                .prompt_tokens_total
                .saturating_sub(load.prefix_cache_hit_tokens_total),
            "prompt_tokens_cached_total" => load.prefix_cache_hit_tokens_total,
            "tokens_predicted_total" => load.generated_tokens_total,
            _ => return None,
        };
        Some(six_digits(value as f64))
    })
}

/// Replaces the values of the lines for which `value` has one.
fn fill(template: &str, value: impl Fn(&str, &str) -> Option<String>) -> String {
    let mut body = String::with_capacity(template.len() + 256);
    for line in template.lines() {
        let filled = (!line.starts_with('#'))
            .then(|| line.rsplit_once(' '))
            .flatten()
            .and_then(|(series, _)| {
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                Some((series, value(name, labels)?))
            });
        match filled {
            Some((series, value)) => {
                // Writing to a String does not fail.
                let _ = writeln!(body, "{series} {value}");
            }
            None => {
                body.push_str(line);
                body.push('\n');
            }
        }
    }
    body
}

fn vllm_value(load: &Load, name: &str, labels: &str) -> Option<String> {
    let has = |label: &str| labels.contains(label);
    let value = match name.strip_prefix("vllm:")? {
        "num_requests_running" => load.running as f64,
        "num_requests_waiting" => load.waiting as f64,
        "num_requests_waiting_by_reason" if has("reason=\"capacity\"") => load.waiting as f64,
        "kv_cache_usage_perc" => load.kv_cache_usage,
        "engine_sleep_state" if has("sleep_state=\"awake\"") => f64::from(u8::from(!load.sleeping)),
        "engine_sleep_state" if has("sleep_state=\"weights_offloaded\"") => f64::from(u8::from(load.sleeping)),
        "prefix_cache_queries_total" | "prompt_tokens_total" => load.prompt_tokens_total as f64,
        "prefix_cache_hits_total" | "prompt_tokens_cached_total" => load.prefix_cache_hit_tokens_total as f64,
        "prompt_tokens_by_source_total" if has("source=\"local_compute\"") => {
            load.prompt_tokens_total
                .saturating_sub(load.prefix_cache_hit_tokens_total) as f64
        }
        "prompt_tokens_by_source_total" if has("source=\"local_cache_hit\"") => {
            load.prefix_cache_hit_tokens_total as f64
        }
        "num_preemptions_total" => load.preemptions_total as f64,
        "generation_tokens_total" => load.generated_tokens_total as f64,
        "request_success_total" if has("finished_reason=\"stop\"") => load.requests_succeeded_total as f64,
        "request_success_total" if has("finished_reason=\"length\"") => 0.0,
        "request_success_total" if has("finished_reason=\"abort\"") => load.requests_aborted_total as f64,
        series => {
            let latencies = [
                ("time_to_first_token_seconds", &load.time_to_first_token),
                ("inter_token_latency_seconds", &load.inter_token),
                ("e2e_request_latency_seconds", &load.end_to_end),
                ("request_queue_time_seconds", &load.queue_time),
            ];
            let (part, distribution) = latencies
                .iter()
                .find_map(|(base, distribution)| Some((series.strip_prefix(base)?, *distribution)))?;
            histogram_value(part, labels, distribution)?
        }
    };
    // As Python prints floats.
    Some(format!("{value:?}"))
}

fn histogram_value(part: &str, labels: &str, distribution: &Distribution) -> Option<f64> {
    match part {
        "_count" => Some(distribution.count() as f64),
        "_sum" => Some(distribution.sum_seconds()),
        "_bucket" => {
            let (_, bound) = labels.split_once("le=\"")?;
            let bound = bound.split('"').next()?.parse().ok()?;
            Some(distribution.at_most(bound) as f64)
        }
        _ => None,
    }
}

/// A number as a C++ stream prints it: six significant digits, exponent form from a million on.
fn six_digits(value: f64) -> String {
    if value < 1e6 {
        return value.to_string();
    }
    let text = format!("{value:.5e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}e+{exponent:0>2}")
}

/// `GET /slots` of a llama-server of b10519 or later under this load.
pub(crate) fn slots(load: &Load) -> Value {
    let total = load.max_concurrency.max(1);
    let busy = load.running.min(total);
    let used = (load.kv_cache_usage.clamp(0.0, 1.0) * (total * SLOT_CONTEXT_TOKENS) as f64).round() as u64;
    let slots = (0..total).map(|id| {
        if id >= busy {
            return json!({"id": id, "n_ctx": SLOT_CONTEXT_TOKENS, "speculative": false, "is_processing": false});
        }
        // The first slots take what does not divide evenly.
        let tokens = (used / busy + u64::from(id < used % busy)).min(SLOT_CONTEXT_TOKENS);
        json!({
            "id": id, "n_ctx": SLOT_CONTEXT_TOKENS, "speculative": false, "is_processing": true, "id_task": 100 + id,
            "n_prompt_tokens": tokens, "n_prompt_tokens_processed": tokens, "n_prompt_tokens_cache": 0,
            "params": {"seed": 1, "temperature": 0.8, "n_predict": -1, "generation_prompt": ""},
            "next_token": [{"has_next_token": true, "has_new_line": false, "n_remain": -1, "n_decoded": 0}],
        })
    });
    Value::Array(slots.collect())
}

/// `GET /props` of a llama-server, the parts that readers use.
pub(crate) fn props(load: &Load) -> Value {
    json!({
        "default_generation_settings": {"n_ctx": SLOT_CONTEXT_TOKENS},
        "total_slots": load.max_concurrency.max(1), "model_alias": load.model, "model_path": "/models/simulated.gguf",
        "endpoint_slots": true, "endpoint_props": false, "endpoint_metrics": true, "is_sleeping": load.sleeping,
        "build_info": "b11669-simulated",
    })
}
