//! Condition types and reasons of an `InferenceMonitor`. Each reason has an anchor of its own (in lower case) in
//! `docs/conditions.md`, which a test checks.

use serde::{Deserialize, Serialize};

/// Condition types, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    /// Data is fresh from enough endpoints.
    Ready,
    /// All endpoints answer.
    EndpointsReachable,
    /// The engine and all series needed were found.
    MetricsRecognized,
    /// No fault on a GPU that serves this monitor.
    #[serde(rename = "GPUsHealthy")]
    GpusHealthy,
    /// A GPU that serves this monitor loses clocks.
    Throttled,
    /// Memory will run out, or requests are already evicted for it.
    #[serde(rename = "OOMRisk")]
    OomRisk,
    /// Requests wait above the threshold.
    QueueDepthHigh,
    /// A latency is above its threshold.
    LatencyHigh,
    /// GPUs idle while requests run.
    Underutilized,
}

impl ConditionType {
    /// All types, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Ready,
        Self::EndpointsReachable,
        Self::MetricsRecognized,
        Self::GpusHealthy,
        Self::Throttled,
        Self::OomRisk,
        Self::QueueDepthHigh,
        Self::LatencyHigh,
        Self::Underutilized,
    ];

    /// `type` of the condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::EndpointsReachable => "EndpointsReachable",
            Self::MetricsRecognized => "MetricsRecognized",
            Self::GpusHealthy => "GPUsHealthy",
            Self::Throttled => "Throttled",
            Self::OomRisk => "OOMRisk",
            Self::QueueDepthHigh => "QueueDepthHigh",
            Self::LatencyHigh => "LatencyHigh",
            Self::Underutilized => "Underutilized",
        }
    }

    /// True when `True` is the good state (Ready), false when `True` is a finding (Throttled).
    #[must_use]
    pub const fn true_is_good(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::EndpointsReachable | Self::MetricsRecognized | Self::GpusHealthy
        )
    }
}

