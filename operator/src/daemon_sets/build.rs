//! The DaemonSet of a node profile: pure.

use super::{PROFILE_LABEL, security};
use crate::config::{Config, NodeProfile};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, HostPathVolumeSource,
    KeyToPath, ObjectFieldSelector, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use std::collections::BTreeMap;

/// Audience of the daemons' tokens: a token for the API server does not open the link, and the other way round.
pub const LINK_AUDIENCE: &str = "inference-monitor-link";
/// Name of the daemon's container.
pub const CONTAINER: &str = "node-daemon";
const LINK_PORT: u16 = 8443;
const ADMIN_PORT: i32 = 8080;
const CREDENTIALS: &str = "/var/run/secrets/inference-monitor";
/// Where a driver root of the host is mounted; the daemon looks below it for the library.
const DRIVER_ROOT: &str = "/run/nvidia/driver";
/// The kubelet's folder with its PodResources socket, on the node and in the container. The folder is mounted, not the socket: a
/// kubelet that restarts makes a new one.
const POD_RESOURCES: &str = "/var/lib/kubelet/pod-resources";
/// The kernel's log, on the node and in the container.
const KERNEL_LOG: &str = "/dev/kmsg";
/// The node's tree of control groups, and where the container has it: its own is at the same place as the node's.
const CGROUP_TREE: &str = "/sys/fs/cgroup";
const CGROUP_MOUNT: &str = "/host/cgroup";

/// Name of the DaemonSet of a profile.
#[must_use]
pub fn name_of(profile: &str) -> String {
    format!("inference-monitor-node-daemon-{profile}")
}

