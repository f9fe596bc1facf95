//! The NVML session: one thread owns the driver library, and everybody else reads its newest [`Snapshot`].
//!
//! A driver call can hang for ever, so nobody waits for this thread: readers learn from a heartbeat how long the call in progress has been
//! running, and [`GpuMonitor::stop`] leaves a hung thread behind. When the driver goes away or a GPU is lost, the library is shut down and
//! unloaded (which also lets a driver upgrade happen), and loaded again with growing pauses.

mod device;
mod events;
mod failure;
mod gpm;
mod heart;
mod known;
mod library;
mod mig;
mod raw;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::incident::IncidentLog;
use crate::kernel_log::{KernelEvent, PciAddress};
use crate::reader::{GpuReader, Stopped};
use crate::sample::DriverState;
use crate::snapshot::{CallStats, Snapshot};
use crate::switch::SwitchLog;
use failure::Problem;
use heart::Heart;
use worker::Worker;

/// Shortest period between samples: faster polling holds the driver's lock long enough to disturb the workload.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// Called on a thread of the monitor when an XID was told, so that nobody needs to look for one. It must not block.
#[derive(Clone)]
pub struct OnXid(Arc<dyn Fn() + Send + Sync>);

impl OnXid {
    /// Calls `call`.
    #[must_use]
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }
}

impl std::fmt::Debug for OnXid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("OnXid")
    }
}

/// What a [`GpuMonitor`] does and how often.
#[derive(Clone, Debug)]
pub struct MonitorOptions {
    /// The driver library. When set, only this one is tried.
    pub library_path: Option<PathBuf>,
    /// Folders to search when `library_path` is not set and the loader does not find `libnvidia-ml.so.1` by itself.
    pub search_paths: Vec<PathBuf>,
    /// Time between samples; at least 100 ms.
    pub period: Duration,
    /// Time between process lists of one GPU, the only slow call (milliseconds each).
    pub process_period: Duration,
    /// A driver call that takes longer makes the state `Unresponsive`; loading and initialising may take six times as long.
    pub unresponsive_after: Duration,
    /// First pause before the driver is tried again; it doubles with each failure.
    pub retry_first: Duration,
    /// Longest pause before the driver is tried again, and the pause for what only an administrator can change (no library, version
    /// mismatch, no GPU). While only some GPUs fail, the session is renewed after this time, then ever more rarely up to ten times this.
    pub retry_longest: Duration,
    /// Who wants to know of an XID at once.
    pub on_xid: Option<OnXid>,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self {
            library_path: None,
            search_paths: library::driver_folders(),
            period: Duration::from_secs(1),
            process_period: Duration::from_secs(8),
            // With a call that begins a second later and the next report, 10 s at most until it is told.
            unresponsive_after: Duration::from_secs(7),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(30),
            on_xid: None,
        }
    }
}

/// Takes samples of this node's GPUs until it is stopped or dropped.
#[derive(Debug)]
pub struct GpuMonitor {
    shared: Arc<Shared>,
    unresponsive_after: Duration,
}

