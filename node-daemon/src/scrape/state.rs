//! What is known of one target: the last good sample, and how long it has been failing since.

use infmon_engines::EngineSample;
use infmon_samples::{FailureKind, Recognition};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A good scrape.
#[derive(Debug)]
pub(crate) struct Good {
    /// When the body had been read.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) sample: EngineSample,
    pub(crate) recognition: Recognition,
}

/// A scrape that gave no sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

/// What is known of a target.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetState {
    /// The last good scrape; it stays while later ones fail.
    pub(crate) last: Option<Arc<Good>>,
    /// The newest failure and the time of the first one without a good scrape between.
    pub(crate) failing: Option<(Arc<Failing>, Instant)>,
}

/// Where a scraper leaves what it found.
#[derive(Debug, Default)]
pub(super) struct TargetCell(Mutex<TargetState>);

impl TargetCell {
    pub(super) fn state(&self) -> TargetState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records what a scrape gave. The good scrape before it comes back, unless a report is being made of it, so that its memory serves the
    /// next one.
    pub(super) fn record(&self, name: &str, result: Result<Good, Failing>) -> Option<Good> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(good) => {
                if let Some((_, since)) = state.failing.take() {
                    let seconds = since.elapsed().as_secs();
                    tracing::info!(target = name, failed_for_seconds = seconds, "scraped again");
                }
                let before = state.last.replace(Arc::new(good));
                before.and_then(Arc::into_inner)
            }
            Err(failing) => {
                let before = state.failing.take();
                // One line per kind of failure, not per scrape.
                if before.as_ref().is_none_or(|(before, _)| before.kind != failing.kind) {
                    let kind = failing.kind.as_str();
                    tracing::warn!(target = name, kind, error = failing.message, "cannot scrape");
                }
                let since = before.map_or_else(Instant::now, |(_, since)| since);
                state.failing = Some((Arc::new(failing), since));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Good {
        Good {
            at: Instant::now(),
            took: Duration::from_millis(1),
            sample: EngineSample::default(),
            recognition: Recognition::default(),
        }
    }

    fn failing(kind: FailureKind) -> Failing {
        Failing {
            kind,
            message: kind.as_str().to_owned(),
        }
    }

    #[test]
    fn what_a_new_sample_replaces_comes_back_unless_somebody_reads_it() {
        let cell = TargetCell::default();
        assert!(cell.record("a", Ok(good())).is_none());
        let first = cell.state().last.map(|good| good.at);
        assert!(cell.record("a", Err(failing(FailureKind::Timeout))).is_none());
        assert_eq!(cell.record("a", Ok(good())).map(|good| good.at), first);
        let read = cell.state();
        assert!(cell.record("a", Ok(good())).is_none() && read.last.is_some());
    }

    #[test]
    fn the_last_sample_stays_and_the_failure_counts_from_its_first_scrape() {
        let cell = TargetCell::default();
        cell.record("a", Ok(good()));
        cell.record("a", Err(failing(FailureKind::Timeout)));
        let first = cell.state().failing.unwrap().1;
        cell.record("a", Err(failing(FailureKind::Unreachable)));
        let state = cell.state();
        assert!(state.last.is_some());
        assert_eq!(
            state.failing,
            Some((Arc::new(failing(FailureKind::Unreachable)), first))
        );
        cell.record("a", Ok(good()));
        assert_eq!(cell.state().failing, None);
    }
}
