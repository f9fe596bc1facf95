//! MIG instances.

use crate::wire;
use infmon_gpu::{MigDevice, MigInstance};

pub(super) fn encode_instances(instances: &[MigInstance]) -> wire::MigInstances {
    wire::MigInstances {
        instances: instances.iter().map(encode_instance).collect(),
    }
}

pub(super) fn decode_instances(instances: wire::MigInstances) -> Vec<MigInstance> {
    instances.instances.into_iter().map(decode_instance).collect()
}

fn encode_instance(instance: &MigInstance) -> wire::MigInstance {
    let MigInstance {
        gpu_instance,
        devices,
        memory_total_bytes,
        memory_free_bytes,
        memory_used_bytes,
        utilization_percent,
    } = instance;
    let encode = |device: &MigDevice| wire::MigDevice {
        uuid: device.uuid.clone(),
        compute_instance: device.compute_instance,
    };
    wire::MigInstance {
        gpu_instance: *gpu_instance,
        devices: devices.iter().map(encode).collect(),
        memory_total_bytes: *memory_total_bytes,
        memory_free_bytes: *memory_free_bytes,
        memory_used_bytes: *memory_used_bytes,
        utilization_percent: *utilization_percent,
    }
}

fn decode_instance(instance: wire::MigInstance) -> MigInstance {
    let decode = |device: wire::MigDevice| MigDevice {
        uuid: device.uuid,
        compute_instance: device.compute_instance,
    };
    MigInstance {
        gpu_instance: instance.gpu_instance,
        devices: instance.devices.into_iter().map(decode).collect(),
        memory_total_bytes: instance.memory_total_bytes,
        memory_free_bytes: instance.memory_free_bytes,
        memory_used_bytes: instance.memory_used_bytes,
        utilization_percent: instance.utilization_percent,
    }
}
