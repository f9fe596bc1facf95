//! Who may write now: a claim with an expiry that is checked at use.

use std::time::{Duration, Instant};

/// Leadership of this process, as known now. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    expires: Option<Instant>,
}

impl Claim {
    /// A claim that ends by itself.
    #[must_use]
    pub const fn until(expires: Instant) -> Self {
        Self { expires: Some(expires) }
    }

    /// Whether this process may write now. Ask right before each write: a claim that could not be renewed ends without notice.
    #[must_use]
    pub fn is_current(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| now < expires)
    }
}

/// What is known of the Lease, apart from its resourceVersion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) holder: String,
    pub(super) duration: Duration,
    /// Renew time and transitions as text: only whether they change matters, never what they say.
    pub(super) fingerprint: String,
}

/// The record and when we saw it change last.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    record: Option<(Record, Instant)>,
}

impl Observed {
    /// Takes a look at the Lease.
    pub(super) fn see(&mut self, record: Record, now: Instant) {
        match &self.record {
            Some((known, _)) if *known == record => {}
            _ => self.record = Some((record, now)),
        }
    }

    /// Whether `me` may take or renew the Lease now.
    pub(super) fn may_take(&self, me: &str, now: Instant) -> bool {
        match &self.record {
            None => true,
            Some((record, since)) => record.holder.is_empty() || record.holder == me || now >= *since + record.duration,
        }
    }

    /// The holder, when somebody else's lease has not ended.
    pub(super) fn other_holder(&self, me: &str, now: Instant) -> Option<&str> {
        let (record, _) = self.record.as_ref()?;
        (!self.may_take(me, now)).then_some(record.holder.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, fingerprint: &str) -> Record {
        Record {
            holder: holder.into(),
            duration: Duration::from_secs(15),
            fingerprint: fingerprint.into(),
        }
    }

    #[test]
    fn a_claim_ends_by_itself() {
        let start = Instant::now();
        let claim = Claim::until(start + Duration::from_secs(10));
        assert!(claim.is_current(start + Duration::from_secs(9)));
        assert!(!claim.is_current(start + Duration::from_secs(10)));
        assert!(!Claim::default().is_current(start));
    }

    #[test]
    fn another_holder_keeps_the_lease_while_we_see_it_change() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut observed = Observed::default();
        assert!(observed.may_take("me", start), "no lease yet");
        observed.see(record("other", "1"), at(0));
        assert!(!observed.may_take("me", at(14)));
        assert_eq!(observed.other_holder("me", at(14)), Some("other"));
        observed.see(record("other", "2"), at(14));
        assert!(!observed.may_take("me", at(28)));
        observed.see(record("other", "2"), at(28));
        assert!(
            observed.may_take("me", at(29)),
            "unchanged for 15 s since it was seen to change"
        );
    }

    #[test]
    fn a_released_lease_is_free_at_once() {
        let start = Instant::now();
        let mut observed = Observed::default();
        observed.see(record("other", "1"), start);
        observed.see(record("", "2"), start);
        assert!(observed.may_take("me", start));
    }

    #[test]
    fn the_clock_of_the_other_holder_does_not_matter() {
        // Its renewTime may lie years ahead or behind: only that the record stopped changing counts.
        let start = Instant::now();
        let mut observed = Observed::default();
        observed.see(record("other", "2999-01-01T00:00:00Z"), start);
        assert!(observed.may_take("me", start + Duration::from_secs(15)));
    }
}
