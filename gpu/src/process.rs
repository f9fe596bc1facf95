//! Processes on a GPU, and whose they are.

use serde::{Deserialize, Serialize};

/// A process that holds memory on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuProcess {
    /// Process id as the driver tells it to this process (translated to our PID namespace).
    pub pid: u32,
    /// Device memory it holds, bytes; `None` where the driver does not tell.
    pub used_bytes: Option<u64>,
    /// GPU instance of MIG that it is on.
    pub gpu_instance: Option<u32>,
    /// Compute instance of MIG that it is on, by its number in the GPU instance.
    pub compute_instance: Option<u32>,
    /// Whose it is; `None` where nobody can say, or nobody looks.
    pub owner: Option<ProcessOwner>,
}

/// Whose process it is, by its control group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum ProcessOwner {
    /// A container of a pod.
    Pod {
        /// Uid of the pod, lower case with dashes; of a static pod the 32 digits of its hash, which is not the uid of its mirror in the API.
        uid: String,
        /// Id of the container, 64 hexadecimal digits; `None` where it is in the pod and in none of its containers.
        container: Option<String>,
    },
    /// The machine itself: it is in no pod.
    Machine,
}

impl ProcessOwner {
    /// Uid of the pod, for a process of a pod.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        match self {
            Self::Pod { uid, .. } => Some(uid),
            Self::Machine => None,
        }
    }
}
