//! Why a server does not tell a field, and what would make it: the words that `infmon inspect` has beside what is absent.
//!
//! Sources: the metrics code and the options of each server, as in `docs/engines.md`; the versions are those in which the series came.

use crate::field::Field;
use crate::sample::{Engine, EngineSample};

/// Why a field may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// No version of the server publishes it.
    Never,
    /// The server publishes it with this flag, setting or version, or once this has happened.
    Given(&'static str),
}

/// Why `sample` has no value for the field that [`EngineSample`] names `name` in its JSON form (`kvCacheUsage`, `latency.queueTime`); `None`
/// where the server publishes it in all versions, as far as is known, and where the engine is not known.
#[must_use]
pub fn why_absent(sample: &EngineSample, name: &str) -> Option<Absence> {
    let engine = sample.engine_behind()?;
    let (never, given) = match engine {
        Engine::Vllm if sample.generation.ends_with("triton-backend") => (TRITON_NEVER, TRITON_VLLM),
        Engine::Vllm => (VLLM_NEVER, VLLM),
        Engine::LlamaCpp => (LLAMA_CPP_NEVER, LLAMA_CPP),
        Engine::Sglang => (SGLANG_NEVER, SGLANG),
        Engine::Triton => (TRITON_NEVER, TRITON),
        Engine::TensorRtLlm if sample.generation == "iteration-json" => (ITERATIONS_NEVER, ITERATIONS),
        Engine::TensorRtLlm => (TENSOR_RT_LLM_NEVER, TENSOR_RT_LLM),
        Engine::Tgi => (TGI_NEVER, TGI),
        Engine::LmDeploy => (LMDEPLOY_NEVER, LMDEPLOY),
        Engine::Nim => (NIM_NEVER, NONE),
        Engine::Ollama => return (name != "models").then_some(Absence::Never),
        Engine::Custom => {
            let mappable = Field::MAPPABLE.into_iter().any(|field| field.name() == name);
            return Some(if mappable {
                Absence::Given("map a series to it in spec.custom.fields")
            } else {
                Absence::Never
            });
        }
    };
    let words = given
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map(|&(_, words)| Absence::Given(words));
    words.or_else(|| never.contains(&name).then_some(Absence::Never))
}

type Words = &'static [(&'static [&'static str], &'static str)];

const NONE: Words = &[];
const FIRST_TOKEN: &str = "latency.timeToFirstToken";
const INTER_TOKEN: &str = "latency.interToken";
const PER_OUTPUT_TOKEN: &str = "latency.perOutputToken";
const END_TO_END: &str = "latency.endToEnd";
const QUEUE_TIME: &str = "latency.queueTime";
const PREFIX_TOKENS: &[&str] = &["prefixCacheHitTokensTotal", "prefixCacheQueryTokensTotal"];
const PREFIX_TOKENS_AND_RATIO: &[&str] = &[
    "prefixCacheHitTokensTotal",
    "prefixCacheQueryTokensTotal",
    "prefixCacheHitRatio",
];
const AFTER_A_REQUEST: &str = "counted from the first request on";

const VLLM_NEVER: &[&str] = &["maxConcurrency"];
const VLLM: Words = &[
    (
        &["hostCacheUsage"],
        "vLLM 0.26+ with a KV connector that offloads to the host: --kv-transfer-config",
    ),
    (PREFIX_TOKENS, "vLLM 0.9+, without --no-enable-prefix-caching"),
    (
        &["prefixCacheHitRatio"],
        "vLLM V0 only; later versions count tokens instead",
    ),
    (&["loraAdapters"], "--enable-lora"),
    (&["sleeping"], "vLLM 0.12+"),
    (&[PER_OUTPUT_TOKEN], "vLLM 0.11+"),
    (&["requestsFailedTotal"], AFTER_A_REQUEST),
];
/// Of Triton's vLLM backend.
const TRITON_VLLM: Words = &[(
    &["latency.queueTime"],
    "nv_inference_queue_duration_us of the same model: leave engine out, or name Triton",
)];

const LLAMA_CPP_NEVER: &[&str] = &[
    "kvCacheCapacityTokens",
    "hostCacheUsage",
    "preemptionsTotal",
    "prefixCacheHitRatio",
    "requestsSucceededTotal",
    "requestsFailedTotal",
    "requestOutcomes",
    "loraAdapters",
    FIRST_TOKEN,
    INTER_TOKEN,
    END_TO_END,
    QUEUE_TIME,
];
const LLAMA_CPP: Words = &[
    (
        &["maxConcurrency", "kvCacheUsage"],
        "told by /slots: start llama-server with --slots, and give --slots FILE here or inspect its address",
    ),
    (PREFIX_TOKENS, "llama.cpp b10519+"),
    (
        &["sleeping"],
        "told by /props of b7492+: give --props FILE here, or inspect the server's address",
    ),
    (&[PER_OUTPUT_TOKEN], AFTER_A_REQUEST),
];

