//! From the kubelet's answer to the owners of GPUs: pure.

use super::wire::{ContainerResources, ListPodResourcesResponse};
use infmon_samples::{DeviceId, GpuOwner};
use std::collections::{BTreeMap, BTreeSet};

/// What the owners may take in a report. 16 GPUs in 48 replicas each, every one in a pod of its own, come to some 120 KiB.
const OWNERS_LIMIT_BYTES: usize = 256 * 1024;
/// NVIDIA's driver for dynamic resource allocation.
const DRA_DRIVER: &str = "gpu.nvidia.com";

/// An answer that says less than it seems to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    /// The kubelet answers before it has heard of its pods again.
    #[error(
        "the kubelet's list lacks this daemon's own pod {0}: a kubelet that restarted does not know its pods for a moment"
    )]
    WithoutOwnPod(String),
    /// A part of the list would look like all of it.
    #[error("the kubelet names GPU owners of {0} bytes, and at most {OWNERS_LIMIT_BYTES} fit into a report")]
    TooLarge(usize),
}

/// The containers that have GPUs. With the name of the daemon's own pod the answer is checked to hold it; without, it is believed.
pub(super) fn owners(answer: ListPodResourcesResponse, own_pod: &str) -> Result<Vec<GpuOwner>, AnswerError> {
    if !own_pod.is_empty() && answer.pod_resources.iter().all(|pod| pod.name != own_pod) {
        return Err(AnswerError::WithoutOwnPod(own_pod.to_owned()));
    }
    let mut owners = Vec::new();
    for pod in answer.pod_resources {
        for container in pod.containers {
            let name = container.name.clone();
            for (resource, devices) in gpus(container) {
                owners.push(GpuOwner {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: name.clone(),
                    resource,
                    devices: devices.into_iter().collect(),
                });
            }
        }
    }
    let bytes = owners.iter().map(size).sum();
    if bytes > OWNERS_LIMIT_BYTES {
        return Err(AnswerError::TooLarge(bytes));
    }
    Ok(owners)
}

/// GPUs of a container by resource. The kubelet has an entry per NUMA node, which nobody needs to tell apart.
fn gpus(container: ContainerResources) -> BTreeMap<String, BTreeSet<String>> {
    let mut gpus: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in container.devices {
        for id in entry.device_ids {
            if is_gpu_resource(&entry.resource_name) || DeviceId::parse(&id).is_some() {
                gpus.entry(entry.resource_name.clone()).or_default().insert(id);
            }
        }
    }
    let claims = container
        .dynamic_resources
        .into_iter()
        .flat_map(|claimed| claimed.claim_resources);
    for claim in claims {
        let mut names = claim.cdi_devices.into_iter().map(|device| device.name);
        let id = match names.find(|name| DeviceId::parse(name).is_some()) {
            Some(name) => name,
            // It may name its GPU or not; that there is one is worth knowing too.
            None if claim.driver_name == DRA_DRIVER => format!("{DRA_DRIVER}/{}", claim.device_name),
            None => continue,
        };
        gpus.entry(claim.driver_name).or_default().insert(id);
    }
    gpus
}

/// Resources under which NVIDIA's device plugin offers GPUs and parts of them. `nvidia.com/` alone is no sign: network cards are there too.
fn is_gpu_resource(name: &str) -> bool {
    name.strip_prefix("nvidia.com/")
        .is_some_and(|name| name == "gpu" || name.starts_with("gpu.") || name.starts_with("mig-"))
}

