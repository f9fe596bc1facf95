//! What the stand-in plays: a driver, its GPUs, and what goes wrong.

use std::collections::BTreeMap;

use crate::codes::{Call, Cause, ReturnCode};
use crate::mig::Mig;

/// Everything the stand-in answers. `Display` and `FromStr` are the state file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Driver version; decides which fields and events there are, and when installed which symbols.
    pub driver: String,
    /// What `nvmlInit` answers instead of success.
    pub init_error: Option<ReturnCode>,
    /// Symbols that answer `FunctionNotFound`, as a driver does whose kernel part lacks the call.
    pub missing_symbols: Vec<Call>,
    /// Full symbol names that the installed library does not export at all. Read when the library is installed, not later.
    pub absent_symbols: Vec<String>,
    /// Calls that do not return for as long as they are named here.
    pub hang: Vec<Call>,
    /// Calls that take this long, microseconds.
    pub delay: Vec<(Call, u64)>,
    /// The GPUs, in enumeration order.
    pub gpus: Vec<Gpu>,
}

/// A GPU of a [`Scenario`]. `None` is answered as `NotSupported`; the default supports nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gpu {
    /// Product name.
    pub name: String,
    /// `GPU-<uuid>`.
    pub uuid: String,
    /// Device memory, MiB.
    pub memory_total_mib: u64,
    /// Part that the driver keeps for itself, MiB. As on real GPUs, `used` does not contain it: total = reserved + used + free.
    pub memory_reserved_mib: u64,
    /// Memory in use, MiB.
    pub memory_used_mib: u64,
    /// GPU utilisation, percent.
    pub utilization: Option<u32>,
    /// Memory utilisation, percent.
    pub memory_utilization: Option<u32>,
    /// SM clock now, MHz.
    pub sm_clock: Option<u32>,
    /// Highest SM clock, MHz.
    pub sm_clock_max: Option<u32>,
    /// Memory clock now, MHz.
    pub memory_clock: Option<u32>,
    /// Power draw, milliwatts; the energy counter advances with it.
    pub power_mw: Option<u32>,
    /// Power limit enforced, milliwatts.
    pub power_limit_mw: Option<u32>,
    /// Power limit the board ships with, milliwatts.
    pub power_limit_default_mw: Option<u32>,
    /// Core temperature, degrees Celsius.
    pub temperature: Option<u32>,
    /// Degrees left until the hardware slows down.
    pub margin: Option<i32>,
    /// Temperature at which the hardware slows down, of boards before Hopper and Ada.
    pub slowdown: Option<u32>,
    /// The board has the settings of power smoothing (Blackwell): with some drivers they have ids that throttle counters have with others.
    pub power_smoothing: bool,
    /// Memory temperature, degrees Celsius.
    pub memory_temperature: Option<u32>,
    /// Driver's recovery action (field 230): 0 none, 1 reset, 2 reboot, 3 drain, 4 drain and reset.
    pub recovery_action: Option<u32>,
    /// Uncorrectable ECC errors since the driver loaded (field 4).
    pub ecc_volatile: Option<u64>,
    /// Uncorrectable ECC errors of the GPU's life (field 6).
    pub ecc_aggregate: Option<u64>,
    /// Rows remapped after uncorrectable errors (field 143).
    pub remapped_rows: Option<u32>,
    /// A row waits to be remapped by the next reset: 0 or 1 (field 144).
    pub remap_pending: Option<u32>,
    /// A row could not be remapped: 0 or 1 (field 145).
    pub remap_failed: Option<u32>,
    /// Pages retired after double-bit errors (field 30).
    pub retired_pages: Option<u32>,
    /// A page waits to be retired by the next reset: 0 or 1 (field 31).
    pub retirement_pending: Option<u32>,
    /// Events, each delivered once to every event set that had the GPU registered when the event was written.
    pub events: Vec<Event>,
    /// Clocks event bitmask; `None` derives it from [`Self::throttle`].
    pub clocks_event_reasons: Option<u64>,
    /// Duty by cause: the counter advances by this share of real time. A cause that is not named stands still; `None` is not counted at all.
    pub throttle: BTreeMap<Cause, Option<f64>>,
    /// Processes that compute on the GPU.
    pub processes: Vec<Process>,
    /// MIG; `None` for a GPU that does not have it.
    pub mig: Option<Mig>,
    /// Calls that fail, and how; no call named: all of them.
    pub fail: Vec<Failure>,
    /// Calls that do not return on this GPU.
    pub hang: Vec<Call>,
}

/// Something that the driver tells of as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Tells events of one GPU apart; the same number is the same event.
    pub serial: u32,
    /// Bit of `nvmlEventType`: 0x8 for an XID.
    pub kind: u64,
    /// The XID number; 0 for others.
    pub data: u64,
    /// GPU instance of MIG.
    pub gpu_instance: Option<u32>,
    /// Compute instance of MIG, by its number in the GPU instance.
    pub compute_instance: Option<u32>,
}

