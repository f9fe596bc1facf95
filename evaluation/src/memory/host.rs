//! Host memory of one pod over time.

use super::GrowthTrend;
use crate::Moment;
use infmon_samples::HostMemory;

/// What is known of the host memory of a pod.
#[derive(Clone, Debug, Default)]
pub struct HostObservation {
    /// The newest reading and when it was made.
    pub last: Option<(Moment, HostMemory)>,
    /// What the kernel cannot take back, over time, where there is a limit.
    pub trend: GrowthTrend,
    /// When the kernel was last seen to have killed for lack of memory, and how often since this process looks.
    pub killed: Option<(Moment, u64)>,
}

impl HostObservation {
    /// Takes a reading in; an older one than the last says nothing new.
    pub(crate) fn push(&mut self, memory: HostMemory, now: Moment) {
        let Some(taken) = now.checked_before(memory.age) else {
            return;
        };
        if self.last.as_ref().is_some_and(|(known, _)| taken <= *known) {
            return;
        }
        let before = self.last.as_ref().and_then(|(_, before)| before.oom_kills_total);
        // A count that goes backwards is one of other containers than before, and says nothing of what came between.
        let more = before
            .zip(memory.oom_kills_total)
            .and_then(|(before, total)| total.checked_sub(before));
        if let Some(more) = more.filter(|more| *more > 0) {
            let known = self.killed.map_or(0, |(_, count)| count);
            self.killed = Some((taken, known.saturating_add(more)));
        }
        if let Some(limit) = memory.limit_bytes {
            self.trend.push(taken, memory.held_bytes(), limit);
        }
        self.last = Some((taken, memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn reading(kills: Option<u64>) -> HostMemory {
        HostMemory {
            age: Duration::ZERO,
            working_set_bytes: 1 << 30,
            active_file_bytes: None,
            limit_bytes: Some(1 << 31),
            pressure_full_percent: None,
            oom_kills_total: kills,
        }
    }

    #[test]
    fn kills_are_those_since_the_first_look() {
        let mut host = HostObservation::default();
        let kills = |host: &HostObservation| host.killed.map(|(at, count)| (at.0.as_secs(), count));
        for (second, total, expected) in [
            (10, Some(7), None),
            (20, Some(7), None),
            (30, Some(9), Some((30, 2))),
            (40, None, Some((30, 2))),
            (50, Some(9), Some((30, 2))),
            (60, Some(1), Some((30, 2))),
            (70, Some(2), Some((70, 3))),
        ] {
            host.push(reading(total), Moment::from_secs(second));
            assert_eq!(kills(&host), expected, "{second}");
        }
    }

    #[test]
    fn an_old_reading_changes_nothing() {
        let mut host = HostObservation::default();
        host.push(reading(Some(1)), Moment::from_secs(10));
        let late = HostMemory {
            age: Duration::from_secs(5),
            ..reading(Some(3))
        };
        host.push(late, Moment::from_secs(12));
        assert_eq!(host.killed, None);
        assert_eq!(host.last.map(|(at, _)| at), Some(Moment::from_secs(10)));
    }
}
