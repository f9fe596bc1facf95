//! What an engine's names mean, as a table, and the mapper that every such table shares.

use crate::collector::Collector;
use crate::exposition::{Labels, Sample};
use crate::field::{Field, Part};
use crate::outcomes::{OutcomeSeries, Outcomes};
use crate::plan::{Constant, Findings, Plan, Required};
use crate::repeated::Repeated;
use crate::sample::Engine;
use crate::similar::Unread;

/// An engine's series and the few facts that go with them.
#[derive(Debug)]
pub(crate) struct Dialect {
    pub(crate) engine: Engine,
    /// The name without what the engine puts in front of all its names; `None` for names of others.
    pub(crate) key: fn(&[u8]) -> Option<&[u8]>,
    /// Newest names first.
    pub(crate) series: &'static [Series],
    /// Counters of requests that ended, by reason.
    pub(crate) outcomes: &'static [OutcomeSeries],
    /// Numbers that stand in labels of series whose value is 1.
    pub(crate) label_numbers: &'static [LabelNumber],
    /// Names whose presence tells generations apart; their place is their bit in [`Traits`].
    pub(crate) marks: &'static [&'static str],
    pub(crate) generation: fn(Traits) -> &'static str,
    pub(crate) required: fn(Traits) -> &'static [Required],
    /// What to do when a required series is missing.
    pub(crate) hint: fn(Traits) -> &'static str,
    /// The fields that are not known unless another one is: hits without lookups make no rate.
    pub(crate) only_with: &'static [(Field, Field)],
}

/// Whether a label value is meant.
type Test = fn(&str) -> bool;

/// One series, or one label value of it, and the field that it feeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    key: &'static str,
    field: Field,
    shape: Shape,
    /// 0 for the newest name.
    age: u8,
    /// What one second, or one unit of the field, is in the series.
    per_unit: f64,
    /// A label whose value must pass the test; a label that is not there is empty.
    only: Option<(&'static str, Test)>,
    /// Tells apart series that are added up within one field.
    addend: u8,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// One value.
    One(Part),
    /// `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// A number in a label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelNumber {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) field: Field,
}

/// A gauge or counter.
pub(crate) const fn one(key: &'static str, field: Field) -> Series {
    part(key, field, Part::Whole)
}

/// One part of a pair, or of a latency without buckets.
pub(crate) const fn part(key: &'static str, field: Field, part: Part) -> Series {
    Series {
        key,
        field,
        shape: Shape::One(part),
        age: 0,
        per_unit: 1.0,
        only: None,
        addend: 0,
    }
}

/// A histogram in seconds.
pub(crate) const fn histogram(key: &'static str, field: Field) -> Series {
    Series {
        shape: Shape::Histogram,
        ..part(key, field, Part::Whole)
    }
}

impl Series {
    /// An older name, or a less exact source: read only where no younger one is.
    pub(crate) const fn older(self, age: u8) -> Self {
        Self { age, ..self }
    }

    /// Counted in a smaller unit: 1000 for milliseconds.
    pub(crate) const fn per_second(self, per_unit: f64) -> Self {
        Self { per_unit, ..self }
    }

    /// Only series whose label passes the test.
    pub(crate) const fn only(self, label: &'static str, test: Test) -> Self {
        Self {
            only: Some((label, test)),
            ..self
        }
    }

    /// Added to the other series of the field.
    pub(crate) const fn adding(self, addend: u8) -> Self {
        Self { addend, ..self }
    }

    /// The part of the field that a series of this key is.
    fn part(&self, key: &[u8]) -> Option<Part> {
        match self.shape {
            Shape::One(part) => (key == self.key.as_bytes()).then_some(part),
            Shape::Histogram => match key.strip_prefix(self.key.as_bytes())? {
                // Triton's documents print buckets without the suffix; its server writes it.
                b"_bucket" | b"" => Some(Part::Bucket(f64::INFINITY)),
                b"_sum" => Some(Part::Sum),
                b"_count" => Some(Part::Count),
                _ => None,
            },
        }
    }

    fn takes(&self, labels: Labels<'_>) -> bool {
        self.only
            .is_none_or(|(label, test)| test(&labels.get(label).unwrap_or_default()))
    }
}

/// What a body has of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// A sample or a declared family of the engine.
    pub(crate) any: bool,
    /// A sample of the engine.
    pub(crate) sample: bool,
    marks: u32,
}

impl Traits {
    /// True when the mark with this number is there.
    pub(crate) const fn has(self, mark: u32) -> bool {
        self.marks & (1 << mark) != 0
    }
}

/// Reads the series of one body by a table.
#[derive(Debug)]
pub(crate) struct Mapper {
    dialect: &'static Dialect,
    pub(crate) collected: Collector,
    pub(crate) outcomes: Outcomes,
    traits: Traits,
    constants: Vec<Constant>,
    unread: Unread,
    repeated: Repeated,
    /// Fields and ages with a series that others are added to.
    bases: Vec<(Field, u8)>,
    /// Terms that are added to another series, by number.
    additions: Vec<usize>,
}

