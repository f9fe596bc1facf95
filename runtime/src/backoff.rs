//! Exponential backoff with jitter; starts over when the caller reports success.
//!
//! The core is pure: [`Backoff::next`] takes its randomness as an argument.

use std::time::Duration;

/// How long to wait between tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Longest wait before the second try.
    pub first: Duration,
    /// Longest wait ever.
    pub max: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            max: Duration::from_secs(15),
        }
    }
}

/// Waits that double from try to try.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: u32,
}

impl Backoff {
    /// A backoff without failures yet.
    #[must_use]
    pub const fn new(policy: BackoffPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// The wait after one more failure: between half of the doubled time and all of it, chosen by `random` in `0.0..1.0`.
    ///
    /// Half stays fixed so that nobody retries at once; the other half spreads thousands of callers that failed together.
    #[must_use]
    pub fn next(&mut self, random: f64) -> Duration {
        let ceiling = 2_u32
            .checked_pow(self.failures)
            .and_then(|factor| self.policy.first.checked_mul(factor))
            .map_or(self.policy.max, |wait| wait.min(self.policy.max));
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// [`Backoff::next`] with randomness of the thread.
    #[must_use]
    pub fn next_delay(&mut self) -> Duration {
        self.next(rand::random::<f64>())
    }

    /// Failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts over, after a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BackoffPolicy = BackoffPolicy {
        first: Duration::from_millis(200),
        max: Duration::from_secs(15),
    };

    #[test]
    fn doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(POLICY);
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
    }

    #[test]
    fn jitter_keeps_at_least_half() {
        let mut backoff = Backoff::new(POLICY);
        assert_eq!(backoff.next(0.0), Duration::from_millis(100));
        assert_eq!(backoff.next(0.5), Duration::from_millis(300));
    }

    #[test]
    fn starts_over_after_success() {
        let mut backoff = Backoff::new(POLICY);
        let _ = backoff.next(1.0);
        let _ = backoff.next(1.0);
        assert_eq!(backoff.failures(), 2);
        backoff.reset();
        assert_eq!(backoff.next(1.0), Duration::from_millis(200));
    }

    #[test]
    fn never_overflows() {
        let mut backoff = Backoff::new(POLICY);
        for _ in 0..200 {
            assert!(backoff.next(1.0) <= POLICY.max);
        }
        backoff.failures = u32::MAX;
        assert_eq!(backoff.next(1.0), POLICY.max);
    }
}
