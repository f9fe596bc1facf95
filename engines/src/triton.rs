//! Triton Inference Server: plain, with the TensorRT-LLM backend, with the vLLM backend.
//!
//! Names were checked against core `src/metrics.cc` and `metric_model_reporter.cc` (73aad7c3), tensorrtllm_backend (0b9d7d5a) and
//! vllm_backend `src/utils/metrics.py` (8de0c148).
//!
//! # Which model speaks
//!
//! One request shows in an ensemble and in each of its steps, failures double. So not all models speak for the server:
//!
//! * Models that a backend names (`nv_trt_llm_*`, `vllm:*`) speak alone and for everything, whatever they are called; without that, a model
//!   called `tensorrt_llm`.
//! * Without such a backend, requests that wait are those of all models but ensembles: a request waits in one place at a time, and an ensemble
//!   counts its own as executing as soon as they come (core `src/ensemble_scheduler/ensemble_scheduler.cc`, `Enqueue`).
//! * Ends and times are then those of the ensembles, where there are any, and else of all models. Of an ensemble there is no time in the queue: its
//!   requests wait in those of its steps. An ensemble is told by its load time: only a model
//!   with a backend gets one (core `src/model_repository_manager/model_lifecycle.cc`, `CreateModel`), so that
//!   `nv_model_load_duration_secs` (core pull request 397, October 2024) stays 0. A model that is loading has 0 too, and no requests.
//! * Servers without that series leave the names. Where those that say ensemble, preprocessing or postprocessing, as in the backends'
//!   examples, leave one model, it speaks alone. Else some may be steps of others: ends and times are not known, and the reading says so.
//!
//! What is left out, and why:
//!
//! * `nv_inference_exec_count` is a counter of executions, not a number of running requests: plain Triton does not tell these. It counts for
//!   ensembles as for others.
//! * `{kv_cache_block_type="reused"}` counts blocks, not tokens. `nv_cache_*` is a cache of whole responses.
//! * Summaries have quantiles that cannot be added.
//! * `nv_inference_*` move when a request is complete (issue 5927); with in-flight batching before 23.12 they stay 0 (issue 49), and the
//!   pending count misleads (issue 6494): the backend's own gauges come first.

use crate::dialect::{Dialect, Mapper as Table, Series, Traits, after_prefix, histogram, one, part};
use crate::exposition::Sample;
use crate::field::{Field, Part};
use crate::layout::Use;
use crate::outcomes::{OutcomeSeries, by_label, of_one};
use crate::plan::{Plan, Required};
use crate::sample::Engine;

static DIALECT: Dialect = Dialect {
    engine: Engine::Triton,
    key: key_of,
    series: SERIES,
    outcomes: OUTCOMES,
    label_numbers: &[],
    marks: &["nv_trt_llm_request_metrics", "nv_trt_llm_kv_cache_block_metrics"],
    generation: |traits| {
        if is_trt_llm(traits) {
            "tensorrtllm-backend"
        } else {
            "plain"
        }
    },
    required: |traits| {
        if is_trt_llm(traits) { OF_TRT_LLM } else { OF_PLAIN }
    },
    hint: |traits| {
        if is_trt_llm(traits) {
            "this version of the TensorRT-LLM backend does not publish the series, or names it in a way that is not known yet"
        } else if traits.any {
            "Triton tells how many requests wait since 23.09: use a newer one"
        } else {
            "there are no nv_inference_ series: Triton serves them on port 8002 at /metrics, unless --allow-metrics=false"
        }
    },
    only_with: &[],
};

/// What Triton without a backend that tells more cannot tell.
const PLAIN: &str = "Triton itself tells which requests wait and how they end, and neither how many run nor a KV cache: the TensorRT-LLM backend adds \
     both, the vLLM backend adds latencies and tokens with REPORT_CUSTOM_METRICS=\"true\" in the model's config.pbtxt; vLLM's own server \
     has all of them";

/// The same of the vLLM backend, which publishes its own series already.
const VLLM_BACKEND: &str = "Triton's vLLM backend tells latencies and tokens, and neither how many requests run nor its KV cache: vLLM's own server \
     has all of them";

