//! Ends of requests by reason, in the words of the engine.

use std::collections::BTreeMap;

use crate::collector::LabelFacts;
use crate::exposition::Labels;
use crate::scalar::{of_first_ranks, usable};

/// Reasons that one reading may name, [`OTHER_REASONS`] among them. LMDeploy has 13.
pub const REASON_LIMIT: usize = 16;
/// The reason that all beyond these bounds are added up as, so that no end is lost.
pub const OTHER_REASONS: &str = "other";
/// Bytes that the name of one may have.
const REASON_BYTES: usize = 64;

/// A counter of ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutcomeSeries {
    pub(crate) key: &'static str,
    /// The label that names the reason; empty where there is none.
    label: &'static str,
    /// What the reason is where no label names it.
    word: &'static str,
    /// Which of the counters of one engine it is: these are added up, and the newest name of each is read.
    counter: u8,
    /// 0 for the newest name.
    age: u8,
}

/// Ends that a label gives the reason of.
pub(crate) const fn by_label(key: &'static str, label: &'static str, word: &'static str) -> OutcomeSeries {
    OutcomeSeries {
        key,
        label,
        word,
        counter: 0,
        age: 0,
    }
}

/// Ends of one reason.
pub(crate) const fn of_one(key: &'static str, word: &'static str) -> OutcomeSeries {
    by_label(key, "", word)
}

impl OutcomeSeries {
    /// An older name: read only where no younger one of the same counter is.
    pub(crate) const fn older(self, age: u8) -> Self {
        Self { age, ..self }
    }

    /// One that is added to the others.
    pub(crate) const fn counter(self, counter: u8) -> Self {
        Self { counter, ..self }
    }
}

/// One series that counts ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutcomeTerm {
    /// Place among the reasons; [`REASON_LIMIT`] for those that are not named.
    reason: usize,
    counter: u8,
    age: u8,
    /// As those of a [`Term`](crate::plan::Term).
    group: u64,
    copy: u32,
    value: u32,
}

/// The series found so far, and the reasons they name.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) terms: Vec<OutcomeTerm>,
    /// In the order of the body.
    reasons: Vec<String>,
}

impl Outcomes {
    /// Takes one series of ends, and what its labels say.
    pub(crate) fn push(&mut self, series: &OutcomeSeries, labels: Labels<'_>, facts: &LabelFacts<'_>, value: u32) {
        let named = match series.label {
            "" => None,
            FINISHED_REASON => facts.finished_reason.clone(),
            label => labels.get(label),
        };
        let named = named.filter(|reason| !reason.is_empty());
        let reason = self.place(named.as_deref().unwrap_or(series.word));
        self.terms.push(OutcomeTerm {
            reason,
            counter: series.counter,
            age: series.age,
            group: facts.group,
            copy: facts.copy,
            value,
        });
    }

    fn place(&mut self, reason: &str) -> usize {
        if let Some(place) = self.reasons.iter().position(|known| known == reason) {
            return place;
        }
        // One place is for all the others.
        if reason.len() > REASON_BYTES || reason == OTHER_REASONS || self.reasons.len() + 1 >= REASON_LIMIT {
            return REASON_LIMIT;
        }
        self.reasons.push(reason.to_owned());
        self.reasons.len() - 1
    }
}

/// The label of vLLM and those after it; the llm-d simulator's `finish_reason` is the same.
pub(crate) const FINISHED_REASON: &str = "finished_reason";

/// Which values make up the ends of each reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutcomesFold {
    /// Each reason once.
    reasons: Vec<(String, Vec<u32>)>,
}

impl OutcomesFold {
    pub(crate) fn new(outcomes: Outcomes) -> Self {
        let Outcomes { mut terms, reasons } = outcomes;
        terms.sort_by_key(|term| (term.counter, term.age, term.group));
        let mut found = BTreeMap::<usize, Vec<u32>>::new();
        for terms in terms.chunk_by(|a, b| a.counter == b.counter) {
            let newest = terms.iter().map(|term| term.age).min();
            let newest: Vec<&OutcomeTerm> = terms.iter().filter(|term| Some(term.age) == newest).collect();
            // Tensor- and pipeline-parallel ranks count the same ends.
            for term in of_first_ranks(&newest, |term| (term.group, term.copy)) {
                found.entry(term.reason).or_default().push(term.value);
            }
        }
        let name = |place: usize| reasons.get(place).map_or(OTHER_REASONS, String::as_str).to_owned();
        Self {
            reasons: found.into_iter().map(|(place, values)| (name(place), values)).collect(),
        }
    }

    /// The values it is made of.
    pub(crate) fn values(&self) -> Vec<u32> {
        self.reasons.iter().flat_map(|(_, values)| values).copied().collect()
    }

    /// Fills in the ends of each reason; none where the value of one is not usable, so that a reason that is not there is one that
    /// the server has not counted.
    pub(crate) fn fold_into(&self, values: &[f64], ends: &mut BTreeMap<String, f64>) {
        let mut totals = [0.0; REASON_LIMIT];
        for (total, (_, of_reason)) in totals.iter_mut().zip(&self.reasons) {
            for &value in of_reason {
                match usable(values, value) {
                    Some(value) => *total += value,
                    None => return ends.clear(),
                }
            }
            if !total.is_finite() {
                return ends.clear();
            }
        }
        if ends.len() != self.reasons.len() || self.reasons.iter().any(|(reason, _)| !ends.contains_key(reason)) {
            ends.clear();
        }
        for ((reason, _), total) in self.reasons.iter().zip(totals) {
            match ends.get_mut(reason) {
                Some(end) => *end = total,
                None => _ = ends.insert(reason.clone(), total),
            }
        }
    }
}
