//! From which value on a condition turns True. Integers with the unit in the name; no floats (Kubernetes API conventions).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From which value on a condition turns True. Every threshold has a default.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Thresholds {
    /// Waiting requests, for QueueDepthHigh.
    pub queue_depth: QueueDepthThreshold,
    /// KV cache use, for OOMRisk.
    pub kv_cache_usage_percent: KvCacheThreshold,
    /// Time in which a GPU lost clocks, for Throttled.
    pub throttled_percent: ThrottledThreshold,
    /// Free GPU memory, for OOMRisk.
    #[serde(rename = "gpuMemoryHeadroomMiB")]
    pub gpu_memory_headroom_mib: MemoryHeadroomThreshold,
}

/// Waiting requests.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueDepthThreshold {
    /// Requests that may wait per endpoint, on average over the endpoints, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub per_endpoint: i32,
    /// Seconds for which the value must be above the threshold to raise, and not above it to clear, 0 to 3600.
    #[schemars(range(min = 0, max = 3600))]
    pub for_seconds: i32,
}

impl Default for QueueDepthThreshold {
    fn default() -> Self {
        Self {
            per_endpoint: 5,
            for_seconds: 10,
        }
    }
}

/// KV cache use.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KvCacheThreshold {
    /// Percent of the KV cache of the fullest endpoint, 1 to 99.
    #[schemars(range(min = 1, max = 99))]
    pub above: i32,
    /// Seconds for which the value must be above the threshold to raise, and not above it to clear, 0 to 3600.
    #[schemars(range(min = 0, max = 3600))]
    pub for_seconds: i32,
}

impl Default for KvCacheThreshold {
    fn default() -> Self {
        Self {
            above: 90,
            for_seconds: 30,
        }
    }
}

/// Time in which a GPU lost clocks.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ThrottledThreshold {
    /// Percent of the time window in which the GPU lost clocks to one cause, 0 to 99.
    #[schemars(range(min = 0, max = 99))]
    pub above: i32,
    /// The time window in seconds over which the lost time is taken, 5 to 600. The condition clears when the share over this window
    /// is back at the threshold.
    #[schemars(range(min = 5, max = 600))]
    pub for_seconds: i32,
}

impl Default for ThrottledThreshold {
    fn default() -> Self {
        Self {
            above: 1,
            for_seconds: 60,
        }
    }
}

/// Free GPU memory.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryHeadroomThreshold {
    /// MiB that must stay free on each GPU, 0 (off) to 1000000. What a server reserves ahead (vLLM: gpu_memory_utilization) counts as
    /// used, so this is the room for everything outside that reservation.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub below: i32,
    /// Seconds for which the value must be below the threshold to raise, and not below it to clear, 0 to 3600.
    #[schemars(range(min = 0, max = 3600))]
    pub for_seconds: i32,
}

impl Default for MemoryHeadroomThreshold {
    fn default() -> Self {
        Self {
            below: 512,
            for_seconds: 30,
        }
    }
}
