//! Gathers what the labels of the mapped series of one body say while it is parsed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::exposition::Labels;
use crate::field::{Field, Part};
use crate::histogram;
use crate::label_hash::LabelHash;
use crate::plan::Term;

/// Names of models that one reading may carry.
const MODEL_LIMIT: usize = 64;
/// Bytes that one of them may have.
const MODEL_NAME_BYTES: usize = 512;

/// The terms found so far, and the models they name.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(crate) terms: Vec<Term>,
    pub(crate) models: Vec<String>,
    /// The groups by the hash of their labels, in the order of the body.
    groups: BTreeMap<u64, u64>,
    /// The last lists of labels, by their number.
    known: [Option<KnownList>; KNOWN_LISTS],
}

/// What is below it tells apart series with the same labels.
const GROUP_STEP: u64 = 1 << 8;

/// Lists that are remembered: those of eight ranks of one server, with and without a bound, and some more.
const KNOWN_LISTS: usize = 32;

/// What a list of labels said, for those after it that differ in their bound only: most series of a body.
#[derive(Clone, Copy, Debug)]
struct KnownList {
    number: u32,
    group: u64,
    copy: u32,
    has_engine: bool,
    has_version: bool,
}

/// What the labels of one mapped series say, whatever the engine.
#[derive(Debug)]
pub(crate) struct LabelFacts<'a> {
    /// Equal where the labels are, without `pid`, `le` and ranks of one queue. Rises in the order of the body, in steps of [`GROUP_STEP`].
    pub(crate) group: u64,
    /// Which of the tensor-, pipeline- and expert-parallel ranks of one queue it is; 0 for the first.
    pub(crate) copy: u32,
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
        let place = labels.list_number() as usize % KNOWN_LISTS;
        let known = self.known.get(place).copied().flatten();
        if let Some(known) = known.filter(|known| known.number == labels.list_number()) {
            return LabelFacts {
                group: known.group,
                copy: known.copy,
                bound: labels.bound().and_then(histogram::bound),
                finished_reason: None,
                sleep_state: None,
                has_engine: known.has_engine,
                has_version: known.has_version,
            };
        }
        let facts = self.labels_without(labels, None);
        let text_free = facts.finished_reason.is_none() && facts.sleep_state.is_none();
        if let (Some(place), true) = (self.known.get_mut(place), text_free) {
            *place = Some(KnownList {
                number: labels.list_number(),
                group: facts.group,
                copy: facts.copy,
                has_engine: facts.has_engine,
                has_version: facts.has_version,
            });
        }
        facts
    }

    /// The same, with one more label that does not tell groups apart: the one that names the parts of a pair.
    pub(crate) fn labels_without<'a>(&mut self, labels: Labels<'a>, part: Option<&str>) -> LabelFacts<'a> {
        let mut hash = LabelHash::new();
        let mut facts = LabelFacts {
            group: 0,
            copy: 0,
            bound: None,
            finished_reason: None,
            sleep_state: None,
            has_engine: false,
            has_version: false,
        };
        for label in labels {
            match label.name {
                b"pid" => continue,
                name if part.is_some_and(|part| part.as_bytes() == name) => continue,
                b"le" => {
                    facts.bound = histogram::bound(label.raw_value);
                    continue;
                }
                // SGLang: each rank may export the queue that they share.
                b"tp_rank" | b"moe_ep_rank" => {
                    facts.copy += rank(label.raw_value);
                    continue;
                }
                b"pp_rank" => {
                    facts.copy += rank(label.raw_value) << 16;
                    continue;
                }
                b"engine" => facts.has_engine = true,
                b"version" => facts.has_version = true,
                b"finished_reason" | b"finish_reason" => facts.finished_reason = Some(label.value()),
                b"sleep_state" => facts.sleep_state = Some(label.value()),
                b"model_name" if !self.has_model(label.raw_value) => self.model(&label.value()),
                _ => {}
            }
            hash.label(label);
        }
        let next = self.groups.len() as u64 * GROUP_STEP;
        facts.group = *self.groups.entry(hash.finish()).or_insert(next);
        facts
    }

    /// True when a name without escapes is known: each list of labels has the same one.
    fn has_model(&self, raw_name: &[u8]) -> bool {
        self.models.iter().any(|model| model.as_bytes() == raw_name) && !raw_name.contains(&b'\\')
    }

    pub(crate) fn model(&mut self, name: &str) {
        // trtllm-serve writes `undefined` where it does not know the name.
        let usable = !name.is_empty()
            && name != "undefined"
            && name.len() <= MODEL_NAME_BYTES
            && self.models.len() < MODEL_LIMIT;
        if usable && !self.models.iter().any(|model| model == name) {
            self.models.push(name.to_owned());
        }
    }

    pub(crate) fn push(&mut self, field: Field, rank: u8, part: Part, facts: &LabelFacts<'_>, value: u32) {
        self.terms.push(Term {
            field,
            rank,
            part,
            group: facts.group,
            copy: facts.copy,
            per_unit: 1.0,
            value,
        });
    }
}

/// The number of a rank; a rank that is no number comes last.
fn rank(text: &[u8]) -> u32 {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok());
    number.map_or(4095, |rank| rank.min(4095))
}
