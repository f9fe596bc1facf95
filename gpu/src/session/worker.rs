//! The thread: sessions one after another, and the pauses between them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::device::{DeviceReader, Reading};
use super::events::Listener;
use super::failure::{Failure, Problem};
use super::heart::Calls;
use super::known::KnownGpus;
use super::raw::Numbering;
use super::{MonitorOptions, SHORTEST_PERIOD, Shared, library};
use crate::sample::{DriverProblem, DriverState};
use crate::snapshot::{CallClass, FailedGpu, Snapshot};

/// Rounds in which every GPU refuses before the session is given up.
const REFUSED_ROUNDS: u32 = 5;
/// How much more rarely than `retry_longest` a session is renewed for the sake of GPUs that stay lost.
const RENEWAL_LIMIT: u32 = 10;

pub(super) struct Worker {
    shared: Arc<Shared>,
    options: MonitorOptions,
    /// Every GPU that was seen, to name one that is lost, and to see what has changed.
    known: KnownGpus,
    pause: Duration,
    /// Time until a session with failed GPUs is renewed.
    renewal: Duration,
    ticks: u64,
    /// Of the last session.
    driver_version: Option<String>,
    /// What answers next is a driver that was loaded anew.
    driver_anew: bool,
}

/// The GPUs of a session.
struct Gpus<'nvml> {
    readers: Vec<DeviceReader<'nvml>>,
    /// Those that could not be opened, are not enumerated any more, or were lost since.
    failed: Vec<FailedGpu>,
    /// How many the driver enumerates, and when to count them again.
    count: u32,
    count_at: Instant,
    /// When to look for them again with a new session.
    renew_at: Option<Instant>,
    /// Rounds in a row in which nothing could be read.
    refused_rounds: u32,
}

/// Why a session ended.
enum End {
    Stopped,
    /// To leave the driver alone.
    Released,
    /// To look again for GPUs that failed.
    Renewal,
    Failed(Problem),
}