const SGLANG_NEVER: &[&str] = &["prefixCacheHitRatio", "loraAdapters", "sleeping"];
const SGLANG: Words = &[
    (
        &["maxConcurrency"],
        "told by /v1/loads: give --loads FILE here, or inspect the server's address",
    ),
    (&["kvCacheCapacityTokens"], "SGLang 0.5.6+, or /v1/loads"),
    (&["hostCacheUsage"], "SGLang 0.5.23+ with --enable-hierarchical-cache"),
    (&["preemptionsTotal"], "SGLang 0.5.2+"),
    (PREFIX_TOKENS, "SGLang 0.4.6+"),
    (&[QUEUE_TIME], "SGLang 0.5.2+"),
    (&[PER_OUTPUT_TOKEN], "SGLang 0.5.23+"),
    (
        &[
            "promptTokensTotal",
            "generatedTokensTotal",
            "requestsSucceededTotal",
            "requestsFailedTotal",
            "requestOutcomes",
            FIRST_TOKEN,
            INTER_TOKEN,
            END_TO_END,
        ],
        AFTER_A_REQUEST,
    ),
];

const TRITON_NEVER: &[&str] = &[
    "hostCacheUsage",
    "preemptionsTotal",
    "prefixCacheHitTokensTotal",
    "prefixCacheQueryTokensTotal",
    "prefixCacheHitRatio",
    "loraAdapters",
    "sleeping",
    PER_OUTPUT_TOKEN,
];
const TRITON_LLM: &str = "a backend that tells it: TensorRT-LLM with batch statistics, or vLLM with REPORT_CUSTOM_METRICS=\"true\" in config.pbtxt";
const TRITON: Words = &[
    (
        &["running", "maxConcurrency", "kvCacheUsage", "kvCacheCapacityTokens"],
        "the TensorRT-LLM backend",
    ),
    (&["promptTokensTotal", "generatedTokensTotal", INTER_TOKEN], TRITON_LLM),
    (
        &[FIRST_TOKEN],
        "--metrics-config histogram_latencies=true, and a decoupled model",
    ),
    (&[END_TO_END, QUEUE_TIME], AFTER_A_REQUEST),
];

const TENSOR_RT_LLM_NEVER: &[&str] = &["preemptionsTotal", "loraAdapters", "sleeping", INTER_TOKEN];
const TENSOR_RT_LLM: Words = &[
    (
        &[
            "waiting",
            "running",
            "maxConcurrency",
            "kvCacheUsage",
            "kvCacheCapacityTokens",
            "hostCacheUsage",
            "prefixCacheHitTokensTotal",
            "prefixCacheQueryTokensTotal",
            "prefixCacheHitRatio",
        ],
        "enable_iter_perf_stats: true",
    ),
    (
        &[
            "promptTokensTotal",
            "generatedTokensTotal",
            "requestsSucceededTotal",
            "requestsFailedTotal",
            "requestOutcomes",
            FIRST_TOKEN,
            PER_OUTPUT_TOKEN,
            END_TO_END,
            QUEUE_TIME,
        ],
        "return_perf_metrics: true; counted from the first request on",
    ),
];
const ITERATIONS_NEVER: &[&str] = &["preemptionsTotal", "loraAdapters", "sleeping"];
const ITERATIONS: Words = &[(
    &[
        "hostCacheUsage",
        "promptTokensTotal",
        "generatedTokensTotal",
        "prefixCacheHitTokensTotal",
        "prefixCacheQueryTokensTotal",
        "requestsSucceededTotal",
        "requestsFailedTotal",
        "requestOutcomes",
        FIRST_TOKEN,
        PER_OUTPUT_TOKEN,
        END_TO_END,
        QUEUE_TIME,
    ],
    "not in the JSON list: read /prometheus/metrics, with return_perf_metrics: true",
)];

const TGI_NEVER: &[&str] = &[
    "kvCacheUsage",
    "kvCacheCapacityTokens",
    "hostCacheUsage",
    "preemptionsTotal",
    "prefixCacheHitTokensTotal",
    "prefixCacheQueryTokensTotal",
    "prefixCacheHitRatio",
    "loraAdapters",
    "sleeping",
    FIRST_TOKEN,
    INTER_TOKEN,
];

