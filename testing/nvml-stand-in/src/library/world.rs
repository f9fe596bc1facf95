//! State of the library: the scenario as last read, and the counters that advance in real time.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use crate::codes::{Call, Cause, ReturnCode};
use crate::events::EventSets;
use crate::gpm;
use crate::scenario::{Gpu, Scenario};

/// How often the state file is looked at.
const CHECK_PERIOD: Duration = Duration::from_millis(20);
const STATE_NAME: &str = "nvml-stand-in.state";

static WORLD: Mutex<World> = Mutex::new(World {
    scenario: None,
    stamp: None,
    checked: None,
    since: SystemTime::UNIX_EPOCH,
    totals: Vec::new(),
    initialised: 0,
    event_sets: EventSets::new(),
    gpm_samples: gpm::Samples::new(),
});

pub struct World {
    scenario: Option<Scenario>,
    /// Identity of the state file last read.
    stamp: Option<(u64, u64, i64, i64)>,
    checked: Option<Instant>,
    /// Moment up to which `totals` hold.
    since: SystemTime,
    totals: Vec<Totals>,
    /// Count of `nvmlInit` not yet matched by `nvmlShutdown`.
    pub initialised: u32,
    pub event_sets: EventSets,
    pub gpm_samples: gpm::Samples,
}

/// Counters of a GPU at `World::since`.
#[derive(Clone, Default)]
struct Totals {
    throttle_nanoseconds: [f64; Cause::ALL.len()],
    energy_millijoules: f64,
    /// By GPU instance of MIG.
    mig_busy_seconds: BTreeMap<u32, f64>,
}

impl Totals {
    fn after(&self, gpu: &Gpu, elapsed: Duration) -> Self {
        let mut totals = self.clone();
        let nanoseconds = elapsed.as_nanos() as f64;
        for (total, cause) in totals.throttle_nanoseconds.iter_mut().zip(Cause::ALL) {
            *total += gpu.throttle.get(&cause).copied().flatten().unwrap_or(0.0) * nanoseconds;
        }
        for mig in &gpu.mig {
            let instances: BTreeMap<u32, u32> = mig
                .devices
                .iter()
                .rev()
                .map(|device| (device.gpu_instance, device.utilization))
                .collect();
            for (instance, utilization) in instances {
                *totals.mig_busy_seconds.entry(instance).or_default() +=
                    f64::from(utilization) / 100.0 * elapsed.as_secs_f64();
            }
        }
        totals.energy_millijoules += f64::from(gpu.power_mw.unwrap_or(0)) * elapsed.as_secs_f64();
        totals
    }
}

impl World {
    fn lock() -> MutexGuard<'static, Self> {
        WORLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn scenario(&self) -> Result<&Scenario, ReturnCode> {
        self.scenario.as_ref().ok_or(ReturnCode::UNKNOWN)
    }

    pub fn gpu(&self, index: usize) -> Result<&Gpu, ReturnCode> {
        self.scenario()?.gpus.get(index).ok_or(ReturnCode::INVALID_ARG)
    }

    /// Cumulative throttle time of a GPU, nanoseconds; `None` for a cause that it does not count.
    pub fn throttle_nanoseconds(&self, index: usize, cause: Cause) -> Option<u64> {
        let gpu = self.gpu(index).ok()?;
        if gpu.throttle.get(&cause) == Some(&None) {
            return None;
        }
        let position = Cause::ALL.iter().position(|other| *other == cause)?;
        Some(self.totals_now(index)?.throttle_nanoseconds[position] as u64)
    }

    /// Energy of a GPU since the library was loaded, millijoules.
    pub fn energy_millijoules(&self, index: usize) -> Option<u64> {
        self.gpu(index).ok()?.power_mw?;
        Some(self.totals_now(index)?.energy_millijoules as u64)
    }

    /// For how long a GPU instance of MIG has been busy since the library was loaded, seconds.
    pub fn mig_busy_seconds(&self, index: usize, gpu_instance: u32) -> f64 {
        let totals = self.totals_now(index);
        totals.and_then(|totals| totals.mig_busy_seconds.get(&gpu_instance).copied()).unwrap_or(0.0)
    }

    fn totals_now(&self, index: usize) -> Option<Totals> {
        let elapsed = SystemTime::now().duration_since(self.since).unwrap_or_default();
        Some(self.totals.get(index)?.after(self.gpu(index).ok()?, elapsed))
    }

