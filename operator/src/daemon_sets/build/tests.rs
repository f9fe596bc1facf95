//! What the pods of every profile may and may not have.

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

fn profile(name: &str) -> NodeProfile {
    NodeProfile {
        name: name.into(),
        ..NodeProfile::default()
    }
}

fn asking(name: &str) -> NodeProfile {
    NodeProfile {
        pod_resources: true,
        ..profile(name)
    }
}

fn pod_spec(config: &Config, profile: &NodeProfile) -> PodSpec {
    let set = daemon_set(config, profile, "system", None);
    set.spec.expect("spec").template.spec.expect("pod spec")
}

fn host_paths(spec: &PodSpec) -> Vec<String> {
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(|volume| Some(volume.host_path.as_ref()?.path.clone()))
        .collect()
}

fn sharing_pids(name: &str) -> NodeProfile {
    NodeProfile {
        host_pid: true,
        ..profile(name)
    }
}

/// The hostPath of a volume.
fn host_path(spec: &PodSpec, name: &str) -> HostPathVolumeSource {
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == name);
    volume.and_then(|volume| volume.host_path.clone()).expect("host path")
}

/// Where a container has a volume.
fn mount<'a>(container: &'a Container, name: &str) -> &'a VolumeMount {
    let mut mounts = container.volume_mounts.iter().flatten();
    mounts.find(|mount| mount.name == name).expect("mount")
}

/// What no profile may have, whatever it opts into, but for the kernel's log.
fn assert_confined(spec: &PodSpec) {
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_ne!(spec.share_process_namespace, Some(true));
    for host in [spec.host_network, spec.host_ipc] {
        assert_ne!(host, Some(true));
    }
    let pod = spec.security_context.clone().expect("pod security context");
    assert_eq!(pod.seccomp_profile.expect("seccomp").type_, "RuntimeDefault");
    let security = spec.containers[0].security_context.clone().expect("security context");
    let capabilities = security.capabilities.expect("capabilities");
    assert_eq!(
        (capabilities.drop, capabilities.add),
        (Some(vec!["ALL".to_owned()]), None)
    );
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_ne!(security.privileged, Some(true));
    assert!(
        spec.containers[0]
            .volume_mounts
            .iter()
            .flatten()
            .all(|mount| mount.read_only == Some(true)),
        "the daemon writes nowhere"
    );
}

#[test]
fn the_default_profile_needs_no_privilege() {
    let spec = pod_spec(&config(), &profile("default"));
    assert_confined(&spec);
    assert_eq!(host_paths(&spec), [""; 0]);
    let pod = spec.security_context.expect("pod security context");
    assert_eq!((pod.run_as_non_root, pod.run_as_user), (Some(true), Some(65532)));
    let args = spec.containers[0].args.clone().expect("args");
    let opt_ins = ["--pod-resources", "--cgroup"];
    assert!(
        !args
            .iter()
            .any(|arg| opt_ins.iter().any(|opt_in| arg.starts_with(opt_in))),
        "{args:?}"
    );
}

#[test]
fn a_profile_that_reads_host_memory_stays_unprivileged() {
    let reading = NodeProfile {
        host_memory: true,
        ..profile("gpu")
    };
    let spec = pod_spec(&config(), &reading);
    assert_confined(&spec);
    let pod = spec.security_context.clone().expect("pod security context");
    assert_eq!((pod.run_as_non_root, pod.run_as_user), (Some(true), Some(65532)));
    assert_eq!(host_paths(&spec), ["/sys/fs/cgroup"]);
    let host_path = host_path(&spec, "cgroup");
    assert_eq!(host_path.type_.as_deref(), Some("Directory"));
    let container = &spec.containers[0];
    let mount = mount(container, "cgroup");
    assert_eq!(mount.mount_path, "/host/cgroup");
    assert_eq!(mount.recursive_read_only.as_deref(), Some("IfPossible"));
    let args = container.args.clone().expect("args");
    assert!(args.contains(&"--cgroup-mount=/host/cgroup".to_owned()), "{args:?}");
}

