//! Observations of a latency over several servers, and its quantiles.

use std::collections::BTreeSet;

/// The observations of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// Upper bounds, rising; the last is `None` for infinity. The second numbers are not of this window.
    pub(crate) buckets: &'a [(Option<f64>, f64)],
    /// Observations in each bucket.
    pub(crate) counts: &'a [u64],
    /// Sum of the observations.
    pub(crate) sum_seconds: f64,
}

impl Part<'_> {
    /// Observations in all buckets.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn bounds(&self) -> impl Iterator<Item = f64> + '_ {
        self.buckets.iter().filter_map(|bucket| bucket.0)
    }
}

/// Where a quantile lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Estimate {
    /// About so many seconds: within the bucket, by linear interpolation.
    About(f64),
    /// Above the last bound of the histogram, and nobody can say how far.
    MoreThan(f64),
}

impl Estimate {
    /// The seconds that it is at least, or about.
    #[must_use]
    pub const fn seconds(self) -> f64 {
        match self {
            Self::About(seconds) | Self::MoreThan(seconds) => seconds,
        }
    }
}

/// Observations by bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Distribution {
    /// Finite upper bounds in seconds, rising.
    bounds: Vec<f64>,
    /// Observations in each bucket, one more than there are bounds.
    counts: Vec<u64>,
    sum_seconds: f64,
}

impl Distribution {
    /// All observations of several servers. Where their bounds differ, only bounds that all have are kept: counts at those are exact, and
    /// the buckets are the wider for it. A server without observations widens nothing.
    pub(crate) fn of(parts: &[Part<'_>]) -> Self {
        let mut common: Option<Vec<f64>> = None;
        for part in parts.iter().filter(|part| part.count() > 0) {
            match &mut common {
                None => common = Some(part.bounds().collect()),
                Some(common) if common.iter().copied().eq(part.bounds()) => {}
                Some(common) => {
                    let own: BTreeSet<u64> = part.bounds().map(f64::to_bits).collect();
                    common.retain(|bound| own.contains(&bound.to_bits()));
                }
            }
        }
        let mut all = Self {
            bounds: common.unwrap_or_default(),
            ..Self::default()
        };
        all.counts = vec![0; all.bounds.len() + 1];
        for part in parts {
            all.sum_seconds += part.sum_seconds;
            let mut place = 0;
            for ((bound, _), count) in part.buckets.iter().zip(part.counts) {
                let bound = bound.unwrap_or(f64::INFINITY);
                // The first bucket that reaches as far as this one.
                while all.bounds.get(place).is_some_and(|upper| *upper < bound) {
                    place += 1;
                }
                if let Some(total) = all.counts.get_mut(place) {
                    *total = total.saturating_add(*count);
                }
            }
        }
        all
    }

    /// Number of observations.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The quantile as PromQL's `histogram_quantile` has it, with two differences. In the last bucket it is said to be more than the last
    /// bound. And it is never more than the sum of the observations allows: the first bucket of vLLM's queue time reaches up to 300 ms, and
    /// interpolation alone makes 285 ms of requests that waited for nothing.
    ///
    /// `None` without observations, or without any bound to tell them by.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<Estimate> {
        let count = self.count();
        if count == 0 || self.bounds.is_empty() {
            return None;
        }
        let rank = quantile * count as f64;
        let mut below = 0_u64;
        for (place, (upper, in_bucket)) in self.bounds.iter().zip(&self.counts).enumerate() {
            let reached = below.saturating_add(*in_bucket);
            if *in_bucket > 0 && reached as f64 >= rank {
                let lower = match place.checked_sub(1).and_then(|before| self.bounds.get(before)) {
                    Some(lower) => *lower,
                    None if *upper <= 0.0 => return Some(Estimate::About(0.0)),
                    None => 0.0,
                };
                let part = ((rank - below as f64) / *in_bucket as f64).clamp(0.0, 1.0);
                let interpolated = lower + (upper - lower) * part;
                // As many observations of this bucket are at least as large as the quantile.
                let from_here = (reached as f64 - rank.ceil().max(1.0) + 1.0).max(1.0);
                let allowed = lower + self.slack() / from_here;
                return Some(Estimate::About(interpolated.min(allowed)));
            }
            below = reached;
        }
        self.bounds.last().copied().map(Estimate::MoreThan)
    }

