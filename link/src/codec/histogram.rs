//! Histograms: the bulk of a report, so they are packed.
//!
//! Servers of one engine share their bucket bounds, which therefore stand once per report in a table. Counts travel per bucket instead of
//! cumulative, as integers, so that most take one or two bytes.

use super::DecodeError;
use crate::wire;
use infmon_engines::Histogram;

/// Integers above this are not exact in the `f64` that holds them.
const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0;

/// The distinct bucket bounds of one report; +Inf stands for "no upper bound".
#[derive(Debug, Default)]
pub(super) struct BoundsTable(Vec<Vec<f64>>);

impl BoundsTable {
    /// The index of the bounds of these buckets, added when they are new.
    fn index(&mut self, buckets: &[(Option<f64>, f64)]) -> u32 {
        let upper = || buckets.iter().map(|(bound, _)| bound.unwrap_or(f64::INFINITY));
        let same = |set: &Vec<f64>| set.iter().map(|b| b.to_bits()).eq(upper().map(f64::to_bits));
        let index = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(upper().collect());
            self.0.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    pub(super) fn encode(self) -> Vec<wire::BucketBounds> {
        self.0.into_iter().map(|upper| wire::BucketBounds { upper }).collect()
    }

    pub(super) fn decode(sets: Vec<wire::BucketBounds>) -> Self {
        Self(sets.into_iter().map(|set| set.upper).collect())
    }

    pub(super) fn encode_histogram(&mut self, histogram: &Histogram) -> wire::Histogram {
        let Histogram {
            count,
            sum_seconds,
            buckets,
        } = histogram;
        let per_bucket = per_bucket(buckets);
        let cumulative = match per_bucket {
            Some(_) => Vec::new(),
            None => buckets.iter().map(|(_, count)| *count).collect(),
        };
        wire::Histogram {
            count: *count,
            sum_seconds: *sum_seconds,
            bounds: self.index(buckets),
            per_bucket: per_bucket.unwrap_or_default(),
            cumulative,
        }
    }

    pub(super) fn decode_histogram(&self, histogram: wire::Histogram) -> Result<Histogram, DecodeError> {
        let bounds = self.0.get(histogram.bounds as usize).ok_or(DecodeError::BucketBounds {
            index: histogram.bounds,
            sets: self.0.len(),
        })?;
        let cumulative = if histogram.per_bucket.is_empty() {
            histogram.cumulative
        } else {
            let mut total = 0_u64;
            let add = |count| {
                total = total.saturating_add(count);
                #[allow(clippy::cast_precision_loss, reason = "senders keep to EXACT_LIMIT")]
                let total = total as f64;
                total
            };
            histogram.per_bucket.into_iter().map(add).collect()
        };
        if cumulative.len() != bounds.len() {
            return Err(DecodeError::BucketCount {
                counts: cumulative.len(),
                bounds: bounds.len(),
            });
        }
        let upper = |bound: &f64| (*bound != f64::INFINITY).then_some(*bound);
        Ok(Histogram {
            count: histogram.count,
            sum_seconds: histogram.sum_seconds,
            buckets: bounds.iter().map(upper).zip(cumulative).collect(),
        })
    }
}

/// Counts per bucket, when every cumulative count is a whole number and none falls.
fn per_bucket(buckets: &[(Option<f64>, f64)]) -> Option<Vec<u64>> {
    let mut before = 0_u64;
    buckets
        .iter()
        .map(|&(_, count)| {
            let whole = (0.0..=EXACT_LIMIT).contains(&count) && count.fract() == 0.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just checked")]
            let count = whole.then_some(count as u64)?;
            let own = count.checked_sub(before)?;
            before = count;
            Some(own)
        })
        .collect()
}
