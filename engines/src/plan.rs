//! From a body's values to a sample: which value feeds which field, found once per layout and then only applied.

use std::mem;

use crate::field::{Field, Part, is_known, scalar, set_histogram, set_scalar, take_buckets};
use crate::histogram::HistogramFold;
use crate::inspection::FieldValues;
use crate::outcomes::{Outcomes, OutcomesFold};
use crate::reader::Reading;
use crate::renamed::renamed;
use crate::sample::{Engine, EngineSample};
use crate::scalar::ScalarFold;
use crate::similar::Unread;

/// One series that feeds a field.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) field: Field,
    /// 0 for the newest name of the series; of several names in one body the newest is read and the others are dropped.
    pub(crate) rank: u8,
    pub(crate) part: Part,
    /// The labels without `pid`, `le` and the ranks that share one queue: copies of one series have the same.
    pub(crate) group: u64,
    /// Which copy of the group it is, 0 for the first rank.
    pub(crate) copy: u32,
    /// What one second, or one unit of the field, is in the series: 1000 for milliseconds.
    pub(crate) per_unit: f64,
    /// Index of the value among the mapped values of the body.
    pub(crate) value: u32,
}

impl Term {
    /// Another bucket of the same histogram.
    pub(crate) fn bucket(&self, bound: f64, value: u32) -> Self {
        Self {
            part: Part::Bucket(bound),
            value,
            ..*self
        }
    }
}

/// Adapters that run and wait, as one label set tells it.
#[derive(Clone, Debug)]
pub(crate) struct AdapterSet {
    pub(crate) value: u32,
    pub(crate) running: String,
    pub(crate) waiting: String,
}

/// A series without which conditions cannot be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Required {
    pub(crate) field: Field,
    /// The newest name of the series.
    pub(crate) name: &'static str,
}

/// A series that the user named for a field.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) field: Field,
    /// The series as the user named it, with why the body has none of it, where more is known than that.
    pub(crate) words: String,
    /// The body has it, so that only its value can be at fault.
    pub(crate) found: bool,
}

/// A number that stands in a label, and so in the layout.
#[derive(Clone, Debug)]
pub(crate) struct Constant {
    pub(crate) field: Field,
    pub(crate) value: f64,
    /// The series whose label it is.
    pub(crate) name: String,
}

/// All that a layout says, so that values alone make a reading.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    engine: Engine,
    generation: String,
    models: Vec<String>,
    constants: Vec<Constant>,
    scalars: Vec<ScalarFold>,
    outcomes: OutcomesFold,
    histograms: Vec<(Field, HistogramFold)>,
    adapters: Vec<AdapterSet>,
    required: &'static [Required],
    wanted: Vec<Wanted>,
    /// Counters and histograms that seem to have another name now.
    renamed: Vec<&'static str>,
    hint: String,
    /// What servers of this kind cannot tell, said while nothing is missing.
    note: String,
}

/// What an engine's module found out besides the terms.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) engine: Engine,
    pub(crate) generation: String,
    pub(crate) models: Vec<String>,
    /// Numbers that stand in labels.
    pub(crate) constants: Vec<Constant>,
    pub(crate) outcomes: Outcomes,
    pub(crate) adapters: Vec<AdapterSet>,
    pub(crate) required: &'static [Required],
    /// What to do when a required series is missing.
    pub(crate) hint: String,
    /// Names of the engine that fed nothing.
    pub(crate) unread: Unread,
}

