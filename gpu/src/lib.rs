//! GPU samples, and the NVML session that takes them (feature `nvml`).

mod sample;

pub use sample::{DriverProblem, DriverState, GpuProcess, GpuSample, ThrottleCause, ThrottleCounter};
