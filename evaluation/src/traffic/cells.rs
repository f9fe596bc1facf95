//! The counters of one server as one row of whole numbers, so that growing, restarting and forgetting are the same for all of them.

use super::LatencyKind;
use infmon_engines::{EngineSample, Histogram, REASON_LIMIT};

/// Buckets that a histogram may have; what has more is left out.
const BUCKET_LIMIT: usize = 256;

/// A counter of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    PromptTokens,
    GeneratedTokens,
    PrefixHitTokens,
    PrefixQueryTokens,
    Succeeded,
    Failed,
    Preemptions,
}

impl Counter {
    const ALL: [Self; 7] = [
        Self::PromptTokens,
        Self::GeneratedTokens,
        Self::PrefixHitTokens,
        Self::PrefixQueryTokens,
        Self::Succeeded,
        Self::Failed,
        Self::Preemptions,
    ];

    /// True for counters that some servers move only when a request ends.
    pub(crate) const fn is_of_tokens(self) -> bool {
        matches!(self, Self::PromptTokens | Self::GeneratedTokens)
    }

    /// Place in a row.
    pub(super) const fn place(self) -> usize {
        self as usize
    }

    /// The value in a sample; `None` when the server does not give it as a usable number.
    pub(super) fn of(self, sample: &EngineSample) -> Option<u64> {
        let value = match self {
            Self::PromptTokens => sample.prompt_tokens_total,
            Self::GeneratedTokens => sample.generated_tokens_total,
            Self::PrefixHitTokens => sample.prefix_cache_hit_tokens_total,
            Self::PrefixQueryTokens => sample.prefix_cache_query_tokens_total,
            Self::Succeeded => sample.requests_succeeded_total,
            Self::Failed => sample.requests_failed_total,
            Self::Preemptions => sample.preemptions_total,
        };
        whole(value?)
    }
}

/// Counters come first in a row, ends of requests by reason after the others.
pub(super) const COUNTERS: usize = Counter::ALL.len() + REASON_LIMIT;

/// Place of the ends of one reason in a row.
pub(super) const fn reason_place(number: usize) -> usize {
    Counter::ALL.len() + number
}

/// Place of the sum of a latency in a row, in microseconds.
pub(super) const fn sum_place(kind: LatencyKind) -> usize {
    COUNTERS + kind as usize
}

/// Place of the number of observations of a latency in a row.
pub(super) const fn count_place(kind: LatencyKind) -> usize {
    COUNTERS + LatencyKind::ALL.len() + kind as usize
}

/// Where the buckets begin.
pub(super) const HEAD: usize = COUNTERS + 2 * LatencyKind::ALL.len();

/// A number of a counter that only grows; fractions are cut off at the same place each time, so that they do not add up to an error.
fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && value >= 0.0).then_some(value as u64)
}

/// The distribution of a sample, when it is a usable one: buckets that rise in bound and count, the last of them without a bound.
pub(super) fn usable(sample: &EngineSample, kind: LatencyKind) -> Option<&Histogram> {
    let histogram = kind.of(&sample.latency)?;
    let buckets = &histogram.buckets;
    let bound = |bucket: &(Option<f64>, f64)| bucket.0.unwrap_or(f64::INFINITY);
    let whole = buckets.len() <= BUCKET_LIMIT && buckets.last().is_some_and(|last| last.0.is_none());
    let rises = buckets.is_sorted_by(|a, b| bound(a) < bound(b) && a.1 <= b.1)
        && buckets.iter().all(|bucket| bucket.1.is_finite() && bucket.1 >= 0.0);
    (whole && rises && histogram.sum_seconds.is_finite()).then_some(histogram)
}

