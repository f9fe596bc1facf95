//! Rules of `status.load`, explained to users in docs/conditions.md#load.

use crate::{Hold, Moment, Totals, Traffic};
use infmon_crds::v1alpha1::{InferenceMonitorStatus, Load, OomRisk};
use std::time::Duration;

/// Time for which requests must wait before that makes the load Degraded: one that waits for the next step of the batch is normal.
const WAITING_FOR: Duration = Duration::from_secs(5);
/// Mean time in the queue above which the load is Degraded, seconds. Below, a request waits for the step that runs.
const QUEUE_TIME_DEGRADED: f64 = 0.05;
/// The same for Overloaded.
const QUEUE_TIME_OVERLOADED: f64 = 0.1;
/// Share of failed requests above which the load is Degraded. Not less, since people who stop an answer count as failures with some engines.
const FAILED_SHARE: f64 = 0.2;
/// What was beyond its bound is within it again below this part of it, so that a service near a bound does not change its load all the time.
const BACK_BELOW: f64 = 0.8;

/// Memory of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Any request waits.
    waiting: Hold,
    /// The queue time is above the bound of Degraded.
    long_queue: bool,
    /// It is above that of Overloaded.
    very_long_queue: bool,
    /// Too many requests fail.
    failing: bool,
}

impl Memory {
    /// As the status written before a restart tells it.
    pub(super) fn from_status(status: &InferenceMonitorStatus) -> Self {
        let waiting = status.summary.as_ref().and_then(|summary| summary.waiting);
        Self {
            waiting: Hold::standing(waiting > Some(0)),
            ..Self::default()
        }
    }

    /// When a hold ends if nothing changes.
    pub(super) fn due(self) -> Option<Moment> {
        self.waiting.due(WAITING_FOR)
    }
}

/// What other judgements say.
pub(super) struct Signs {
    pub(super) queue_depth: bool,
    pub(super) throttled: bool,
    pub(super) slow: bool,
    pub(super) oom_risk: OomRisk,
}

pub(super) fn judge(
    totals: &Totals<'_>,
    traffic: &Traffic,
    signs: &Signs,
    memory: Memory,
    now: Moment,
) -> (Load, Memory) {
    let waiting = totals.waiting.filter(|_| totals.enough());
    let queue_time = traffic.queue_time_seconds;
    let memory = Memory {
        waiting: memory
            .waiting
            .update(waiting.map(|waiting| waiting > 0.0), now, WAITING_FOR),
        long_queue: beyond(queue_time, QUEUE_TIME_DEGRADED, memory.long_queue),
        very_long_queue: beyond(queue_time, QUEUE_TIME_OVERLOADED, memory.very_long_queue),
        failing: beyond(traffic.failed_share, FAILED_SHARE, memory.failing),
    };
    // How long requests wait says more than whether one did at each look.
    let waits = if queue_time.is_some() {
        memory.long_queue
    } else {
        memory.waiting.is_raised()
    };
    let load = match waiting {
        None => Load::Unknown,
        Some(_) if signs.queue_depth || memory.very_long_queue || signs.oom_risk == OomRisk::High => Load::Overloaded,
        Some(_) if waits || memory.failing || signs.slow || signs.throttled || signs.oom_risk == OomRisk::Medium => {
            Load::Degraded
        }
        Some(waiting) if waiting > 0.0 => Load::Healthy,
        Some(_) => match totals.running {
            Some(running) if running > 0.0 => Load::Healthy,
            Some(_) => Load::Idle,
            // Servers that never tell what runs: one that ended requests in the last minute was not idle, any other may be.
            None if traffic.succeeded_per_second > Some(0.0) => Load::Healthy,
            None => Load::Unknown,
        },
    };
    (load, memory)
}

/// Whether a value is beyond its bound; what nobody knows is not.
fn beyond(value: Option<f64>, bound: f64, before: bool) -> bool {
    value.is_some_and(|value| value > if before { bound * BACK_BELOW } else { bound })
}