fn is_trt_llm(traits: Traits) -> bool {
    traits.has(0) || traits.has(1)
}

/// Nothing else can be expected of it.
const OF_PLAIN: &[Required] = &[Required {
    field: Field::Waiting,
    name: "nv_inference_pending_request_count",
}];

const OF_TRT_LLM: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "nv_trt_llm_request_metrics{request_type=\"waiting\"}",
    },
    Required {
        field: Field::Running,
        name: "nv_trt_llm_request_metrics{request_type=\"scheduled\"}",
    },
    Required {
        field: Field::KvCacheUsage,
        name: "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\"}",
    },
];

const REQUESTS: &str = "nv_trt_llm_request_metrics";
const BLOCKS: &str = "nv_trt_llm_kv_cache_block_metrics";
const BLOCK: &str = "kv_cache_block_type";

const SERIES: &[Series] = &[
    one(REQUESTS, Field::Waiting).only("request_type", |of| of == "waiting"),
    one("nv_inference_pending_request_count", Field::Waiting).older(1),
    one(REQUESTS, Field::Running).only("request_type", |of| of == "scheduled"),
    one(REQUESTS, Field::Running)
        .only("request_type", |of| of == "active")
        .older(1),
    one(REQUESTS, Field::MaxConcurrency).only("request_type", |of| of == "max"),
    // Since about 2024.
    one(BLOCKS, Field::KvCacheUsage).only(BLOCK, |of| of == "fraction"),
    part(BLOCKS, Field::KvCacheUsage, Part::First)
        .only(BLOCK, |of| of == "used")
        .older(1),
    part(BLOCKS, Field::KvCacheUsage, Part::Second)
        .only(BLOCK, |of| of == "max")
        .older(1),
    part(BLOCKS, Field::KvCapacity, Part::First).only(BLOCK, |of| of == "max"),
    part(BLOCKS, Field::KvCapacity, Part::Second).only(BLOCK, |of| of == "tokens_per"),
    one("nv_inference_request_success", Field::RequestsSucceeded),
    // By `reason` since 24.08.
    one("nv_inference_request_failure", Field::RequestsFailed),
    // The vLLM backend: names of vLLM, labels of Triton.
    one("vllm:prompt_tokens_total", Field::PromptTokens),
    one("vllm:generation_tokens_total", Field::GeneratedTokens),
    histogram("vllm:time_to_first_token_seconds", Field::TimeToFirstToken),
    // Fed with inter-token latencies.
    histogram("vllm:time_per_output_token_seconds", Field::InterToken),
    histogram("vllm:e2e_request_latency_seconds", Field::EndToEnd),
    // With --metrics-config histogram_latencies=true.
    histogram("nv_inference_first_response_histogram_ms", Field::TimeToFirstToken)
        .per_second(1e3)
        .older(1),
    // Times without a distribution.
    part("nv_inference_request_duration_us", Field::EndToEnd, Part::MeanSum)
        .per_second(1e6)
        .older(1),
    part("nv_inference_request_success", Field::EndToEnd, Part::MeanCount).older(1),
    part("nv_inference_queue_duration_us", Field::QueueTime, Part::MeanSum).per_second(1e6),
    part("nv_inference_request_success", Field::QueueTime, Part::MeanCount),
];

const OUTCOMES: &[OutcomeSeries] = &[
    of_one("nv_inference_request_success", "success"),
    // REJECTED, CANCELED, BACKEND, OTHER; before 24.08 without a reason.
    by_label("nv_inference_request_failure", "reason", "failure").counter(1),
];

/// Triton's names as they are, those of vLLM with a colon.
fn key_of(name: &[u8]) -> Option<&[u8]> {
    (is_own(name) || after_prefix(name, "vllm").is_some()).then_some(name)
}

fn is_own(name: &[u8]) -> bool {
    name.starts_with(b"nv_inference_") || name.starts_with(b"nv_trt_llm_")
}