impl Plan {
    pub(crate) fn new(terms: &[Term], findings: Findings) -> Self {
        let mut scalars: Vec<ScalarFold> = Vec::new();
        let mut histograms = Vec::new();
        for newest in of_newest_names(terms) {
            let Some(first) = newest.first() else { continue };
            match ScalarFold::new(first.field, &newest) {
                Some(fold) => scalars.push(fold),
                None => histograms.push((first.field, HistogramFold::new(&newest))),
            }
        }
        let Findings {
            engine,
            generation,
            models,
            constants,
            outcomes,
            adapters,
            required,
            hint,
            unread,
        } = findings;
        let absent = |required: &&Required| !scalars.iter().any(|fold| fold.field == required.field);
        let is_known = |field| {
            scalars.iter().any(|fold| fold.field == field) || histograms.iter().any(|(known, _)| *known == field)
        };
        let renamed = renamed(engine, is_known, &unread);
        let of_gauges = required
            .iter()
            .filter(absent)
            .flat_map(|required| unread.like(required.name));
        let of_counted = renamed.iter().flat_map(|renamed| renamed.similar.iter().copied());
        let mut similar: Vec<&str> = Vec::new();
        for name in of_gauges.chain(of_counted) {
            if !similar.contains(&name) {
                similar.push(name);
            }
        }
        let hint = if similar.is_empty() {
            hint
        } else {
            format!(
                "similar names are there, as after a rename: {}; use a release of inference-monitor that knows this version of the server",
                similar.join(", ")
            )
        };
        Self {
            engine,
            generation,
            models,
            constants,
            scalars,
            outcomes: OutcomesFold::new(outcomes),
            histograms,
            adapters,
            required,
            wanted: Vec::new(),
            hint,
            renamed: renamed.iter().map(|renamed| renamed.name).collect(),
            note: String::new(),
        }
    }

    /// The same plan, which tells of these series too when they give no value.
    pub(crate) fn wanting(mut self, wanted: Vec<Wanted>) -> Self {
        self.wanted = wanted;
        self
    }

    /// The same plan under another generation.
    pub(crate) fn of(mut self, generation: &str) -> Self {
        generation.clone_into(&mut self.generation);
        self
    }

    /// The same plan with other words on what to do when a required series is missing.
    pub(crate) fn hinting(mut self, hint: &str) -> Self {
        hint.clone_into(&mut self.hint);
        self
    }

    /// The same plan, which says what servers of this kind cannot tell.
    pub(crate) fn noting(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    /// The same plan for a product that serves another engine's series as they are.
    pub(crate) fn served_by(mut self, engine: Engine, generation: &str) -> Self {
        self.engine = engine;
        self.generation = format!("{generation}{}", self.generation);
        self
    }

    /// Which values feed which field, in the order of the model.
    pub(crate) fn field_values(&self) -> Vec<FieldValues> {
        let scalars = self.scalars.iter().map(|fold| FieldValues {
            field: fold.field.name(),
            values: fold.values(),
        });
        let histograms = self.histograms.iter().map(|(field, fold)| FieldValues {
            field: field.name(),
            values: fold.values(),
        });
        let adapters = (!self.adapters.is_empty()).then(|| FieldValues {
            field: "loraAdapters",
            values: self.adapters.iter().map(|set| set.value).collect(),
        });
        let outcomes = Some(self.outcomes.values()).filter(|values| !values.is_empty());
        let outcomes = outcomes.map(|values| FieldValues {
            field: "requestOutcomes",
            values,
        });
        scalars.chain(outcomes).chain(adapters).chain(histograms).collect()
    }

    /// The fields that labels feed, and whose labels these are.
    pub(crate) fn label_fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let constants = self.constants.iter();
        constants.map(|constant| (constant.field.name(), constant.name.as_str()))
    }

    /// Makes a reading of the values of a body that has this plan's layout, in the place and the memory of an earlier one.
    pub(crate) fn read_into(&self, values: &[f64], reading: &mut Reading) {
        let Reading { sample, missing, hint } = reading;
        let EngineSample {
            mut generation,
            mut models,
            mut request_outcomes,
            mut lora_adapters,
            mut latency,
            ..
        } = mem::take(sample);
        generation.clone_from(&self.generation);
        models.clone_from(&self.models);
        self.outcomes.fold_into(values, &mut request_outcomes);
        newest_adapters(&self.adapters, values, &mut lora_adapters);
        *sample = EngineSample {
            engine: Some(self.engine),
            generation,
            models,
            request_outcomes,
            lora_adapters,
            ..EngineSample::default()
        };
        for constant in &self.constants {
            set_scalar(sample, constant.field, Some(constant.value));
        }
        for fold in &self.scalars {
            set_scalar(sample, fold.field, fold.fold(values));
        }
        for (field, fold) in &self.histograms {
            let buckets = take_buckets(&mut latency, *field);
            set_histogram(sample, *field, fold.fold(values, buckets));
        }
        let mut told = Refilled::new(missing);
        for required in self.required.iter().filter(|of| scalar(sample, of.field).is_none()) {
            let found = self.scalars.iter().any(|fold| fold.field == required.field);
            told.push(required.name, if found { NOT_USABLE } else { "" });
        }
        for &name in &self.renamed {
            told.push(name, "");
        }
        for wanted in self.wanted.iter().filter(|of| !is_known(sample, of.field)) {
            told.push(&wanted.words, if wanted.found { NOT_USABLE } else { "" });
        }
        told.finish();
        hint.clear();
        hint.push_str(if missing.is_empty() { &self.note } else { &self.hint });
    }
}

