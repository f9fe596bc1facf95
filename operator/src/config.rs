//! The configuration file of the operator, written by the administrator (Helm renders it into a ConfigMap).

use anyhow::Context;
use infmon_evaluation::AddressPolicy;
use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements, Toleration};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The configuration file. Unknown fields are refused: a typo is an error, not a silence.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The operator's own Deployment: owner of what the operator makes, so that all of it goes with it.
    pub deployment: String,
    /// Service in front of the metrics API.
    pub metrics_service: String,
    /// Headless Service of the link.
    pub link_service: String,
    /// Lease of the election.
    pub lease: String,
    /// Secret with the self-made certificates; the CA alone is in the ConfigMap `<name>-ca`.
    pub certificate_secret: String,
    /// APIServices whose `caBundle` is filled.
    #[serde(default)]
    pub api_services: Vec<String>,
    /// The node daemon.
    pub node_daemon: NodeDaemonConfig,
    /// Which nodes get a daemon, and how it reaches the GPUs there.
    #[serde(default)]
    pub node_profiles: Vec<NodeProfile>,
    /// What the pods of a monitor may resolve to.
    #[serde(default)]
    pub pod_addresses: PodAddresses,
    /// Hosts that `url` endpoints may name.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
}

/// The node daemon.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeDaemonConfig {
    /// Image.
    pub image: String,
    /// Pull policy.
    #[serde(default = "default_pull_policy")]
    pub image_pull_policy: String,
    /// Pull secrets.
    #[serde(default)]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// ServiceAccount; its tokens are the only ones that the link accepts.
    pub service_account: String,
    /// Resources.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// `json` or `text`.
    #[serde(default = "default_log_format")]
    pub log_format: String,
    /// Seconds for which a DaemonSet that is not needed stays, so that deleting and re-creating a monitor does not restart daemons.
    #[serde(default = "default_removal_grace")]
    pub removal_grace_seconds: u64,
}

/// A kind of node and how a daemon reaches the GPUs there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeProfile {
    /// Part of the name of the DaemonSet.
    pub name: String,
    /// Nodes of this profile; empty is all.
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the daemon.
    pub tolerations: Vec<Toleration>,
    /// How the GPUs are reached.
    pub gpu_access: GpuAccess,
    /// Whether the daemon asks the kubelet which pods have which GPUs, for which it must run as root.
    pub pod_resources: bool,
    /// Whether the daemon reads XIDs from the kernel's log, for which its container must be privileged.
    pub kmsg: bool,
    /// Whether the daemon reads the host memory of the monitored pods from the node's cgroup tree, mounted read-only.
    pub host_memory: bool,
    /// Whether the daemon shares the PID namespace of its node, and tells whose the processes on the GPUs are.
    #[serde(rename = "hostPID")]
    pub host_pid: bool,
    /// Priority class of the daemon; empty is none.
    pub priority_class_name: String,
}

/// How a daemon reaches the GPUs of its node.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GpuAccess {
    /// RuntimeClass that injects the driver; empty is the node's default runtime.
    pub runtime_class: String,
    /// Folder of the node with the driver's files, mounted read-only; empty is none.
    pub driver_root: String,
    /// `NVIDIA_VISIBLE_DEVICES`.
    pub visible_devices: String,
}

impl Default for GpuAccess {
    fn default() -> Self {
        Self {
            runtime_class: String::new(),
            driver_root: String::new(),
            visible_devices: "all".into(),
        }
    }
}