/// Tells the thread that listens for events that the session is over, however it ends.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, mut options: MonitorOptions) -> Self {
        options.process_period = options.process_period.max(SHORTEST_PERIOD);
        let (pause, renewal) = (options.retry_first, options.retry_longest);
        Self {
            shared,
            options,
            known: KnownGpus::default(),
            pause,
            renewal,
            ticks: 0,
            driver_version: None,
            driver_anew: false,
        }
    }

    /// The kernel module was unloaded: what answers after this is a driver that was loaded anew.
    fn driver_gone(&mut self) {
        self.known.driver_gone();
        self.driver_anew = true;
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut calls = Calls::new(&shared.heart);
        while !shared.is_stopping() {
            if shared.is_released() {
                shared.publish_problem(Problem::driver_upgrade(), calls.stats());
                shared.wait_while_released();
                continue;
            }
            let opened = library::open(&self.options, &mut calls);
            let begun = Instant::now();
            let end = match opened {
                Ok(nvml) => {
                    let end = self.session(&nvml, &mut calls);
                    library::close(nvml, &mut calls);
                    end
                }
                Err(problem) => {
                    if problem.category == DriverProblem::DriverNotLoaded {
                        self.driver_gone();
                    }
                    End::Failed(problem)
                }
            };
            let Some(pause) = self.pause_after(end, begun.elapsed(), &calls) else {
                continue;
            };
            let due = Instant::now() + pause;
            shared.sleep_until(|_| due);
        }
    }

    /// Publishes what went wrong, and says how long to wait before the next session.
    fn pause_after(&mut self, end: End, lasted: Duration, calls: &Calls<'_>) -> Option<Duration> {
        let End::Failed(problem) = end else { return None };
        let lasting = problem.lasting;
        self.shared.publish_problem(problem, calls.stats());
        if lasted > self.options.retry_longest {
            self.pause = self.options.retry_first;
        }
        Some(if lasting {
            with_jitter(self.options.retry_longest)
        } else {
            self.next_pause()
        })
    }

    fn next_pause(&mut self) -> Duration {
        let pause = with_jitter(self.pause);
        self.pause = (self.pause * 2).min(self.options.retry_longest);
        pause
    }

    fn session(&mut self, nvml: &Nvml, calls: &mut Calls<'_>) -> End {
        let version = calls.run(CallClass::Facts, || nvml.sys_driver_version());
        let version = version.unwrap_or_else(|_| "unknown".to_owned());
        if self.driver_version.as_ref().is_some_and(|before| *before != version) {
            // What answers now is a driver that was loaded anew.
            self.driver_gone();
        }
        self.driver_version = Some(version.clone());
        let numbering = Numbering::of(&version);
        let driver = DriverState::Ready {
            driver_version: version,
        };
        let mut gpus = match self.enumerate(nvml, numbering, calls) {
            Ok(gpus) => gpus,
            Err(problem) => return End::Failed(problem),
        };
        for reader in &mut gpus.readers {
            if let Some(health) = self.known.health(reader.uuid()) {
                reader.set_last_health(health);
            }
        }
        if gpus.failed.is_empty() {
            self.renewal = self.options.retry_longest;
        } else {
            gpus.renew_at = Some(Instant::now() + self.renewal);
            self.renewal = (self.renewal * 2).min(self.options.retry_longest * RENEWAL_LIMIT);
        }
        if self.known.awaits_any() {
            let renew_at = Instant::now() + self.next_pause();
            gpus.renew_at = Some(gpus.renew_at.map_or(renew_at, |earlier| earlier.min(renew_at)));
        }
        let Some(listener) = Listener::register(nvml, &mut gpus.readers, calls) else {
            return self.rounds(nvml, &driver, &mut gpus, calls);
        };
        let shared = Arc::clone(&self.shared);
        let ended = AtomicBool::new(false);
        let ended = &ended;
        std::thread::scope(|scope| {
            let ending = Ended(ended);
            let thread = std::thread::Builder::new().name("nvml-events".to_owned());
            let thread = thread.spawn_scoped(scope, move || listener.listen(&shared, ended));
            if thread.is_err() {
                gpus.readers.iter_mut().for_each(|reader| reader.set_xid_events(false));
            }
            let end = self.rounds(nvml, &driver, &mut gpus, calls);
            drop(ending);
            if let Ok(thread) = thread {
                // A wait that hangs is a driver that hangs: the heartbeat tells. A panic of that thread ends nothing else.
                _ = calls.run(CallClass::Events, || thread.join());
            }
            end
        })
    }

    /// Reads and publishes until the session ends.
    fn rounds(&mut self, nvml: &Nvml, driver: &DriverState, gpus: &mut Gpus<'_>, calls: &mut Calls<'_>) -> End {
        loop {
            let taken = Instant::now();
            let mut snapshot = match self.round(gpus, calls) {
                Ok(snapshot) => snapshot,
                Err(end) => return end,
            };
            self.ticks += 1;
            snapshot.driver = driver.clone();
            snapshot.taken = Some(taken);
            snapshot.ticks = self.ticks;
            snapshot.calls = calls.stats();
            self.shared.publish(snapshot);
            self.shared.note(|log| log.forget(taken));
            self.shared.switches().forget(taken);

            self.shared.sleep_until(|control| taken + control.period);
            if self.shared.is_stopping() {
                return End::Stopped;
            }
            if self.shared.is_released() {
                return End::Released;
            }
            if gpus.renew_at.is_some_and(|renew_at| renew_at <= Instant::now()) || self.count_changed(nvml, gpus, calls)
            {
                return End::Renewal;
            }
        }
    }

    /// Whether the driver enumerates another number of GPUs than when the session began; looked at with the slow calls.
    fn count_changed(&self, nvml: &Nvml, gpus: &mut Gpus<'_>, calls: &mut Calls<'_>) -> bool {
        let now = Instant::now();
        if now < gpus.count_at {
            return false;
        }
        gpus.count_at = now + self.options.process_period;
        // A refusal says nothing of the number.
        calls
            .run(CallClass::Facts, || nvml.device_count())
            .is_ok_and(|count| count != gpus.count)
    }

    /// Reads every GPU once.
    fn round(&mut self, gpus: &mut Gpus<'_>, calls: &mut Calls<'_>) -> Result<Snapshot, End> {
        let mut snapshot = Snapshot::default();
        let mut refusals = Vec::new();
        let mut refusal = None;
        let mut position = 0;
        let closer = self.shared.look_closer.swap(false, Ordering::AcqRel);
        let deaf = self.shared.deaf.load(Ordering::Acquire);
        while let Some(reader) = gpus.readers.get_mut(position) {
            if self.shared.is_stopping() {
                return Err(End::Stopped);
            }
            let reading = reader.read(self.options.process_period, closer, calls);
            let (index, uuid) = (reader.index(), reader.uuid().to_owned());
            position += 1;
            match reading {
                Ok(Reading::Sample(mut sample)) => {
                    if deaf {
                        sample.health.xid_events = Some(false);
                    }
                    if std::mem::take(&mut self.driver_anew) {
                        self.shared.switches().begins_anew();
                    }
                    // Only here, since one that opens may still not answer.
                    if self.known.is_back(&uuid) {
                        self.shared.note(|log| log.begins_anew(&uuid));
                    }
                    if let Some(instances) = &sample.mig_instances {
                        self.shared.note(|log| log.instances(&uuid, instances));
                    }
                    let errors = self.known.works(&uuid, sample.health);
                    self.shared.note(|log| log.ecc((index, &uuid), errors, Instant::now()));
                    snapshot.samples.push(*sample);
                }
                Ok(Reading::Refused(error)) => {
                    refusals.push(self.known.fails(index, Some(&uuid), &error));
                    refusal = Some(error);
                }
                Err(error) if Failure::of(&error) == Failure::GpuLost => {
                    let failed = self.known.fails(index, Some(&uuid), &error);
                    gpus.failed.push(failed);
                    if gpus.readers.len() == 1 {
                        let mut problem = Problem::of(&format!("GPU {index} {uuid}"), &error);
                        problem.failed.append(&mut gpus.failed);
                        return Err(End::Failed(problem));
                    }
                    // The others go on until the session is renewed.
                    position -= 1;
                    gpus.readers.remove(position);
                    let renew_at = Instant::now() + self.next_pause();
                    gpus.renew_at = Some(gpus.renew_at.map_or(renew_at, |earlier| earlier.min(renew_at)));
                }
                Err(error) => {
                    self.driver_gone();
                    return Err(End::Failed(Problem::of(&format!("GPU {index} {uuid}"), &error)));
                }
            }
        }
        match refusal {
            Some(error) if snapshot.samples.is_empty() => {
                gpus.refused_rounds += 1;
                if gpus.refused_rounds >= REFUSED_ROUNDS {
                    let mut problem = Problem::of("every GPU refuses to be read", &error);
                    problem.failed = gpus.failed.drain(..).chain(refusals).collect();
                    problem.failed.sort_by_key(|failed| failed.index);
                    return Err(End::Failed(problem));
                }
            }
            _ => gpus.refused_rounds = 0,
        }
        snapshot.failed = gpus.failed.iter().cloned().chain(refusals).collect();
        snapshot.failed.sort_by_key(|failed| failed.index);
        Ok(snapshot)
    }

    /// Opens every GPU. Those that fail are told apart, as long as one works.
    fn enumerate<'nvml>(
        &mut self,
        nvml: &'nvml Nvml,
        numbering: Numbering,
        calls: &mut Calls<'_>,
    ) -> Result<Gpus<'nvml>, Problem> {
        let count = calls
            .run(CallClass::Facts, || nvml.device_count())
            .map_err(|error| Problem::of("counting the GPUs", &error))?;
        let mut readers: Vec<DeviceReader<'nvml>> = Vec::new();
        let mut errors: Vec<(u32, NvmlError)> = Vec::new();
        let now = Instant::now();
        for index in 0..count {
            if self.shared.is_stopping() {
                break;
            }
            // Spread over the period, so that the slow calls of eight GPUs do not come at once.
            let next_slow = now + self.options.process_period * index / count;
            match DeviceReader::new(nvml, numbering, index, next_slow, calls) {
                Ok(reader) => readers.push(reader),
                Err(error) if Failure::of(&error) == Failure::DriverGone => {
                    return Err(Problem::of(&format!("GPU {index}"), &error));
                }
                Err(error) => errors.push((index, error)),
            }
        }
        let opened: Vec<&str> = readers.iter().map(DeviceReader::uuid).collect();
        let mut failed = Vec::new();
        for (index, error) in &errors {
            let uuid = self.known.unopened_at(*index, &opened);
            failed.push(self.known.fails(*index, uuid.as_deref(), error));
        }
        if !self.shared.is_stopping() {
            failed.append(&mut self.known.not_enumerated(&opened, &failed));
        }
        failed.sort_by_key(|failed| failed.index);
        for reader in &readers {
            self.known.opened(reader.index(), reader.uuid(), reader.minor_number());
            if let Some(pci) = reader.pci() {
                let gpu = (reader.index(), reader.uuid().to_owned());
                self.shared.addresses().insert(pci, gpu);
            }
        }
        match errors.last() {
            Some((index, error)) if readers.is_empty() => Err(Problem {
                failed,
                ..Problem::of(&format!("GPU {index}"), error)
            }),
            _ if count == 0 => Err(Problem {
                category: DriverProblem::NoDevices,
                message: "the driver is loaded and knows no GPU".to_owned(),
                lasting: true,
                failed,
            }),
            _ => Ok(Gpus {
                readers,
                failed,
                count,
                count_at: now + self.options.process_period,
                renew_at: None,
                refused_rounds: 0,
            }),
        }
    }
}

/// Between 75 % and 125 %, so that the daemons of a cluster do not keep step after a common cause.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 512;
    pause * (768 + u32::try_from(random).unwrap_or(0)) / 1024
}
