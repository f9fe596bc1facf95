//! Names of `nvmlReturn_t`, driver calls and throttle causes, as a state file writes them.

use std::fmt;
use std::str::FromStr;

use crate::driver;

/// A value of `nvmlReturn_t`, written by name (`GpuLost`) or as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnCode(pub u32);

macro_rules! return_codes {
    ($($name:ident $constant:ident = $code:literal;)*) => {
        #[allow(missing_docs)]
        impl ReturnCode {
            $(pub const $constant: Self = Self($code);)*
            const NAMES: &[(&str, u32)] = &[$((stringify!($name), $code)),*];
        }
    };
}

return_codes! {
    Success SUCCESS = 0;
    Uninitialized UNINITIALIZED = 1;
    InvalidArg INVALID_ARG = 2;
    NotSupported NOT_SUPPORTED = 3;
    NoPermission NO_PERMISSION = 4;
    NotFound NOT_FOUND = 6;
    InsufficientSize INSUFFICIENT_SIZE = 7;
    InsufficientPower INSUFFICIENT_POWER = 8;
    DriverNotLoaded DRIVER_NOT_LOADED = 9;
    Timeout TIMEOUT = 10;
    IrqIssue IRQ_ISSUE = 11;
    LibraryNotFound LIBRARY_NOT_FOUND = 12;
    FunctionNotFound FUNCTION_NOT_FOUND = 13;
    CorruptedInfoRom CORRUPTED_INFO_ROM = 14;
    GpuLost GPU_LOST = 15;
    ResetRequired RESET_REQUIRED = 16;
    OperatingSystem OPERATING_SYSTEM = 17;
    LibRmVersionMismatch LIB_RM_VERSION_MISMATCH = 18;
    InUse IN_USE = 19;
    Memory MEMORY = 20;
    NoData NO_DATA = 21;
    InsufficientResources INSUFFICIENT_RESOURCES = 23;
    ArgumentVersionMismatch ARGUMENT_VERSION_MISMATCH = 25;
    Deprecated DEPRECATED = 26;
    NotReady NOT_READY = 27;
    GpuNotFound GPU_NOT_FOUND = 28;
    InvalidState INVALID_STATE = 29;
    Unknown UNKNOWN = 999;
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, code)| *code == self.0) {
            Some((name, _)) => formatter.write_str(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl FromStr for ReturnCode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, code)| *code);
        named
            .or_else(|| text.parse().ok())
            .map(Self)
            .ok_or_else(|| format!("no such NVML return code: {text}"))
    }
}

/// Name of a driver call without its decoration: `nvmlDeviceGetMemoryInfo_v2` is `GetMemoryInfo`, `nvmlInit_v2` is `Init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call(String);

impl Call {
    /// Takes a name in any of its forms.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(undecorated(name).to_owned())
    }

    /// Whether `symbol` (in any form) is this call.
    #[must_use]
    pub fn is(&self, symbol: &str) -> bool {
        self.0 == undecorated(symbol)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn undecorated(name: &str) -> &str {
    let name = name.strip_prefix("nvml").unwrap_or(name);
    let name = name
        .strip_prefix("Device")
        .or_else(|| name.strip_prefix("System"))
        .unwrap_or(name);
    match name.rsplit_once("_v") {
        Some((stem, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => stem,
        _ => name,
    }
}

/// A cause with a cumulative throttle counter. The discriminant is the field id up to driver 580.81.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Cause {
    PowerCap = 74,
    SyncBoost = 76,
    BoardLimit = 77,
    Reliability = 79,
    BelowBaseClock = 81,
    SoftwareThermal = 251,
    HardwareThermal = 252,
    HardwarePowerBrake = 253,
}

impl Cause {
    /// Every cause.
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

    /// Name in a state file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HardwareThermal => "hardware_thermal",
            Self::HardwarePowerBrake => "hardware_power_brake",
            Self::SoftwareThermal => "software_thermal",
            Self::PowerCap => "power_cap",
            Self::BoardLimit => "board_limit",
            Self::Reliability => "reliability",
            Self::SyncBoost => "sync_boost",
            Self::BelowBaseClock => "below_base_clock",
        }
    }

    /// Bit in the clocks event reasons; 0 for a cause that has none.
    #[must_use]
    pub const fn event_bit(self) -> u64 {
        match self {
            Self::PowerCap => 0x4,
            Self::SyncBoost => 0x10,
            Self::SoftwareThermal => 0x20,
            Self::HardwareThermal => 0x40 | 0x8,
            Self::HardwarePowerBrake => 0x80 | 0x8,
            Self::BoardLimit => 0x200,
            Self::Reliability => 0x400,
            Self::BelowBaseClock => 0,
        }
    }

    /// Id of the counter's field with this driver. Three of them came with 575; drivers from 580.82 on moved those by 18, and gave the old
    /// ids to other values.
    #[must_use]
    pub fn field_id(self, driver: &str) -> Option<u32> {
        match self as u32 {
            251.. if !driver::counts_event_reasons(driver) => None,
            id @ 251.. if driver::renumbered(driver) => Some(id + 18),
            id => Some(id),
        }
    }
}

impl FromStr for Cause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|cause| cause.as_str() == text);
        known.ok_or_else(|| format!("no such throttle cause: {text}"))
    }
}
