//! What a node daemon measured.

use crate::TargetId;
use infmon_engines::EngineSample;
use infmon_gpu::{DriverState, GpuFailure, GpuSample, IncidentKind};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Who reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Kubernetes node name, or the host name in standalone mode.
    pub node: String,
    /// Pod of the daemon; empty in standalone mode.
    pub pod: String,
    /// Version of the daemon, for example `0.1.0`.
    pub version: String,
}

/// Everything a node daemon knows, sent once per period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Revision of the plan that was followed.
    pub plan_revision: u64,
    /// GPUs of the node.
    pub gpus: GpuReport,
    /// One entry per target of the plan.
    pub targets: Vec<TargetReport>,
}

/// GPUs of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuReport {
    /// State of the driver session.
    pub driver: DriverState,
    /// Age of the samples when the report was made; `None` when there are none.
    pub age: Option<Duration>,
    /// One per GPU.
    pub samples: Vec<GpuSample>,
    /// The GPUs that do not answer.
    pub outages: Vec<GpuOutage>,
    /// What happened to GPUs since the daemon started, as far as it is not long over.
    pub incidents: Vec<GpuIncident>,
    /// What happened to NVSwitches of the node, as far as it is not long over; nothing where the daemon does not read the kernel's log.
    pub switch_incidents: Vec<SwitchIncident>,
    /// Which pods have which GPUs; `None` when the daemon does not ask the kubelet.
    pub owners: Option<GpuOwners>,
    /// Whether the owners of the processes in the samples are looked up; `None` when the daemon does not look.
    pub process_lookup: Option<ProcessLookup>,
}

/// A GPU that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuOutage {
    /// Index in enumeration order.
    pub index: u32,
    /// `GPU-<uuid>`, where it was seen before.
    pub uuid: Option<String>,
    /// Number in its device file, where it was seen before.
    pub minor_number: Option<u32>,
    /// How it fails.
    pub failure: GpuFailure,
    /// Text of the driver, for people.
    pub message: String,
    /// For how long, when the report was made.
    pub since: Duration,
}

/// What happened to a GPU, once or several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuIncident {
    /// Index in enumeration order.
    pub index: u32,
    /// `GPU-<uuid>`.
    pub uuid: String,
    /// What.
    #[serde(flatten)]
    pub kind: IncidentKind,
    /// GPU instance of MIG that the driver named; `None` is the whole GPU, or nobody said where. Of an XID that concerns the whole GPU it is
    /// the one named last.
    pub gpu_instance: Option<u32>,
    /// Compute instance of MIG, by its number in the GPU instance.
    pub compute_instance: Option<u32>,
    /// Process that the kernel's log named last, in the node's PID namespace; `None` where the log is not read or names none.
    pub pid: Option<u32>,
    /// Name of that process.
    pub process_name: Option<String>,
    /// How often; for ECC the number of errors.
    pub count: u64,
    /// Time since it happened first, when the report was made.
    pub first: Duration,
    /// Time since it happened last.
    pub last: Duration,
}

/// An SXid of an NVSwitch, once or several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchIncident {
    /// Where the switch is on the PCI bus: `0000:05:00`.
    pub pci: String,
    /// Number in NVIDIA's Fabric Manager user guide.
    pub number: u32,
    /// The driver called it fatal.
    pub fatal: bool,
    /// What the driver said of the last one.
    pub text: String,
    /// How often.
    pub count: u64,
    /// Time since it happened first, when the report was made.
    pub first: Duration,
    /// Time since it happened last.
    pub last: Duration,
}

/// A list of owners older than this is not used any more. The daemon asks every 10 s, so that several answers in a row were missed.
pub const GPU_OWNERS_STALE_AFTER: Duration = Duration::from_secs(60);

/// Which pods of a node have which GPUs, as its kubelet says (PodResources). A call that failed leaves the last list as it is, to grow
/// old: nobody may take "not known" for "nobody has one".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuOwners {
    /// Age of the list when the report was made; `None` before the first.
    pub age: Option<Duration>,
    /// Every container of the node that has GPUs; complete when there is an age.
    pub owners: Vec<GpuOwner>,
    /// Why the newest call failed; `None` when it succeeded or none was made yet.
    pub failure: Option<GpuOwnersFailure>,
}

/// What came of looking up whose the processes on the GPUs are. Without a failure, every process in the samples was looked up; of one
/// without an owner nobody can say whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLookup {
    /// Why nothing could be looked up, for people; `None` when it could.
    pub failure: Option<String>,
}

