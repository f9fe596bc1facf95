//! What the operator writes back. One writer: the leading operator replica.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// State of the service, written when something changed; live numbers are in the metrics API.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceMonitorStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How loaded the service is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Engine recognised in what the servers expose; several are joined by a comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Metric generation of the engine, for example v1-0.12+.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_generation: Option<String>,
    /// The numbers of kubectl get. A number nobody knows is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Conditions: Ready, EndpointsReachable, MetricsRecognized, GPUsHealthy, Throttled, OOMRisk, QueueDepthHigh, LatencyHigh,
    /// Underutilized.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Endpoints, worst first, 32 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub endpoints: Vec<EndpointStatus>,
    /// GPUs that serve this monitor, worst first, 32 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub gpus: Vec<GpuStatus>,
}

/// How loaded a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Load {
    /// Nothing runs and nothing waits.
    Idle,
    /// Requests run, none waits for long.
    Healthy,
    /// Requests wait, fail or are slow, or GPUs are throttled.
    Degraded,
    /// Requests wait for long or above the threshold, or memory runs out.
    Overloaded,
    /// There is not enough fresh data.
    #[default]
    Unknown,
}

impl Load {
    /// The name in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Overloaded => "Overloaded",
            Self::Unknown => "Unknown",
        }
    }
}

/// Risk that memory runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OomRisk {
    /// There is not enough fresh data.
    #[default]
    Unknown,
    /// Nothing speaks for it.
    Low,
    /// A sign speaks for it.
    Medium,
    /// Memory is as good as full or will be within minutes, or requests are evicted or processes killed for lack of it.
    High,
}

impl OomRisk {
    /// The name in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

/// The numbers of `kubectl get`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Endpoints with fresh data, of all: 3/3.
    pub endpoints: String,
    /// Requests that wait, over all endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<i64>,
    /// Requests that run, over all endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<i64>,
    /// KV cache in use on the fullest endpoint: 87%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache_usage: Option<String>,
    /// GPUs that serve this monitor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<i64>,
    /// GPUs that lose clocks.
    #[serde(default, rename = "throttledGPUs", skip_serializing_if = "Option::is_none")]
    pub throttled_gpus: Option<i64>,
    /// GPUs that lose clocks, of all: 1/24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<String>,
    /// Risk that memory runs out.
    #[serde(default)]
    pub oom_risk: OomRisk,
}

/// One endpoint at the time the status was written.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// Name of the endpoint group in the spec.
    #[schemars(length(max = 63))]
    pub endpoint: String,
    /// Pod, or host and port of a url endpoint.
    #[schemars(length(max = 253))]
    pub target: String,
    /// Labels of the endpoint in the spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 8,
        "additionalProperties" = { "type": "string", "maxLength": 128 }
    ))]
    pub labels: BTreeMap<String, String>,
    /// Node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// Fresh, Stale, Waiting or the reason of the failure (Unreachable, Timeout, ...).
    #[schemars(length(max = 63))]
    pub state: String,
    /// Requests that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<i64>,
    /// Requests that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<i64>,
    /// KV cache in use: 87%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub kv_cache_usage: Option<String>,
    /// What is wrong, when something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
}

/// One GPU at the time the status was written.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuStatus {
    /// Node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Index on the node.
    pub index: i64,
    /// GPU uuid.
    #[schemars(length(max = 96))]
    pub uuid: String,
    /// Product name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    /// Cause and share of lost clocks: HardwareThermal 38%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub throttled: Option<String>,
    /// Temperature, degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<i64>,
    /// Memory in use: 71%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub memory_usage: Option<String>,
    /// How it is known whom it serves: Device (by its id), Process (by the processes on it) or Node (it may serve any pod of the node).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub attribution: Option<String>,
    /// Pods of this monitor that it serves, 8 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub pods: Vec<GpuPodStatus>,
}

/// A pod that a GPU serves.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuPodStatus {
    /// Pod, or host and port of a url endpoint.
    #[schemars(length(max = 253))]
    pub target: String,
    /// Device memory that its processes hold, MiB; absent where nobody tells.
    #[serde(default, rename = "memoryMiB", skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<i64>,
    /// With MIG the numbers of the GPU instances that it has, 8 at most; absent where nobody tells.
    #[serde(default, rename = "migGPUInstances", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub mig_gpu_instances: Vec<i64>,
}
