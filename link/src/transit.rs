//! Time that reports spend on their way.
//!
//! An age is right when a report is made; a starved connection then delivers it late and the age lies. Both ends count time since
//! the stream was opened, each on its own monotonic clock. The smallest difference ever seen between the two counts is the
//! undelayed one, so whatever a report has on top of it is delay. Clock skew cancels out.

use std::time::Duration;

/// Quartz drifts by less than this share; the smallest difference may rise that fast, so that drift is not taken for delay.
const DRIFT_PER_SECOND: f64 = 200e-6;

/// Delay of the reports of one stream.
#[derive(Debug, Default)]
pub(crate) struct Transit {
    /// Smallest difference seen, seconds, and when (by the receiver's count) it was last corrected.
    undelayed: Option<(f64, f64)>,
}

impl Transit {
    /// The delay of a report that says it was `sent` and arrived at `received`, each since the stream was opened.
    pub(crate) fn delay(&mut self, sent: Duration, received: Duration) -> Duration {
        let (sent, received) = (sent.as_secs_f64(), received.as_secs_f64());
        let difference = received - sent;
        let base = match self.undelayed {
            None => difference,
            Some((base, at)) => difference.min(base + (received - at).max(0.0) * DRIFT_PER_SECOND),
        };
        self.undelayed = Some((base, received));
        Duration::try_from_secs_f64(difference - base).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(reports: &[(u64, u64)]) -> Vec<u128> {
        let mut transit = Transit::default();
        let ms = Duration::from_millis;
        let delay = |&(sent, received)| transit.delay(ms(sent), ms(received)).as_millis();
        reports.iter().map(delay).collect()
    }

    #[test]
    fn a_constant_offset_is_no_delay() {
        assert_eq!(delays(&[(0, 500), (1000, 1500), (2000, 2500)]), [0, 0, 0]);
        // The daemon opened its stream long before the operator looked at its clock.
        assert_eq!(delays(&[(90_000, 5), (91_000, 1005)]), [0, 0]);
    }

    #[test]
    fn a_report_that_was_held_up_is_older() {
        assert_eq!(
            delays(&[(0, 0), (1000, 4000), (2000, 4001), (4000, 4000)]),
            [0, 2999, 2000, 0]
        );
    }

    #[test]
    fn drift_does_not_add_up() {
        let mut transit = Transit::default();
        let mut worst = Duration::ZERO;
        for second in 0..100_000_u32 {
            let sent = Duration::from_secs(u64::from(second));
            worst = worst.max(transit.delay(sent, sent.mul_f64(1.0001)));
        }
        assert!(worst < Duration::from_millis(1), "{worst:?}");
    }

    #[test]
    fn nonsense_is_no_panic() {
        let mut transit = Transit::default();
        let _ = transit.delay(Duration::from_micros(u64::MAX), Duration::ZERO);
        let _ = transit.delay(Duration::ZERO, Duration::from_micros(u64::MAX));
        let _ = transit.delay(Duration::from_micros(u64::MAX), Duration::ZERO);
    }
}
