//! llama.cpp's router mode: one server that starts one more for each model, and gives the metrics of one model at a time.
//!
//! `GET /metrics` without a model is answered 400; `GET /models` lists the models with their state. A model that is not loaded is never asked:
//! asking could load it.

use std::fmt;

use serde::Deserialize;

use crate::reader::Reading;
use crate::sample::{Engine, EngineSample, Histogram, Latency};

/// Models of one router that are asked; the default of `--models-max` is 4.
const MODEL_LIMIT: usize = 16;
/// Bytes that the name of one may have.
const MODEL_NAME_BYTES: usize = 512;

#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    value: String,
}

/// More models are loaded than are asked: the sum over some of them would not be that of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyModels {
    /// Models that are loaded.
    pub loaded: usize,
}

impl TooManyModels {
    /// A reading that says so, and has no number.
    #[must_use]
    pub fn reading(self) -> Reading {
        Reading {
            hint: self.to_string(),
            ..without_numbers()
        }
    }
}

impl fmt::Display for TooManyModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the llama-server router has {} models loaded, and at most {MODEL_LIMIT} of one are asked for their metrics: \
             start it with --models-max {MODEL_LIMIT} or less, or name the servers behind it",
            self.loaded
        )
    }
}

impl std::error::Error for TooManyModels {}

/// The models that a router has loaded, of its answer to `/models`; `None` where the answer is not that of a router.
///
/// # Errors
///
/// When it has more of them than are asked.
#[must_use]
pub fn read_router_models(body: &[u8]) -> Option<Result<Vec<String>, TooManyModels>> {
    let list: List = serde_json::from_slice(body).ok()?;
    let is_loaded = |model: &Model| model.status.value == "loaded";
    let loaded: Vec<String> = list.data.into_iter().filter(is_loaded).map(|model| model.id).collect();
    if loaded.len() > MODEL_LIMIT {
        return Some(Err(TooManyModels { loaded: loaded.len() }));
    }
    // One that cannot be asked is one whose numbers would lack.
    let can_be_asked = |id: &String| !id.is_empty() && id.len() <= MODEL_NAME_BYTES;
    loaded.iter().all(can_be_asked).then_some(Ok(loaded))
}

/// The query that asks a router for the metrics, or the slots, of one model, without loading it.
#[must_use]
pub fn router_query(model: &str) -> String {
    let mut query = String::from("model=");
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            query.push(char::from(byte));
        } else {
            query.push_str(&format!("%{byte:02X}"));
        }
    }
    query + "&autoload=false"
}

/// The readings of a router's models as one: queues and counters add up, the fullest cache counts, and what one model does not tell is not
/// known of the router.
#[must_use]
pub fn merge_models(models: Vec<(String, Reading)>) -> Reading {
    let mut models = models.into_iter();
    let Some((name, mut all)) = models.next() else {
        return Reading {
            hint: "the llama-server router has no model loaded, and each model has its own metrics: send a request, or wait for one"
                .to_owned(),
            ..without_numbers()
        };
    };
    all.sample.models = vec![name];
    all.sample.generation = format!("router-{}", all.sample.generation);
    let of_tokens = all.sample.latency.per_output_token.take();
    all.sample.latency = Latency {
        per_output_token: of_tokens,
        ..Latency::default()
    };
    for (name, reading) in models {
        let Reading { sample, missing, hint } = reading;
        let total = &mut all.sample;
        total.models.push(name);
        let sum = |total: &mut Option<f64>, one: Option<f64>| *total = total.zip(one).map(|(total, one)| total + one);
        sum(&mut total.waiting, sample.waiting);
        sum(&mut total.running, sample.running);
        sum(&mut total.max_concurrency, sample.max_concurrency);
        sum(&mut total.prompt_tokens_total, sample.prompt_tokens_total);
        sum(&mut total.generated_tokens_total, sample.generated_tokens_total);
        sum(
            &mut total.prefix_cache_hit_tokens_total,
            sample.prefix_cache_hit_tokens_total,
        );
        sum(
            &mut total.prefix_cache_query_tokens_total,
            sample.prefix_cache_query_tokens_total,
        );
        total.latency.per_output_token =
            mean_of_both(total.latency.per_output_token.take(), sample.latency.per_output_token);
        let usage = total.kv_cache_usage.zip(sample.kv_cache_usage);
        total.kv_cache_usage = usage.map(|(total, one)| total.max(one));
        total.sleeping = total.sleeping.zip(sample.sleeping).map(|(total, one)| total && one);
        for name in missing {
            if !all.missing.contains(&name) {
                all.missing.push(name);
            }
        }
        if all.hint.is_empty() {
            all.hint = hint;
        }
    }
    all
}

/// The mean over the observations of both; `None` where one is not known, or has a distribution, which llama.cpp has not.
fn mean_of_both(one: Option<Histogram>, other: Option<Histogram>) -> Option<Histogram> {
    let (mut one, other) = one.zip(other)?;
    let ([(None, _)], [(None, _)]) = (one.buckets.as_slice(), other.buckets.as_slice()) else {
        return None;
    };
    one.count += other.count;
    one.sum_seconds += other.sum_seconds;
    one.buckets = vec![(None, one.count)];
    Some(one)
}

/// What is read of a router whose models are not.
fn without_numbers() -> Reading {
    Reading {
        sample: EngineSample {
            engine: Some(Engine::LlamaCpp),
            generation: "router".to_owned(),
            ..EngineSample::default()
        },
        missing: vec![
            "llamacpp:requests_deferred".to_owned(),
            "llamacpp:requests_processing".to_owned(),
        ],
        hint: String::new(),
    }
}
