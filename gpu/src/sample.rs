//! One GPU at one moment, in vendor-neutral words. Unknown is `None`, never 0.

use crate::health::GpuHealth;
use crate::mig::MigInstance;
use crate::process::GpuProcess;
use serde::{Deserialize, Serialize};

/// Causes for which a GPU loses clocks, as far as they have a cumulative counter in the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ThrottleCause {
    /// The hardware slows down to protect itself from heat.
    HardwareThermal,
    /// External power brake: the power supply asks the GPU to draw less.
    HardwarePowerBrake,
    /// The driver lowers clocks to stay below its thermal target.
    SoftwareThermal,
    /// Clocks held by the power limit; normal GPU Boost behaviour unless corroborated.
    PowerCap,
    /// Board limits of current or voltage.
    BoardLimit,
    /// Reliability voltage limit.
    Reliability,
    /// Synchronised to the slowest GPU of a sync boost group.
    SyncBoost,
    /// Below base clock for any reason.
    BelowBaseClock,
}

impl ThrottleCause {
    /// Every cause, most severe first.
    pub const ALL: [Self; 8] = [
        Self::HardwareThermal,
        Self::HardwarePowerBrake,
        Self::SoftwareThermal,
        Self::PowerCap,
        Self::BoardLimit,
        Self::Reliability,
        Self::SyncBoost,
        Self::BelowBaseClock,
    ];

    /// Name used as a condition reason and metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HardwareThermal => "HardwareThermal",
            Self::HardwarePowerBrake => "HardwarePowerBrake",
            Self::SoftwareThermal => "SoftwareThermal",
            Self::PowerCap => "PowerCap",
            Self::BoardLimit => "BoardLimit",
            Self::Reliability => "Reliability",
            Self::SyncBoost => "SyncBoost",
            Self::BelowBaseClock => "BelowBaseClock",
        }
    }
}

/// Time lost to one cause since the driver loaded. Goes backwards when the driver is reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThrottleCounter {
    /// Why clocks were lost.
    pub cause: ThrottleCause,
    /// Cumulative time, nanoseconds.
    pub nanoseconds: u64,
}

/// One GPU at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GpuSample {
    /// Index in enumeration order.
    pub index: u32,
    /// `GPU-<uuid>`.
    pub uuid: String,
    /// Number in its device file, `/dev/nvidia<minor>`. It is not the index; some device plugins name GPUs by it.
    pub minor_number: Option<u32>,
    /// Product name.
    pub name: String,
    /// Total device memory, bytes.
    pub memory_total_bytes: Option<u64>,
    /// Device memory free, bytes. Occupied is total - free (the driver's `used` excludes its own reserve).
    pub memory_free_bytes: Option<u64>,
    /// Device memory that processes hold, bytes, as the driver counts it: without its own reserve.
    pub memory_used_bytes: Option<u64>,
    /// Share of time in which at least one kernel ran, 0-100.
    pub utilization_percent: Option<u32>,
    /// Share of time in which memory was read or written, 0-100.
    pub memory_utilization_percent: Option<u32>,
    /// SM clock now, MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Highest SM clock of this board, MHz.
    pub sm_clock_max_mhz: Option<u32>,
    /// Memory clock now, MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Power draw, milliwatts.
    pub power_milliwatts: Option<u32>,
    /// Power limit enforced now, milliwatts.
    pub power_limit_milliwatts: Option<u32>,
    /// Power limit the board ships with, milliwatts.
    pub power_limit_default_milliwatts: Option<u32>,
    /// Total energy since the driver loaded, millijoules.
    pub energy_millijoules: Option<u64>,
    /// Core temperature, degrees Celsius.
    pub temperature_celsius: Option<u32>,
    /// Degrees left before the hardware slows down; negative means it does.
    pub temperature_margin_celsius: Option<i32>,
    /// Memory temperature, degrees Celsius.
    pub memory_temperature_celsius: Option<u32>,
    /// Cumulative throttle time by cause; a cause the driver does not count is left out.
    pub throttle: Vec<ThrottleCounter>,
    /// Clocks event bitmask (`nvmlClocksEventReasons`), read every few seconds: for people only, it misses what happens between two looks.
    pub clocks_event_reasons: Option<u64>,
    /// Processes on this GPU; `None` until the first slow tick or where the driver refuses.
    pub processes: Option<Vec<GpuProcess>>,
    /// What the driver says of the state of the GPU and its memory.
    pub health: GpuHealth,
    /// The parts that it is divided into; `None` while MIG is off, and where nobody tells.
    pub mig_instances: Option<Vec<MigInstance>>,
}

/// State of the driver session of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum DriverState {
    /// The session has not been tried yet.
    #[default]
    Starting,
    /// GPUs are read.
    Ready {
        /// Driver version, for example `580.95.05`.
        driver_version: String,
    },
    /// No GPU data, with the reason: no library, no permission, version mismatch, no device.
    Unavailable {
        /// Stable category: `LibraryNotFound`, `DriverNotLoaded`, `NoPermission`, `DriverVersionMismatch`, `NoDevices`, `Unknown`.
        category: DriverProblem,
        /// Text of the driver or the loader, for people.
        message: String,
    },
    /// A driver call has not returned for a while; samples are stale.
    Unresponsive {
        /// Seconds since the call was made.
        for_seconds: u32,
    },
}

/// Why there is no GPU data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DriverProblem {
    /// `libnvidia-ml.so.1` is not where it was looked for.
    LibraryNotFound,
    /// The library is there, the kernel module is not loaded.
    DriverNotLoaded,
    /// Device files cannot be opened.
    NoPermission,
    /// User-space library and kernel module differ in version.
    DriverVersionMismatch,
    /// Everything is there, but no GPU.
    NoDevices,
    /// The driver is being upgraded, and this process has let go of it.
    DriverUpgrade,
    /// Any other answer of the driver.
    Unknown,
}

impl DriverProblem {
    /// Stable name, used as a label and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LibraryNotFound => "LibraryNotFound",
            Self::DriverNotLoaded => "DriverNotLoaded",
            Self::NoPermission => "NoPermission",
            Self::DriverVersionMismatch => "DriverVersionMismatch",
            Self::NoDevices => "NoDevices",
            Self::DriverUpgrade => "DriverUpgrade",
            Self::Unknown => "Unknown",
        }
    }
}