    /// Reads the state file again if it changed. What cannot be read leaves the state as it was.
    fn refresh(&mut self) {
        if self.checked.is_some_and(|checked| checked.elapsed() < CHECK_PERIOD) {
            return;
        }
        self.checked = Some(Instant::now());
        let Some(path) = state_path() else { return };
        let Ok(metadata) = std::fs::metadata(&path) else { return };
        let stamp = Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()));
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        match text.parse() {
            Ok(scenario) => self.replace(scenario, &metadata),
            Err(error) => eprintln!("{}: {error}; the state before stays", path.display()),
        }
    }

    /// Changes the scenario: the counters advance by the old one until the file was written, and by the new one from then on.
    fn replace(&mut self, scenario: Scenario, metadata: &Metadata) {
        let now = SystemTime::now();
        let boundary = match &self.scenario {
            None => now,
            Some(_) => metadata
                .modified()
                .unwrap_or(now)
                .clamp(self.since, now.max(self.since)),
        };
        let elapsed = boundary.duration_since(self.since).unwrap_or_default();
        if let Some(old) = &self.scenario {
            for (totals, gpu) in self.totals.iter_mut().zip(&old.gpus) {
                *totals = totals.after(gpu, elapsed);
            }
        }
        self.totals.resize(scenario.gpus.len(), Totals::default());
        self.since = boundary;
        self.scenario = Some(scenario);
    }

    /// What `symbol` answers before it looks at its arguments.
    fn refusal(&self, symbol: &str, device: Option<usize>) -> Result<(), ReturnCode> {
        let scenario = self.scenario()?;
        if scenario.missing_symbols.iter().any(|call| call.is(symbol)) {
            return Err(ReturnCode::FUNCTION_NOT_FOUND);
        }
        if self.initialised == 0 && !["Init", "InitWithFlags"].iter().any(|init| Call::new(init).is(symbol)) {
            return Err(ReturnCode::UNINITIALIZED);
        }
        let Some(device) = device else { return Ok(()) };
        let failures = &self.gpu(device)?.fail;
        let failure = failures
            .iter()
            .find(|failure| failure.call.as_ref().is_none_or(|call| call.is(symbol)));
        failure.map_or(Ok(()), |failure| Err(failure.code))
    }

    fn hangs(&self, symbol: &str, device: Option<usize>) -> bool {
        let Ok(scenario) = self.scenario() else { return false };
        let of_gpu = device
            .and_then(|device| scenario.gpus.get(device))
            .map_or(&[][..], |gpu| &gpu.hang);
        scenario.hang.iter().chain(of_gpu).any(|call| call.is(symbol))
    }

    fn delay(&self, symbol: &str) -> Option<Duration> {
        let entry = self.scenario().ok()?.delay.iter().find(|(call, _)| call.is(symbol))?;
        Some(Duration::from_micros(entry.1))
    }
}

/// Runs one driver call: waits while it is told to hang or to be slow, refuses where it is told to, and else answers.
pub fn call(symbol: &str, device: Option<usize>, answer: impl FnOnce(&mut World) -> Result<(), ReturnCode>) -> u32 {
    let mut world = World::lock();
    world.refresh();
    while world.hangs(symbol, device) {
        drop(world);
        std::thread::sleep(CHECK_PERIOD);
        world = World::lock();
        world.refresh();
    }
    if let Some(delay) = world.delay(symbol) {
        drop(world);
        std::thread::sleep(delay);
        world = World::lock();
    }
    match world.refusal(symbol, device).and_then(|()| answer(&mut world)) {
        Ok(()) => ReturnCode::SUCCESS.0,
        Err(code) => code.0,
    }
}

#[repr(C)]
struct DlInfo {
    file_name: *const c_char,
    file_base: *mut c_void,
    symbol_name: *const c_char,
    symbol_address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
}

/// The state file beside the file that this library was loaded from.
fn state_path() -> Option<PathBuf> {
    let mut info = DlInfo {
        file_name: std::ptr::null(),
        file_base: std::ptr::null_mut(),
        symbol_name: std::ptr::null(),
        symbol_address: std::ptr::null_mut(),
    };
    // SAFETY: the address is inside this library, `info` is writable, and `file_name` lives as long as the library is loaded.
    let file_name = unsafe {
        if dladdr((&raw const WORLD).cast(), &mut info) == 0 || info.file_name.is_null() {
            return None;
        }
        CStr::from_ptr(info.file_name)
    };
    Some(PathBuf::from(OsStr::from_bytes(file_name.to_bytes())).with_file_name(STATE_NAME))
}
