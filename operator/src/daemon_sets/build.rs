//! The DaemonSet of a node profile: pure.

use super::PROFILE_LABEL;
use crate::config::{Config, NodeProfile};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    HostPathVolumeSource, KeyToPath, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, SeccompProfile, SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
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
    let driver_root = some(&profile.gpu_access.driver_root);
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
                    runtime_class_name: some(&profile.gpu_access.runtime_class),
                    priority_class_name: some(&profile.priority_class_name),
                    node_selector: (!profile.node_selector.is_empty()).then(|| profile.node_selector.clone()),
                    tolerations: (!profile.tolerations.is_empty()).then(|| profile.tolerations.clone()),
                    image_pull_secrets: (!config.node_daemon.image_pull_secrets.is_empty())
                        .then(|| config.node_daemon.image_pull_secrets.clone()),
                    // The daemon ends within 2 s; a driver call that hangs must not hold the node's drain.
                    termination_grace_period_seconds: Some(10),
                    security_context: Some(PodSecurityContext {
                        run_as_non_root: Some(true),
                        run_as_user: Some(65532),
                        run_as_group: Some(65532),
                        seccomp_profile: Some(SeccompProfile {
                            type_: "RuntimeDefault".into(),
                            localhost_profile: None,
                        }),
                        ..PodSecurityContext::default()
                    }),
                    containers: vec![container(config, profile, namespace, driver_root.is_some())],
                    volumes: Some(volumes(config, driver_root)),
                    ..PodSpec::default()
                }),
            },
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}

fn container(config: &Config, profile: &NodeProfile, namespace: &str, driver_root: bool) -> Container {
    let link = format!("{}.{namespace}.svc", config.link_service);
    let mut mounts = vec![VolumeMount {
        name: "credentials".into(),
        mount_path: CREDENTIALS.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    }];
    if driver_root {
        mounts.push(VolumeMount {
            name: "driver".into(),
            mount_path: DRIVER_ROOT.into(),
            read_only: Some(true),
            // The driver container remounts it when it restarts; without propagation the old mount would stay.
            mount_propagation: Some("HostToContainer".into()),
            ..VolumeMount::default()
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
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn volumes(config: &Config, driver_root: Option<String>) -> Vec<Volume> {
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
    if let Some(path) = driver_root {
        volumes.push(Volume {
            name: "driver".into(),
            host_path: Some(HostPathVolumeSource { path, type_: None }),
            ..Volume::default()
        });
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
mod tests {
    use super::*;
    use crate::config::{GpuAccess, NodeDaemonConfig};

    fn config() -> Config {
        Config {
            deployment: "operator".into(),
            metrics_service: "metrics".into(),
            link_service: "link".into(),
            lease: "lease".into(),
            certificate_secret: "certificates".into(),
            api_services: vec![],
            node_daemon: NodeDaemonConfig {
                image: "image:1".into(),
                image_pull_policy: "IfNotPresent".into(),
                image_pull_secrets: vec![],
                service_account: "daemon".into(),
                resources: Default::default(),
                log_format: "json".into(),
                removal_grace_seconds: 60,
            },
            node_profiles: vec![],
            pod_addresses: Default::default(),
            allowed_hosts: vec![],
        }
    }

    #[test]
    fn the_default_profile_needs_no_privilege() {
        let profile = NodeProfile {
            name: "default".into(),
            ..NodeProfile::default()
        };
        let set = daemon_set(&config(), &profile, "system", None);
        let spec = set.spec.expect("spec").template.spec.expect("pod spec");
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_ne!(spec.host_pid, Some(true));
        assert_ne!(spec.host_network, Some(true));
        assert!(
            spec.volumes
                .expect("volumes")
                .iter()
                .all(|volume| volume.host_path.is_none())
        );
        let security = spec.containers[0].security_context.clone().expect("security context");
        assert_eq!(
            security.capabilities.expect("capabilities").drop,
            Some(vec!["ALL".to_owned()])
        );
        assert_eq!(security.read_only_root_filesystem, Some(true));
        assert_ne!(security.privileged, Some(true));
    }

    #[test]
    fn local_targets_are_allowed_only_where_the_administrator_says_so() {
        let profile = NodeProfile::default();
        for allowed in [false, true] {
            let mut config = config();
            config.pod_addresses.allow_loopback = allowed;
            let set = daemon_set(&config, &profile, "system", None);
            let spec = set.spec.expect("spec").template.spec.expect("pod spec");
            let args = spec.containers[0].args.clone().expect("args");
            assert_eq!(args.contains(&"--allow-local-targets".to_owned()), allowed);
        }
    }

    #[test]
    fn a_driver_root_is_mounted_read_only() {
        let profile = NodeProfile {
            name: "cos".into(),
            gpu_access: GpuAccess {
                driver_root: "/home/kubernetes/bin/nvidia".into(),
                ..GpuAccess::default()
            },
            ..NodeProfile::default()
        };
        let set = daemon_set(&config(), &profile, "system", None);
        let spec = set.spec.expect("spec").template.spec.expect("pod spec");
        let mounts = spec.containers[0].volume_mounts.clone().expect("mounts");
        let driver = mounts
            .iter()
            .find(|mount| mount.name == "driver")
            .expect("driver mount");
        assert_eq!(driver.read_only, Some(true));
        assert_eq!(driver.mount_propagation.as_deref(), Some("HostToContainer"));
    }

    #[test]
    fn the_selector_is_part_of_the_labels() {
        let profile = NodeProfile {
            name: "a".into(),
            ..NodeProfile::default()
        };
        let spec = daemon_set(&config(), &profile, "system", None).spec.expect("spec");
        let labels = spec.template.metadata.expect("metadata").labels.expect("labels");
        for (key, value) in spec.selector.match_labels.expect("selector") {
            assert_eq!(labels.get(&key), Some(&value));
        }
    }
}