#[test]
fn a_profile_that_asks_the_kubelet_is_root_without_capabilities() {
    let spec = pod_spec(&config(), &asking("gpu"));
    assert_confined(&spec);
    let pod = spec.security_context.clone().expect("pod security context");
    assert_eq!((pod.run_as_non_root, pod.run_as_user), (Some(false), Some(0)));
    assert_eq!(host_paths(&spec), ["/var/lib/kubelet/pod-resources"]);
    let host_path = host_path(&spec, "pod-resources");
    assert_eq!(host_path.type_.as_deref(), Some("Directory"));
    let container = &spec.containers[0];
    let mount = mount(container, "pod-resources");
    assert_eq!(mount.mount_path, "/var/lib/kubelet/pod-resources");
    let args = container.args.clone().expect("args");
    let socket = "--pod-resources-socket=/var/lib/kubelet/pod-resources/kubelet.sock";
    assert!(args.contains(&socket.to_owned()), "{args:?}");
}

#[test]
fn a_profile_changes_its_own_daemon_set_only() {
    let with = |first: NodeProfile| {
        let mut config = config();
        config.node_profiles = vec![first, profile("other")];
        let sets = config.node_profiles.iter();
        sets.map(|profile| daemon_set(&config, profile, "system", None))
            .collect::<Vec<_>>()
    };
    let (before, after) = (with(profile("gpu")), with(asking("gpu")));
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1]);
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
    let driver = mount(&spec.containers[0], "driver");
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

#[test]
fn a_profile_that_reads_the_kernels_log_is_privileged_and_no_other_is() {
    let reading = NodeProfile {
        kmsg: true,
        ..profile("gpu")
    };
    let spec = pod_spec(&config(), &reading);
    assert_eq!(spec.automount_service_account_token, Some(false));
    for host in [spec.host_pid, spec.host_network, spec.host_ipc] {
        assert_ne!(host, Some(true));
    }
    let pod = spec.security_context.clone().expect("pod security context");
    assert_eq!((pod.run_as_non_root, pod.run_as_user), (Some(false), Some(0)));
    let container = &spec.containers[0];
    let security = container.security_context.clone().expect("security context");
    assert_eq!(security.privileged, Some(true));
    // The API server refuses it beside `privileged`.
    assert_eq!(security.allow_privilege_escalation, None);
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(host_paths(&spec), ["/dev/kmsg"]);
    let path = host_path(&spec, "kernel-log");
    assert_eq!(path.type_.as_deref(), Some("CharDevice"));
    let mounts: Vec<_> = container.volume_mounts.iter().flatten().collect();
    assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
    assert!(mounts.iter().any(|mount| mount.mount_path == "/dev/kmsg"));
    let args = container.args.clone().expect("args");
    assert!(args.iter().any(|arg| arg == "--kernel-log=/dev/kmsg"), "{args:?}");
    for other in [profile("default"), asking("asking")] {
        assert_confined(&pod_spec(&config(), &other));
    }
}

#[test]
fn a_profile_that_shares_the_pid_namespace_has_a_user_of_its_own() {
    let spec = pod_spec(&config(), &sharing_pids("gpu"));
    assert_confined(&spec);
    assert_eq!(spec.host_pid, Some(true));
    assert_eq!(host_paths(&spec), [""; 0]);
    let pod = spec.security_context.clone().expect("pod security context");
    assert_eq!((pod.run_as_non_root, pod.run_as_user), (Some(true), Some(46_532)));
    let args = spec.containers[0].args.clone().expect("args");
    assert!(args.contains(&"--process-owners".to_owned()), "{args:?}");

    let both = NodeProfile {
        host_pid: true,
        ..asking("gpu")
    };
    let spec = pod_spec(&config(), &both);
    assert_confined(&spec);
    assert_eq!(spec.host_pid, Some(true));
    assert_eq!(
        spec.security_context.expect("pod security context").run_as_user,
        Some(0)
    );
}
