//! From a body's values to a sample: which value feeds which field, found once per layout and then only applied.

use crate::histogram::HistogramFold;
use crate::inspection::FieldValues;
use crate::reader::Reading;
use crate::sample::{Engine, EngineSample, Histogram};

/// A number of an [`EngineSample`], or a histogram of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Waiting,
    Running,
    KvCacheUsage,
    HostCacheUsage,
    PromptTokens,
    GeneratedTokens,
    Preemptions,
    PrefixHitTokens,
    PrefixQueryTokens,
    PrefixHitRatio,
    RequestsSucceeded,
    RequestsFailed,
    /// 1 while the engine is awake; turned round into `sleeping`.
    Awake,
    TimeToFirstToken,
    InterToken,
    PerOutputToken,
    EndToEnd,
    QueueTime,
}

impl Field {
    /// The name in the JSON form of a sample.
    const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::KvCacheUsage => "kvCacheUsage",
            Self::HostCacheUsage => "hostCacheUsage",
            Self::PromptTokens => "promptTokensTotal",
            Self::GeneratedTokens => "generatedTokensTotal",
            Self::Preemptions => "preemptionsTotal",
            Self::PrefixHitTokens => "prefixCacheHitTokensTotal",
            Self::PrefixQueryTokens => "prefixCacheQueryTokensTotal",
            Self::PrefixHitRatio => "prefixCacheHitRatio",
            Self::RequestsSucceeded => "requestsSucceededTotal",
            Self::RequestsFailed => "requestsFailedTotal",
            Self::Awake => "sleeping",
            Self::TimeToFirstToken => "latency.timeToFirstToken",
            Self::InterToken => "latency.interToken",
            Self::PerOutputToken => "latency.perOutputToken",
            Self::EndToEnd => "latency.endToEnd",
            Self::QueueTime => "latency.queueTime",
        }
    }
}

/// The part of a field that one series carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    /// A gauge or counter, or the only value there is.
    Whole,
    /// A cumulative histogram bucket with its upper bound.
    Bucket(f64),
    /// The sum of a histogram.
    Sum,
    /// The count of a histogram.
    Count,
}

/// One series that feeds a field.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) field: Field,
    /// 0 for the newest name of the series; of several names in one body the newest is read and the others are dropped.
    pub(crate) rank: u8,
    pub(crate) part: Part,
    /// The labels without `pid` and `le`: copies of one gauge in several processes share it.
    pub(crate) group: u64,
    /// Index of the value among the mapped values of the body.
    pub(crate) value: u32,
}

/// How the series of a field become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The greatest of the process copies, summed over ranks, models and replicas.
    SumOfCopies,
    /// The greatest of all.
    Greatest,
    /// The sum of all.
    Sum,
}

#[derive(Clone, Debug)]
struct ScalarFold {
    field: Field,
    how: How,
    /// `(group, value)`, by group.
    terms: Vec<(u64, u32)>,
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

/// All that a layout says, so that values alone make a reading.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    engine: Engine,
    generation: String,
    models: Vec<String>,
    kv_cache_capacity_tokens: Option<f64>,
    scalars: Vec<ScalarFold>,
    histograms: Vec<(Field, HistogramFold)>,
    adapters: Vec<AdapterSet>,
    required: &'static [Required],
    hint: &'static str,
}

/// What an engine's module found out besides the terms.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) engine: Engine,
    pub(crate) generation: &'static str,
    pub(crate) models: Vec<String>,
    pub(crate) kv_cache_capacity_tokens: Option<f64>,
    pub(crate) adapters: Vec<AdapterSet>,
    pub(crate) required: &'static [Required],
    /// What to do when a required series is missing.
    pub(crate) hint: &'static str,
}

