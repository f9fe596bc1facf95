//! Triton Inference Server: plain, with the TensorRT-LLM backend, with the vLLM backend.
//!
//! Names were checked against core `src/metrics.cc` and `metric_model_reporter.cc` (73aad7c3), tensorrtllm_backend (0b9d7d5a) and
//! vllm_backend `src/utils/metrics.py` (8de0c148).
//!
//! One request shows in an ensemble and in each of its steps, failures double. So one model speaks for the server: the one that a backend names,
//! else `tensorrt_llm`, else those that are no ensemble, and no step before and after a model.
//!
//! What is left out, and why:
//!
//! * `nv_inference_exec_count` is a counter of executions, not a number of running requests: plain Triton does not tell these.
//! * `{kv_cache_block_type="reused"}` counts blocks, not tokens. `nv_cache_*` is a cache of whole responses.
//! * Summaries have quantiles that cannot be added.
//! * `nv_inference_*` move when a request is complete (issue 5927); with in-flight batching before 23.12 they stay 0 (issue 49), and the
//!   pending count misleads (issue 6494): the backend's own gauges come first.

use crate::dialect::{Dialect, Mapper as Table, Series, Traits, after_prefix, histogram, one, part};
use crate::exposition::Sample;
use crate::field::{Field, Part};
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
            "Triton itself tells pending requests only (nv_inference_pending_request_count, since 23.09): the TensorRT-LLM backend adds \
             queue and cache, the vLLM backend adds latencies and tokens with REPORT_CUSTOM_METRICS=\"true\" in the model's config.pbtxt; \
             vLLM's own server has all of them"
        } else {
            "there are no nv_inference_ series: Triton serves them on port 8002 at /metrics, unless --allow-metrics=false"
        }
    },
    only_with: &[],
};

/// What to do when a required series is missing, where the vLLM backend publishes its own already.
const OF_VLLM_BACKEND: &str = "Triton's vLLM backend publishes latencies and tokens and no number of running requests, nor its cache; pending \
     requests are those of Triton itself (nv_inference_pending_request_count, since 23.09): vLLM's own server has all of them";

fn is_trt_llm(traits: Traits) -> bool {
    traits.has(0) || traits.has(1)
}

const OF_PLAIN: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "nv_inference_pending_request_count",
    },
    Required {
        field: Field::Running,
        name: "nv_trt_llm_request_metrics{request_type=\"scheduled\"}",
    },
];

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
}

#[derive(Debug)]
struct Model {
    name: String,
    /// A backend names it.
    trt_llm: bool,
    vllm: bool,
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
        }
    }
}

/// Models that one server may have for their numbers to be told apart.
const MODEL_LIMIT: usize = 1024;

impl Mapper {
    pub(crate) const fn recognised(&self) -> bool {
        self.own
    }

    pub(crate) fn family(&mut self, name: &[u8]) {
        self.vllm |= after_prefix(name, "vllm").is_some();
        self.own |= is_own(name);
        self.table.family(name);
    }

    pub(crate) fn sample(&mut self, sample: &Sample<'_>, value: u32) -> bool {
        let of_vllm = after_prefix(sample.name, "vllm").is_some();
        self.vllm |= of_vllm;
        self.own |= is_own(sample.name) || (of_vllm && sample.labels.get("version").is_some());
        if !self.table.sample(sample, value) {
            return false;
        }
        let owner = self.model(sample, of_vllm);
        self.owners.resize(self.table.collected.terms.len(), owner);
        self.outcome_owners.resize(self.table.outcomes.terms.len(), owner);
        true
    }

    /// The number of the model that a sample speaks of.
    fn model(&mut self, sample: &Sample<'_>, of_vllm: bool) -> usize {
        let name = sample.labels.get("model").unwrap_or_default();
        let number = self.models.iter().position(|model| model.name == name);
        let number = number.unwrap_or_else(|| {
            if self.models.len() < MODEL_LIMIT {
                self.models.push(Model {
                    name: name.into_owned(),
                    trt_llm: false,
                    vllm: false,
                });
            }
            self.models.len() - 1
        });
        if let Some(model) = self.models.get_mut(number) {
            model.vllm |= of_vllm;
            model.trt_llm |= sample.name.starts_with(b"nv_trt_llm_");
        }
        number
    }

    pub(crate) fn finish(mut self) -> Plan {
        let speaks: Vec<bool> = self.speakers();
        let mut owners = self.owners.iter();
        let mut outcome_owners = self.outcome_owners.iter();
        let is_of_speaker = |owner: Option<&usize>| owner.is_none_or(|&owner| speaks.get(owner) == Some(&true));
        self.table.collected.terms.retain(|_| is_of_speaker(owners.next()));
        self.table
            .outcomes
            .terms
            .retain(|_| is_of_speaker(outcome_owners.next()));
        for (model, _) in self.models.iter().zip(&speaks).filter(|(_, speaks)| **speaks) {
            self.table.collected.model(&model.name);
        }
        // With both backends the gauges are those of TensorRT-LLM's.
        let alone = self.vllm && !self.models.iter().any(|model| model.trt_llm);
        let plan = self.table.finish();
        match (self.vllm, alone) {
            (false, _) => plan,
            (true, false) => plan.of("vllm-backend"),
            (true, true) => plan.of("vllm-backend").hinting(OF_VLLM_BACKEND),
        }
    }

    /// The models that speak for the server.
    fn speakers(&self) -> Vec<bool> {
        let rules: [fn(&Model) -> bool; 4] = [
            |model| model.trt_llm,
            |model| model.vllm,
            |model| model.name == "tensorrt_llm",
            |model| !is_around_a_model(&model.name),
        ];
        let rule = rules.into_iter().find(|rule| self.models.iter().any(rule));
        self.models
            .iter()
            .map(|model| rule.is_none_or(|rule| rule(model)))
            .collect()
    }
}

/// True for ensembles, and for their steps before and after a model, as they are named in the backends' examples.
fn is_around_a_model(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["ensemble", "preprocess", "postprocess", "_bls", "tokenizer"]
        .iter()
        .any(|part| name.contains(part))
}
