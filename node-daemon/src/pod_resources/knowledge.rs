//! What is known of the owners of GPUs, and since when: pure, the time comes from the caller.

use infmon_samples::{GPU_OWNERS_STALE_AFTER, GpuOwner, GpuOwners, GpuOwnersFailure};
use std::time::{Duration, Instant};

/// The last list and what came after it. A failure leaves the list as it is, to grow old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knowledge {
    /// The last list and when the kubelet was asked for it.
    list: Option<(Instant, Vec<GpuOwner>)>,
    /// Since when calls have been failing, and why the newest did.
    failure: Option<(Instant, String)>,
}

/// How good the list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The kubelet is not asked.
    Off,
    /// The first answer is on its way.
    Starting,
    /// There is a list young enough to be used.
    Fresh,
    /// There is none, or none young enough.
    Unknown,
}

impl Freshness {
    /// Every state.
    pub(crate) const ALL: [Self; 4] = [Self::Off, Self::Starting, Self::Fresh, Self::Unknown];

    /// Label in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Starting => "Starting",
            Self::Fresh => "Fresh",
            Self::Unknown => "Unknown",
        }
    }
}

impl Knowledge {
    /// The kubelet was asked at `asked` and gave a list. Returns whether that is news: the first list, or the first after failures.
    pub(crate) fn succeeded(&mut self, asked: Instant, owners: Vec<GpuOwner>) -> bool {
        let turned = self.list.is_none() || self.failure.is_some();
        self.list = Some((asked, owners));
        self.failure = None;
        turned
    }

    /// The kubelet was asked at `asked` and gave none. Returns whether that is news: the first failure since a list.
    pub(crate) fn failed(&mut self, asked: Instant, words: String) -> bool {
        let turned = self.failure.is_none();
        let since = self.failure.take().map_or(asked, |(since, _)| since);
        self.failure = Some((since, words));
        turned
    }

    /// Devices in the last list.
    pub(crate) fn devices(&self) -> usize {
        let owners = self.list.iter().flat_map(|(_, owners)| owners);
        owners.map(|owner| owner.devices.len()).sum()
    }

    /// Age of the last list.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        let (asked, _) = self.list.as_ref()?;
        Some(now.saturating_duration_since(*asked))
    }

    pub(crate) fn freshness(&self, now: Instant) -> Freshness {
        match self.age(now) {
            Some(age) if age <= GPU_OWNERS_STALE_AFTER => Freshness::Fresh,
            None if self.failure.is_none() => Freshness::Starting,
            Some(_) | None => Freshness::Unknown,
        }
    }

    /// What a report made now says.
    pub(crate) fn report(&self, now: Instant) -> GpuOwners {
        GpuOwners {
            age: self.age(now),
            owners: self.list.as_ref().map(|(_, owners)| owners.clone()).unwrap_or_default(),
            failure: self.failure.as_ref().map(|(since, words)| GpuOwnersFailure {
                message: words.clone(),
                since: now.saturating_duration_since(*since),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_no_empty_list() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let owner = GpuOwner {
            pod: "vllm-0".to_owned(),
            devices: vec!["GPU-1".to_owned()],
            ..GpuOwner::default()
        };
        let mut known = Knowledge::default();
        assert_eq!(known.freshness(at(0)), Freshness::Starting);
        assert_eq!(known.report(at(0)), GpuOwners::default());

        assert!(known.failed(at(0), "refused".to_owned()));
        assert!(!known.failed(at(5), "no socket".to_owned()));
        assert_eq!(known.freshness(at(5)), Freshness::Unknown);
        let said = known.report(at(7));
        let failure = said.failure.unwrap();
        assert_eq!(
            (said.age, failure.message.as_str(), failure.since),
            (None, "no socket", Duration::from_secs(7))
        );

        assert!(known.succeeded(at(10), vec![owner.clone()]));
        assert!(!known.succeeded(at(20), vec![owner.clone()]));
        assert_eq!(known.freshness(at(20)), Freshness::Fresh);

        assert!(known.failed(at(30), "refused".to_owned()));
        assert_eq!(
            (known.freshness(at(80)), known.freshness(at(81))),
            (Freshness::Fresh, Freshness::Unknown)
        );
        let said = known.report(at(90));
        assert_eq!((said.age, said.owners), (Some(Duration::from_secs(70)), vec![owner]));
        assert_eq!(said.failure.unwrap().since, Duration::from_secs(60));

        // No owner at all, and the kubelet says so.
        assert!(known.succeeded(at(100), Vec::new()));
        assert_eq!((known.devices(), known.report(at(100)).age), (0, Some(Duration::ZERO)));
        assert_eq!(known.report(at(100)).failure, None);
    }
}
