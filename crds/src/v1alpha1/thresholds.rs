//! From which value on a condition turns True. Integers with the unit in the name; no floats (Kubernetes API conventions).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From which value on a condition turns True. Every threshold has a default, or is off unless it is given.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Thresholds {
    /// Waiting requests, for QueueDepthHigh.
    pub queue_depth: QueueDepthThreshold,
    /// KV cache use, for OOMRisk.
    pub kv_cache_usage_percent: KvCacheThreshold,
    /// Time in which a GPU lost clocks, for Throttled.
    pub throttled_percent: ThrottledThreshold,
    /// Degrees that a GPU has left before it slows down, for the reason NearSlowdown of Throttled.
    pub gpu_temperature_margin_celsius: TemperatureMarginThreshold,
    /// Core temperature of a GPU, for GPUsHealthy. Not judged unless it is given: what is hot differs from model to model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_temperature_celsius: Option<TemperatureThreshold>,
    /// Free GPU memory, for OOMRisk.
    #[serde(rename = "gpuMemoryHeadroomMiB")]
    pub gpu_memory_headroom_mib: MemoryHeadroomThreshold,
    /// Use of the GPUs while requests run, for Underutilized.
    pub gpu_utilization_percent: UtilizationThreshold,
    /// Time from the arrival of a request to its first token, for LatencyHigh.
    pub time_to_first_token_milliseconds: FirstTokenThreshold,
    /// Time between two tokens of one request, for LatencyHigh. Not judged unless it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inter_token_milliseconds: Option<LatencyThreshold>,
    /// Time from the arrival of a request to its last token, for LatencyHigh. Not judged unless it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end_milliseconds: Option<LatencyThreshold>,
    /// Time that a request waits before it runs, for LatencyHigh. Not judged unless it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_time_milliseconds: Option<LatencyThreshold>,
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

/// Degrees that a GPU has left before the hardware slows it down.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TemperatureMarginThreshold {
    /// Degrees Celsius that must be left, as the driver tells them, on each GPU, 0 (off) to 50.
    #[schemars(range(min = 0, max = 50))]
    pub below: i32,
    /// Seconds for which the value must be below the threshold to warn, and not below it to take the warning back, 0 to 3600.
    #[schemars(range(min = 0, max = 3600))]
    pub for_seconds: i32,
}

impl Default for TemperatureMarginThreshold {
    fn default() -> Self {
        Self {
            below: 6,
            for_seconds: 120,
        }
    }
}

/// Core temperature of a GPU.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemperatureThreshold {
    /// Degrees Celsius that no GPU may be above, 1 to 150.
    #[schemars(range(min = 1, max = 150))]
    pub above: i32,
    /// Seconds for which the value must be above the threshold to raise, and not above it to clear, 0 to 3600.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 0, max = 3600))]
    pub for_seconds: i32,
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

/// Use of the GPUs while requests run.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UtilizationThreshold {
    /// Percent of the time in which a GPU must compute while requests run on its server, on average over these GPUs, 0 (off) to 100.
    #[schemars(range(min = 0, max = 100))]
    pub below: i32,
    /// Seconds for which the value must be below the threshold to raise, and not below it to clear, 0 to 3600.
    #[schemars(range(min = 0, max = 3600))]
    pub for_seconds: i32,
}

impl Default for UtilizationThreshold {
    fn default() -> Self {
        Self {
            below: 50,
            for_seconds: 600,
        }
    }
}

/// The share of the requests, in percent, that must be at least as fast as the threshold.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Quantile {
    /// The half.
    P50,
    /// Nine of ten.
    P90,
    /// 19 of 20.
    #[default]
    P95,
    /// 99 of 100.
    P99,
}

impl Quantile {
    /// Every quantile.
    pub const ALL: [Self; 4] = [Self::P50, Self::P90, Self::P95, Self::P99];

    /// The name in a spec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P50 => "P50",
            Self::P90 => "P90",
            Self::P95 => "P95",
            Self::P99 => "P99",
        }
    }
}

/// Time to first token.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FirstTokenThreshold {
    /// Quantile of the requests of all endpoints over the last 30 s: P50, P90, P95 or P99.
    pub quantile: Quantile,
    /// Milliseconds, 0 (off) to 3600000.
    #[schemars(range(min = 0, max = 3_600_000))]
    pub above: i32,
    /// Seconds for which the quantile must be above the threshold to raise, and not above it to clear, 0 to 3600.
    #[schemars(range(min = 0, max = 3600))]
    pub for_seconds: i32,
}

impl Default for FirstTokenThreshold {
    fn default() -> Self {
        Self {
            quantile: Quantile::P95,
            above: 2000,
            for_seconds: 60,
        }
    }
}

/// A latency that is judged only where the user says what is too slow.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyThreshold {
    /// Quantile of the requests of all endpoints over the last 30 s: P50, P90, P95 or P99.
    #[serde(default)]
    pub quantile: Quantile,
    /// Milliseconds, 1 to 3600000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub above: i32,
    /// Seconds for which the quantile must be above the threshold to raise, and not above it to clear, 0 to 3600.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 0, max = 3600))]
    pub for_seconds: i32,
}

const fn a_minute() -> i32 {
    60
}