/// Reasons, grouped by nothing but the alphabet: a reason may serve several conditions.
pub mod reason {
    /// QueueDepthHigh: requests wait above the threshold.
    pub const ABOVE_THRESHOLD: &str = "AboveThreshold";
    /// EndpointsReachable, MetricsRecognized: nothing is wrong.
    pub const ALL_ENDPOINTS: &str = "AllEndpoints";
    /// Throttled, OOMRisk, QueueDepthHigh, LatencyHigh, Underutilized: the value is not beyond the threshold.
    pub const BELOW_THRESHOLD: &str = "BelowThreshold";
    /// Throttled: the GPU lost clocks to a board limit.
    pub const BOARD_LIMIT: &str = "BoardLimit";
    /// EndpointsReachable: the body is larger than the limit.
    pub const BODY_TOO_LARGE: &str = "BodyTooLarge";
    /// OOMRisk: the memory of a GPU fills.
    pub const DEVICE_MEMORY_GROWTH: &str = "DeviceMemoryGrowth";
    /// GPUsHealthy: a driver call does not return.
    pub const DRIVER_UNRESPONSIVE: &str = "DriverUnresponsive";
    /// GPUsHealthy: driver library and kernel module differ in version.
    pub const DRIVER_VERSION_MISMATCH: &str = "DriverVersionMismatch";
    /// GPUsHealthy: memory of the GPU had errors that could not be corrected.
    pub const ECC_UNCORRECTABLE: &str = "EccUncorrectable";
    /// LatencyHigh: requests take too long from their arrival to their last token.
    pub const END_TO_END: &str = "EndToEnd";
    /// GPUsHealthy: the GPU does not answer, or is not enumerated any more.
    pub const GPU_LOST: &str = "GpuLost";
    /// Underutilized: a server that was given a GPU computes without it.
    pub const GPU_NOT_USED: &str = "GpuNotUsed";
    /// Throttled: the GPU lost clocks to an external power brake.
    pub const HARDWARE_POWER_BRAKE: &str = "HardwarePowerBrake";
    /// Throttled: the GPU lost clocks to heat (hardware).
    pub const HARDWARE_THERMAL: &str = "HardwareThermal";
    /// OOMRisk: the host memory of a pod is near its limit, waited for, or was the reason of a kill.
    pub const HOST_MEMORY_PRESSURE: &str = "HostMemoryPressure";
    /// EndpointsReachable: an HTTP status that is no success.
    pub const HTTP_STATUS: &str = "HttpStatus";
    /// LatencyHigh: tokens of a request come too slowly.
    pub const INTER_TOKEN_LATENCY: &str = "InterTokenLatency";
    /// Ready: the spec cannot be followed.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// OOMRisk: the KV cache is above the threshold.
    pub const KV_CACHE_EXHAUSTION: &str = "KVCacheExhaustion";
    /// EndpointsReachable: the server still loads its model.
    pub const LOADING: &str = "Loading";
    /// OOMRisk: free GPU memory is below the threshold.
    pub const LOW_HEADROOM: &str = "LowHeadroom";
    /// Underutilized: GPUs idle while requests run.
    pub const LOW_UTILIZATION: &str = "LowUtilization";
    /// MetricsRecognized: the body is no exposition.
    pub const MALFORMED: &str = "Malformed";
    /// GPUsHealthy: faulty memory waits for a reset to be taken out of use.
    pub const MEMORY_REPAIR_PENDING: &str = "MemoryRepairPending";
    /// EndpointsReachable: the server says that its metrics are off.
    pub const METRICS_DISABLED: &str = "MetricsDisabled";
    /// Ready: data is fresh from all endpoints.
    pub const MONITORING: &str = "Monitoring";
    /// Throttled, while it is False: a GPU is near the temperature at which it slows down.
    pub const NEAR_SLOWDOWN: &str = "NearSlowdown";
    /// Ready: the spec selects no endpoint.
    pub const NO_ENDPOINTS: &str = "NoEndpoints";
    /// GPUsHealthy: nothing is wrong.
    pub const NO_FAULTS: &str = "NoFaults";
    /// GPUsHealthy, Throttled, Underutilized: no GPU is seen on the nodes that serve this monitor.
    pub const NO_GPU_DATA: &str = "NoGpuData";
    /// Ready: no node daemon is connected on the nodes of the endpoints.
    pub const NO_NODE_DAEMON: &str = "NoNodeDaemon";
    /// LatencyHigh: the spec switches every latency off.
    pub const NOT_JUDGED: &str = "NotJudged";
    /// LatencyHigh: no server publishes the latencies that are judged.
    pub const NOT_PUBLISHED: &str = "NotPublished";
    /// Throttled: the GPU is held by its power limit, with the corroboration of docs/conditions.md.
    pub const POWER_CAP: &str = "PowerCap";
    /// OOMRisk: running requests are evicted to free KV cache.
    pub const PREEMPTIONS: &str = "Preemptions";
    /// LatencyHigh: requests wait too long before they run.
    pub const QUEUE_TIME: &str = "QueueTime";
    /// GPUsHealthy: the driver asks for a reset, a reboot or a drain.
    pub const RECOVERY_ACTION_NEEDED: &str = "RecoveryActionNeeded";
    /// Throttled: the GPU lost clocks to its reliability voltage limit.
    pub const RELIABILITY: &str = "Reliability";
    /// GPUsHealthy: faulty memory could not be replaced.
    pub const ROW_REMAP_FAILED: &str = "RowRemapFailed";
    /// MetricsRecognized: series that the conditions need are not there.
    pub const SERIES_MISSING: &str = "SeriesMissing";
    /// Throttled: the driver lowers clocks to stay below its thermal target.
    pub const SOFTWARE_THERMAL: &str = "SoftwareThermal";
    /// Any condition: there is no fresh data to judge by.
    pub const STALE_DATA: &str = "StaleData";
    /// GPUsHealthy: an NVSwitch of the node reported a fatal SXid.
    pub const SXID: &str = "Sxid";
    /// GPUsHealthy: a GPU is hotter than the spec allows.
    pub const TEMPERATURE_HIGH: &str = "TemperatureHigh";
    /// LatencyHigh: requests wait too long for their first token.
    pub const TIME_TO_FIRST_TOKEN: &str = "TimeToFirstToken";
    /// EndpointsReachable: the deadline passed.
    pub const TIMEOUT: &str = "Timeout";
    /// LatencyHigh: there were too few requests to judge by.
    pub const TOO_FEW_REQUESTS: &str = "TooFewRequests";
    /// EndpointsReachable: the server wants credentials.
    pub const UNAUTHORIZED: &str = "Unauthorized";
    /// MetricsRecognized: the body is of no engine that is known, or not of the engine in the spec.
    pub const UNKNOWN_ENGINE: &str = "UnknownEngine";
    /// EndpointsReachable: no connection.
    pub const UNREACHABLE: &str = "Unreachable";
    /// Any condition: the first samples are on their way.
    pub const WAITING_FOR_DATA: &str = "WaitingForData";
    /// GPUsHealthy: the driver told of an XID.
    pub const XID: &str = "Xid";

    /// Every reason.
    pub const ALL: [&str; 52] = [
        ABOVE_THRESHOLD,
        ALL_ENDPOINTS,
        BELOW_THRESHOLD,
        BOARD_LIMIT,
        BODY_TOO_LARGE,
        DEVICE_MEMORY_GROWTH,
        DRIVER_UNRESPONSIVE,
        DRIVER_VERSION_MISMATCH,
        ECC_UNCORRECTABLE,
        END_TO_END,
        GPU_LOST,
        GPU_NOT_USED,
        HARDWARE_POWER_BRAKE,
        HARDWARE_THERMAL,
        HOST_MEMORY_PRESSURE,
        HTTP_STATUS,
        INTER_TOKEN_LATENCY,
        INVALID_SPEC,
        KV_CACHE_EXHAUSTION,
        LOADING,
        LOW_HEADROOM,
        LOW_UTILIZATION,
        MALFORMED,
        MEMORY_REPAIR_PENDING,
        METRICS_DISABLED,
        MONITORING,
        NEAR_SLOWDOWN,
        NO_ENDPOINTS,
        NO_FAULTS,
        NO_GPU_DATA,
        NO_NODE_DAEMON,
        NOT_JUDGED,
        NOT_PUBLISHED,
        POWER_CAP,
        PREEMPTIONS,
        QUEUE_TIME,
        RECOVERY_ACTION_NEEDED,
        RELIABILITY,
        ROW_REMAP_FAILED,
        SERIES_MISSING,
        SOFTWARE_THERMAL,
        STALE_DATA,
        SXID,
        TEMPERATURE_HIGH,
        TIME_TO_FIRST_TOKEN,
        TIMEOUT,
        TOO_FEW_REQUESTS,
        UNAUTHORIZED,
        UNKNOWN_ENGINE,
        UNREACHABLE,
        WAITING_FOR_DATA,
        XID,
    ];
}