/// About what an owner takes in a message.
fn size(owner: &GpuOwner) -> usize {
    let names = [&owner.namespace, &owner.pod, &owner.container, &owner.resource];
    let texts = names.into_iter().chain(&owner.devices);
    4 + texts.map(|text| text.len() + 3).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::super::wire::{CdiDevice, ClaimResource, ContainerDevices, DynamicResource, PodResources};
    use super::*;

    fn plugin(resource: &str, ids: &[&str]) -> ContainerDevices {
        ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    fn claim(driver: &str, device: &str, cdi: &[&str]) -> DynamicResource {
        DynamicResource {
            claim_resources: vec![ClaimResource {
                cdi_devices: cdi
                    .iter()
                    .map(|name| CdiDevice {
                        name: (*name).to_owned(),
                    })
                    .collect(),
                driver_name: driver.to_owned(),
                device_name: device.to_owned(),
            }],
        }
    }

    fn pod(name: &str, devices: Vec<ContainerDevices>, dynamic_resources: Vec<DynamicResource>) -> PodResources {
        PodResources {
            name: name.to_owned(),
            namespace: "prod".to_owned(),
            containers: vec![ContainerResources {
                name: "server".to_owned(),
                devices,
                dynamic_resources,
            }],
        }
    }

    fn list(pods: Vec<PodResources>) -> ListPodResourcesResponse {
        ListPodResourcesResponse { pod_resources: pods }
    }

    #[test]
    fn gpus_are_kept_and_nothing_else() {
        let cases = [
            (
                "a GPU",
                vec![plugin("nvidia.com/gpu", &["GPU-1"])],
                vec![],
                "nvidia.com/gpu=GPU-1",
            ),
            (
                "one entry per NUMA node",
                vec![
                    plugin("nvidia.com/gpu", &["GPU-2"]),
                    plugin("nvidia.com/gpu", &["GPU-1", "GPU-2"]),
                ],
                vec![],
                "nvidia.com/gpu=GPU-1,GPU-2",
            ),
            (
                "replicas under the name for shared GPUs",
                vec![plugin("nvidia.com/gpu.shared", &["GPU-1::3"])],
                vec![],
                "nvidia.com/gpu.shared=GPU-1::3",
            ),
            (
                "a part",
                vec![plugin("nvidia.com/mig-1g.10gb", &["MIG-7"])],
                vec![],
                "nvidia.com/mig-1g.10gb=MIG-7",
            ),
            (
                "a renamed resource",
                vec![plugin("example.com/h100", &["GPU-1"])],
                vec![],
                "example.com/h100=GPU-1",
            ),
            (
                "ids of another form",
                vec![plugin("nvidia.com/gpu", &["nvidia0"])],
                vec![],
                "nvidia.com/gpu=nvidia0",
            ),
            (
                "no GPUs",
                vec![
                    plugin("nvidia.com/hostdev", &["0000:3b:00.2"]),
                    plugin("rdma/hca", &["mlx5_0"]),
                    plugin("nvidia.com/gpu", &[]),
                ],
                vec![],
                "",
            ),
            (
                "DRA",
                vec![],
                vec![claim("gpu.nvidia.com", "gpu-0", &["k8s.gpu.nvidia.com/claim=1-gpu-0"])],
                "gpu.nvidia.com=k8s.gpu.nvidia.com/claim=1-gpu-0",
            ),
            (
                "DRA without names of its devices",
                vec![],
                vec![claim("gpu.nvidia.com", "gpu-1", &["k8s.gpu.nvidia.com/claim=1"])],
                "gpu.nvidia.com=gpu.nvidia.com/gpu-1",
            ),
            (
                "DRA that tells the GPU",
                vec![],
                vec![claim("gpu.example.com", "x", &["nvidia.com/gpu=GPU-1"])],
                "gpu.example.com=nvidia.com/gpu=GPU-1",
            ),
            (
                "DRA of something else",
                vec![],
                vec![claim("dra.cpu", "cpu-0", &["dra.k8s.io/cpu=claim"])],
                "",
            ),
        ];
        for (name, devices, dynamic, expected) in cases {
            let found = owners(list(vec![pod("vllm-0", devices, dynamic)]), "").unwrap();
            let text: Vec<String> = found
                .iter()
                .map(|owner| format!("{}={}", owner.resource, owner.devices.join(",")))
                .collect();
            assert_eq!(text.join(" "), expected, "{name}");
            for owner in found {
                let names = (owner.namespace.as_str(), owner.pod.as_str(), owner.container.as_str());
                assert_eq!(names, ("prod", "vllm-0", "server"), "{name}");
            }
        }
    }

    #[test]
    fn a_list_without_our_own_pod_is_not_believed() {
        let answer = list(vec![pod("static", vec![], vec![])]);
        let error = AnswerError::WithoutOwnPod("daemon-x".to_owned());
        assert_eq!(owners(answer, "daemon-x"), Err(error.clone()));
        assert_eq!(owners(list(vec![]), "daemon-x"), Err(error));
        assert_eq!(
            owners(list(vec![pod("daemon-x", vec![], vec![])]), "daemon-x"),
            Ok(vec![])
        );
        assert_eq!(owners(list(vec![]), ""), Ok(vec![]));
    }

    #[test]
    fn a_list_that_does_not_fit_is_no_list() {
        let ids: Vec<String> = (0..6000).map(|number| format!("GPU-{number:040}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let fits = list(vec![pod("a", vec![plugin("nvidia.com/gpu", &ids[..5000])], vec![])]);
        assert_eq!(owners(fits, "").map(|owners| owners[0].devices.len()), Ok(5000));
        let more = list(vec![pod("a", vec![plugin("nvidia.com/gpu", &ids)], vec![])]);
        assert!(matches!(owners(more, ""), Err(AnswerError::TooLarge(bytes)) if bytes > OWNERS_LIMIT_BYTES));
    }
}