const TGI: Words = &[
    (&["maxConcurrency"], "told by /info: inspect the server's address"),
    (&["waiting", "running"], AFTER_A_REQUEST),
];

const LMDEPLOY_NEVER: &[&str] = &[
    "kvCacheCapacityTokens",
    "hostCacheUsage",
    "preemptionsTotal",
    "loraAdapters",
    "sleeping",
];
const LMDEPLOY: Words = &[
    (PREFIX_TOKENS_AND_RATIO, "--enable-prefix-caching"),
    (
        &[FIRST_TOKEN, INTER_TOKEN, PER_OUTPUT_TOKEN, END_TO_END, QUEUE_TIME],
        AFTER_A_REQUEST,
    ),
];

const NIM_NEVER: &[&str] = &[
    "kvCacheCapacityTokens",
    "hostCacheUsage",
    "preemptionsTotal",
    "prefixCacheHitTokensTotal",
    "prefixCacheQueryTokensTotal",
    "prefixCacheHitRatio",
    "loraAdapters",
    "sleeping",
    PER_OUTPUT_TOKEN,
    QUEUE_TIME,
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The names that may stand in the tables.
    fn names() -> Vec<&'static str> {
        let fields = Field::MAPPABLE.into_iter().map(Field::name);
        fields
            .chain(["models", "requestOutcomes", "loraAdapters", "sleeping"])
            .collect()
    }

    #[test]
    fn each_table_names_fields_that_there_are_and_each_once() {
        for (never, given) in [
            (VLLM_NEVER, VLLM),
            (TRITON_NEVER, TRITON_VLLM),
            (LLAMA_CPP_NEVER, LLAMA_CPP),
            (SGLANG_NEVER, SGLANG),
            (TRITON_NEVER, TRITON),
            (TENSOR_RT_LLM_NEVER, TENSOR_RT_LLM),
            (ITERATIONS_NEVER, ITERATIONS),
            (TGI_NEVER, TGI),
            (LMDEPLOY_NEVER, LMDEPLOY),
            (NIM_NEVER, NONE),
        ] {
            let all: Vec<&str> = given
                .iter()
                .flat_map(|(names, _)| *names)
                .chain(never)
                .copied()
                .collect();
            for (at, name) in all.iter().enumerate() {
                assert!(names().contains(name), "{name}");
                assert!(
                    !all.iter().skip(at + 1).any(|other| other == name),
                    "{name} is told twice"
                );
            }
        }
    }

    /// What the recorded bodies publish cannot be called never published.
    #[test]
    fn no_recorded_body_has_what_its_engine_is_said_never_to_publish() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bodies");
        let mut read = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(body) = std::fs::read(&path) else { continue };
            let Ok(reading) = crate::BodyReader::new(None).read(&body) else {
                continue;
            };
            let sample = reading.sample;
            let Ok(Value::Object(mut told)) = serde_json::to_value(&sample) else {
                panic!("a sample is an object");
            };
            if let Some(Value::Object(latency)) = told.remove("latency") {
                told.extend(
                    latency
                        .into_iter()
                        .map(|(name, value)| (format!("latency.{name}"), value)),
                );
            }
            for name in told
                .keys()
                .filter(|name| !["engine", "generation"].contains(&name.as_str()))
            {
                assert_ne!(
                    why_absent(&sample, name),
                    Some(Absence::Never),
                    "{name} of {}",
                    path.display()
                );
            }
            read += 1;
        }
        assert!(read > 15, "only {read} bodies were read");
    }

    #[test]
    fn words_are_those_of_the_engine_behind() {
        let of = |engine, generation: &str| EngineSample {
            engine: Some(engine),
            generation: generation.into(),
            ..EngineSample::default()
        };
        let flag = Some(Absence::Given("--enable-lora"));
        assert_eq!(why_absent(&of(Engine::Vllm, "v1-0.12+"), "loraAdapters"), flag);
        assert_eq!(why_absent(&of(Engine::Nim, "2.x-vllm-v1-0.12+"), "loraAdapters"), flag);
        assert_eq!(
            why_absent(&of(Engine::Nim, "1.x"), "loraAdapters"),
            Some(Absence::Never)
        );
        assert_eq!(why_absent(&of(Engine::Vllm, "v1-0.12+"), "waiting"), None);
        assert_eq!(why_absent(&EngineSample::default(), "waiting"), None);
        let custom = of(Engine::Custom, "");
        assert_eq!(
            why_absent(&custom, "latency.queueTime"),
            Some(Absence::Given("map a series to it in spec.custom.fields"))
        );
        assert_eq!(why_absent(&custom, "loraAdapters"), Some(Absence::Never));
    }
}
