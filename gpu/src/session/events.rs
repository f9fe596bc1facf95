//! Listens for XIDs and other events of the driver, on a thread of its own: the wait must not hold up samples.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;

use super::Shared;
use super::device::DeviceReader;
use super::heart::Calls;
use super::raw::{EventSet, RawEvent, handle_of};
use crate::snapshot::CallClass;

/// `nvmlEventTypeXidCriticalError`.
const XID: u64 = 0x8;
/// Double-bit ECC errors, poison, retirement of memory, a GPU that is unavailable, a changed recovery action: reasons to look closer.
const OTHERS: u64 = 0x2 | 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000;
/// Longest wait for an event: the end of a session waits for it, and that has to fit into the shutdown of the daemon.
const WAIT_MILLISECONDS: u32 = 200;
/// Between waits that fail at once.
const PAUSE: Duration = Duration::from_millis(200);
/// Failures in a row after which nobody may believe that XIDs would be told.
const DEAF_AFTER: u32 = 5;

/// The GPUs of a session whose events are listened for.
pub(super) struct Listener<'nvml> {
    set: EventSet<'nvml>,
    /// Handle, index and uuid.
    gpus: Vec<(usize, u32, String)>,
}

impl<'nvml> Listener<'nvml> {
    /// Registers the GPUs that can tell of XIDs; `None` where none can.
    pub(super) fn register(
        nvml: &'nvml Nvml,
        readers: &mut [DeviceReader<'nvml>],
        calls: &mut Calls<'_>,
    ) -> Option<Self> {
        let set = calls.run(CallClass::Events, || EventSet::new(nvml));
        let mut gpus = Vec::new();
        for reader in readers.iter_mut() {
            let kinds = set.as_ref().ok().and_then(|set| {
                let register = || set.register(reader.device(), XID | OTHERS);
                calls.run(CallClass::Events, register).ok()
            });
            let told = kinds.is_some_and(|kinds| kinds & XID != 0);
            reader.set_xid_events(told);
            if kinds.is_some() {
                gpus.push((handle_of(reader.device()), reader.index(), reader.uuid().to_owned()));
            }
        }
        set.ok().filter(|_| !gpus.is_empty()).map(|set| Self { set, gpus })
    }

    /// Listens until `ended`. What the driver refuses ends nothing but this.
    pub(super) fn listen(self, shared: &Shared, ended: &AtomicBool) {
        let mut failures: u32 = 0;
        while !ended.load(Ordering::Acquire) {
            shared.listening.begin(CallClass::Events, Instant::now());
            let answer = self.set.wait(WAIT_MILLISECONDS);
            shared.listening.rest();
            failures = if answer.is_err() { failures.saturating_add(1) } else { 0 };
            shared.deaf.store(failures >= DEAF_AFTER, Ordering::Release);
            match answer {
                Ok(Some(event)) => self.tell(event, shared),
                Ok(None) => {}
                // A GPU that was lost makes the wait fail at once; the others still have something to tell.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn tell(&self, event: RawEvent, shared: &Shared) {
        shared.look_closer.store(true, Ordering::Release);
        let gpu = self.gpus.iter().find(|(handle, ..)| *handle == event.device);
        // Other devices were not registered.
        let Some((_, index, uuid)) = gpu else { return };
        if event.kind & XID != 0 {
            let number = u32::try_from(event.data).unwrap_or(u32::MAX);
            shared.note_xid(|log| log.xid((*index, uuid), number, event.place, Instant::now()));
        }
    }
}
