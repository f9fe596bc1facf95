//! Memory for bodies that are larger than any single server needs.
//!
//! Each target may send megabytes, and a node may have a hundred of them: without a common bound a tenant could have the daemon killed
//! for its memory and blind everybody else. Ordinary bodies need no leave, so they wait for nobody.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this size are read at any time, and their buffers and layouts are kept: vLLM with 8 data-parallel ranks sends 360 KB.
pub(super) const ORDINARY_BODY_BYTES: usize = 512 * 1024;
/// Memory for all larger bodies together; with the usual limit of 16 MiB they are read one after the other.
const LARGE_BODIES_BYTES: usize = 16 * 1024 * 1024;
const UNIT_BYTES: usize = 64 * 1024;

/// Gives leave to read large bodies.
#[derive(Clone, Debug)]
pub(super) struct LargeBodies(Arc<Semaphore>);

/// Leave to hold a large body.
#[derive(Debug)]
pub(super) struct Leave {
    _units: Option<OwnedSemaphorePermit>,
}

impl LargeBodies {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES_BYTES / UNIT_BYTES)))
    }

    /// Waits until a body of `bytes` may be held. The whole is asked for at once, so that no two bodies wait for each other's end.
    pub(super) async fn leave(&self, bytes: usize) -> Leave {
        let units = bytes.min(LARGE_BODIES_BYTES).div_ceil(UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Leave {
            // The semaphore is never closed.
            _units: Arc::clone(&self.0).acquire_many_owned(units).await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn large_bodies_wait_for_each_other() {
        let bodies = LargeBodies::new();
        let wait = Duration::from_millis(20);
        let first = bodies.leave(10 * 1024 * 1024).await;
        let _small = bodies.leave(600 * 1024).await;
        assert!(
            tokio::time::timeout(wait, bodies.leave(10 * 1024 * 1024))
                .await
                .is_err()
        );
        drop(first);
        let _second = bodies.leave(10 * 1024 * 1024).await;
    }

    #[tokio::test]
    async fn a_limit_above_all_memory_is_still_served() {
        drop(LargeBodies::new().leave(usize::MAX).await);
    }
}
