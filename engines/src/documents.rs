//! Metrics that are JSON: the iteration list of `trtllm-serve`, SGLang's `/v1/loads`, llama.cpp's `/slots`, Ollama's `/api/ps`.

use serde::Deserialize;

use crate::error::ReadError;
use crate::inspection::FieldSource;
use crate::reader::Reading;
use crate::sample::{Engine, EngineSample};
use crate::scalar::ratio;
use crate::slots::{merge_slots, read_slots};
use crate::{json, loads, ollama};

/// A way to read one document; `None` where the body is another one.
type Way = fn(&[u8], Option<Engine>) -> Option<Reading>;

/// Reads a body that is one JSON value.
///
/// # Errors
///
/// When it is not of an engine that is read, or of another one than the user named.
pub(crate) fn read(body: &[u8], forced: Option<Engine>) -> Result<Reading, ReadError> {
    let ways: [Way; 4] = [iterations, loads::read, ollama::read, slots];
    let Some(reading) = ways.iter().find_map(|way| way(body, forced)) else {
        return Err(ReadError::Json {
            what: json::describe(body),
        });
    };
    match (forced, reading.sample.engine) {
        (Some(expected), Some(found)) if expected != found => Err(ReadError::WrongEngine {
            expected,
            found: found.as_str().to_owned(),
        }),
        _ => Ok(reading),
    }
}

/// One entry of the list that `trtllm-serve` gives at `/metrics`, with `enable_iter_perf_stats: true`. Every key may be absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Iteration {
    num_active_requests: Option<f64>,
    num_queued_requests: Option<f64>,
    max_num_active_requests: Option<f64>,
    kv_cache_stats: Option<KvCacheStats>,
    iter: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KvCacheStats {
    cache_hit_rate: Option<f64>,
    max_num_blocks: Option<f64>,
    used_num_blocks: Option<f64>,
    free_num_blocks: Option<f64>,
    tokens_per_block: Option<f64>,
}

/// The list is a queue: what is read is gone, for Prometheus' own collector too, and it is empty while nothing runs.
fn iterations(body: &[u8], forced: Option<Engine>) -> Option<Reading> {
    let list: Vec<Iteration> = serde_json::from_slice(body).ok()?;
    let is_own = |iteration: &Iteration| iteration.iter.is_some() || iteration.num_active_requests.is_some();
    let last = match list.last() {
        Some(last) if is_own(last) => last,
        None if forced == Some(Engine::TensorRtLlm) => {
            return Some(reading(
                EngineSample {
                    engine: Some(Engine::TensorRtLlm),
                    generation: ITERATIONS.to_owned(),
                    ..EngineSample::default()
                },
                "the list of iterations is empty: nothing runs, or another reader took the entries, each of which is given once; \
                 set return_perf_metrics: true and scrape /prometheus/metrics",
            ));
        }
        _ => return None,
    };
    let cache = last.kv_cache_stats.as_ref();
    let of_cache = |value: fn(&KvCacheStats) -> Option<f64>| number(cache.and_then(value));
    let blocks = of_cache(|cache| cache.max_num_blocks).filter(|blocks| *blocks > 0.0);
    let free = of_cache(|cache| cache.free_num_blocks);
    let used = of_cache(|cache| cache.used_num_blocks).or_else(|| Some(blocks? - free?).filter(|used| *used >= 0.0));
    let per_block = of_cache(|cache| cache.tokens_per_block).filter(|tokens| *tokens > 0.0);
    let both = |a: Option<f64>, b: Option<f64>| Some((a?, b?));
    Some(reading(
        EngineSample {
            engine: Some(Engine::TensorRtLlm),
            generation: ITERATIONS.to_owned(),
            waiting: number(last.num_queued_requests),
            running: number(last.num_active_requests),
            max_concurrency: number(last.max_num_active_requests).filter(|max| *max > 0.0),
            kv_cache_usage: both(used, blocks).and_then(|(used, blocks)| ratio(used / blocks)),
            kv_cache_capacity_tokens: both(blocks, per_block).map(|(blocks, tokens)| blocks * tokens),
            prefix_cache_hit_ratio: of_cache(|cache| cache.cache_hit_rate).and_then(ratio),
            ..EngineSample::default()
        },
        "the iteration list lacks the keys: set return_perf_metrics: true and scrape /prometheus/metrics",
    ))
}

const ITERATIONS: &str = "iteration-json";
const SLOTS: &str = "slots";

/// What the iteration list gives, with what is missing.
fn reading(sample: EngineSample, hint: &str) -> Reading {
    let needed = [
        ("numQueuedRequests", sample.waiting),
        ("numActiveRequests", sample.running),
        ("kvCacheStats", sample.kv_cache_usage),
    ];
    let missing: Vec<String> = needed
        .into_iter()
        .filter(|(_, value)| value.is_none())
        .map(|(key, _)| key.to_owned())
        .collect();
    Reading {
        sample,
        hint: if missing.is_empty() {
            String::new()
        } else {
            hint.to_owned()
        },
        missing,
    }
}

/// llama.cpp's `/slots` alone, where its metrics are off.
fn slots(body: &[u8], _: Option<Engine>) -> Option<Reading> {
    let slots = read_slots(body).ok()?;
    let mut sample = EngineSample {
        engine: Some(Engine::LlamaCpp),
        generation: SLOTS.to_owned(),
        running: Some(slots.busy as f64),
        ..EngineSample::default()
    };
    merge_slots(&mut sample, &slots);
    Some(Reading {
        sample,
        missing: vec!["llamacpp:requests_deferred".to_owned()],
        hint: "/slots does not tell how many requests wait: start llama-server with --metrics and scrape /metrics"
            .to_owned(),
    })
}

/// The fields of a document's sample, with the keys that fed them.
pub(crate) fn sources(sample: &EngineSample) -> Vec<FieldSource> {
    let keys: &[(&'static str, &[&str])] = match sample.generation.as_str() {
        ITERATIONS => &[
            ("waiting", &["numQueuedRequests"]),
            ("running", &["numActiveRequests"]),
            ("maxConcurrency", &["maxNumActiveRequests"]),
            (
                "kvCacheUsage",
                &["kvCacheStats.usedNumBlocks", "kvCacheStats.maxNumBlocks"],
            ),
            (
                "kvCacheCapacityTokens",
                &["kvCacheStats.maxNumBlocks", "kvCacheStats.tokensPerBlock"],
            ),
            ("prefixCacheHitRatio", &["kvCacheStats.cacheHitRate"]),
        ],
        loads::GENERATION => &[
            ("waiting", &["num_waiting_reqs"]),
            ("running", &["num_running_reqs"]),
            ("maxConcurrency", &["max_running_requests"]),
            ("kvCacheUsage", &["token_usage"]),
            ("kvCacheCapacityTokens", &["max_total_num_tokens"]),
        ],
        SLOTS => &[
            ("running", &["is_processing"]),
            ("maxConcurrency", &["id"]),
            ("kvCacheUsage", &["n_prompt_tokens", "n_ctx"]),
        ],
        _ => &[],
    };
    let known = serde_json::to_value(sample).unwrap_or_default();
    keys.iter()
        .filter(|(field, _)| known.get(field).is_some())
        .map(|(field, keys)| FieldSource {
            field,
            names: keys.iter().map(|&key| key.to_owned()).collect(),
            series: 1,
        })
        .collect()
}

/// A number that can be one of requests, blocks or tokens.
pub(crate) fn number(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}