/// What the pods of a monitor may resolve to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodAddresses {
    /// Loopback and link-local addresses.
    pub allow_loopback: bool,
    /// Pods that share the network of their node.
    pub allow_host_network: bool,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// With the path, the line and what is wrong.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        let config: Self =
            serde_saphyr::from_str(&text).with_context(|| format!("failed to parse {}", path.display()))?;
        config
            .check()
            .with_context(|| format!("{} is not valid", path.display()))?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let mut names = std::collections::BTreeSet::new();
        for profile in &self.node_profiles {
            let valid = !profile.name.is_empty()
                && profile.name.len() <= 30
                && profile
                    .name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            anyhow::ensure!(
                valid,
                "nodeProfiles: name {:?} must be 1 to 30 lower-case letters, digits and '-'",
                profile.name
            );
            anyhow::ensure!(
                names.insert(&profile.name),
                "nodeProfiles: two profiles are named {:?}",
                profile.name
            );
        }
        Ok(())
    }

    /// What monitors may lead to.
    #[must_use]
    pub fn address_policy(&self) -> AddressPolicy {
        AddressPolicy {
            allow_loopback: self.pod_addresses.allow_loopback,
            allow_host_network: self.pod_addresses.allow_host_network,
            allowed_hosts: self.allowed_hosts.clone(),
            credentials: None,
        }
    }
}

fn default_pull_policy() -> String {
    "IfNotPresent".into()
}

fn default_log_format() -> String {
    "json".into()
}

const fn default_removal_grace() -> u64 {
    60
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "deployment: o\nmetricsService: m\nlinkService: l\nlease: x\ncertificateSecret: c\nnodeDaemon: {image: i, serviceAccount: s}\n";

    fn parse(text: &str) -> anyhow::Result<Config> {
        let config: Config = serde_saphyr::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn the_minimal_file_is_enough() {
        let config = parse(MINIMAL).expect("valid");
        assert_eq!(config.node_daemon.removal_grace_seconds, 60);
        assert_eq!(config.address_policy(), AddressPolicy::default());
    }

    #[test]
    fn a_profile_asks_the_kubelet_only_where_it_says_so() {
        let text = format!("{MINIMAL}nodeProfiles: [{{name: a}}, {{name: b, podResources: true}}]\n");
        let profiles = parse(&text).expect("valid").node_profiles;
        let asking: Vec<bool> = profiles.iter().map(|profile| profile.pod_resources).collect();
        assert_eq!(asking, [false, true]);
        let text = format!("{MINIMAL}nodeProfiles: [{{name: a}}, {{name: b, hostMemory: true}}]\n");
        let profiles = parse(&text).expect("valid").node_profiles;
        let reading: Vec<bool> = profiles.iter().map(|profile| profile.host_memory).collect();
        assert_eq!(reading, [false, true]);
    }

    #[test]
    fn a_profile_reads_the_kernels_log_only_where_it_says_so() {
        let text = format!("{MINIMAL}nodeProfiles: [{{name: a}}, {{name: b, kmsg: true}}]\n");
        let profiles = parse(&text).expect("valid").node_profiles;
        let reading: Vec<bool> = profiles.iter().map(|profile| profile.kmsg).collect();
        assert_eq!(reading, [false, true]);
    }

    #[test]
    fn a_profile_shares_the_pid_namespace_only_where_it_says_so() {
        let text = format!("{MINIMAL}nodeProfiles: [{{name: a}}, {{name: b, hostPID: true}}]\n");
        let profiles = parse(&text).expect("valid").node_profiles;
        let sharing: Vec<bool> = profiles.iter().map(|profile| profile.host_pid).collect();
        assert_eq!(sharing, [false, true]);
    }

    #[test]
    fn faults_are_errors() {
        for fault in [
            "unknownField: 1\n",
            "nodeProfiles: [{name: A}]\n",
            "nodeProfiles: [{name: a}, {name: a}]\n",
            "nodeProfiles: [{nodeSelector: {}}]\n",
            "nodeProfiles: [{name: a, podResources: /run}]\n",
            "nodeProfiles: [{name: a, hostMemory: /sys}]\n",
            "nodeProfiles: [{name: a, hostPid: true}]\n",
        ] {
            assert!(parse(&format!("{MINIMAL}{fault}")).is_err(), "{fault}");
        }
    }
}