impl GpuMonitor {
    /// Starts the thread. Never fails: what goes wrong is the driver state of the snapshot.
    #[must_use]
    pub fn start(options: MonitorOptions) -> Self {
        let shared = Arc::new(Shared {
            snapshot: RwLock::new(Arc::new(Snapshot::default())),
            heart: Heart::new(),
            listening: Heart::new(),
            incidents: Mutex::default(),
            switches: Mutex::default(),
            addresses: Mutex::default(),
            on_xid: options.on_xid.clone(),
            look_closer: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            control: Mutex::new(Control {
                period: options.period.max(SHORTEST_PERIOD),
                stop: false,
                release: false,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let unresponsive_after = options.unresponsive_after;
        let ending = Ending(Arc::clone(&shared));
        let spawned = std::thread::Builder::new().name("nvml".to_owned()).spawn(move || {
            let ending = ending;
            Worker::new(Arc::clone(&ending.0), options).run();
        });
        if let Err(error) = spawned {
            let message = format!("cannot start the NVML thread: {error}");
            shared.publish_problem(Problem::unknown(message), Vec::new());
        }
        Self {
            shared,
            unresponsive_after,
        }
    }

    /// The newest snapshot, at once, with what has happened up to now. While a driver call is overdue its state is `Unresponsive` and its
    /// samples are those of before.
    #[must_use]
    pub fn latest(&self) -> Arc<Snapshot> {
        let mut snapshot = self.shared.snapshot();
        let hearts = [&self.shared.heart, &self.shared.listening];
        let overdue = hearts.map(|heart| heart.overdue(self.unresponsive_after));
        if let Some(running) = overdue.into_iter().flatten().max() {
            let for_seconds = u32::try_from(running.as_secs()).unwrap_or(u32::MAX);
            Arc::make_mut(&mut snapshot).driver = DriverState::Unresponsive { for_seconds };
        }
        let log = self.shared.log();
        if !log.incidents().is_empty() {
            Arc::make_mut(&mut snapshot).incidents = log.incidents().to_vec();
        }
        drop(log);
        let switches = self.shared.switches();
        if !switches.incidents().is_empty() {
            Arc::make_mut(&mut snapshot).switch_incidents = switches.incidents().to_vec();
        }
        drop(switches);
        snapshot
    }

    /// Lets go of the driver and unloads its library (`true`), so that it can be replaced, or takes it up again (`false`). Returns at once;
    /// the state is then `Unavailable` for a driver upgrade.
    pub fn set_released(&self, released: bool) {
        self.shared.change(|control| control.release = released);
    }

    /// Takes in what the kernel's log tells; an XID is told once with what the driver library tells of it. False for a GPU that no session
    /// has seen, of which nothing more is known than the log says.
    pub fn note_kernel_event(&self, event: &KernelEvent) -> bool {
        let now = Instant::now();
        let gpu_at = |pci: &PciAddress| self.shared.addresses().get(pci).cloned();
        match event {
            KernelEvent::Xid {
                pci,
                number,
                place,
                process,
            } => {
                let Some((index, uuid)) = gpu_at(pci) else { return false };
                self.shared
                    .note_xid(|log| log.kernel_xid((index, &uuid), *number, *place, process.clone(), now));
            }
            KernelEvent::OffTheBus { pci } => {
                let Some((index, uuid)) = gpu_at(pci) else { return false };
                self.shared.note_xid(|log| log.off_the_bus((index, &uuid), now));
            }
            KernelEvent::SwitchXid {
                pci,
                number,
                fatal: Some(fatal),
                text,
            } => {
                self.shared.switches().sxid(*pci, *number, *fatal, text, now);
                self.shared.tell();
            }
            // It tells more of another one.
            KernelEvent::SwitchXid { fatal: None, .. } => {}
        }
        true
    }

    /// Changes the time between samples, from now on; at least 100 ms.
    pub fn set_period(&self, period: Duration) {
        self.shared
            .change(|control| control.period = period.max(SHORTEST_PERIOD));
    }

    /// Ends the thread: leaves the driver and unloads its library. Returns after `within` at the latest, also when a driver call hangs.
    #[must_use = "an abandoned thread may keep the driver from being unloaded"]
    pub fn stop(self, within: Duration) -> Stopped {
        self.shared.change(|control| control.stop = true);
        let deadline = Instant::now() + within;
        let mut control = self.shared.control();
        while !control.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Stopped::Abandoned;
            }
            control = self.shared.wait(control, left);
        }
        Stopped::Cleanly
    }
}

/// NVIDIA, through NVML.
impl GpuReader for GpuMonitor {
    fn latest(&self) -> Arc<Snapshot> {
        Self::latest(self)
    }

    fn set_period(&self, period: Duration) {
        Self::set_period(self, period);
    }

    fn set_released(&self, released: bool) {
        Self::set_released(self, released);
    }

    fn note_kernel_event(&self, event: &KernelEvent) -> bool {
        Self::note_kernel_event(self, event)
    }

    fn stop(self: Box<Self>, within: Duration) -> Stopped {
        Self::stop(*self, within)
    }
}

impl Drop for GpuMonitor {
    fn drop(&mut self) {
        self.shared.change(|control| control.stop = true);
    }
}

/// What the thread and its readers share. No lock is held during a driver call.
#[derive(Debug)]
struct Shared {
    snapshot: RwLock<Arc<Snapshot>>,
    heart: Heart,
    /// The same of the thread that listens for events.
    listening: Heart,
    incidents: Mutex<IncidentLog>,
    switches: Mutex<SwitchLog>,
    /// Index and uuid of every GPU that was seen, by its place on the bus.
    addresses: Mutex<BTreeMap<PciAddress, (u32, String)>>,
    on_xid: Option<OnXid>,
    /// An event came: what is read more rarely is to be read with the next round.
    look_closer: AtomicBool,
    /// Waiting for events fails.
    deaf: AtomicBool,
    control: Mutex<Control>,
    changed: Condvar,
}

#[derive(Debug)]
struct Control {
    period: Duration,
    stop: bool,
    /// Let go of the driver and stay away from it.
    release: bool,
    ended: bool,
}

impl Shared {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, snapshot: Snapshot) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// Publishes that there is no GPU data: without samples, so that none outlives its session.
    fn publish_problem(&self, problem: Problem, calls: Vec<CallStats>) {
        let Problem {
            category,
            message,
            failed,
            lasting: _,
        } = problem;
        self.publish(Snapshot {
            driver: DriverState::Unavailable { category, message },
            failed,
            ticks: self.snapshot().ticks,
            calls,
            ..Snapshot::default()
        });
    }

    fn log(&self) -> std::sync::MutexGuard<'_, IncidentLog> {
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switches(&self) -> std::sync::MutexGuard<'_, SwitchLog> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, BTreeMap<PciAddress, (u32, String)>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut IncidentLog)) {
        note(&mut self.log());
    }

