//! Which pods have which GPUs.

use super::microseconds;
use crate::wire;
use infmon_samples::{GpuOwner, GpuOwners, GpuOwnersFailure};
use std::time::Duration;

pub(super) fn encode_owners(owners: &GpuOwners) -> wire::GpuOwners {
    let GpuOwners { age, owners, failure } = owners;
    let encode = |owner: &GpuOwner| {
        let GpuOwner {
            namespace,
            pod,
            container,
            resource,
            devices,
        } = owner;
        wire::GpuOwner {
            namespace: namespace.clone(),
            pod: pod.clone(),
            container: container.clone(),
            resource: resource.clone(),
            device_ids: devices.clone(),
        }
    };
    wire::GpuOwners {
        age_microseconds: age.map(microseconds),
        owners: owners.iter().map(encode).collect(),
        failure: failure.as_ref().map(|failure| wire::GpuOwnersFailure {
            message: failure.message.clone(),
            since_microseconds: microseconds(failure.since),
        }),
    }
}

pub(super) fn decode_owners(owners: wire::GpuOwners) -> GpuOwners {
    let decode = |owner: wire::GpuOwner| GpuOwner {
        namespace: owner.namespace,
        pod: owner.pod,
        container: owner.container,
        resource: owner.resource,
        devices: owner.device_ids,
    };
    GpuOwners {
        age: owners.age_microseconds.map(Duration::from_micros),
        owners: owners.owners.into_iter().map(decode).collect(),
        failure: owners.failure.map(|failure| GpuOwnersFailure {
            message: failure.message,
            since: Duration::from_micros(failure.since_microseconds),
        }),
    }
}
