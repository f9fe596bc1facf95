//! What a node's GPU monitor hands out.

use std::time::Instant;

use crate::sample::{DriverState, GpuSample};

/// Everything known about the GPUs of a node at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// State of the driver session.
    pub driver: DriverState,
    /// When the samples were taken; `None` without samples. They go stale while the driver does not answer.
    pub taken: Option<Instant>,
    /// The GPUs that answered, in enumeration order.
    pub samples: Vec<GpuSample>,
    /// The GPUs that are enumerated and do not answer: lost, in need of a reset, or not permitted.
    pub failed: Vec<FailedGpu>,
    /// Rounds of samples since the monitor started.
    pub ticks: u64,
    /// What the driver calls took, since the monitor started; only classes that were called.
    pub calls: Vec<CallStats>,
}

/// A GPU that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedGpu {
    /// Index in enumeration order.
    pub index: u32,
    /// `GPU-<uuid>`, where it was seen before.
    pub uuid: Option<String>,
    /// Whether the driver says that it is gone from the bus; other failures may be permissions or a pending reset.
    pub lost: bool,
    /// Text of the driver, for people.
    pub message: String,
}

/// Cost of one class of driver calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallStats {
    /// Which calls.
    pub class: CallClass,
    /// How many.
    pub count: u64,
    /// Time spent in them, microseconds.
    pub total_microseconds: u64,
    /// Longest of them, microseconds.
    pub max_microseconds: u64,
}

/// Classes of driver calls that are timed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallClass {
    /// Loading the library and initialising it.
    Init,
    /// Leaving the driver.
    Shutdown,
    /// Enumeration and facts that do not change.
    Facts,
    /// The batch of counters, limits and memory temperature.
    FieldValues,
    /// Memory.
    Memory,
    /// Utilisation.
    Utilization,
    /// Clocks.
    Clocks,
    /// Power draw and limits.
    Power,
    /// Temperature and margin.
    Temperature,
    /// Clocks event bitmask.
    EventReasons,
    /// Process lists.
    Processes,
}

impl CallClass {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::Init,
        Self::Shutdown,
        Self::Facts,
        Self::FieldValues,
        Self::Memory,
        Self::Utilization,
        Self::Clocks,
        Self::Power,
        Self::Temperature,
        Self::EventReasons,
        Self::Processes,
    ];

    /// Name used as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Shutdown => "shutdown",
            Self::Facts => "facts",
            Self::FieldValues => "field_values",
            Self::Memory => "memory",
            Self::Utilization => "utilization",
            Self::Clocks => "clocks",
            Self::Power => "power",
            Self::Temperature => "temperature",
            Self::EventReasons => "event_reasons",
            Self::Processes => "processes",
        }
    }
}
