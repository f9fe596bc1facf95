//! The NVML session against a stand-in of the driver library.
// Clippy knows tests by their attribute, and not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

mod driver_trouble;
mod drivers;
mod faults;
mod mig;
mod played;
mod values;