/// Reads the series of one body.
#[derive(Debug)]
pub(crate) struct Mapper {
    table: Table,
    models: Vec<Model>,
    /// The model of each term of the table, by number.
    owners: Vec<usize>,
    /// The same of each counter of ends.
    outcome_owners: Vec<usize>,
    vllm: bool,
    /// There is a name that is Triton's own, or one of vLLM with Triton's labels.
    own: bool,
    /// There are more models than are told apart, so that a sum over some would not be that of the server.
    too_many: bool,
}

#[derive(Debug)]
struct Model {
    name: String,
    /// A backend names it.
    trt_llm: bool,
    vllm: bool,
    /// Seconds that its backend took to load it.
    load_seconds: Option<f64>,
}

impl Default for Mapper {
    fn default() -> Self {
        Self {
            table: Table::new(&DIALECT),
            models: Vec::new(),
            owners: Vec::new(),
            outcome_owners: Vec::new(),
            vllm: false,
            own: false,
            too_many: false,
        }
    }
}

/// Models that one server may have for their numbers to be told apart.
const MODEL_LIMIT: usize = 1024;
/// Models that a message names.
const NAMED_LIMIT: usize = 4;
const TOO_MANY: &str = "Triton has more than 1024 models, and is not read: spread them over several servers";
const LOAD_SECONDS: &[u8] = b"nv_model_load_duration_secs";

/// The models that speak for the server, by number.
struct Speakers {
    /// Of requests that wait.
    waiting: Vec<bool>,
    /// Of ends and times.
    ends: Vec<bool>,
    /// These are ensembles.
    are_ensembles: bool,
    /// Nobody can say whose ends and times are those of the server.
    ambiguous: bool,
}

impl Mapper {
    pub(crate) const fn recognised(&self) -> bool {
        self.own
    }

    pub(crate) fn family(&mut self, name: &[u8]) {
        self.vllm |= after_prefix(name, "vllm").is_some();
        self.own |= is_own(name);
        self.table.family(name);
    }

    pub(crate) fn sample(&mut self, sample: &Sample<'_>, value: u32) -> Use {
        if sample.name == LOAD_SECONDS {
            if let Some(model) = self.model(sample) {
                model.load_seconds = Some(sample.value);
            }
            return Use::Decides;
        }
        let of_vllm = after_prefix(sample.name, "vllm").is_some();
        self.vllm |= of_vllm;
        self.own |= is_own(sample.name) || (of_vllm && sample.labels.get("version").is_some());
        if !self.table.sample(sample, value) {
            return Use::Ignored;
        }
        if let Some(model) = self.model(sample) {
            model.vllm |= of_vllm;
            model.trt_llm |= sample.name.starts_with(b"nv_trt_llm_");
        }
        let owner = self.number_of(sample);
        self.owners.resize(self.table.collected.terms.len(), owner);
        self.outcome_owners.resize(self.table.outcomes.terms.len(), owner);
        Use::Value
    }

    /// The model that a sample speaks of.
    fn model(&mut self, sample: &Sample<'_>) -> Option<&mut Model> {
        let number = self.number_of(sample);
        self.models.get_mut(number)
    }

    /// Its number; beyond the limit that of none.
    fn number_of(&mut self, sample: &Sample<'_>) -> usize {
        let name = sample.labels.get("model").unwrap_or_default();
        let number = self.models.iter().position(|model| model.name == name);
        number.unwrap_or_else(|| {
            if self.models.len() == MODEL_LIMIT {
                self.too_many = true;
                return MODEL_LIMIT;
            }
            self.models.push(Model {
                name: name.into_owned(),
                trt_llm: false,
                vllm: false,
                load_seconds: None,
            });
            self.models.len() - 1
        })
    }

