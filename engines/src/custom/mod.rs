//! Servers whose series the user maps: what `spec.custom` says in place of a table of this crate.
//!
//! The user's word stands: nothing is guessed of ranks, process copies, or older names. What matches is added up, or the greatest of it is
//! taken, and a series that is not there is told.

mod mapping;
mod names;

use std::borrow::Cow;
use std::collections::BTreeSet;

pub use mapping::{Aggregation, MappedSeries, Mapping, MappingError, Unit};

use crate::collector::Collector;
use crate::error::ReadError;
use crate::exposition::{Labels, MAX_SERIES, Sample};
use crate::field::{Field, Part, Quantity};
use crate::histogram;
use crate::label_hash::LabelHash;
use crate::outcomes::Outcomes;
use crate::plan::{Findings, Plan, Term, Wanted};
use crate::sample::Engine;
use crate::similar::Unread;
use names::Names;

/// Reads the series of one body by a mapping.
#[derive(Debug)]
pub(crate) struct Mapper {
    mapping: Mapping,
    collected: Collector,
    /// What the body has of each mapped series, in their order.
    seen: Vec<Seen>,
    /// The labels that the mapping speaks of, sorted.
    labels: Vec<String>,
    /// All names.
    names: Names,
    /// More series feed fields than are taken: many fields may name one series.
    is_full: bool,
}

/// What a body has of one mapped series.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent fact of the body")]
struct Seen {
    /// Its family is declared.
    declared: bool,
    /// A sample has its name.
    named: bool,
    /// One has its labels too.
    value: bool,
    /// The parts of a histogram.
    bucket: bool,
    sum: bool,
    count: bool,
}

impl Mapper {
    pub(crate) fn new(mapping: Mapping) -> Self {
        let labels = mapping.series().iter().flat_map(|series| series.labels.keys());
        let labels: BTreeSet<&str> = labels.map(String::as_str).chain(mapping.model_label()).collect();
        Self {
            seen: vec![Seen::default(); mapping.series().len()],
            labels: labels.into_iter().map(str::to_owned).collect(),
            mapping,
            collected: Collector::default(),
            names: Names::default(),
            is_full: false,
        }
    }

    pub(crate) fn recognised(&self) -> bool {
        self.seen.iter().any(|seen| seen.declared || seen.named)
    }

    pub(crate) fn family(&mut self, name: &[u8]) {
        for (series, seen) in self.mapping.series().iter().zip(&mut self.seen) {
            // OpenMetrics declares a counter without its suffix.
            let rest = series.name.as_bytes().strip_prefix(name);
            seen.declared |= matches!(rest, Some(b"" | b"_total"));
        }
    }

    pub(crate) fn sample(&mut self, sample: &Sample<'_>, value: u32) -> bool {
        if self.is_full {
            return false;
        }
        let mut facts = None;
        let mut mapped = false;
        for (series, seen) in self.mapping.series().iter().zip(&mut self.seen) {
            let Some(part) = part(series, sample.name) else {
                continue;
            };
            seen.named = true;
            let facts = facts.get_or_insert_with(|| Facts::of(sample.labels, &self.labels));
            if !facts.fit(series, &self.labels) {
                continue;
            }
            let part = match part {
                Part::Bucket(_) => match sample.labels.bound().and_then(histogram::bound) {
                    Some(bound) => Part::Bucket(bound),
                    // A bucket without a bound says nothing.
                    None => continue,
                },
                part => part,
            };
            match part {
                Part::Bucket(_) => seen.bucket = true,
                Part::Sum => seen.sum = true,
                Part::Count => seen.count = true,
                _ => seen.value = true,
            }
            if self.collected.terms.len() == MAX_SERIES {
                self.is_full = true;
                return mapped;
            }
            self.collected.terms.push(Term {
                field: series.field,
                rank: 0,
                part,
                group: facts.group,
                copy: 0,
                per_unit: series.unit.map_or(1.0, Unit::per_unit),
                value,
            });
            mapped = true;
        }
        self.names.note(sample.name);
        if let Some(facts) = facts.filter(|_| mapped)
            && let Some(label) = self.mapping.model_label()
            && let Some(model) = facts.get(label, &self.labels)
        {
            self.collected.model(model);
        }
        mapped
    }

    /// Why the body gives nothing; `None` where it has any of the series.
    pub(crate) fn not_mapped(&self) -> Option<ReadError> {
        if self.mapping.is_empty() {
            return Some(ReadError::NoMapping);
        }
        if self.is_full {
            return Some(ReadError::TooManySeries);
        }
        if self.recognised() {
            return None;
        }
        let mut expected: Vec<String> = Vec::new();
        for series in self.mapping.series() {
            if !expected.contains(&series.name) {
                expected.push(series.name.clone());
            }
        }
        Some(ReadError::NoMappedSeries {
            expected,
            similar: self.names.like(self.mapping.series()),
        })
    }