impl Plan {
    pub(crate) fn new(mut terms: Vec<Term>, findings: Findings) -> Self {
        // Newest name first within a field, then by group, so that copies stand together.
        terms.sort_by_key(|term| (term.field, term.rank, term.group));
        let mut scalars = Vec::new();
        let mut histograms = Vec::new();
        for terms in terms.chunk_by(|a, b| a.field == b.field) {
            let Some(first) = terms.first() else { continue };
            let newest: Vec<&Term> = terms.iter().take_while(|term| term.rank == first.rank).collect();
            match how(first.field) {
                Some(how) => {
                    let terms = newest.iter().map(|term| (term.group, term.value)).collect();
                    scalars.push(ScalarFold {
                        field: first.field,
                        how,
                        terms,
                    });
                }
                None => histograms.push((first.field, HistogramFold::new(&newest))),
            }
        }
        let Findings {
            engine,
            generation,
            models,
            kv_cache_capacity_tokens,
            adapters,
            required,
            hint,
        } = findings;
        Self {
            engine,
            generation: generation.to_owned(),
            models,
            kv_cache_capacity_tokens,
            scalars,
            histograms,
            adapters,
            required,
            hint,
        }
    }

    /// Which values feed which field, in the order of the model.
    pub(crate) fn field_values(&self) -> Vec<FieldValues> {
        let scalars = self.scalars.iter().map(|fold| FieldValues {
            field: fold.field.name(),
            values: fold.terms.iter().map(|&(_, value)| value).collect(),
        });
        let histograms = self.histograms.iter().map(|(field, fold)| FieldValues {
            field: field.name(),
            values: fold.values(),
        });
        let adapters = (!self.adapters.is_empty()).then(|| FieldValues {
            field: "loraAdapters",
            values: self.adapters.iter().map(|set| set.value).collect(),
        });
        scalars.chain(adapters).chain(histograms).collect()
    }

    /// Makes a reading of the values of a body that has this plan's layout.
    pub(crate) fn read(&self, values: &[f64]) -> Reading {
        let mut sample = EngineSample {
            engine: Some(self.engine),
            generation: self.generation.clone(),
            models: self.models.clone(),
            kv_cache_capacity_tokens: self.kv_cache_capacity_tokens,
            lora_adapters: newest_adapters(&self.adapters, values),
            ..EngineSample::default()
        };
        for fold in &self.scalars {
            set_scalar(&mut sample, fold.field, fold.fold(values));
        }
        for (field, fold) in &self.histograms {
            set_histogram(&mut sample, *field, fold.fold(values));
        }
        let missing: Vec<String> = self
            .required
            .iter()
            .filter(|required| scalar(&sample, required.field).is_none())
            .map(|required| {
                if self.scalars.iter().any(|fold| fold.field == required.field) {
                    format!("{} (its value is not usable)", required.name)
                } else {
                    required.name.to_owned()
                }
            })
            .collect();
        let hint = if missing.is_empty() {
            String::new()
        } else {
            self.hint.to_owned()
        };
        Reading { sample, missing, hint }
    }
}

/// How a field is folded; `None` for histograms, which are summed by bound.
const fn how(field: Field) -> Option<How> {
    match field {
        // Without a multiprocess mode, each API server process exports its own copy of a gauge.
        Field::Waiting | Field::Running => Some(How::SumOfCopies),
        Field::KvCacheUsage | Field::HostCacheUsage | Field::PrefixHitRatio | Field::Awake => Some(How::Greatest),
        Field::PromptTokens
        | Field::GeneratedTokens
        | Field::Preemptions
        | Field::PrefixHitTokens
        | Field::PrefixQueryTokens
        | Field::RequestsSucceeded
        | Field::RequestsFailed => Some(How::Sum),
        Field::TimeToFirstToken | Field::InterToken | Field::PerOutputToken | Field::EndToEnd | Field::QueueTime => {
            None
        }
    }
}

impl ScalarFold {
    /// The folded number. One value that is not a usable number (NaN, infinite, the sentinel -1) makes the whole
    /// unknown: a sum without one of its parts would be a wrong number, not a missing one.
    fn fold(&self, values: &[f64]) -> Option<f64> {
        let mut total = 0.0_f64;
        let mut copies: Option<(u64, f64)> = None;
        for &(group, index) in &self.terms {
            let value = values
                .get(index as usize)
                .copied()
                .filter(|value| value.is_finite() && *value >= 0.0)?;
            match self.how {
                How::Sum => total += value,
                How::Greatest => total = total.max(value),
                How::SumOfCopies => match &mut copies {
                    Some((of, greatest)) if *of == group => *greatest = greatest.max(value),
                    _ => {
                        total += copies.map_or(0.0, |(_, greatest)| greatest);
                        copies = Some((group, value));
                    }
                },
            }
        }
        total += copies.map_or(0.0, |(_, greatest)| greatest);
        match self.field {
            Field::KvCacheUsage | Field::HostCacheUsage | Field::PrefixHitRatio => ratio(total),
            _ => Some(total).filter(|total| total.is_finite()),
        }
    }
}