/// The terms of each field that have the newest of its names, by group, so that copies stand together.
fn of_newest_names(terms: &[Term]) -> Vec<Vec<&Term>> {
    // The series of one name follow each other in a body, so there are far less runs than terms to be sorted.
    let mut runs: Vec<(Field, u8, &[Term])> = terms
        .chunk_by(|a, b| (a.field, a.rank) == (b.field, b.rank))
        .filter_map(|run| run.first().map(|first| (first.field, first.rank, run)))
        .collect();
    runs.sort_by_key(|run| (run.0, run.1));
    let mut found = Vec::new();
    for runs in runs.chunk_by(|a, b| a.0 == b.0) {
        let Some(newest) = runs.chunk_by(|a, b| a.1 == b.1).next() else {
            continue;
        };
        let mut terms: Vec<&Term> = Vec::with_capacity(newest.iter().map(|run| run.2.len()).sum());
        for run in newest {
            terms.extend(run.2);
        }
        // Most bodies name them in order, and then this is one pass.
        terms.sort_by_key(|term| term.group);
        found.push(terms);
    }
    found
}

/// Said of a series whose value is none that the field can have: NaN, infinite, negative, a share above 1.
const NOT_USABLE: &str = " (its value is not usable)";

/// Adapters that one reading may name; a server has a handful, a hostile one could send a body full.
const ADAPTER_LIMIT: usize = 256;
/// Bytes that the name of one may have; a longer one is left out.
const ADAPTER_NAME_BYTES: usize = 512;

/// The adapters of the label set written last, in the place of those of an earlier reading. vLLM never drops old label sets: the value is the
/// Unix time of the last write.
fn newest_adapters(sets: &[AdapterSet], values: &[f64], adapters: &mut Vec<String>) {
    let written = |set: &AdapterSet| {
        values
            .get(set.value as usize)
            .copied()
            .filter(|value| value.is_finite())
            .map_or(f64::MIN, mean_time)
    };
    let mut told = Refilled::new(adapters);
    if let Some(newest) = sets.iter().max_by(|a, b| written(a).total_cmp(&written(b))) {
        for name in newest.running.split(',').chain(newest.waiting.split(',')) {
            let usable = !name.is_empty() && name.len() <= ADAPTER_NAME_BYTES && told.filled < ADAPTER_LIMIT;
            if usable && !told.has(name) {
                told.push(name, "");
            }
        }
    }
    told.finish();
}

/// A list of texts that takes the memory of those that were in it.
struct Refilled<'a> {
    list: &'a mut Vec<String>,
    filled: usize,
}

impl<'a> Refilled<'a> {
    const fn new(list: &'a mut Vec<String>) -> Self {
        Self { list, filled: 0 }
    }

    fn has(&self, text: &str) -> bool {
        self.list.iter().take(self.filled).any(|known| known == text)
    }

    /// Adds `text` with `end` after it.
    fn push(&mut self, text: &str, end: &str) {
        match self.list.get_mut(self.filled) {
            Some(place) => {
                place.clear();
                place.push_str(text);
                place.push_str(end);
            }
            None => self.list.push(format!("{text}{end}")),
        }
        self.filled += 1;
    }

    fn finish(self) {
        self.list.truncate(self.filled);
    }
}

/// The mean of the Unix times that several API server processes wrote: their exposition is the sum over the processes that know the label
/// set, so a label set that two processes know would always beat the newest one.
fn mean_time(sum: f64) -> f64 {
    // Any Unix time of this decade will do as the unit.
    let processes = (sum / 1.8e9).round().max(1.0);
    sum / processes
}
