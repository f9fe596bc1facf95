//! Findings that turn bad at once and good only after a time: a server or a GPU that comes and goes each second must not cause a write
//! and an Event each second.

use super::{Finding, Outcome};
use crate::words::seconds;
use crate::{Hold, Moment};
use infmon_crds::v1alpha1::{ConditionType, InferenceMonitorStatus, reason};
use std::time::Duration;

/// Time for which EndpointsReachable and MetricsRecognized must be good before they turn good.
pub(super) const CLEAR_AFTER: Duration = Duration::from_secs(10);
/// The same for Throttled and preemptions, at most; a shorter window of the threshold shortens it.
pub(super) const CLEAR_AFTER_SLOW: Duration = Duration::from_secs(30);

/// Memory of one such condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Damped {
    hold: Hold,
    reason: &'static str,
}

impl Damped {
    /// As the status written before a restart tells it.
    pub(super) fn from_status(kind: ConditionType, status: &InferenceMonitorStatus) -> Self {
        let bad = bad(kind).as_str();
        status
            .conditions
            .iter()
            .filter(|condition| condition.type_ == kind.as_str() && condition.status == bad)
            .find_map(|condition| reason::ALL.into_iter().find(|reason| *reason == condition.reason))
            .map_or_else(Self::default, |reason| Self {
                hold: Hold::standing(true),
                reason,
            })
    }

    /// The finding to be shown for what was found now.
    pub(super) fn apply(self, found: Finding, now: Moment, clear_after: Duration) -> (Finding, Self) {
        let bad = bad(found.kind);
        let beyond = (found.outcome != Outcome::Unknown).then_some(found.outcome == bad);
        let hold_for = if self.hold.is_raised() {
            clear_after
        } else {
            Duration::ZERO
        };
        let hold = self.hold.update(beyond, now, hold_for);
        match beyond {
            Some(true) => {
                let reason = found.reason;
                (found, Self { hold, reason })
            }
            Some(false) if hold.is_raised() => {
                let finding = Finding {
                    outcome: bad,
                    reason: self.reason,
                    message: format!(
                        "{} The condition clears when that has held for {}.",
                        found.message,
                        seconds(clear_after)
                    ),
                    ..found
                };
                (finding, Self { hold, ..self })
            }
            _ => (found, Self { hold, ..self }),
        }
    }

    /// Whether the condition was bad and has not cleared since.
    pub(super) fn is_raised(self) -> bool {
        self.hold.is_raised()
    }

    pub(super) fn due(self, clear_after: Duration) -> Option<Moment> {
        self.hold.due(clear_after)
    }
}

const fn bad(kind: ConditionType) -> Outcome {
    if kind.true_is_good() {
        Outcome::False
    } else {
        Outcome::True
    }
}