/// Accepts 0-1, with room for rounding. Every engine publishes fractions, also where the name says percent: a greater number is not understood.
pub(crate) fn ratio(value: f64) -> Option<f64> {
    (0.0..=1.001).contains(&value).then(|| value.min(1.0))
}

fn scalar(sample: &EngineSample, field: Field) -> Option<f64> {
    match field {
        Field::Waiting => sample.waiting,
        Field::Running => sample.running,
        Field::KvCacheUsage => sample.kv_cache_usage,
        _ => None,
    }
}

fn set_scalar(sample: &mut EngineSample, field: Field, value: Option<f64>) {
    let place = match field {
        Field::Waiting => &mut sample.waiting,
        Field::Running => &mut sample.running,
        Field::KvCacheUsage => &mut sample.kv_cache_usage,
        Field::HostCacheUsage => &mut sample.host_cache_usage,
        Field::PromptTokens => &mut sample.prompt_tokens_total,
        Field::GeneratedTokens => &mut sample.generated_tokens_total,
        Field::Preemptions => &mut sample.preemptions_total,
        Field::PrefixHitTokens => &mut sample.prefix_cache_hit_tokens_total,
        Field::PrefixQueryTokens => &mut sample.prefix_cache_query_tokens_total,
        Field::PrefixHitRatio => &mut sample.prefix_cache_hit_ratio,
        Field::RequestsSucceeded => &mut sample.requests_succeeded_total,
        Field::RequestsFailed => &mut sample.requests_failed_total,
        Field::Awake => {
            sample.sleeping = value.map(|awake| awake == 0.0);
            return;
        }
        Field::TimeToFirstToken | Field::InterToken | Field::PerOutputToken | Field::EndToEnd | Field::QueueTime => {
            return;
        }
    };
    *place = value;
}

fn set_histogram(sample: &mut EngineSample, field: Field, histogram: Option<Histogram>) {
    let latency = &mut sample.latency;
    match field {
        Field::TimeToFirstToken => latency.time_to_first_token = histogram,
        Field::InterToken => latency.inter_token = histogram,
        Field::PerOutputToken => latency.per_output_token = histogram,
        Field::EndToEnd => latency.end_to_end = histogram,
        Field::QueueTime => latency.queue_time = histogram,
        _ => {}
    }
}

/// Adapters that one reading may name; a server has a handful, a hostile one could send a body full.
const ADAPTER_LIMIT: usize = 256;
/// Bytes that the name of one may have; a longer one is left out.
const ADAPTER_NAME_BYTES: usize = 512;

/// The adapters of the label set written last. vLLM never drops old label sets: the value is the Unix time of the last write.
fn newest_adapters(sets: &[AdapterSet], values: &[f64]) -> Vec<String> {
    let written = |set: &AdapterSet| {
        values
            .get(set.value as usize)
            .copied()
            .filter(|value| value.is_finite())
            .map_or(f64::MIN, mean_time)
    };
    let Some(newest) = sets.iter().max_by(|a, b| written(a).total_cmp(&written(b))) else {
        return Vec::new();
    };
    let mut adapters: Vec<String> = Vec::new();
    for name in newest.running.split(',').chain(newest.waiting.split(',')) {
        let usable = !name.is_empty() && name.len() <= ADAPTER_NAME_BYTES && adapters.len() < ADAPTER_LIMIT;
        if usable && !adapters.iter().any(|adapter| adapter == name) {
            adapters.push(name.to_owned());
        }
    }
    adapters
}

/// The mean of the Unix times that several API server processes wrote: their exposition is the sum over the processes that know the label
/// set, so a label set that two processes know would always beat the newest one.
fn mean_time(sum: f64) -> f64 {
    // Any Unix time of this decade will do as the unit.
    let processes = (sum / 1.8e9).round().max(1.0);
    sum / processes
}
