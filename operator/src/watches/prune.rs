//! From API objects to what decisions need of them. Everything else is dropped at once: pods are many.

use crate::world::EndpointSliceView;
use infmon_evaluation::cluster::{Pod, PodPort, ServiceAddress};
use infmon_samples::DeviceId;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeMap;

/// Annotation with the uid of a static pod, which its mirror in the API does not have (`kubetypes.ConfigHashAnnotationKey` of the kubelet).
const STATIC_POD_HASH: &str = "kubernetes.io/config.hash";
/// Annotation of every mirror of a static pod, with the same value (`kubetypes.ConfigMirrorAnnotationKey`). The API server lets nobody add
/// it to a pod that is there (`ValidatePodSpecificAnnotationUpdates`), and a kubelet deletes a pod that was made with it and has no static
/// pod behind it: no pod that runs can borrow the uid of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Uid by which the kubelet knows a static pod, from the annotations of its mirror; `None` for every other pod. It is an MD5 sum, so that it
/// cannot be that of an ordinary pod.
fn static_uid(annotations: &BTreeMap<String, String>) -> Option<String> {
    let hash = annotations.get(STATIC_POD_HASH)?;
    let is_sum = hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_sum && annotations.get(MIRROR) == Some(hash)).then(|| hash.to_ascii_lowercase())
}

/// A pod; `None` when it has no name, which the API server does not let happen.
pub(super) fn pod(object: core::Pod) -> Option<Pod> {
    let spec = object.spec.unwrap_or_default();
    let status = object.status.unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let ports = spec
        .containers
        .iter()
        .chain(
            spec.init_containers
                .iter()
                .flatten()
                .filter(|container| container.restart_policy.is_some()),
        )
        .flat_map(|container| container.ports.iter().flatten())
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .filter_map(|port| {
            Some(PodPort {
                name: port.name.clone().unwrap_or_default(),
                number: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect();
    let mut devices: Vec<String> = status
        .container_statuses
        .iter()
        .flatten()
        .flat_map(|container| container.allocated_resources_status.iter().flatten())
        .flat_map(|resource| resource.resources.iter().flatten())
        .map(|health| health.resource_id.clone())
        .filter(|id| DeviceId::parse(id).is_some())
        .collect();
    devices.sort();
    devices.dedup();
    let uid = object.metadata.uid.unwrap_or_default();
    let static_uid = object.metadata.annotations.as_ref().and_then(static_uid);
    Some(Pod {
        name: object.metadata.name?,
        kubelet_uid: static_uid.unwrap_or_else(|| uid.clone()),
        uid,
        node: spec.node_name,
        ip: status.pod_ip.and_then(|ip| ip.parse().ok()),
        labels: object.metadata.labels.unwrap_or_default(),
        ports,
        ready,
        host_network: spec.host_network.unwrap_or(false),
        terminating: object.metadata.deletion_timestamp.is_some(),
        ended: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        devices,
    })
}

/// Name and view of an EndpointSlice; `None` when it belongs to no Service.
pub(super) fn slice(object: EndpointSlice) -> Option<(String, EndpointSliceView)> {
    let service = object
        .metadata
        .labels
        .as_ref()?
        .get("kubernetes.io/service-name")?
        .clone();
    let ports: Vec<PodPort> = object
        .ports
        .iter()
        .flatten()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .filter_map(|port| {
            Some(PodPort {
                name: port.name.clone().unwrap_or_default(),
                number: u16::try_from(port.port?).ok()?,
            })
        })
        .collect();
    let addresses = object
        .endpoints
        .into_iter()
        .flat_map(|endpoint| {
            let pod = endpoint
                .target_ref
                .filter(|target| target.kind.as_deref() == Some("Pod"))
                .and_then(|target| target.name);
            let ready = endpoint
                .conditions
                .and_then(|conditions| conditions.ready)
                .unwrap_or(true);
            let node = endpoint.node_name;
            let ports = ports.clone();
            endpoint.addresses.into_iter().filter_map(move |address| {
                Some(ServiceAddress {
                    ip: address.parse().ok()?,
                    pod: pod.clone(),
                    node: node.clone(),
                    ready,
                    ports: ports.clone(),
                })
            })
        })
        .collect();
    Some((object.metadata.name?, EndpointSliceView { service, addresses }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_keeps_what_decisions_need() {
        let object: core::Pod = serde_json::from_value(json!({
            "metadata": {"name": "vllm-0", "uid": "u", "labels": {"app": "vllm"}, "deletionTimestamp": "2026-11-22T00:00:00Z"},
            "spec": {"nodeName": "n1", "containers": [
                {"name": "server", "ports": [{"name": "http", "containerPort": 8000}, {"containerPort": 53, "protocol": "UDP"}]}
            ]},
            "status": {"podIP": "10.0.0.7", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "allocatedResourcesStatus": [
                        {"name": "nvidia.com/gpu", "resources": [
                            {"resourceID": "GPU-1", "health": "Healthy"}, {"resourceID": "something-else"}]},
                        {"name": "claim:gpus/one", "resources": [
                            {"resourceID": "k8s.gpu.nvidia.com/claim=6f1c-gpu-3", "health": "Unknown"},
                            {"resourceID": "dra.example.com/pool/gpu-0"}]}]}]}
        }))
        .expect("pod");
        let pod = pod(object).expect("named");
        assert_eq!(
            pod.ports,
            [PodPort {
                name: "http".into(),
                number: 8000
            }]
        );
        assert_eq!(pod.devices, ["GPU-1", "k8s.gpu.nvidia.com/claim=6f1c-gpu-3"]);
        assert!(pod.ready && pod.terminating && !pod.ended);
        assert_eq!((pod.uid.as_str(), pod.kubelet_uid.as_str()), ("u", "u"));
    }

    #[test]
    fn a_static_pod_has_the_uid_of_its_kubelet() {
        const HASH: &str = "0123456789abcdef0123456789abcdef";
        let cases = [
            (HASH, Some(HASH), HASH),
            // Whoever may annotate a pod must not make it another one.
            (HASH, None, "mirror"),
            (HASH, Some("another"), "mirror"),
            (
                "6f1c9e52-0b7e-4f8e-9d6b-2f1f3c1d0a11",
                Some("6f1c9e52-0b7e-4f8e-9d6b-2f1f3c1d0a11"),
                "mirror",
            ),
            ("", Some(""), "mirror"),
        ];
        for (hash, mirror, expected) in cases {
            let annotations =
                json!({"kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": mirror.unwrap_or("-")});
            let object = json!({"metadata": {"name": "a", "uid": "mirror", "annotations": annotations}});
            let pod = pod(serde_json::from_value(object).expect("pod")).expect("named");
            assert_eq!((pod.uid.as_str(), pod.kubelet_uid.as_str()), ("mirror", expected));
        }
    }

    #[test]
    fn a_slice_belongs_to_its_service() {
        let object: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "svc-abc", "labels": {"kubernetes.io/service-name": "svc"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.7"], "nodeName": "n1", "conditions": {"ready": false},
                "targetRef": {"kind": "Pod", "name": "vllm-0"}}]
        }))
        .expect("slice");
        let (name, view) = slice(object).expect("of a service");
        assert_eq!((name.as_str(), view.service.as_str()), ("svc-abc", "svc"));
        assert_eq!(view.addresses[0].pod.as_deref(), Some("vllm-0"));
        assert!(!view.addresses[0].ready);
    }
}