impl Event {
    /// Bit of an XID.
    pub const XID: u64 = 0x8;
    /// Bit of a double-bit ECC error.
    pub const DOUBLE_BIT_ECC: u64 = 0x2;
}

/// A process on a [`Gpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Device memory it holds, MiB; `None` where the driver does not tell.
    pub used_mib: Option<u64>,
}

/// An answer in place of the real one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The answer.
    pub code: ReturnCode,
    /// The call; `None` is every call on that GPU.
    pub call: Option<Call>,
}

impl Scenario {
    /// A driver without GPUs.
    #[must_use]
    pub fn new(driver: &str) -> Self {
        Self {
            driver: driver.to_owned(),
            init_error: None,
            missing_symbols: Vec::new(),
            absent_symbols: Vec::new(),
            hang: Vec::new(),
            delay: Vec::new(),
            gpus: Vec::new(),
        }
    }

    /// Adds a GPU.
    #[must_use]
    pub fn gpu(mut self, gpu: Gpu) -> Self {
        self.gpus.push(gpu);
        self
    }

    /// Makes `nvmlInit` fail.
    #[must_use]
    pub fn init_error(mut self, code: ReturnCode) -> Self {
        self.init_error = Some(code);
        self
    }

    /// Makes a symbol answer `FunctionNotFound`.
    #[must_use]
    pub fn missing_symbol(mut self, name: &str) -> Self {
        self.missing_symbols.push(Call::new(name));
        self
    }

    /// Leaves a symbol out of the installed library.
    #[must_use]
    pub fn absent_symbol(mut self, name: &str) -> Self {
        self.absent_symbols.push(name.to_owned());
        self
    }

    /// Makes a call hang on every GPU.
    #[must_use]
    pub fn hang(mut self, call: &str) -> Self {
        self.hang.push(Call::new(call));
        self
    }

    /// Makes a call slow on every GPU.
    #[must_use]
    pub fn delay(mut self, call: &str, microseconds: u64) -> Self {
        self.delay.push((Call::new(call), microseconds));
        self
    }
}

impl Gpu {
    /// Sets the duty of a throttle cause, 0 to 1.
    #[must_use]
    pub fn throttle(mut self, cause: Cause, duty: f64) -> Self {
        self.throttle.insert(cause, Some(duty));
        self
    }

    /// Adds a process.
    #[must_use]
    pub fn process(mut self, pid: u32, used_mib: u64) -> Self {
        self.processes.push(Process {
            pid,
            used_mib: Some(used_mib),
        });
        self
    }

    /// Adds an XID with the next serial number.
    #[must_use]
    pub fn xid(self, number: u64) -> Self {
        self.event(Event::XID, number)
    }

    /// Adds an event with the next serial number.
    #[must_use]
    pub fn event(mut self, kind: u64, data: u64) -> Self {
        let serial = self.events.last().map_or(1, |event| event.serial + 1);
        self.events.push(Event {
            serial,
            kind,
            data,
            gpu_instance: None,
            compute_instance: None,
        });
        self
    }

    /// Adds an XID in an instance of MIG: GPU instance and compute instance.
    #[must_use]
    pub fn xid_in(self, number: u64, (gpu_instance, compute_instance): (u32, Option<u32>)) -> Self {
        let mut gpu = self.xid(number);
        if let Some(event) = gpu.events.last_mut() {
            event.gpu_instance = Some(gpu_instance);
            event.compute_instance = compute_instance;
        }
        gpu
    }

    /// Makes every call on this GPU fail.
    #[must_use]
    pub fn fail(mut self, code: ReturnCode) -> Self {
        self.fail.push(Failure { code, call: None });
        self
    }

    /// Makes one call on this GPU fail.
    #[must_use]
    pub fn fail_call(mut self, call: &str, code: ReturnCode) -> Self {
        self.fail.push(Failure {
            code,
            call: Some(Call::new(call)),
        });
        self
    }

    /// Makes a call on this GPU hang.
    #[must_use]
    pub fn hang(mut self, call: &str) -> Self {
        self.hang.push(Call::new(call));
        self
    }

    /// Memory that is neither reserved nor used, MiB.
    #[must_use]
    pub fn memory_free_mib(&self) -> u64 {
        self.memory_total_mib
            .saturating_sub(self.memory_reserved_mib)
            .saturating_sub(self.memory_used_mib)
    }

    /// The clocks event bitmask: as set, or what the throttle duties imply; idle (0x1) without load.
    #[must_use]
    pub fn event_reasons(&self) -> u64 {
        self.clocks_event_reasons.unwrap_or_else(|| {
            let active = self
                .throttle
                .iter()
                .filter(|(_, duty)| duty.is_some_and(|duty| duty > 0.0));
            let bits = active.fold(0, |bits, (cause, _)| bits | cause.event_bit());
            if bits == 0 && self.utilization == Some(0) {
                1
            } else {
                bits
            }
        })
    }
}
