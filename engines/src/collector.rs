//! Gathers what the mapped series of one body say while it is parsed.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};

use crate::exposition::{Label, Labels, Sample};
use crate::histogram;
use crate::plan::{Field, Part, Term};
use crate::sample::Engine;
use crate::{llamacpp, plan, vllm};

/// Names of models that one reading may carry.
const MODEL_LIMIT: usize = 64;
/// Bytes that one of them may have.
const MODEL_NAME_BYTES: usize = 512;

/// An engine's way of reading its series.
#[derive(Debug)]
pub(crate) enum Mapper {
    Vllm(vllm::Mapper),
    LlamaCpp(llamacpp::Mapper),
}

impl Mapper {
    pub(crate) fn new(engine: Engine) -> Self {
        match engine {
            Engine::Vllm => Self::Vllm(vllm::Mapper::default()),
            Engine::LlamaCpp => Self::LlamaCpp(llamacpp::Mapper::default()),
        }
    }

    /// Takes a declared family into account.
    pub(crate) fn family(&mut self, name: &[u8]) {
        match self {
            Self::Vllm(mapper) => mapper.family(name),
            Self::LlamaCpp(mapper) => mapper.family(name),
        }
    }

    /// Takes a sample into account. True when the reading depends on its value, which then is the value number `value`.
    pub(crate) fn sample(&mut self, sample: &Sample<'_>, value: u32) -> bool {
        match self {
            Self::Vllm(mapper) => mapper.sample(sample, value),
            Self::LlamaCpp(mapper) => mapper.sample(sample, value),
        }
    }

    /// True when the body holds or declares a series of the engine.
    pub(crate) fn recognised(&self) -> bool {
        match self {
            Self::Vllm(mapper) => mapper.recognised(),
            Self::LlamaCpp(mapper) => mapper.recognised(),
        }
    }

    pub(crate) fn finish(self) -> plan::Plan {
        match self {
            Self::Vllm(mapper) => mapper.finish(),
            Self::LlamaCpp(mapper) => mapper.finish(),
        }
    }
}

/// The terms found so far, and the models they name.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(crate) terms: Vec<Term>,
    pub(crate) models: Vec<String>,
}

/// What the labels of one mapped series say, whatever the engine.
#[derive(Debug)]
pub(crate) struct LabelFacts<'a> {
    /// A hash of the labels without `pid` and `le`.
    pub(crate) group: u64,
    /// The bound of a histogram bucket.
    pub(crate) bound: Option<f64>,
    /// `finished_reason`, or `finish_reason` as the llm-d simulator writes it.
    pub(crate) finished_reason: Option<Cow<'a, str>>,
    /// `sleep_state`.
    pub(crate) sleep_state: Option<Cow<'a, str>>,
    /// There is an `engine` label.
    pub(crate) has_engine: bool,
    /// There is a `version` label, as Triton's backends have.
    pub(crate) has_version: bool,
}

impl Collector {
    pub(crate) fn labels<'a>(&mut self, labels: Labels<'a>) -> LabelFacts<'a> {
        let mut hasher = DefaultHasher::new();
        let mut facts = LabelFacts {
            group: 0,
            bound: None,
            finished_reason: None,
            sleep_state: None,
            has_engine: false,
            has_version: false,
        };
        for label in labels {
            match label.name {
                b"pid" => continue,
                b"le" => {
                    facts.bound = histogram::bound(label.raw_value);
                    continue;
                }
                b"engine" => facts.has_engine = true,
                b"version" => facts.has_version = true,
                b"finished_reason" | b"finish_reason" => facts.finished_reason = Some(label.value()),
                b"sleep_state" => facts.sleep_state = Some(label.value()),
                b"model_name" => self.model(&label.value()),
                _ => {}
            }
            hash_label(&mut hasher, label);
        }
        facts.group = hasher.finish();
        facts
    }

    fn model(&mut self, name: &str) {
        let usable = !name.is_empty() && name.len() <= MODEL_NAME_BYTES && self.models.len() < MODEL_LIMIT;
        if usable && !self.models.iter().any(|model| model == name) {
            self.models.push(name.to_owned());
        }
    }

    pub(crate) fn push(&mut self, field: Field, rank: u8, part: Part, group: u64, value: u32) {
        self.terms.push(Term {
            field,
            rank,
            part,
            group,
            value,
        });
    }
}

/// A hash that tells the series of one name apart, but not the copies of one series in several processes.
pub(crate) fn series_hash(labels: Labels<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels
        .into_iter()
        .filter(|label| label.name != b"pid")
        .for_each(|label| hash_label(&mut hasher, label));
    hasher.finish()
}

fn hash_label(hasher: &mut DefaultHasher, label: Label<'_>) {
    hasher.write(label.name);
    hasher.write_u8(b'=');
    hasher.write(label.raw_value.as_bytes());
    hasher.write_u8(b'"');
}
