//! GPU samples, what follows from them, and the NVML session that takes them (feature `nvml`).
//!
//! Without the feature this crate is plain data and pure functions: what the operator needs.

mod findings;
mod health;
mod incident;
pub mod kernel_log;
mod mig;
mod process;
mod reader;
mod sample;
#[cfg(feature = "nvml")]
mod session;
mod snapshot;
mod switch;
mod throttle;
pub mod xid;

pub use findings::{Finding, lost_clocks, power_cap_costs_clocks, supporting_evidence};
pub use health::{GpuHealth, RecoveryAction, StandingFault, ecc_growth};
pub use incident::{INCIDENT_COUNTS_FOR, Incident, IncidentKind, IncidentLog, counts};
pub use mig::{MigDevice, MigInstance, MigPlace};
pub use process::{GpuProcess, ProcessOwner};
pub use reader::{GpuReader, Stopped, merged};
pub use sample::{DriverProblem, DriverState, GpuSample, ThrottleCause, ThrottleCounter};
#[cfg(feature = "nvml")]
pub use session::{GpuMonitor, MonitorOptions, OnXid};
pub use snapshot::{CallClass, CallStats, FailedGpu, GpuFailure, Snapshot};
pub use switch::{SwitchIncident, SwitchLog, breaks_the_fabric, switch_counts};
pub use throttle::{CauseDuty, PLAUSIBLE_DUTY, ThrottleWindow, duty, implausible};
