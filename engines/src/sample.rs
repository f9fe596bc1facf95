//! The one model of an inference server's state, whatever the engine.
//!
//! A field that an engine does not publish is `None`, never 0: nobody downstream may take a missing series for an idle server.
//! The JSON form (CLI, JSON API, tests) leaves absent fields out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nim::BEHIND;

/// Inference engines this crate can tell apart by the content of their metric bodies.
///
/// The JSON names are those of `spec.engine` of an `InferenceMonitor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Engine {
    /// vLLM, V0 and V1.
    #[serde(rename = "VLLM")]
    Vllm,
    /// llama.cpp `llama-server`.
    LlamaCpp,
    /// SGLang.
    #[serde(rename = "SGLang")]
    Sglang,
    /// Triton Inference Server, with any backend.
    Triton,
    /// TensorRT-LLM `trtllm-serve`.
    #[serde(rename = "TensorRTLLM")]
    TensorRtLlm,
    /// Hugging Face Text Generation Inference.
    #[serde(rename = "TGI")]
    Tgi,
    /// LMDeploy.
    #[serde(rename = "LMDeploy")]
    LmDeploy,
    /// NVIDIA NIM for LLMs.
    #[serde(rename = "NIM")]
    Nim,
    /// Ollama; presence only.
    Ollama,
    /// Any other server, whose series the user maps.
    Custom,
}

impl Engine {
    /// All engines, in the order of `spec.engine`.
    pub const ALL: [Self; 10] = [
        Self::Vllm,
        Self::LlamaCpp,
        Self::Sglang,
        Self::Triton,
        Self::TensorRtLlm,
        Self::Tgi,
        Self::LmDeploy,
        Self::Nim,
        Self::Ollama,
        Self::Custom,
    ];

    /// The name as written in `spec.engine` and `status.engine`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "VLLM",
            Self::LlamaCpp => "LlamaCpp",
            Self::Sglang => "SGLang",
            Self::Triton => "Triton",
            Self::TensorRtLlm => "TensorRTLLM",
            Self::Tgi => "TGI",
            Self::LmDeploy => "LMDeploy",
            Self::Nim => "NIM",
            Self::Ollama => "Ollama",
            Self::Custom => "Custom",
        }
    }

    /// The engine of a `spec.engine` name; `None` for `Auto` and for names that are not known.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == name)
    }

    /// Where the metrics are, unless the user says otherwise.
    #[must_use]
    pub const fn metrics_path(self) -> &'static str {
        match self {
            Self::TensorRtLlm => "/prometheus/metrics",
            Self::Nim => "/v1/metrics",
            Self::Ollama => "/api/ps",
            Self::Vllm | Self::LlamaCpp | Self::Sglang | Self::Triton | Self::Tgi | Self::LmDeploy | Self::Custom => {
                "/metrics"
            }
        }
    }

    /// True where tokens are counted when a request ends, so that their counters stand still while requests run. Of a server of the
    /// user's own nobody knows: its counters are taken at their word. Ask [`EngineSample::engine_behind`]: NIM 2.x counts as what it runs.
    #[must_use]
    pub const fn counts_tokens_at_the_end(self) -> bool {
        match self {
            Self::LlamaCpp | Self::Sglang | Self::TensorRtLlm | Self::Tgi => true,
            Self::Vllm | Self::Triton | Self::LmDeploy | Self::Nim | Self::Ollama | Self::Custom => false,
        }
    }

    /// What tells whether the server works at all when its metrics do not answer, asked on the same port. `None` where asking costs the server a
    /// generation (SGLang, TGI), is answered on another port (Triton), or nobody knows where (Custom).
    #[must_use]
    pub const fn health_path(self) -> Option<&'static str> {
        match self {
            Self::Vllm | Self::LlamaCpp | Self::TensorRtLlm | Self::LmDeploy => Some("/health"),
            Self::Nim => Some("/v1/health/live"),
            Self::Ollama => Some("/api/version"),
            Self::Sglang | Self::Triton | Self::Tgi | Self::Custom => None,
        }
    }
}

/// What one inference server said of itself in one scrape.
///
/// Counters are the values summed over the series that make them up; `waiting` and `running` are after folding over data-parallel
/// ranks and process copies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EngineSample {
    /// The engine recognised in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Metric generation of the engine, free text, for example `v1-0.12+`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub generation: String,
    /// Names of the models served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Requests that wait for a place in the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<f64>,
    /// Requests that run now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<f64>,
    /// Requests that can run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<f64>,
    /// KV cache in use, 0-1; the fullest data-parallel rank, since the fullest one evicts first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache_usage: Option<f64>,
    /// Tokens that the KV cache holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache_capacity_tokens: Option<f64>,
    /// Host or offload cache in use, 0-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_cache_usage: Option<f64>,
    /// Prompt tokens since the server started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_total: Option<f64>,
    /// Generated tokens since the server started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated_tokens_total: Option<f64>,
    /// Requests evicted from the running batch to free KV cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preemptions_total: Option<f64>,
    /// Prompt tokens found in the prefix cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_cache_hit_tokens_total: Option<f64>,
    /// Prompt tokens looked up in the prefix cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_cache_query_tokens_total: Option<f64>,
    /// Prefix cache hit ratio, 0-1, only where the engine gives a ratio itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_cache_hit_ratio: Option<f64>,
    /// Requests that ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_succeeded_total: Option<f64>,
    /// Requests that failed or were aborted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_failed_total: Option<f64>,
    /// Requests that ended since the server started, by reason, in the engine's own words; empty where it does not tell. At most
    /// [`REASON_LIMIT`](crate::REASON_LIMIT) reasons, all others as [`OTHER_REASONS`](crate::OTHER_REASONS).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub request_outcomes: BTreeMap<String, f64>,
    /// LoRA adapters that run or wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lora_adapters: Vec<String>,
    /// The server released its memory until the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeping: Option<bool>,
    /// Share of the memory of the loaded models that is on GPUs, 0-1, where the engine tells (Ollama). 0: it computes on the CPU. Not part of the
    /// JSON form, whose fields are what a service does and holds.
    #[serde(skip)]
    pub model_gpu_share: Option<f64>,
    /// Latency distributions.
    #[serde(skip_serializing_if = "Latency::is_empty")]
    pub latency: Latency,
}

impl EngineSample {
    /// The engine whose series these are: of NIM 2.x the one behind it, which its generation names.
    #[must_use]
    pub fn engine_behind(&self) -> Option<Engine> {
        let behind = |(_, start): &(Engine, &str)| self.generation.starts_with(start);
        match self.engine? {
            Engine::Nim => Some(
                BEHIND
                    .into_iter()
                    .find(behind)
                    .map_or(Engine::Nim, |(engine, _)| engine),
            ),
            engine => Some(engine),
        }
    }
}

/// Latency distributions of a server, cumulative since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Latency {
    /// Time to first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<Histogram>,
    /// Time between two tokens of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inter_token: Option<Histogram>,
    /// Mean time per output token of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_output_token: Option<Histogram>,
    /// Arrival to last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end: Option<Histogram>,
    /// Time a request waited before it ran first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_time: Option<Histogram>,
}

impl Latency {
    /// True when no distribution is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A cumulative histogram in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// Observations.
    pub count: f64,
    /// Sum of the observations, seconds.
    pub sum_seconds: f64,
    /// `(upper bound in seconds, cumulative count)`, rising; the last bound is `None` for +Inf.
    pub buckets: Vec<(Option<f64>, f64)>,
}
