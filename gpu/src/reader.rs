//! The boundary to the vendors of GPUs: who reads the GPUs of one vendor on this node, and how several are put together.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kernel_log::KernelEvent;
use crate::sample::{DriverProblem, DriverState};
use crate::snapshot::{CallStats, Snapshot};

/// Reads the GPUs of one vendor, on a thread of its own: no call of this waits for a driver, but [`stop`](Self::stop), which has a limit.
///
/// What it reads is a [`Snapshot`], which knows no vendor: uuids that are unique on the node, time lost by cause as counters that only grow
/// ([`crate::ThrottleCounter`]), and nothing that is not known. NVIDIA's is `GpuMonitor`; another vendor is another implementation beside
/// it. Who wants to know of an XID at once says so when the reader is made.
pub trait GpuReader: Debug + Send + Sync {
    /// The newest snapshot, at once, with what has happened up to now. What goes wrong is its driver state.
    fn latest(&self) -> Arc<Snapshot>;

    /// Changes the time between samples, from now on.
    fn set_period(&self, period: Duration);

    /// Lets go of the driver, so that it can be replaced (`true`), or takes it up again (`false`). Returns at once.
    fn set_released(&self, released: bool);

    /// Takes in what the kernel's log tells; false where it is of no device of this reader.
    fn note_kernel_event(&self, event: &KernelEvent) -> bool;

    /// Leaves the driver and ends the thread; returns after `within` at the latest.
    #[must_use = "an abandoned thread may keep the driver from being unloaded"]
    fn stop(self: Box<Self>, within: Duration) -> Stopped;
}

/// How [`GpuReader::stop`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The driver was left in order and the library is unloaded.
    Cleanly,
    /// A driver call did not return in time; the thread was left behind, and ends when that call returns.
    Abandoned,
}

/// The snapshots of several readers of a node as one; `None` without a reader.
///
/// A reader that finds no library or no GPU of its vendor has nothing to say where another one reads GPUs. Of the others the state that
/// explains most is told: a driver that hangs, one that cannot be used, one that is ready. Ages are those of the oldest samples. Indices stay
/// those of each vendor: uuids tell GPUs apart.
#[must_use]
pub fn merged(snapshots: &[Arc<Snapshot>]) -> Option<Arc<Snapshot>> {
    let (first, others) = snapshots.split_first()?;
    if others.is_empty() {
        return Some(Arc::clone(first));
    }
    let mut whole = Snapshot {
        driver: snapshots
            .iter()
            .min_by_key(|snapshot| weight(&snapshot.driver))
            .unwrap_or(first)
            .driver
            .clone(),
        ..Snapshot::default()
    };
    for snapshot in snapshots {
        whole.taken = oldest(whole.taken, snapshot.taken);
        whole.samples.extend_from_slice(&snapshot.samples);
        whole.failed.extend_from_slice(&snapshot.failed);
        whole.incidents.extend_from_slice(&snapshot.incidents);
        whole.switch_incidents.extend_from_slice(&snapshot.switch_incidents);
        whole.ticks = whole.ticks.saturating_add(snapshot.ticks);
        for calls in &snapshot.calls {
            add(&mut whole.calls, calls);
        }
    }
    Some(Arc::new(whole))
}

/// The lower, the more a state explains of what is read and what is not.
const fn weight(driver: &DriverState) -> u8 {
    match driver {
        DriverState::Unresponsive { .. } => 0,
        DriverState::Unavailable {
            category: DriverProblem::LibraryNotFound | DriverProblem::NoDevices,
            ..
        } => 4,
        DriverState::Unavailable { .. } => 1,
        DriverState::Ready { .. } => 2,
        DriverState::Starting => 3,
    }
}

fn oldest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn add(all: &mut Vec<CallStats>, calls: &CallStats) {
    let Some(same) = all.iter_mut().find(|known| known.class == calls.class) else {
        all.push(*calls);
        return;
    };
    same.count = same.count.saturating_add(calls.count);
    same.total_microseconds = same.total_microseconds.saturating_add(calls.total_microseconds);
    same.max_microseconds = same.max_microseconds.max(calls.max_microseconds);
    same.driver_microseconds = match (same.driver_microseconds, calls.driver_microseconds) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    };
}
