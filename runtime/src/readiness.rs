//! Readiness as a set of named latches: the process is ready when every latch has been released.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Default)]
struct State {
    next: u64,
    pending: BTreeMap<u64, String>,
    stopping: bool,
}

/// Says whether the process is ready, and if not, what it waits for. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

impl Readiness {
    /// A process that waits for nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds something to wait for, for example `pod cache filled`.
    pub fn latch(&self, waits_for: impl Into<String>) -> Latch {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, waits_for.into());
        Latch {
            readiness: self.clone(),
            id,
        }
    }

    /// What the process still waits for; empty when it is ready.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        let state = self.state();
        let stopping = state.stopping.then(|| "shutting down".to_owned());
        stopping.into_iter().chain(state.pending.values().cloned()).collect()
    }

    /// True when nothing is waited for and no shutdown has begun.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = self.state();
        state.pending.is_empty() && !state.stopping
    }

    /// Turns readiness off for good, so that no new traffic arrives while the process ends.
    pub fn stop(&self) {
        self.state().stopping = true;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that readiness waits for.
///
/// Dropping a latch does not release it: a task that ends early or panics must not make the process look ready.
#[derive(Debug)]
#[must_use = "a latch that is never released keeps the process unready"]
pub struct Latch {
    readiness: Readiness,
    id: u64,
}

impl Latch {
    /// Says that what was waited for has happened.
    #[allow(clippy::needless_pass_by_value, reason = "a latch is released once")]
    pub fn release(self) {
        self.readiness.state().pending.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_latch_is_released() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let first = readiness.latch("certificates");
        let second = readiness.latch("pod cache");
        assert_eq!(readiness.pending(), ["certificates", "pod cache"]);
        first.release();
        assert!(!readiness.is_ready());
        second.release();
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_dropped_latch_keeps_waiting() {
        let readiness = Readiness::new();
        drop(readiness.latch("pod cache"));
        assert_eq!(readiness.pending(), ["pod cache"]);
    }

    #[test]
    fn shutdown_ends_readiness() {
        let readiness = Readiness::new();
        readiness.stop();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), ["shutting down"]);
    }
}
