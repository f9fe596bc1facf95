//! A scriptable stand-in for `libnvidia-ml.so.1`, for machines without a GPU.
//!
//! [`StandIn::install`] writes a real shared library and beside it a state file that says what the library answers. A program that opens
//! that library (by its path, or through `LD_LIBRARY_PATH`) sees the GPUs of a [`Scenario`], which can be replaced while it runs.
//! [`format`](mod@format) describes the state file for those who write it by hand.
//!
//! What it cannot show: real call latencies, the driver's lock, permissions, how real counters advance.

mod codes;
pub mod driver;
pub mod format;
mod install;
mod mig;
mod profiles;
mod scenario;
pub mod script;

pub use codes::{Call, Cause, ReturnCode};
pub use install::{LIBRARY_NAME, STATE_NAME, StandIn};
pub use mig::{Mig, MigDevice};
pub use profiles::Profile;
pub use scenario::{Event, Failure, Gpu, Process, Scenario};
