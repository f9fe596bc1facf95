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
    /// A GPU that serves this monitor loses clocks.
    Throttled,
    /// Memory will run out, or requests are already evicted for it.
    #[serde(rename = "OOMRisk")]
    OomRisk,
    /// Requests wait above the threshold.
    QueueDepthHigh,
    /// A latency is above its threshold.
    LatencyHigh,
}

impl ConditionType {
    /// All types, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::EndpointsReachable,
        Self::MetricsRecognized,
        Self::Throttled,
        Self::OomRisk,
        Self::QueueDepthHigh,
        Self::LatencyHigh,
    ];

    /// `type` of the condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::EndpointsReachable => "EndpointsReachable",
            Self::MetricsRecognized => "MetricsRecognized",
            Self::Throttled => "Throttled",
            Self::OomRisk => "OOMRisk",
            Self::QueueDepthHigh => "QueueDepthHigh",
            Self::LatencyHigh => "LatencyHigh",
        }
    }

    /// True when `True` is the good state (Ready), false when `True` is a finding (Throttled).
    #[must_use]
    pub const fn true_is_good(self) -> bool {
        matches!(self, Self::Ready | Self::EndpointsReachable | Self::MetricsRecognized)
    }
}

/// Reasons, grouped by nothing but the alphabet: a reason may serve several conditions.
pub mod reason {
    /// QueueDepthHigh: requests wait above the threshold.
    pub const ABOVE_THRESHOLD: &str = "AboveThreshold";
    /// EndpointsReachable, MetricsRecognized: nothing is wrong.
    pub const ALL_ENDPOINTS: &str = "AllEndpoints";
    /// Throttled, OOMRisk, QueueDepthHigh, LatencyHigh: the value is not above the threshold.
    pub const BELOW_THRESHOLD: &str = "BelowThreshold";
    /// Throttled: the GPU lost clocks to a board limit.
    pub const BOARD_LIMIT: &str = "BoardLimit";
    /// EndpointsReachable: the body is larger than the limit.
    pub const BODY_TOO_LARGE: &str = "BodyTooLarge";
    /// LatencyHigh: requests take too long from their arrival to their last token.
    pub const END_TO_END: &str = "EndToEnd";
    /// Throttled: the GPU lost clocks to an external power brake.
    pub const HARDWARE_POWER_BRAKE: &str = "HardwarePowerBrake";
    /// Throttled: the GPU lost clocks to heat (hardware).
    pub const HARDWARE_THERMAL: &str = "HardwareThermal";
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
    /// MetricsRecognized: the body is no exposition.
    pub const MALFORMED: &str = "Malformed";
    /// EndpointsReachable: the server says that its metrics are off.
    pub const METRICS_DISABLED: &str = "MetricsDisabled";
    /// Ready: data is fresh from all endpoints.
    pub const MONITORING: &str = "Monitoring";
    /// Ready: the spec selects no endpoint.
    pub const NO_ENDPOINTS: &str = "NoEndpoints";
    /// Throttled: no GPU is seen on the nodes that serve this monitor.
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
    /// Throttled: the GPU lost clocks to its reliability voltage limit.
    pub const RELIABILITY: &str = "Reliability";
    /// MetricsRecognized: series that the conditions need are not there.
    pub const SERIES_MISSING: &str = "SeriesMissing";
    /// Throttled: the driver lowers clocks to stay below its thermal target.
    pub const SOFTWARE_THERMAL: &str = "SoftwareThermal";
    /// Any condition: there is no fresh data to judge by.
    pub const STALE_DATA: &str = "StaleData";
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

    /// Every reason.
    pub const ALL: [&str; 36] = [
        ABOVE_THRESHOLD,
        ALL_ENDPOINTS,
        BELOW_THRESHOLD,
        BOARD_LIMIT,
        BODY_TOO_LARGE,
        END_TO_END,
        HARDWARE_POWER_BRAKE,
        HARDWARE_THERMAL,
        HTTP_STATUS,
        INTER_TOKEN_LATENCY,
        INVALID_SPEC,
        KV_CACHE_EXHAUSTION,
        LOADING,
        LOW_HEADROOM,
        MALFORMED,
        METRICS_DISABLED,
        MONITORING,
        NO_ENDPOINTS,
        NO_GPU_DATA,
        NO_NODE_DAEMON,
        NOT_JUDGED,
        NOT_PUBLISHED,
        POWER_CAP,
        PREEMPTIONS,
        QUEUE_TIME,
        RELIABILITY,
        SERIES_MISSING,
        SOFTWARE_THERMAL,
        STALE_DATA,
        TIME_TO_FIRST_TOKEN,
        TIMEOUT,
        TOO_FEW_REQUESTS,
        UNAUTHORIZED,
        UNKNOWN_ENGINE,
        UNREACHABLE,
        WAITING_FOR_DATA,
    ];
}
