//! What a node's GPU monitor hands out.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::incident::Incident;
use crate::sample::{DriverState, GpuSample};
use crate::switch::SwitchIncident;

/// Everything known about the GPUs of a node at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// State of the driver session.
    pub driver: DriverState,
    /// When the samples were taken; `None` without samples. They go stale while the driver does not answer.
    pub taken: Option<Instant>,
    /// The GPUs that answered, in enumeration order.
    pub samples: Vec<GpuSample>,
    /// The GPUs that do not answer: lost, in need of a reset, or not permitted.
    pub failed: Vec<FailedGpu>,
    /// What happened to GPUs since the monitor started, as far as it is not long over.
    pub incidents: Vec<Incident>,
    /// What happened to NVSwitches, as far as it is not long over; only where the kernel's log is read.
    pub switch_incidents: Vec<SwitchIncident>,
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
    /// Number in its device file, where it was seen before.
    pub minor_number: Option<u32>,
    /// How it fails.
    pub failure: GpuFailure,
    /// Text of the driver, for people.
    pub message: String,
    /// Since when.
    pub since: Instant,
}

/// How a GPU fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GpuFailure {
    /// The driver says that it is gone from the bus.
    Lost,
    /// It was there before, and the driver does not enumerate it any more.
    NotEnumerated,
    /// The driver refuses to use it before a reset.
    ResetRequired,
    /// Any other refusal, for example a missing permission: nobody can say how the GPU is.
    Refused,
}

impl GpuFailure {
    /// Every failure, worst first.
    pub const ALL: [Self; 4] = [Self::Lost, Self::NotEnumerated, Self::ResetRequired, Self::Refused];

    /// Name used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "Lost",
            Self::NotEnumerated => "NotEnumerated",
            Self::ResetRequired => "ResetRequired",
            Self::Refused => "Refused",
        }
    }
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
    /// Time that the driver itself says it took (`latencyUsec` of field values), microseconds; `None` where it says nothing.
    pub driver_microseconds: Option<u64>,
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
    /// The batch of ECC counts and memory repair.
    Health,
    /// Registering for events, and waiting for the thread that listens to end.
    Events,
    /// Which MIG devices there are.
    Mig,
    /// Use of MIG instances.
    Gpm,
}

impl CallClass {
    /// Every class.
    pub const ALL: [Self; 15] = [
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
        Self::Health,
        Self::Events,
        Self::Mig,
        Self::Gpm,
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
            Self::Health => "health",
            Self::Events => "events",
            Self::Mig => "mig",
            Self::Gpm => "gpm",
        }
    }
}
