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

/// Where on a GPU something happened, as far as the driver names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MigPlace {
    /// Number of the GPU instance; `None` is the whole GPU, or nobody said where.
    pub gpu_instance: Option<u32>,
    /// Number of the compute instance in it; only with a GPU instance.
    pub compute_instance: Option<u32>,
}

impl MigPlace {
    /// Whether two tellers, of whom each may leave something out, may mean the same place.
    pub(crate) fn may_be(self, other: Self) -> bool {
        may_be(self.gpu_instance, other.gpu_instance) && may_be(self.compute_instance, other.compute_instance)
    }

    /// With what the other one names and this one does not.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            gpu_instance: self.gpu_instance.or(other.gpu_instance),
            compute_instance: self.compute_instance.or(other.compute_instance),
        }
    }
}

/// Whether two numbers of instances, of which either may be unknown, may be the same one.
pub(crate) fn may_be(one: Option<u32>, other: Option<u32>) -> bool {
    one.is_none() || other.is_none() || one == other
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
