//! Processes on GPUs, and whose they are.

use crate::wire;
use infmon_gpu::{GpuProcess, ProcessOwner};
use infmon_samples::ProcessLookup;

pub(super) fn encode_lookup(lookup: &ProcessLookup) -> wire::ProcessLookup {
    let ProcessLookup { failure } = lookup;
    wire::ProcessLookup {
        failure: failure.clone().unwrap_or_default(),
    }
}

pub(super) fn decode_lookup(lookup: wire::ProcessLookup) -> ProcessLookup {
    ProcessLookup {
        failure: some(lookup.failure),
    }
}

pub(super) fn encode_processes(processes: &[GpuProcess]) -> wire::GpuProcesses {
    let encode = |process: &GpuProcess| {
        let GpuProcess {
            pid,
            used_bytes,
            gpu_instance,
            compute_instance,
            owner,
        } = process;
        wire::GpuProcess {
            pid: *pid,
            used_bytes: *used_bytes,
            owner: owner.as_ref().map(encode_owner),
            gpu_instance: *gpu_instance,
            compute_instance: *compute_instance,
        }
    };
    wire::GpuProcesses {
        processes: processes.iter().map(encode).collect(),
    }
}

pub(super) fn decode_processes(processes: wire::GpuProcesses) -> Vec<GpuProcess> {
    let decode = |process: wire::GpuProcess| GpuProcess {
        pid: process.pid,
        used_bytes: process.used_bytes,
        gpu_instance: process.gpu_instance,
        compute_instance: process.compute_instance,
        owner: process.owner.map(decode_owner),
    };
    processes.processes.into_iter().map(decode).collect()
}

fn encode_owner(owner: &ProcessOwner) -> wire::ProcessOwner {
    match owner {
        ProcessOwner::Pod { uid, container } => wire::ProcessOwner {
            pod_uid: uid.clone(),
            container_id: container.clone().unwrap_or_default(),
        },
        ProcessOwner::Machine => wire::ProcessOwner::default(),
    }
}

fn decode_owner(owner: wire::ProcessOwner) -> ProcessOwner {
    match some(owner.pod_uid) {
        Some(uid) => ProcessOwner::Pod {
            uid,
            container: some(owner.container_id),
        },
        None => ProcessOwner::Machine,
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
