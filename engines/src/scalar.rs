//! How the series of one number are folded over ranks, process copies, models and replicas.

use crate::field::{Field, Part};
use crate::plan::Term;

/// How the series of a field become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The greatest of the copies of each group, summed over the groups.
    SumOfCopies,
    /// The greatest of all.
    Greatest,
    /// The sum of all.
    Sum,
    /// The greatest share `first / second` of all groups.
    GreatestShare,
    /// The product `first * second`, summed over the groups.
    SumOfProducts,
}

/// The series of one number, and how they make it.
#[derive(Clone, Debug)]
pub(crate) struct ScalarFold {
    pub(crate) field: Field,
    how: How,
    /// What one unit of the field is in the series: 100 for percent.
    per_unit: f64,
    /// By group, so that copies stand together.
    terms: Vec<Folded>,
}

#[derive(Clone, Copy, Debug)]
struct Folded {
    group: u64,
    value: u32,
    first: bool,
}

/// How a field is folded; `None` for histograms, which are summed by bound.
const fn how(field: Field, pair: bool) -> Option<How> {
    match field {
        Field::KvCacheUsage | Field::HostCacheUsage if pair => Some(How::GreatestShare),
        Field::KvCapacity if pair => Some(How::SumOfProducts),
        // Without a multiprocess mode, each API server process exports its own copy of a gauge.
        Field::Waiting | Field::Running | Field::MaxConcurrency | Field::KvCapacity => Some(How::SumOfCopies),
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
    /// The fold of terms of one field, sorted by group; `None` for a histogram.
    pub(crate) fn new(field: Field, terms: &[&Term]) -> Option<Self> {
        let pair = terms.iter().any(|term| matches!(term.part, Part::First | Part::Second));
        let first = terms.first()?;
        let how = match first.part {
            Part::Addend => How::Sum,
            Part::Candidate => How::Greatest,
            _ => how(field, pair)?,
        };
        let per_unit = first.per_unit;
        let folded = |term: &Term| Folded {
            group: term.group,
            value: term.value,
            first: term.part == Part::First,
        };
        let terms = match how {
            // Counters of tensor- and pipeline-parallel ranks count the same requests: the first rank speaks for all.
            How::Sum => of_first_ranks(terms, rank_of).map(folded).collect(),
            _ => terms.iter().copied().map(folded).collect(),
        };
        Some(Self {
            field,
            how,
            per_unit,
            terms,
        })
    }

    /// The values it is made of.
    pub(crate) fn values(&self) -> Vec<u32> {
        self.terms.iter().map(|term| term.value).collect()
    }

    /// The folded number. One value that is not a usable number (NaN, infinite, the sentinel -1) makes the whole
    /// unknown: a sum without one of its parts would be a wrong number, not a missing one.
    pub(crate) fn fold(&self, values: &[f64]) -> Option<f64> {
        let mut total = 0.0_f64;
        match self.how {
            How::Sum => {
                for term in &self.terms {
                    total += usable(values, term.value)?;
                }
            }
            How::Greatest => {
                for term in &self.terms {
                    total = total.max(usable(values, term.value)?);
                }
            }
            How::SumOfCopies => {
                for copies in self.terms.chunk_by(|a, b| a.group == b.group) {
                    total += greatest(copies.iter(), values)?;
                }
            }
            How::GreatestShare | How::SumOfProducts => {
                for pair in self.terms.chunk_by(|a, b| a.group == b.group) {
                    let first = greatest(pair.iter().filter(|term| term.first), values)?;
                    let second = greatest(pair.iter().filter(|term| !term.first), values)?;
                    if self.how == How::SumOfProducts {
                        total += first * second;
                    } else if second > 0.0 {
                        total = total.max(first / second);
                    } else {
                        // A pool of no size is not one that is empty.
                        return None;
                    }
                }
            }
        }
        total /= self.per_unit;
        match self.field {
            Field::KvCacheUsage | Field::HostCacheUsage | Field::PrefixHitRatio => ratio(total),
            // A pool or batch of no size has not been set up yet.
            Field::KvCapacity | Field::MaxConcurrency => Some(total).filter(|total| total.is_finite() && *total > 0.0),
            _ => Some(total).filter(|total| total.is_finite()),
        }
    }
}

pub(crate) fn usable(values: &[f64], index: u32) -> Option<f64> {
    let value = values.get(index as usize).copied()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// The greatest of some values; `None` when there is none, or one is not usable.
fn greatest<'a>(terms: impl Iterator<Item = &'a Folded>, values: &[f64]) -> Option<f64> {
    let mut greatest: Option<f64> = None;
    for term in terms {
        let value = usable(values, term.value)?;
        greatest = Some(greatest.map_or(value, |greatest| greatest.max(value)));
    }
    greatest
}

/// Group and copy of a term.
pub(crate) const fn rank_of(term: &Term) -> (u64, u32) {
    (term.group, term.copy)
}

/// The terms of the first of the ranks that export a series, of terms sorted by group. `rank` gives group and copy of one.
pub(crate) fn of_first_ranks<'t, T>(terms: &'t [&'t T], rank: fn(&T) -> (u64, u32)) -> impl Iterator<Item = &'t T> {
    terms
        .chunk_by(move |a, b| rank(a).0 == rank(b).0)
        .flat_map(move |same| {
            let least = same.iter().map(|term| rank(term).1).min();
            same.iter().copied().filter(move |term| Some(rank(term).1) == least)
        })
}

/// Accepts 0-1, with room for rounding. Every engine publishes fractions, also where the name says percent: a greater number is not understood.
pub(crate) fn ratio(value: f64) -> Option<f64> {
    (0.0..=1.001).contains(&value).then(|| value.min(1.0))
}
