//! What a version of the driver has: which symbols its library exports, and which fields it answers.
//!
//! Source: NVIDIA's change log, <https://docs.nvidia.com/deploy/nvml-api/change-log.html>, and for the numbering
//! <https://docs.nvidia.com/deploy/nvml-api/known-issues.html>. Only what a monitor may ask for is here; what is not named is as old as
//! the oldest driver that can be played (470).

/// Driver versions that tests play, oldest first: one for each branch of the driver that differs in what a monitor reads.
pub const DRIVERS: [&str; 8] = [
    "470.256.02",
    "535.247.01",
    "570.172.08",
    "575.57.08",
    "580.65.06",
    "580.95.05",
    "590.48.01",
    "610.57.04",
];

/// A version as far as it decides anything: `580.95.05` is (580, 95). What is no number counts as 0.
#[must_use]
pub fn version(driver: &str) -> (u32, u32) {
    let mut parts = driver.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Symbols with the branch of the driver that has them first.
const SYMBOLS: [(&str, u32); 7] = [
    ("nvmlDeviceGetMemoryInfo_v2", 510),
    ("nvmlDeviceGetComputeRunningProcesses_v3", 535),
    ("nvmlDeviceGetGraphicsRunningProcesses_v3", 535),
    ("nvmlDeviceGetMPSComputeRunningProcesses_v3", 535),
    ("nvmlDeviceGetCurrentClocksEventReasons", 535),
    ("nvmlDeviceGetMarginTemperature", 570),
    // The change log does not name it; it came with the header of CUDA 12.8.
    ("nvmlDeviceGetTemperatureV", 570),
];

/// The symbols that the library of this driver does not export.
pub fn absent_symbols(driver: &str) -> impl Iterator<Item = &'static str> {
    let (branch, _) = version(driver);
    let newer = SYMBOLS.into_iter().filter(move |(_, since)| branch < *since);
    newer.map(|(symbol, _)| symbol)
}

/// Whether the driver has the numbering of 580.82 and later, in which three throttle counters moved by 18.
#[must_use]
pub fn renumbered(driver: &str) -> bool {
    version(driver) >= (580, 82)
}

/// Whether the driver counts time by the three clocks event reasons that came with 575 (heat by hardware and by driver, power brake).
#[must_use]
pub fn counts_event_reasons(driver: &str) -> bool {
    version(driver).0 >= 575
}

/// Whether the driver knows a field, of those that do not count clocks event reasons.
#[must_use]
pub fn has_field(driver: &str, id: u32) -> bool {
    let (branch, _) = version(driver);
    match id {
        185..=196 => branch >= 535,
        230 => branch >= 565,
        _ => true,
    }
}

/// Bits of `nvmlEventType` that the driver knows: ECC errors and XIDs, from 560 on storms, retirement and poison, from 565 on a GPU that is
/// unavailable and a changed recovery action.
#[must_use]
pub fn event_kinds(driver: &str) -> u64 {
    let (branch, _) = version(driver);
    let since = |first: u32, bits: u64| if branch >= first { bits } else { 0 };
    0x1 | 0x2 | 0x8 | since(560, 0x200 | 0x400 | 0x800 | 0x1000 | 0x2000) | since(565, 0x4000 | 0x8000)
}

/// First field id of power smoothing, a feature of Blackwell. 570 and 580.82 onwards have it at 251, which drivers between them use for a
/// throttle counter; those have it at 256.
#[must_use]
pub fn power_smoothing(driver: &str) -> Option<u32> {
    let (branch, _) = version(driver);
    match branch {
        ..570 => None,
        _ if renumbered(driver) || branch < 575 => Some(251),
        _ => Some(256),
    }
}