/// The DaemonSet of a profile.
#[must_use]
pub fn daemon_set(config: &Config, profile: &NodeProfile, namespace: &str, owner: Option<OwnerReference>) -> DaemonSet {
    let selector = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "inference-monitor".to_owned()),
        ("app.kubernetes.io/component".to_owned(), "node-daemon".to_owned()),
        (PROFILE_LABEL.to_owned(), profile.name.clone()),
    ]);
    let mut labels = selector.clone();
    labels.insert(
        "app.kubernetes.io/managed-by".into(),
        "inference-monitor-operator".into(),
    );
    labels.insert("app.kubernetes.io/part-of".into(), "inference-monitor".into());
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    DaemonSet {
        metadata: ObjectMeta {
            name: Some(name_of(&profile.name)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(DaemonSetSpec {
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            revision_history_limit: Some(3),
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    // A daemon is out for a second or two; a tenth at a time updates a large cluster in minutes.
                    max_unavailable: Some(IntOrString::String("10%".into())),
                    max_surge: None,
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    service_account_name: Some(config.node_daemon.service_account.clone()),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    host_pid: profile.host_pid.then_some(true),
                    runtime_class_name: some(&profile.gpu_access.runtime_class),
                    priority_class_name: some(&profile.priority_class_name),
                    node_selector: (!profile.node_selector.is_empty()).then(|| profile.node_selector.clone()),
                    tolerations: (!profile.tolerations.is_empty()).then(|| profile.tolerations.clone()),
                    image_pull_secrets: (!config.node_daemon.image_pull_secrets.is_empty())
                        .then(|| config.node_daemon.image_pull_secrets.clone()),
                    // The daemon ends within 2 s; a driver call that hangs must not hold the node's drain.
                    termination_grace_period_seconds: Some(10),
                    security_context: Some(security::pod(profile)),
                    containers: vec![container(config, profile, namespace)],
                    volumes: Some(volumes(config, profile)),
                    ..PodSpec::default()
                }),
            },
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}

fn container(config: &Config, profile: &NodeProfile, namespace: &str) -> Container {
    let link = format!("{}.{namespace}.svc", config.link_service);
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("credentials", CREDENTIALS)];
    if !profile.gpu_access.driver_root.is_empty() {
        mounts.push(VolumeMount {
            // The driver container remounts it when it restarts; without propagation the old mount would stay.
            mount_propagation: Some("HostToContainer".into()),
            ..mount("driver", DRIVER_ROOT)
        });
    }
    if profile.pod_resources {
        mounts.push(mount("pod-resources", POD_RESOURCES));
    }
    if profile.kmsg {
        mounts.push(mount("kernel-log", KERNEL_LOG));
    }
    if profile.host_memory {
        mounts.push(VolumeMount {
            // With version 1 each controller is a mount of its own below, which a plain read-only mount leaves writable.
            recursive_read_only: Some("IfPossible".into()),
            ..mount("cgroup", CGROUP_MOUNT)
        });
    }
    let probe = |path: &str, period| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("admin".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        ..Probe::default()
    };
    let mut args = vec![
        format!("--operator={link}:{LINK_PORT}"),
        format!("--operator-server-name={link}"),
        format!("--ca-file={CREDENTIALS}/ca.crt"),
        format!("--token-file={CREDENTIALS}/token"),
        format!("--admin-listen=0.0.0.0:{ADMIN_PORT}"),
        format!("--log-format={}", config.node_daemon.log_format),
    ];
    if config.pod_addresses.allow_loopback {
        // The daemon refuses such addresses by itself, whatever the plan says.
        args.push("--allow-local-targets".to_owned());
    }
    if profile.pod_resources {
        args.push(format!("--pod-resources-socket={POD_RESOURCES}/kubelet.sock"));
    }
    if profile.kmsg {
        args.push(format!("--kernel-log={KERNEL_LOG}"));
    }
    if profile.host_memory {
        args.push(format!("--cgroup-mount={CGROUP_MOUNT}"));
    }
    if profile.host_pid {
        args.push("--process-owners".to_owned());
    }
    Container {
        name: CONTAINER.into(),
        image: Some(config.node_daemon.image.clone()),
        image_pull_policy: Some(config.node_daemon.image_pull_policy.clone()),
        args: Some(args),
        env: Some(vec![
            from_field("NODE_NAME", "spec.nodeName"),
            from_field("POD_NAME", "metadata.name"),
            variable("NVIDIA_VISIBLE_DEVICES", &profile.gpu_access.visible_devices),
            // Only the management library: no CUDA, no graphics.
            variable("NVIDIA_DRIVER_CAPABILITIES", "utility"),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("admin".into()),
            container_port: ADMIN_PORT,
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(probe("/livez", 10)),
        readiness_probe: Some(probe("/readyz", 5)),
        resources: Some(config.node_daemon.resources.clone()),
        security_context: Some(security::container(profile)),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn volumes(config: &Config, profile: &NodeProfile) -> Vec<Volume> {
    let mut volumes = vec![Volume {
        name: "credentials".into(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![
                VolumeProjection {
                    service_account_token: Some(ServiceAccountTokenProjection {
                        audience: Some(LINK_AUDIENCE.into()),
                        expiration_seconds: Some(3600),
                        path: "token".into(),
                    }),
                    ..VolumeProjection::default()
                },
                VolumeProjection {
                    config_map: Some(ConfigMapProjection {
                        name: format!("{}-ca", config.certificate_secret),
                        items: Some(vec![KeyToPath {
                            key: "ca.crt".into(),
                            path: "ca.crt".into(),
                            mode: None,
                        }]),
                        optional: None,
                    }),
                    ..VolumeProjection::default()
                },
            ]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }];
    let host_path = |name: &str, path: &str, type_: Option<&str>| Volume {
        name: name.into(),
        host_path: Some(HostPathVolumeSource {
            path: path.into(),
            type_: type_.map(Into::into),
        }),
        ..Volume::default()
    };
    let driver_root = &profile.gpu_access.driver_root;
    if !driver_root.is_empty() {
        volumes.push(host_path("driver", driver_root, None));
    }
    if profile.pod_resources {
        // Directory: a folder that is not there is an error of the pod, and not made on the node.
        volumes.push(host_path("pod-resources", POD_RESOURCES, Some("Directory")));
    }
    if profile.kmsg {
        volumes.push(host_path("kernel-log", KERNEL_LOG, Some("CharDevice")));
    }
    if profile.host_memory {
        volumes.push(host_path("cgroup", CGROUP_TREE, Some("Directory")));
    }
    volumes
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: path.into(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

#[cfg(test)]
mod tests;