/// A container that has GPUs. There is no uid in what the kubelet says, so a pod is known by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuOwner {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// What it asked for, for example `nvidia.com/gpu`, or the DRA driver.
    pub resource: String,
    /// Device ids, for example `GPU-<uuid>`, in the forms of [`DeviceId`](crate::DeviceId).
    pub devices: Vec<String>,
}

/// A call to the kubelet that gave no list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuOwnersFailure {
    /// One line for people: what happened, where, what to do next.
    pub message: String,
    /// For how long calls have been failing.
    pub since: Duration,
}

/// What is known of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// The target.
    pub id: TargetId,
    /// The last good sample and its age, kept while later scrapes fail; `None` before the first.
    pub last: Option<Observation>,
    /// Why the newest scrape failed; `None` when it succeeded or none was made yet.
    pub failure: Option<Failure>,
    /// Host memory of its pod; `None` where the daemon does not read it, or found nothing of the pod.
    pub host_memory: Option<HostMemory>,
}

/// Host memory of a pod, as its cgroup counts it: of the pod or of that of its containers which is nearest to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostMemory {
    /// Time since it was read, when the report was made.
    pub age: Duration,
    /// In use without the inactive page cache, bytes: what the kubelet calls the working set.
    pub working_set_bytes: u64,
    /// The active page cache within it, bytes: files that are mapped or read often, such as the weights of a model. The kernel takes it back
    /// before it kills.
    pub active_file_bytes: Option<u64>,
    /// Limit, bytes; `None` where there is none.
    pub limit_bytes: Option<u64>,
    /// Share of the last 10 s in which every task of the pod waited for memory, 0-100 (PSI `full avg10`); `None` where the kernel does not
    /// tell.
    pub pressure_full_percent: Option<f64>,
    /// Processes of the pod that the kernel killed for lack of memory; `None` where it does not tell.
    pub oom_kills_total: Option<u64>,
}

impl HostMemory {
    /// What the kernel cannot take back, bytes: the working set without page cache.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.working_set_bytes
            .saturating_sub(self.active_file_bytes.unwrap_or(0))
    }
}

/// One good sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Time since the body was read, when the report was made.
    pub age: Duration,
    /// Time the scrape took.
    pub took: Duration,
    /// What the server said.
    pub sample: EngineSample,
    /// How well the body was understood.
    pub recognition: Recognition,
}

/// How well a body was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recognition {
    /// Series that the conditions need and the body lacks, by their newest name.
    pub missing: Vec<String>,
    /// What to do about it, for example the flag that turns the series on. When nothing is missing, what servers of this kind can never tell.
    pub hint: String,
}

/// A scrape that gave no sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable category.
    pub kind: FailureKind,
    /// One line for people: what happened, where, what to do next.
    pub message: String,
    /// How long the target has been failing without a good scrape between.
    pub since: Duration,
}

/// Why a scrape gave no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureKind {
    /// Connection refused, reset, no route.
    Unreachable,
    /// The deadline passed.
    Timeout,
    /// 401 or 403.
    Unauthorized,
    /// The server answers that metrics are off (llama-server: 501).
    MetricsDisabled,
    /// The server still loads its model (llama-server: 503).
    Loading,
    /// Any other HTTP status that is not 2xx.
    HttpStatus,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body could not be parsed.
    Malformed,
    /// The body is well-formed but of no engine that is known, or not of the engine that the spec names.
    UnknownEngine,
}

impl FailureKind {
    /// Every kind, in the order of their severity for an overview.
    pub const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Unauthorized,
        Self::MetricsDisabled,
        Self::Loading,
        Self::HttpStatus,
        Self::BodyTooLarge,
        Self::Malformed,
        Self::UnknownEngine,
    ];

    /// Name used as a condition reason and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "Unreachable",
            Self::Timeout => "Timeout",
            Self::Unauthorized => "Unauthorized",
            Self::MetricsDisabled => "MetricsDisabled",
            Self::Loading => "Loading",
            Self::HttpStatus => "HttpStatus",
            Self::BodyTooLarge => "BodyTooLarge",
            Self::Malformed => "Malformed",
            Self::UnknownEngine => "UnknownEngine",
        }
    }

    /// True when the server was reached and answered with metrics, so that the fault lies in what they say.
    #[must_use]
    pub const fn is_recognition(self) -> bool {
        matches!(self, Self::Malformed | Self::UnknownEngine)
    }
}