impl Mapper {
    pub(crate) fn new(dialect: &'static Dialect) -> Self {
        Self {
            dialect,
            collected: Collector::default(),
            outcomes: Outcomes::default(),
            traits: Traits::default(),
            constants: Vec::new(),
            unread: Unread::default(),
            repeated: Repeated::default(),
            bases: Vec::new(),
            additions: Vec::new(),
        }
    }

    pub(crate) const fn recognised(&self) -> bool {
        self.traits.any
    }

    pub(crate) fn family(&mut self, name: &[u8]) {
        if let Some(key) = (self.dialect.key)(name) {
            self.traits.any = true;
            self.mark(key);
        }
    }

    pub(crate) fn sample(&mut self, sample: &Sample<'_>, value: u32) -> bool {
        if let Some(feeds) = self.repeated.again(sample, value, &mut self.collected.terms) {
            return feeds;
        }
        let Some(key) = (self.dialect.key)(sample.name) else {
            self.repeated.ignore(sample);
            return false;
        };
        self.traits.any = true;
        self.traits.sample = true;
        self.mark(key);
        self.label_numbers(key, sample);
        let mut mapped = false;
        let mut known = false;
        // Of the series found, whether the bound alone tells them apart, and how many there are.
        let mut plain = true;
        let before = self.collected.terms.len();
        for series in self.dialect.series {
            let Some(part) = series.part(key) else { continue };
            known = true;
            plain &= series.only.is_none() && series.addend == 0;
            if !series.takes(sample.labels) {
                continue;
            }
            let in_pair = matches!(part, Part::First | Part::Second);
            let without = series.only.filter(|_| in_pair).map(|(label, _)| label);
            let mut facts = self.collected.labels_without(sample.labels, without);
            facts.group = facts.group.wrapping_add(u64::from(series.addend));
            let part = match (part, facts.bound) {
                (Part::Bucket(_), Some(bound)) => Part::Bucket(bound),
                // A bucket without a bound says nothing.
                (Part::Bucket(_), None) => continue,
                (part, _) => part,
            };
            self.collected.push(series.field, series.age, part, &facts, value);
            if let Some(term) = self.collected.terms.last_mut() {
                term.per_unit = series.per_unit;
            }
            if series.addend > 0 {
                self.additions.push(self.collected.terms.len() - 1);
            } else if !self.bases.contains(&(series.field, series.age)) {
                self.bases.push((series.field, series.age));
            }
            mapped = true;
        }
        for series in self.dialect.outcomes {
            if series.key.as_bytes() == key {
                let facts = self.collected.labels_without(sample.labels, None);
                self.outcomes.push(series, sample.labels, &facts, value);
                known = true;
                mapped = true;
                plain = false;
            }
        }
        if !known {
            self.unread.note(sample.name);
            if !self.dialect.label_numbers.iter().any(|of| of.key.as_bytes() == key) {
                self.repeated.ignore(sample);
            }
        }
        match self.collected.terms.get(before..) {
            Some([term]) if plain && matches!(term.part, Part::Bucket(_)) => self.repeated.bucket(sample, term),
            _ => {}
        }
        mapped
    }

    fn mark(&mut self, key: &[u8]) {
        if let Some(bit) = self.dialect.marks.iter().position(|mark| mark.as_bytes() == key) {
            self.traits.marks |= 1 << bit;
        }
    }

    fn label_numbers(&mut self, key: &[u8], sample: &Sample<'_>) {
        for number in self.dialect.label_numbers {
            if number.key.as_bytes() != key || self.constants.iter().any(|known| known.field == number.field) {
                continue;
            }
            let value = sample
                .labels
                .get(number.label)
                .and_then(|text| text.parse::<f64>().ok());
            if let Some(value) = value.filter(|value| value.is_finite() && *value > 0.0) {
                self.constants.push(Constant {
                    field: number.field,
                    value,
                    name: String::from_utf8_lossy(sample.name).into_owned(),
                });
            }
        }
    }

    pub(crate) fn finish(mut self) -> Plan {
        // A sum without its main part would be a wrong number, not a missing one.
        for &number in self.additions.iter().rev() {
            let term = self.collected.terms.get(number);
            if term.is_some_and(|term| !self.bases.contains(&(term.field, term.rank))) {
                self.collected.terms.remove(number);
            }
        }
        for &(field, other) in self.dialect.only_with {
            if !self.collected.terms.iter().any(|term| term.field == other) {
                self.collected.terms.retain(|term| term.field != field);
            }
        }
        Plan::new(
            &self.collected.terms,
            Findings {
                engine: self.dialect.engine,
                generation: (self.dialect.generation)(self.traits).to_owned(),
                models: self.collected.models,
                constants: self.constants,
                outcomes: self.outcomes,
                adapters: Vec::new(),
                required: (self.dialect.required)(self.traits),
                hint: (self.dialect.hint)(self.traits).to_owned(),
                unread: self.unread,
            },
        )
    }
}

/// The name without `ray_`, and without `prefix` and the `:` or `_` after it.
pub(crate) fn after_prefix<'a>(name: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let name = name.strip_prefix(b"ray_").unwrap_or(name);
    match name.strip_prefix(prefix.as_bytes())?.split_first()? {
        (b':' | b'_', key) => Some(key),
        _ => None,
    }
}
