//! Device ids and the GPUs of a node.

use infmon_gpu::{GpuSample, MigInstance};
use infmon_samples::{DeviceId, DeviceName, GpuOwner};
use std::collections::BTreeSet;

/// An id for people.
pub(super) fn short(device: &str) -> String {
    match DeviceId::parse(device).map(|id| id.name) {
        Some(DeviceName::Minor(minor)) => format!("/dev/nvidia{minor}"),
        Some(DeviceName::Gpu(uuid)) => uuid.chars().take(12).collect(),
        _ => device.chars().take(12).collect(),
    }
}

/// Whether an id tells which of the GPUs it names, or that it is none of them.
pub(super) fn tells(device: &str, gpus: &[GpuSample]) -> bool {
    match DeviceId::parse(device).map(|id| id.name) {
        Some(DeviceName::Gpu(_)) => true,
        Some(DeviceName::Minor(_)) => !gpus.is_empty() && gpus.iter().all(|gpu| gpu.minor_number.is_some()),
        Some(DeviceName::Mig(uuid)) => gpus.iter().any(|gpu| has_device(gpu, uuid)),
        None => false,
    }
}

/// Whether an id names this GPU or a part of it.
pub(super) fn names_gpu(device: &str, gpu: &GpuSample) -> bool {
    match DeviceId::parse(device).map(|id| id.name) {
        Some(DeviceName::Gpu(uuid)) => uuid == gpu.uuid,
        Some(DeviceName::Minor(minor)) => gpu.minor_number == Some(minor),
        Some(DeviceName::Mig(uuid)) => has_device(gpu, uuid),
        None => false,
    }
}

/// The GPU instance of MIG that an id names on this GPU.
pub(super) fn instance_of(device: &str, gpu: &GpuSample) -> Option<u32> {
    let id = DeviceId::parse(device).filter(|_| names_gpu(device, gpu))?;
    if let DeviceName::Mig(uuid) = id.name {
        let mut instances = gpu.mig_instances.iter().flatten();
        return instances
            .find(|instance| has(instance, uuid))
            .map(|instance| instance.gpu_instance);
    }
    id.gpu_instance
}

fn has_device(gpu: &GpuSample, uuid: &str) -> bool {
    gpu.mig_instances.iter().flatten().any(|instance| has(instance, uuid))
}

fn has(instance: &MigInstance, uuid: &str) -> bool {
    instance.devices.iter().any(|device| device.uuid == uuid)
}

/// Whether an id is one share of several.
pub(super) fn is_share(device: &str) -> bool {
    DeviceId::parse(device).is_some_and(|id| id.shared)
}

/// How many pods of the kubelet's list have this GPU.
pub(super) fn listed(gpu: &GpuSample, list: &[GpuOwner]) -> usize {
    let has = |owner: &&GpuOwner| owner.devices.iter().any(|device| names_gpu(device, gpu));
    let pods: BTreeSet<(&str, &str)> = list
        .iter()
        .filter(has)
        .map(|owner| (owner.namespace.as_str(), owner.pod.as_str()))
        .collect();
    pods.len()
}
