//! Hysteresis: a value must stay beyond its threshold for a time before it counts, in both directions.

use crate::Moment;
use std::time::Duration;

/// Memory of one threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Whether the finding stands.
    raised: bool,
    /// When the finding was raised or cleared last; `None` before the first change.
    changed: Option<Moment>,
    /// Since when the value has been on the other side than `raised` says.
    contrary_since: Option<Moment>,
}

impl Hold {
    /// A hold that starts with a finding standing, as read back from a status written before a restart.
    #[must_use]
    pub const fn standing(raised: bool) -> Self {
        Self {
            raised,
            changed: None,
            contrary_since: None,
        }
    }

    /// The hold after one more look at the value. `beyond` is `None` when the value is not known: the finding then neither rises nor
    /// clears, and the time that led to a change starts anew, since nobody can say that the value held meanwhile.
    #[must_use]
    pub fn update(self, beyond: Option<bool>, now: Moment, hold_for: Duration) -> Self {
        let Some(beyond) = beyond else {
            return Self {
                contrary_since: None,
                ..self
            };
        };
        if beyond == self.raised {
            return Self {
                contrary_since: None,
                ..self
            };
        }
        let since = self.contrary_since.unwrap_or(now);
        if now.since(since) >= hold_for {
            Self {
                raised: beyond,
                changed: Some(now),
                contrary_since: None,
            }
        } else {
            Self {
                contrary_since: Some(since),
                ..self
            }
        }
    }

    /// Whether the finding stands.
    #[must_use]
    pub const fn is_raised(self) -> bool {
        self.raised
    }

    /// How long the finding has been standing or been cleared, where that is known.
    #[must_use]
    pub fn unchanged_for(self, now: Moment) -> Option<Duration> {
        self.changed.map(|changed| now.since(changed))
    }

    /// When the hold will change if the value stays where it is; `None` when it would not.
    #[must_use]
    pub fn due(self, hold_for: Duration) -> Option<Moment> {
        self.contrary_since.map(|since| since.after(hold_for))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(5);

    fn run(steps: &[(u64, Option<bool>)]) -> Vec<bool> {
        let mut hold = Hold::default();
        steps
            .iter()
            .map(|(at, beyond)| {
                hold = hold.update(*beyond, Moment::from_secs(*at), FIVE);
                hold.is_raised()
            })
            .collect()
    }

    #[test]
    fn raises_only_after_the_value_held() {
        assert_eq!(
            run(&[(0, Some(true)), (4, Some(true)), (5, Some(true))]),
            [false, false, true]
        );
    }

    #[test]
    fn a_dip_starts_the_time_anew() {
        assert_eq!(
            run(&[
                (0, Some(true)),
                (3, Some(false)),
                (4, Some(true)),
                (8, Some(true)),
                (9, Some(true))
            ]),
            [false, false, false, false, true]
        );
    }

    #[test]
    fn clears_only_after_the_value_held() {
        assert_eq!(
            run(&[
                (0, Some(true)),
                (5, Some(true)),
                (6, Some(false)),
                (10, Some(false)),
                (11, Some(false))
            ]),
            [false, true, true, true, false]
        );
    }

    #[test]
    fn an_unknown_value_neither_raises_nor_clears() {
        assert_eq!(
            run(&[
                (0, Some(true)),
                (4, None),
                (5, Some(true)),
                (9, Some(true)),
                (10, Some(true))
            ]),
            [false, false, false, false, true]
        );
        let standing = Hold::standing(true).update(None, Moment::from_secs(9), FIVE);
        assert!(standing.is_raised());
    }

    #[test]
    fn zero_seconds_changes_at_once() {
        let hold = Hold::default().update(Some(true), Moment::from_secs(1), Duration::ZERO);
        assert!(hold.is_raised());
        assert_eq!(hold.unchanged_for(Moment::from_secs(3)), Some(Duration::from_secs(2)));
    }
}
