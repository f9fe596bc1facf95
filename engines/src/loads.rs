//! SGLang's `GET /v1/loads`: the numbers per data-parallel rank, with how many requests can run at once, which its metrics do not have.

use serde::Deserialize;

use crate::documents::number;
use crate::reader::Reading;
use crate::sample::{Engine, EngineSample};
use crate::scalar::ratio;

/// What stands for the generation where there are no metrics beside.
pub(crate) const GENERATION: &str = "v1-loads";
/// Ranks that one answer may list.
const RANK_LIMIT: usize = 4096;

/// The load of an SGLang server, folded over its data-parallel ranks. What one rank does not tell is not known of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loads {
    /// Requests that wait.
    pub waiting: Option<f64>,
    /// Requests that run.
    pub running: Option<f64>,
    /// Requests that can run at once.
    pub max_concurrency: Option<f64>,
    /// KV cache in use, 0-1, of the fullest rank.
    pub kv_cache_usage: Option<f64>,
    /// Tokens that the KV caches hold.
    pub kv_cache_capacity_tokens: Option<f64>,
}

#[derive(Deserialize)]
struct Answer {
    loads: Vec<Rank>,
}

#[derive(Deserialize)]
struct Rank {
    #[allow(dead_code, reason = "its presence tells the answer from other lists of loads")]
    dp_rank: f64,
    num_running_reqs: Option<f64>,
    num_waiting_reqs: Option<f64>,
    max_running_requests: Option<f64>,
    max_total_num_tokens: Option<f64>,
    token_usage: Option<f64>,
}

/// Reads `/v1/loads`; `None` where the body is something else.
#[must_use]
pub fn read_loads(body: &[u8]) -> Option<Loads> {
    let ranks = serde_json::from_slice::<Answer>(body).ok()?.loads;
    if ranks.is_empty() || ranks.len() > RANK_LIMIT {
        return None;
    }
    let sum = |value: fn(&Rank) -> Option<f64>| ranks.iter().map(|rank| number(value(rank))).sum::<Option<f64>>();
    let positive = |value: Option<f64>| value.filter(|value| *value > 0.0);
    Some(Loads {
        waiting: sum(|rank| rank.num_waiting_reqs),
        running: sum(|rank| rank.num_running_reqs),
        max_concurrency: positive(sum(|rank| rank.max_running_requests)),
        kv_cache_usage: ranks
            .iter()
            .try_fold(0.0_f64, |most, rank| Some(most.max(number(rank.token_usage)?)))
            .and_then(ratio),
        kv_cache_capacity_tokens: positive(sum(|rank| rank.max_total_num_tokens)),
    })
}

/// Adds to a sample of `/metrics` what `/v1/loads` alone says. Queue and cache stay those of the metrics, which are of one moment.
pub fn merge_loads(sample: &mut EngineSample, loads: &Loads) {
    sample.max_concurrency = sample.max_concurrency.or(loads.max_concurrency);
    sample.kv_cache_capacity_tokens = sample.kv_cache_capacity_tokens.or(loads.kv_cache_capacity_tokens);
}

/// `/v1/loads` in place of metrics, as `spec.metricsPath` may name it: it is served without `--enable-metrics` too.
pub(crate) fn read(body: &[u8], _: Option<Engine>) -> Option<Reading> {
    let loads = read_loads(body)?;
    let needed = [
        ("num_waiting_reqs", loads.waiting),
        ("num_running_reqs", loads.running),
        ("token_usage", loads.kv_cache_usage),
    ];
    let missing: Vec<String> = needed
        .into_iter()
        .filter(|(_, value)| value.is_none())
        .map(|(key, _)| key.to_owned())
        .collect();
    Some(Reading {
        sample: EngineSample {
            engine: Some(Engine::Sglang),
            generation: GENERATION.to_owned(),
            waiting: loads.waiting,
            running: loads.running,
            max_concurrency: loads.max_concurrency,
            kv_cache_usage: loads.kv_cache_usage,
            kv_cache_capacity_tokens: loads.kv_cache_capacity_tokens,
            ..EngineSample::default()
        },
        hint: if missing.is_empty() {
            String::new()
        } else {
            "start SGLang with --enable-metrics and scrape /metrics".to_owned()
        },
        missing,
    })
}
