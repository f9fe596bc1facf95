//! Ollama: presence only.
//!
//! Checked against 0.33.0-rc2 (fb307609): there is no Prometheus endpoint, and the runners beneath are llama-servers on random ports
//! of 127.0.0.1 without `--metrics`. `GET /api/ps` lists the models in memory; queue, running requests, cache, tokens and latencies are
//! told nowhere.

use serde::Deserialize;

use crate::dialect::Dialect;
use crate::field::Field;
use crate::plan::Required;
use crate::reader::Reading;
use crate::sample::{Engine, EngineSample};

const HINT: &str = "Ollama tells which models are loaded, and how much of them is on GPUs, and nothing else: no queue, no running requests, no cache, no latencies; \
                    serve the model with llama-server --metrics or vLLM to have them";

/// No series: a body of text is never Ollama's own.
pub(crate) static DIALECT: Dialect = Dialect {
    engine: Engine::Ollama,
    key: |_| None,
    series: &[],
    outcomes: &[],
    label_numbers: &[],
    marks: &[],
    generation: |_| "",
    required: |_| REQUIRED,
    hint: |_| HINT,
    only_with: &[],
};

const REQUIRED: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "number of waiting requests",
    },
    Required {
        field: Field::Running,
        name: "number of running requests",
    },
];

/// Models that one answer may name.
const MODEL_LIMIT: usize = 64;
/// Bytes that the name of one may have.
const MODEL_NAME_BYTES: usize = 512;

/// `GET /api/ps`.
#[derive(Deserialize)]
struct Processes {
    models: Vec<Process>,
}

#[derive(Deserialize)]
struct Process {
    name: String,
    /// Bytes that the model takes in all.
    #[serde(default)]
    size: f64,
    /// Those of them on GPUs: 0 where Ollama fell back to the CPU (`api/types.go`, `ProcessModelResponse`). No other list of models has it.
    size_vram: f64,
}

/// Share of the memory of the models that is on GPUs; `None` without models, and where the numbers say nothing.
fn gpu_share(models: &[Process]) -> Option<f64> {
    let sum = |of: fn(&Process) -> f64| models.iter().map(of).sum::<f64>();
    let (all, on_gpus) = (sum(|model| model.size), sum(|model| model.size_vram));
    let share = on_gpus / all;
    (all > 0.0 && (0.0..=1.0).contains(&share)).then_some(share)
}

/// Reads `/api/ps`. An answer without models says nothing of who gives it: it counts only where the user named Ollama.
pub(crate) fn read(body: &[u8], forced: Option<Engine>) -> Option<Reading> {
    let processes: Processes = serde_json::from_slice(body).ok()?;
    if processes.models.is_empty() && forced != Some(Engine::Ollama) {
        return None;
    }
    let model_gpu_share = gpu_share(&processes.models);
    let models = processes
        .models
        .into_iter()
        .map(|process| process.name)
        .filter(|name| !name.is_empty() && name.len() <= MODEL_NAME_BYTES)
        .take(MODEL_LIMIT)
        .collect();
    Some(Reading {
        sample: EngineSample {
            engine: Some(Engine::Ollama),
            generation: "presence-only".to_owned(),
            models,
            model_gpu_share,
            ..EngineSample::default()
        },
        // It tells all that it can.
        missing: Vec::new(),
        hint: HINT.to_owned(),
    })
}
