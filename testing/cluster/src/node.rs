//! One node: its folder, its configuration, its processes.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, anyhow};
use infmon_control_plane::{NodeCredentials, process, process::Process};
use serde_json::{Value, json};

use crate::{control_groups, images, network::Network, requirements, simulated_gpus};

const INIT: &str = include_str!("node-init.sh");
/// Where Services get their addresses; the default of the control plane.
const CLUSTER_DNS: &str = "10.96.0.10";
/// How long a program that is run on a node may take.
const RUN: Duration = Duration::from_secs(120);

/// A node of a cluster, running or not.
#[derive(Debug, Clone)]
pub struct Node {
    number: u8,
    folder: PathBuf,
    network: Network,
    cluster: String,
}

impl Node {
    pub(crate) fn new(cluster: &str, folder: &Path, network: &Network, number: u8) -> Self {
        Self {
            number,
            folder: folder.join(format!("nodes/{number}")),
            network: network.clone(),
            cluster: cluster.to_owned(),
        }
    }

    /// Its name in Kubernetes.
    #[must_use]
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Its address, which the machine reaches.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.network.node(self.number)
    }

    /// Everything that it writes: `logs/`, the kubelet's and containerd's data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Name of its control group.
    #[must_use]
    pub fn control_group(&self) -> String {
        format!("infmon-{}-{}", self.cluster, self.number)
    }

    /// Ids of its simulated GPUs.
    #[must_use]
    pub fn gpu_ids(&self, count: u8) -> Vec<String> {
        simulated_gpus::ids(self.number, count)
    }

    /// Writes its configuration and starts it. It joins the cluster by itself.
    pub(crate) fn start(
        &self,
        credentials: &NodeCredentials,
        programs: &Path,
        images: &Path,
        gpus: u8,
    ) -> anyhow::Result<Process> {
        self.write_configuration(credentials)?;
        if gpus > 0 {
            simulated_gpus::install(&self.folder, self.number, gpus)?;
        }
        let arguments = [
            format!(
                "--net={}",
                Network::file(&self.network.node_namespace(self.number)).display()
            ),
            "env".to_owned(),
            format!("NODE={}", self.folder.display()),
            format!("PROGRAMS={}", programs.display()),
            format!("IMAGES={}", images.display()),
            format!("NAME={}", self.name()),
            format!("ADDRESS={}", self.address()),
            format!("KUBELET_KUBECONFIG={}", credentials.kubelet_kubeconfig.display()),
            format!("GPUS={}", self.gpu_ids(gpus).join(" ")),
            "unshare".to_owned(),
            "--mount".to_owned(),
            "--pid".to_owned(),
            "--fork".to_owned(),
            "--kill-child=KILL".to_owned(),
            "--mount-proc".to_owned(),
            "bash".to_owned(),
            self.folder.join("init.sh").display().to_string(),
        ];
        Process::start(
            &self.name(),
            Path::new("nsenter"),
            &arguments,
            &self.folder.join("logs/init.log"),
        )
    }

    fn write_configuration(&self, credentials: &NodeCredentials) -> anyhow::Result<()> {
        for folder in ["logs", "cni-configuration"] {
            let folder = self.folder.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        let plugins = requirements::plugin_folder().ok_or_else(|| anyhow!("the CNI plugins are not installed"))?;
        let resolver = self.folder.join("resolv.conf");
        for (name, content) in [
            ("init.sh", INIT.to_owned()),
            // CoreDNS itself gets this one, and asks nobody.
            ("resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
            ("containerd.toml", containerd(&plugins)),
            ("cni-configuration/10-infmon.conflist", self.cni().to_string()),
            ("kubelet.json", self.kubelet(credentials, &resolver).to_string()),
            ("kube-proxy.json", self.kube_proxy(credentials).to_string()),
        ] {
            let path = self.folder.join(name);
            fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        }
        Ok(())
    }

    fn cni(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "infmon",
            "plugins": [{
                // isDefaultGateway adds the default route; a second one in ipam is refused by the kernel.
                "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/var/lib/cni/networks",
                    "ranges": [[{ "subnet": self.network.pods_of(self.number) }]],
                },
            }],
        })
    }

    fn kubelet(&self, credentials: &NodeCredentials, resolver: &Path) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address().to_string(),
            "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1",
            "tlsCertFile": credentials.kubelet_certificate,
            "tlsPrivateKeyFile": credentials.kubelet_key,
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": credentials.authority },
            },
            "authorization": { "mode": "Webhook" },
            "clusterDNS": [CLUSTER_DNS],
            "clusterDomain": "cluster.local",
            "resolvConf": resolver,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.control_group()),
            "cgroupsPerQOS": true,
            "enforceNodeAllocatable": ["pods"],
            "failCgroupV1": false,
            "failSwapOn": false,
            "oomScoreAdj": 0,
            // On by default in 1.37, and off before: one node of each kind.
            "featureGates": {
                "ResourceHealthStatus": self.number.is_multiple_of(2),
                "ResourceHealthStatusMessage": self.number.is_multiple_of(2),
            },
            // A dead node is noticed after 20 s (see supervisor) instead of 50 s.
            "nodeStatusUpdateFrequency": "4s",
            "nodeLeaseDurationSeconds": 12,
            // The disk is the machine's: how full it is says nothing about this node, and images are never pulled again.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        })
    }

    fn kube_proxy(&self, credentials: &NodeCredentials) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": { "kubeconfig": credentials.proxy_kubeconfig },
            "clusterCIDR": self.network.pods(),
            "bindAddress": self.address().to_string(),
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "oomScoreAdj": 0,
            // These limits are the machine's, and only the first network namespace may set them.
            "conntrack": {
                "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
            },
        })
    }

    /// Process id, as the machine sees it, of the node's process 1.
    ///
    /// # Errors
    ///
    /// When the node does not run.
    pub fn init_process(&self) -> anyhow::Result<u32> {
        let namespace = self.network.node_namespace(self.number);
        let inode = fs::metadata(Network::file(&namespace))
            .map(|file| file.ino())
            .with_context(|| format!("{} has no network namespace", self.name()))?;
        for entry in fs::read_dir("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if is_init_of(id, inode) {
                return Ok(id);
            }
        }
        Err(anyhow!("{} does not run", self.name()))
    }

    /// Process id, as the machine sees it, of the kubelet.
    ///
    /// # Errors
    ///
    /// When none runs; one that was killed is back within a second.
    pub fn kubelet_process(&self) -> anyhow::Result<u32> {
        let init = self.init_process()?;
        let name = format!("--hostname-override={}", self.name());
        children(init)
            .into_iter()
            .flat_map(children)
            .find(|id| {
                let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                let mut words = line.split(|byte| *byte == 0);
                words.next().is_some_and(|program| program.ends_with(b"/kubelet"))
                    && words.any(|word| word == name.as_bytes())
            })
            .ok_or_else(|| anyhow!("the kubelet of {} does not run", self.name()))
    }

    /// Runs a program of the machine on the node: in its mounts and its network.
    ///
    /// # Errors
    ///
    /// When it fails; the error has what it wrote to standard error.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init_process()?))
            .args(["--mount", "--net", "--pid", program])
            .args(arguments);
        process::run(command, "", RUN)
    }

    /// Imports an archive with images.
    ///
    /// # Errors
    ///
    /// When containerd refuses it.
    pub fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = fs::canonicalize(archive).with_context(|| format!("failed to find {}", archive.display()))?;
        self.run(
            "ctr",
            &[
                "--namespace",
                "k8s.io",
                "images",
                "import",
                &archive.display().to_string(),
            ],
        )
        .map(drop)
    }
}

fn containerd(plugins: &Path) -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Root of a virtual machine may lack the right to lower it.
  restrict_oom_score_adj = true
  # Else the namespaces of pods stay in the machine's folder.
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        pause = images::PAUSE,
        plugins = plugins.display(),
    )
}

/// Whether a process is the first of its process namespace and lives in this network namespace.
fn is_init_of(id: u32, network: u64) -> bool {
    let in_network = fs::metadata(format!("/proc/{id}/ns/net")).is_ok_and(|namespace| namespace.ino() == network);
    in_network
        && fs::read_to_string(format!("/proc/{id}/status")).is_ok_and(|status| {
            status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                // Outer to inner: the machine's number, the node's. A pod with the node's network has a third.
                .is_some_and(|ids| ids.split_whitespace().skip(1).eq(["1"]))
        })
}

fn children(id: u32) -> Vec<u32> {
    // One file per thread; a shell has one thread.
    fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Makes the control groups of these nodes.
pub(crate) fn create_control_groups(nodes: &[Node]) -> anyhow::Result<()> {
    nodes
        .iter()
        .try_for_each(|node| control_groups::create(&node.control_group()))
}
