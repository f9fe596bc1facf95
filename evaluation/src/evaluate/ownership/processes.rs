//! The processes on GPUs, where the daemon tells whose they are.

use crate::users::GpuUsers;
use crate::{NodeObservation, ResolvedEndpoint};
use infmon_gpu::{GpuProcess, GpuSample};
use std::collections::BTreeSet;

/// What the processes of one pod hold on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodProcesses {
    /// How many there are; 0 where it is known that there is none.
    pub count: usize,
    /// Device memory that they hold together, bytes; `None` where the driver does not tell it of all.
    pub bytes: Option<u64>,
}

/// Processes of a node and their pods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processes<'a> {
    users: &'a GpuUsers,
}

impl<'a> Processes<'a> {
    /// `None` where the daemon does not look up whose processes they are, or cannot.
    pub(super) fn of(node: &'a NodeObservation) -> Option<Self> {
        let told = node
            .process_lookup
            .as_ref()
            .is_some_and(|lookup| lookup.failure.is_none());
        told.then_some(Self { users: &node.users })
    }

    /// Whether a process of the endpoint is on this GPU, or was a short time ago.
    pub(super) fn are_on(self, endpoint: &ResolvedEndpoint, gpu: &GpuSample) -> bool {
        !endpoint.pod_uid.is_empty() && self.users.has(&gpu.uuid, &endpoint.pod_uid)
    }

    /// Whether a process of the endpoint is on any GPU, or was a short time ago.
    pub(super) fn are_on_any(self, endpoint: &ResolvedEndpoint) -> bool {
        !endpoint.pod_uid.is_empty() && self.users.knows(&endpoint.pod_uid)
    }
}

/// The processes of a pod on this GPU, now; `None` where they are not known.
pub(super) fn of_pod(gpu: &GpuSample, endpoint: &ResolvedEndpoint) -> Option<PodProcesses> {
    let all = gpu.processes.as_ref().filter(|_| !endpoint.pod_uid.is_empty())?;
    let mine: Vec<&GpuProcess> = all
        .iter()
        .filter(|process| owner(process) == Some(endpoint.pod_uid.as_str()))
        .collect();
    // One that nobody can lay to anybody may be one of this pod.
    (!mine.is_empty() || is_complete(gpu)).then(|| PodProcesses {
        count: mine.len(),
        bytes: mine.iter().map(|process| process.used_bytes).sum(),
    })
}

/// Whether it is known of every process on this GPU whose it is.
pub(super) fn is_complete(gpu: &GpuSample) -> bool {
    let processes = gpu.processes.as_ref();
    processes.is_some_and(|processes| processes.iter().all(|process| process.owner.is_some()))
}

/// How many pods have processes on this GPU now.
pub(super) fn pods_on(gpu: &GpuSample) -> usize {
    let pods: BTreeSet<&str> = gpu.processes.iter().flatten().filter_map(owner).collect();
    pods.len()
}

fn owner(process: &GpuProcess) -> Option<&str> {
    process.owner.as_ref()?.pod_uid()
}