    /// Notes an XID: the GPU is looked at more closely with the next round, and who wants to know is told.
    fn note_xid(&self, note: impl FnOnce(&mut IncidentLog)) {
        self.note(note);
        self.look_closer.store(true, Ordering::Release);
        self.tell();
    }

    /// Tells who wants to know at once that something has happened.
    fn tell(&self) {
        if let Some(OnXid(call)) = &self.on_xid {
            call();
        }
    }

    fn control(&self) -> std::sync::MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        control: std::sync::MutexGuard<'a, Control>,
        timeout: Duration,
    ) -> std::sync::MutexGuard<'a, Control> {
        self.changed
            .wait_timeout(control, timeout)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn change(&self, change: impl FnOnce(&mut Control)) {
        change(&mut self.control());
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.control().stop
    }

    fn is_released(&self) -> bool {
        self.control().release
    }

    /// Waits for as long as the driver is to be left alone.
    fn wait_while_released(&self) {
        let mut control = self.control();
        while control.release && !control.stop {
            control = self.changed.wait(control).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sleeps until `due` (computed again when the period changes), or until the monitor stops or lets go.
    fn sleep_until(&self, due: impl Fn(&Control) -> Instant) {
        let mut control = self.control();
        while !control.stop && !control.release {
            let left = due(&control).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            control = self.wait(control, left);
        }
    }
}

/// Says that the thread is gone, however it ends.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.heart.rest();
        self.0.listening.rest();
        if std::thread::panicking() {
            let message = "the NVML thread ended unexpectedly".to_owned();
            self.0
                .publish_problem(Problem::unknown(message), self.0.snapshot().calls.clone());
        }
        self.0.change(|control| control.ended = true);
    }
}
