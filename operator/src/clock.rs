//! The only place of the operator that reads a clock.

use infmon_evaluation::Moment;
use std::time::{Duration, Instant};

/// Moments begin this far from zero, so that there is room for what happened before the process started: a daemon that reports a
/// server failing for five minutes to an operator that runs for two seconds.
const HEAD_START: Duration = Duration::from_secs(24 * 3600);

/// Monotonic moments since the process started, and the wall clock for what people read.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts to count.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(HEAD_START + self.start.elapsed())
    }

    /// The instant of a moment, to sleep until it.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.0.saturating_sub(HEAD_START)
    }

    /// Wall-clock time; for transition times and Events only, never for ages.
    #[must_use]
    pub fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}