    /// How far the sum exceeds what it would be with every observation at the lower bound of its bucket.
    fn slack(&self) -> f64 {
        let least: f64 = std::iter::once(0.0)
            .chain(self.bounds.iter().copied())
            .zip(&self.counts)
            .map(|(lower, count)| lower.max(0.0) * *count as f64)
            .sum();
        (self.sum_seconds - least).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buckets(bounds: &[f64]) -> Vec<(Option<f64>, f64)> {
        let finite = bounds.iter().map(|bound| (Some(*bound), 0.0));
        finite.chain([(None, 0.0)]).collect()
    }

    /// A distribution with its sum in the middle of the buckets, so that it forbids nothing.
    fn one(bounds: &[f64], counts: &[u64]) -> Distribution {
        let buckets = buckets(bounds);
        let mut all = Distribution::of(&[Part {
            buckets: &buckets,
            counts,
            sum_seconds: 0.0,
        }]);
        let uppers = bounds.iter().copied().chain(bounds.last().map(|last| last * 2.0));
        all.sum_seconds = uppers.zip(counts).map(|(upper, count)| upper * *count as f64).sum();
        all
    }

    #[test]
    fn quantiles_are_those_of_promql_but_for_the_last_bucket() {
        let bounds = [0.1, 0.5, 1.0, 5.0];
        let cases: [(&str, &[u64], f64, Option<Estimate>); 10] = [
            ("nothing", &[0, 0, 0, 0, 0], 0.5, None),
            ("all in the first", &[100, 0, 0, 0, 0], 0.5, Some(Estimate::About(0.05))),
            ("all in the second", &[0, 100, 0, 0, 0], 0.5, Some(Estimate::About(0.3))),
            ("just at a bound", &[50, 50, 0, 0, 0], 0.5, Some(Estimate::About(0.1))),
            ("between", &[50, 40, 10, 0, 0], 0.95, Some(Estimate::About(0.75))),
            (
                "over an empty bucket",
                &[50, 0, 50, 0, 0],
                0.75,
                Some(Estimate::About(0.75)),
            ),
            ("one observation", &[0, 0, 1, 0, 0], 0.99, Some(Estimate::About(0.995))),
            (
                "in the last finite one",
                &[0, 0, 0, 100, 0],
                0.99,
                Some(Estimate::About(4.96)),
            ),
            (
                "above the last bound",
                &[90, 0, 0, 0, 10],
                0.95,
                Some(Estimate::MoreThan(5.0)),
            ),
            ("all above it", &[0, 0, 0, 0, 3], 0.5, Some(Estimate::MoreThan(5.0))),
        ];
        for (name, counts, quantile, expected) in cases {
            let got = one(&bounds, counts).quantile(quantile);
            match (got, expected) {
                (Some(Estimate::About(got)), Some(Estimate::About(expected))) => {
                    assert!((got - expected).abs() < 1e-9, "{name}: {got}");
                }
                (got, expected) => assert_eq!(got, expected, "{name}"),
            }
        }
    }

    #[test]
    fn a_first_bound_of_zero_is_zero() {
        // SGLang's queue time.
        assert_eq!(one(&[0.0, 0.001], &[9, 1, 0]).quantile(0.5), Some(Estimate::About(0.0)));
    }

    #[test]
    fn a_histogram_without_bounds_tells_nothing() {
        assert_eq!(one(&[], &[7]).quantile(0.5), None);
    }

    #[test]
    fn the_sum_bounds_what_a_wide_bucket_leaves_open() {
        // vLLM's queue time: 100 requests that waited for 5 ms each, in a bucket up to 300 ms.
        let bounds = buckets(&[0.3, 0.5]);
        let waited = |sum_seconds| {
            let part = Part {
                buckets: &bounds,
                counts: &[100, 0, 0],
                sum_seconds,
            };
            Distribution::of(&[part]).quantile(0.95).map(Estimate::seconds).unwrap()
        };
        assert!((waited(0.5) - 0.5 / 6.0).abs() < 1e-9);
        assert_eq!(waited(0.0), 0.0);
        assert!(
            (waited(15.0) - 0.285).abs() < 1e-9,
            "a sum that allows it changes nothing"
        );
    }

    #[test]
    fn servers_with_the_same_bounds_add_up() {
        let bounds = buckets(&[0.1, 1.0]);
        let part = |counts, sum_seconds| Part {
            buckets: &bounds,
            counts,
            sum_seconds,
        };
        let all = Distribution::of(&[part(&[1, 2, 3], 0.5), part(&[10, 20, 30], 1.5)]);
        assert_eq!(
            (all.counts.clone(), all.sum_seconds, all.count()),
            (vec![11, 22, 33], 2.0, 66)
        );
    }

    #[test]
    fn servers_with_other_bounds_meet_at_those_that_all_have() {
        let (vllm, sglang, other) = (
            buckets(&[0.08, 0.1, 0.25, 1.0]),
            buckets(&[0.1, 0.2, 1.0, 2.0]),
            buckets(&[7.0]),
        );
        let part = |buckets, counts| Part {
            buckets,
            counts,
            sum_seconds: 0.0,
        };
        let both = Distribution::of(&[part(&vllm, &[1, 2, 3, 4, 5]), part(&sglang, &[10, 20, 30, 40, 50])]);
        assert_eq!((both.bounds, both.counts), (vec![0.1, 1.0], vec![13, 57, 95]));
        let idle = Distribution::of(&[part(&vllm, &[1, 2, 3, 4, 5]), part(&sglang, &[0; 5])]);
        assert_eq!(idle.bounds, [0.08, 0.1, 0.25, 1.0], "an idle server widens no bucket");
        let nothing = Distribution::of(&[part(&vllm, &[1; 5]), part(&other, &[1, 1])]);
        assert_eq!((nothing.quantile(0.5), nothing.count()), (None, 7));
    }

    proptest! {
        /// Whatever was observed, the estimate is in the bucket of the true quantile, and not above what the sum allows.
        #[test]
        fn an_estimate_is_in_the_bucket_of_the_truth(mut seen in proptest::collection::vec(0.0..12.0_f64, 1..80), quantile in 0.01..0.999_f64) {
            let bounds = [0.1, 0.5, 1.0, 5.0, 10.0];
            let wide = buckets(&bounds);
            let mut counts = vec![0; bounds.len() + 1];
            for value in &seen {
                counts[bounds.iter().position(|bound| value <= bound).unwrap_or(bounds.len())] += 1;
            }
            let sum_seconds = seen.iter().sum();
            let all = Distribution::of(&[Part { buckets: &wide, counts: &counts, sum_seconds }]);
            seen.sort_by(f64::total_cmp);
            let truth = seen[((quantile * seen.len() as f64).ceil() as usize).clamp(1, seen.len()) - 1];
            match all.quantile(quantile).unwrap() {
                Estimate::MoreThan(bound) => prop_assert!(truth > bound),
                Estimate::About(value) => {
                    let upper = bounds.iter().position(|bound| truth <= *bound).unwrap();
                    let lower = upper.checked_sub(1).map_or(0.0, |lower| bounds[lower]);
                    prop_assert!(lower <= value + 1e-9 && value <= bounds[upper] + 1e-9, "{value} for {truth}");
                }
            }
        }
    }
}