/// Gives the reasons of a sample that have no number the next ones. False where a reason with a number is not there any more, a total is
/// not usable, or there are too many.
pub(super) fn number_reasons(reasons: &mut Vec<String>, sample: &EngineSample) -> bool {
    let ended = |reason: &String| sample.request_outcomes.get(reason).copied().and_then(whole);
    let gone = reasons.iter().any(|reason| ended(reason).is_none());
    if gone || sample.request_outcomes.keys().any(|reason| ended(reason).is_none()) {
        return false;
    }
    for reason in sample.request_outcomes.keys() {
        if !reasons.contains(reason) {
            reasons.push(reason.clone());
        }
    }
    reasons.len() <= REASON_LIMIT
}

/// One row: counters, sums and numbers of observations of the latencies, then their buckets one by one (not cumulative).
///
/// A reason that a sample does not have has ended nothing yet: servers make such a counter when they need it.
pub(super) fn row(sample: &EngineSample, reasons: &[String]) -> Vec<u64> {
    let mut row = vec![0; HEAD];
    for (number, reason) in reasons.iter().enumerate() {
        let ended = sample.request_outcomes.get(reason).copied().and_then(whole);
        if let Some(place) = row.get_mut(reason_place(number)) {
            *place = ended.unwrap_or(0);
        }
    }
    for counter in Counter::ALL {
        if let Some(place) = row.get_mut(counter.place()) {
            *place = counter.of(sample).unwrap_or(0);
        }
    }
    for kind in LatencyKind::ALL {
        let Some(histogram) = usable(sample, kind) else {
            continue;
        };
        let mut below = 0;
        for (_, cumulative) in &histogram.buckets {
            let cumulative = *cumulative as u64;
            row.push(cumulative.saturating_sub(below));
            below = cumulative;
        }
        for (place, value) in [
            (sum_place(kind), (histogram.sum_seconds.max(0.0) * 1e6) as u64),
            (count_place(kind), below),
        ] {
            if let Some(place) = row.get_mut(place) {
                *place = value;
            }
        }
    }
    row
}

/// Where the buckets of a latency are in the row of a sample.
pub(super) fn buckets_place(sample: &EngineSample, kind: LatencyKind) -> std::ops::Range<usize> {
    let length = |kind| usable(sample, kind).map_or(0, |histogram| histogram.buckets.len());
    let start = HEAD
        + LatencyKind::ALL
            .into_iter()
            .take_while(|before| *before != kind)
            .map(length)
            .sum::<usize>();
    start..start + length(kind)
}

/// The rows of two samples mean the same place by place.
pub(super) fn comparable(a: &EngineSample, b: &EngineSample) -> bool {
    let counters = Counter::ALL
        .into_iter()
        .all(|counter| counter.of(a).is_some() == counter.of(b).is_some());
    let tell_reasons = a.request_outcomes.is_empty() == b.request_outcomes.is_empty();
    counters
        && tell_reasons
        && LatencyKind::ALL
            .into_iter()
            .all(|kind| match (usable(a, kind), usable(b, kind)) {
                (Some(a), Some(b)) => {
                    a.buckets.len() == b.buckets.len() && a.buckets.iter().zip(&b.buckets).all(|(a, b)| a.0 == b.0)
                }
                (None, None) => true,
                _ => false,
            })
}

/// A row in few bytes: seven bits a byte, zeros at the end left out. Most of what grows in five seconds is 0 or small.
pub(super) fn packed(row: &[u64]) -> Box<[u8]> {
    let used = row.iter().rposition(|value| *value != 0).map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(used + 16);
    for value in row.iter().take(used) {
        let mut value = *value;
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    bytes.into_boxed_slice()
}

/// The numbers of a packed row, as far as they go.
pub(super) fn unpacked(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let mut bytes = bytes.iter();
    std::iter::from_fn(move || {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = u64::from(*bytes.next()?);
            value |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 63 {
                return Some(value);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_row_comes_back(row in proptest::collection::vec(prop_oneof![Just(0), 0..300_u64, any::<u64>()], 0..40)) {
            let mut back: Vec<u64> = unpacked(&packed(&row)).collect();
            back.resize(row.len(), 0);
            prop_assert_eq!(back, row);
        }
    }
}
