//! Parts of a GPU under MIG (Multi-Instance GPU).
//!
//! A GPU instance has memory of its own, and one or several compute instances, which share it. What a program is given is a compute
//! instance: the driver calls that a MIG device. Clocks, temperature and power are those of the whole GPU.

use serde::{Deserialize, Serialize};

/// A GPU instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigInstance {
    /// Number of the GPU instance on its GPU. Given anew when an instance is destroyed and another one made.
    pub gpu_instance: u32,
    /// Its compute instances.
    pub devices: Vec<MigDevice>,
    /// Its memory, bytes.
    pub memory_total_bytes: Option<u64>,
    /// Memory free, bytes.
    pub memory_free_bytes: Option<u64>,
    /// Memory that processes hold, bytes, as the driver counts it.
    pub memory_used_bytes: Option<u64>,
    /// Share of time in which a program was active on it, 0-100: the mean of half a minute, on Hopper and newer.
    pub utilization_percent: Option<u32>,
}

/// A compute instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigDevice {
    /// `MIG-<uuid>`.
    pub uuid: String,
    /// Number of the compute instance in its GPU instance, where the driver tells.
    pub compute_instance: Option<u32>,
}
