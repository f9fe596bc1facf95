//! Cumulative histograms, summed bound by bound over ranks, replicas and processes.

use crate::field::Part;
use crate::plan::Term;
use crate::sample::Histogram;
use crate::scalar::{of_first_ranks, rank_of};

/// Bounds that a histogram may have. vLLM has up to 23 by default; without a limit a hostile server could have each of its readings carry
/// thousands of buckets to every replica of the operator.
const BOUND_LIMIT: usize = 256;

/// Which values make up a histogram.
#[derive(Clone, Debug)]
pub(crate) struct HistogramFold {
    sums: Vec<u32>,
    counts: Vec<u32>,
    /// Upper bounds, rising; the last is infinite.
    bounds: Vec<f64>,
    /// `(index of the bound, value)`.
    buckets: Vec<(u32, u32)>,
    /// What one second is in the unit of the sums.
    per_second: f64,
    /// Sums and counts are all there is.
    mean_only: bool,
}

impl HistogramFold {
    /// Sorts out the series of one histogram, in any order: engines differ in whether sum, count or buckets come first.
    pub(crate) fn new(terms: &[&Term]) -> Self {
        let mut sums = Vec::new();
        let mut counts = Vec::new();
        let mut found: Vec<Found> = Vec::with_capacity(terms.len());
        // Tensor- and pipeline-parallel ranks observe the same requests: the first rank speaks for all.
        for term in of_first_ranks(terms, rank_of) {
            match term.part {
                Part::Sum | Part::MeanSum => sums.push(term.value),
                Part::Count | Part::MeanCount => counts.push(term.value),
                Part::Bucket(bound) => found.push((bound / term.per_unit, term.group, term.value)),
                Part::Whole | Part::First | Part::Second | Part::Addend | Part::Candidate => {}
            }
        }
        let is_sum = |part| matches!(part, Part::Sum | Part::MeanSum);
        let per_second = of_first_ranks(terms, rank_of)
            .find(|term| is_sum(term.part))
            .map_or(1.0, |term| term.per_unit);
        let mean_only = terms
            .iter()
            .any(|term| matches!(term.part, Part::MeanSum | Part::MeanCount));
        let (bounds, buckets) = same_bounds(&found).unwrap_or_else(|| common_bounds(found));
        Self {
            sums,
            counts,
            bounds,
            buckets,
            per_second,
            mean_only,
        }
    }

    /// The values it is made of.
    pub(crate) fn values(&self) -> Vec<u32> {
        let buckets = self.buckets.iter().map(|&(_, value)| value);
        self.sums.iter().chain(&self.counts).copied().chain(buckets).collect()
    }

    /// The histogram; `None` unless it is whole: sum, count, and buckets that rise up to infinity.
    /// `buckets` is a list that is not needed any more.
    pub(crate) fn fold(&self, values: &[f64], mut buckets: Vec<(Option<f64>, f64)>) -> Option<Histogram> {
        buckets.clear();
        let sum_seconds = total(&self.sums, values).filter(|sum| sum.is_finite())? / self.per_second;
        let count = total(&self.counts, values).filter(|count| count.is_finite() && *count >= 0.0)?;
        if self.mean_only {
            buckets.push((None, count));
            return Some(Histogram {
                count,
                sum_seconds,
                buckets,
            });
        }
        if self.bounds.len() > BOUND_LIMIT {
            return None;
        }
        let bounds = self.bounds.iter();
        buckets.extend(bounds.map(|&bound| (bound.is_finite().then_some(bound), 0.0)));
        for &(index, value) in &self.buckets {
            buckets.get_mut(index as usize)?.1 += values.get(value as usize)?;
        }
        let whole = buckets.last().is_some_and(|last| last.0.is_none());
        let rises = buckets.first().is_some_and(|first| first.1 >= 0.0)
            && buckets.iter().all(|bucket| bucket.1.is_finite())
            && buckets.is_sorted_by(|a, b| a.1 <= b.1);
        (whole && rises).then_some(Histogram {
            count,
            sum_seconds,
            buckets,
        })
    }
}

/// A bucket of a group: bound, group, value.
type Found = (f64, u64, u32);
/// Bounds, and the buckets with the index of theirs.
type Bounds = (Vec<f64>, Vec<(u32, u32)>);

/// The bounds of buckets that stand by group, where each group has the same, rising: nothing is to be sorted then.
fn same_bounds(found: &[Found]) -> Option<Bounds> {
    let mut groups = found.chunk_by(|a, b| a.1 == b.1);
    let bounds: Vec<f64> = groups.next()?.iter().map(|bucket| bucket.0).collect();
    let same = |group: &[Found]| {
        group.len() == bounds.len()
            && group
                .iter()
                .zip(&bounds)
                .all(|(bucket, bound)| bucket.0.total_cmp(bound).is_eq())
    };
    if !bounds.is_sorted_by(|a, b| a.total_cmp(b).is_lt()) || !groups.all(same) {
        return None;
    }
    let mut buckets = Vec::with_capacity(found.len());
    for group in found.chunks(bounds.len()) {
        buckets.extend((0..).zip(group).map(|(index, bucket)| (index, bucket.2)));
    }
    Some((bounds, buckets))
}

/// The bounds that all groups have.
fn common_bounds(mut found: Vec<Found>) -> Bounds {
    let mut groups: Vec<u64> = found.iter().map(|&(_, group, _)| group).collect();
    groups.sort_unstable();
    groups.dedup();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));

    let mut bounds = Vec::new();
    let mut buckets = Vec::new();
    for same_bound in found.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        // A bound that some group lacks has no exact sum (replicas of two versions under one Ray agent): leave it out.
        let (Some(first), true) = (same_bound.first(), same_bound.len() >= groups.len()) else {
            continue;
        };
        let index = u32::try_from(bounds.len()).unwrap_or(u32::MAX);
        bounds.push(first.0);
        buckets.extend(same_bound.iter().map(|&(_, _, value)| (index, value)));
    }
    (bounds, buckets)
}

/// The sum over the series; `None` when there is none.
fn total(indices: &[u32], values: &[f64]) -> Option<f64> {
    if indices.is_empty() {
        return None;
    }
    indices.iter().map(|&index| values.get(index as usize)).sum()
}

/// The bound that the text of an `le` label gives, so that `1.0` and `1` are the same; `None` unless finite or +Inf.
pub(crate) fn bound(text: &[u8]) -> Option<f64> {
    // As every histogram has it.
    if text == b"+Inf" {
        return Some(f64::INFINITY);
    }
    let bound = crate::exposition::parse_value(text)?;
    (bound.is_finite() || bound == f64::INFINITY).then_some(bound)
}