    pub(crate) fn finish(mut self) -> Plan {
        let whole = self.mapping.series().iter().zip(&self.seen);
        // A summary, or a histogram of which a server shows no buckets: the mean is known.
        let means: BTreeSet<Field> = whole
            .filter(|(_, seen)| seen.sum && seen.count && !seen.bucket)
            .map(|(series, _)| series.field)
            .collect();
        for term in &mut self.collected.terms {
            term.part = match term.part {
                Part::Sum if means.contains(&term.field) => Part::MeanSum,
                Part::Count if means.contains(&term.field) => Part::MeanCount,
                part => part,
            };
        }
        let wanted = self
            .mapping
            .series()
            .iter()
            .zip(&self.seen)
            .filter_map(|(series, seen)| wanted(series, *seen))
            .collect();
        let lacking = self.mapping.series().iter().zip(&self.seen);
        let lacking = lacking.filter(|(_, seen)| !seen.declared && !seen.named);
        let similar = self.names.like(lacking.map(|(series, _)| series));
        let hint = if similar.is_empty() {
            "correct spec.custom, or have the server publish the series".to_owned()
        } else {
            format!(
                "similar names are there: {}; correct spec.custom or the server",
                similar.join(", ")
            )
        };
        let plan = Plan::new(
            &self.collected.terms,
            Findings {
                engine: Engine::Custom,
                generation: String::new(),
                models: self.collected.models,
                constants: Vec::new(),
                outcomes: Outcomes::default(),
                adapters: Vec::new(),
                required: &[],
                hint,
                unread: Unread::default(),
            },
        );
        plan.wanting(wanted)
    }
}

/// What is said of a mapped series while it gives no value; `None` where that is no fault.
fn wanted(series: &MappedSeries, seen: Seen) -> Option<Wanted> {
    let quantity = series.field.quantity();
    let is_latency = quantity == Quantity::Latency;
    let found = seen.value || (seen.sum && seen.count);
    let why = if found {
        ""
    } else if seen.bucket || seen.sum || seen.count {
        " (of _bucket, _sum and _count not all are there)"
    } else if seen.named {
        " (no series of this name has these labels)"
    } else if seen.declared && (is_latency || quantity == Quantity::Counter) {
        // Nothing has been counted yet.
        return None;
    } else if seen.declared {
        " (declared, and without a value)"
    } else {
        ""
    };
    Some(Wanted {
        field: series.field,
        words: format!("{series}{why}"),
        found,
    })
}

/// The part of the field that a series of this name is.
fn part(series: &MappedSeries, name: &[u8]) -> Option<Part> {
    let rest = name.strip_prefix(series.name.as_bytes())?;
    let scalar = match series.aggregation {
        Some(Aggregation::Sum) => Part::Addend,
        Some(Aggregation::Max) => Part::Candidate,
        None => {
            return match rest {
                b"_bucket" => Some(Part::Bucket(f64::INFINITY)),
                b"_sum" => Some(Part::Sum),
                b"_count" => Some(Part::Count),
                _ => None,
            };
        }
    };
    rest.is_empty().then_some(scalar)
}

/// What the labels of one series say.
struct Facts<'a> {
    /// A hash of the labels without `le`: the series of one histogram have the same.
    group: u64,
    /// The values of the labels that the mapping speaks of, in their order.
    values: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Facts<'a> {
    fn of(labels: Labels<'a>, wanted: &[String]) -> Self {
        let mut hash = LabelHash::new();
        let mut values = vec![None; wanted.len()];
        for label in labels {
            if label.name != b"le" {
                hash.label(label);
            }
            let place = wanted.binary_search_by(|name| name.as_bytes().cmp(label.name));
            if let Some(value) = place.ok().and_then(|place| values.get_mut(place)) {
                value.get_or_insert_with(|| label.value());
            }
        }
        Self {
            group: hash.finish(),
            values,
        }
    }

    fn get(&self, label: &str, wanted: &[String]) -> Option<&str> {
        let place = wanted.binary_search_by(|name| name.as_str().cmp(label)).ok()?;
        self.values.get(place)?.as_deref()
    }

    /// True when the series has the labels that the user asks for; a label that is not there is empty.
    fn fit(&self, series: &MappedSeries, wanted: &[String]) -> bool {
        let mut labels = series.labels.iter();
        labels.all(|(name, value)| self.get(name, wanted).unwrap_or_default() == value)
    }
}
