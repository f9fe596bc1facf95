//! Does memory fill, and when is it full: trends over bounded series, as pure functions. docs/memory-risk.md explains them to users.

mod cache;
mod growth;
mod host;
mod slope;

pub use cache::{CacheRise, CacheTrend};
pub use growth::{Growth, GrowthTrend, Unsure};
pub use host::HostObservation;

use infmon_gpu::{GpuSample, MigInstance};

/// What the memory of an instance of a GPU is known by over time: its first device, since the number of an instance is given anew.
pub(crate) fn part_key(gpu: &GpuSample, part: &MigInstance) -> String {
    match part.devices.first() {
        Some(device) => device.uuid.clone(),
        None => format!("{}/{}", gpu.uuid, part.gpu_instance),
    }
}