    pub(crate) fn finish(mut self) -> Plan {
        let speakers = self.speakers();
        let speaks = |of: &[bool], owner: Option<usize>| owner.is_none_or(|owner| of.get(owner) == Some(&true));
        let mut owners = self.owners.iter().copied();
        self.table.collected.terms.retain(|term| {
            let owner = owners.next();
            match term.field {
                Field::Waiting => speaks(&speakers.waiting, owner),
                // An ensemble's requests wait in the queues of its steps.
                Field::QueueTime if speakers.are_ensembles => false,
                _ => speaks(&speakers.ends, owner),
            }
        });
        let mut owners = self.outcome_owners.iter().copied();
        self.table
            .outcomes
            .terms
            .retain(|_| speaks(&speakers.ends, owners.next()));
        let told = if speakers.ambiguous {
            &speakers.waiting
        } else {
            &speakers.ends
        };
        let named: Vec<&str> = self
            .models
            .iter()
            .zip(told)
            .filter(|(_, told)| **told)
            .map(|(model, _)| model.name.as_str())
            .collect();
        for name in &named {
            self.table.collected.model(name);
        }
        let of_trt_llm = self.models.iter().any(|model| model.trt_llm);
        let note = match (of_trt_llm, self.vllm) {
            (true, _) => String::new(),
            (false, true) => VLLM_BACKEND.to_owned(),
            (false, false) if speakers.ambiguous => format!("{}; {PLAIN}", ambiguity(&named)),
            (false, false) => PLAIN.to_owned(),
        };
        let plan = self.table.finish().noting(note);
        let plan = if self.vllm { plan.of("vllm-backend") } else { plan };
        if self.too_many { plan.hinting(TOO_MANY) } else { plan }
    }

    /// The models that speak for the server.
    fn speakers(&self) -> Speakers {
        let all = |rule: &dyn Fn(&Model) -> bool| self.models.iter().map(rule).collect::<Vec<bool>>();
        let any = |rule: fn(&Model) -> bool| self.models.iter().any(rule);
        if self.too_many || self.models.is_empty() {
            return Speakers {
                waiting: Vec::new(),
                ends: Vec::new(),
                are_ensembles: false,
                ambiguous: false,
            };
        }
        let alone = |speaks: Vec<bool>| Speakers {
            waiting: speaks.clone(),
            ends: speaks,
            are_ensembles: false,
            ambiguous: false,
        };
        let rules: [fn(&Model) -> bool; 3] = [
            |model| model.trt_llm,
            |model| model.vllm,
            |model| model.name == "tensorrt_llm",
        ];
        if let Some(rule) = rules.into_iter().find(|&rule| any(rule)) {
            return alone(all(&rule));
        }
        if self.models.len() == 1 {
            return alone(vec![true]);
        }
        if any(|model| model.load_seconds.is_some()) {
            let is_ensemble = |model: &Model| model.load_seconds == Some(0.0) || is_named_ensemble(&model.name);
            let are_ensembles = any(is_ensemble);
            return Speakers {
                waiting: all(&|model| !is_ensemble(model)),
                ends: all(&|model| is_ensemble(model) || !are_ensembles),
                are_ensembles,
                ambiguous: false,
            };
        }
        let steps = all(&|model| !is_around_a_model(&model.name));
        if steps.iter().filter(|is_step| **is_step).count() == 1 {
            return alone(steps);
        }
        Speakers {
            waiting: all(&|model| !is_named_ensemble(&model.name)),
            ends: vec![false; self.models.len()],
            are_ensembles: false,
            ambiguous: true,
        }
    }
}

/// Says why ends and times of requests are not known.
fn ambiguity(models: &[&str]) -> String {
    let mut named = models
        .iter()
        .take(NAMED_LIMIT)
        .copied()
        .collect::<Vec<&str>>()
        .join(", ");
    if models.len() > NAMED_LIMIT {
        named.push_str(&format!(" and {} more", models.len() - NAMED_LIMIT));
    }
    format!(
        "which of the models ({named}) is a step of another one cannot be told, so ends and times of requests are not known: Triton 24.11 and \
         newer tell it (nv_model_load_duration_secs)"
    )
}

fn is_named_ensemble(name: &str) -> bool {
    name.to_ascii_lowercase().contains("ensemble")
}

/// True for ensembles, and for their steps before and after a model, as they are named in the backends' examples.
fn is_around_a_model(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["ensemble", "preprocess", "postprocess", "_bls", "tokenizer"]
        .iter()
        .any(|part| name.contains(part))
}
