//! Command line and environment.

use crate::{AddressPolicy, GpuOptions, HostMemoryOptions, PodResourcesOptions, ProcessOptions};
use clap::Parser;
use infmon_gpu::MonitorOptions;
use infmon_link::LinkClientOptions;
use infmon_runtime::LogFormat;
use infmon_samples::NodeIdentity;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Samples the GPUs of a node, scrapes its inference servers, and reports to the inference-monitor operator.
#[derive(Clone, Debug, Parser)]
#[command(name = "infmon-node-daemon", version)]
pub struct Args {
    /// Kubernetes name of this node
    #[arg(long, env = "NODE_NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub node_name: String,

    /// Name of this daemon's pod
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub pod_name: String,

    /// Operator as host:port; the name may stand for several replicas, and the option may be repeated
    #[arg(long, env = "INFMON_OPERATOR", required = true, value_delimiter = ',')]
    pub operator: Vec<String>,

    /// Name in the operator's certificate [default: the host of the first --operator]
    #[arg(long, env = "INFMON_OPERATOR_SERVER_NAME")]
    pub operator_server_name: Option<String>,

    /// CA bundle that signs the operator's certificate, PEM; read again for every connection
    #[arg(long, env = "INFMON_CA_FILE", default_value = "/var/run/inference-monitor/ca.crt")]
    pub ca_file: PathBuf,

    /// Token that proves which node this is; read again for every connection
    #[arg(long, env = "INFMON_TOKEN_FILE", default_value = "/var/run/inference-monitor/token")]
    pub token_file: PathBuf,

    /// The NVML library, when it is not where drivers usually put it
    #[arg(long, env = "INFMON_NVML_LIBRARY", conflicts_with = "no_gpu")]
    pub nvml_library: Option<PathBuf>,

    /// Do not read GPUs
    #[arg(long, env = "INFMON_NO_GPU")]
    pub no_gpu: bool,

    /// The kubelet's PodResources socket: ask it which pods have which GPUs; it belongs to root
    #[arg(long, env = "INFMON_POD_RESOURCES_SOCKET")]
    pub pod_resources_socket: Option<PathBuf>,

    /// The kernel's log, /dev/kmsg: read XIDs from it, with the process that caused them; it takes root and CAP_SYSLOG
    #[arg(long, env = "INFMON_KERNEL_LOG")]
    pub kernel_log: Option<PathBuf>,

    /// Where the node's cgroup tree (/sys/fs/cgroup) is mounted: read the host memory of the monitored pods from it
    #[arg(long, env = "INFMON_CGROUP_MOUNT")]
    pub cgroup_mount: Option<PathBuf>,

    /// Tell whose the processes on the GPUs are; the pod needs the PID namespace of the node (hostPID)
    #[arg(long, env = "INFMON_PROCESS_OWNERS", conflicts_with = "no_gpu")]
    pub process_owners: bool,

    /// Where the processes are, when it is not /proc
    #[arg(long, env = "INFMON_PROC_ROOT", default_value = "/proc", hide = true)]
    pub proc_root: PathBuf,

    /// Scrape also addresses of this machine and link-local ones
    #[arg(long, env = "INFMON_ALLOW_LOCAL_TARGETS")]
    pub allow_local_targets: bool,

    /// Where to serve /livez, /readyz and /metrics
    #[arg(long, env = "INFMON_ADMIN_LISTEN", default_value = "127.0.0.1:9401")]
    pub admin_listen: SocketAddr,

    /// text or json
    #[arg(long, env = "INFMON_LOG_FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

impl Args {
    /// How to reach the operator.
    #[must_use]
    pub fn link(&self) -> LinkClientOptions {
        let host = |operator: &String| operator.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
        let server_name = self
            .operator_server_name
            .clone()
            .or_else(|| self.operator.first().map(host))
            .unwrap_or_default();
        let identity = NodeIdentity {
            node: self.node_name.clone(),
            pod: self.pod_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        LinkClientOptions::new(
            self.operator.clone(),
            server_name,
            self.ca_file.clone(),
            self.token_file.clone(),
            identity,
        )
    }

    /// How to read GPUs.
    #[must_use]
    pub fn gpu(&self) -> GpuOptions {
        if self.no_gpu {
            return GpuOptions::Off;
        }
        GpuOptions::Nvml(MonitorOptions {
            library_path: self.nvml_library.clone(),
            ..MonitorOptions::default()
        })
    }

    /// How to ask the kubelet which pods have which GPUs; `None` leaves it alone.
    #[must_use]
    pub fn pod_resources(&self) -> Option<PodResourcesOptions> {
        let socket = self.pod_resources_socket.clone()?;
        Some(PodResourcesOptions::new(socket, self.pod_name.clone()))
    }

    /// How to read the host memory of the pods; `None` leaves it alone.
    #[must_use]
    pub fn host_memory(&self) -> Option<HostMemoryOptions> {
        self.cgroup_mount.clone().map(HostMemoryOptions::new)
    }

    /// How to look up whose the processes on the GPUs are; `None` leaves them alone.
    #[must_use]
    pub fn processes(&self) -> Option<ProcessOptions> {
        self.process_owners.then(|| ProcessOptions::new(self.proc_root.clone()))
    }

    /// Which addresses may be scraped.
    #[must_use]
    pub const fn addresses(&self) -> AddressPolicy {
        if self.allow_local_targets {
            AddressPolicy::Any
        } else {
            AddressPolicy::NotLocal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn two_options_are_enough() {
        let args = [
            "infmon-node-daemon",
            "--node-name=n1",
            "--operator=infmon-link.infmon.svc:9443",
        ];
        let args = Args::try_parse_from(args).unwrap();
        assert_eq!(args.link().server_name, "infmon-link.infmon.svc");
        assert_eq!(args.link().identity.node, "n1");
        assert_eq!(args.addresses(), AddressPolicy::NotLocal);
        assert!(matches!(args.gpu(), GpuOptions::Nvml(_)));
        assert!(args.pod_resources().is_none() && args.host_memory().is_none() && args.processes().is_none());
    }

    #[test]
    fn a_nameless_node_is_refused() {
        assert!(Args::try_parse_from(["infmon-node-daemon", "--operator=a:1"]).is_err());
        assert!(Args::try_parse_from(["infmon-node-daemon", "--operator=a:1", "--node-name="]).is_err());
        assert!(Args::try_parse_from(["infmon-node-daemon", "--node-name=n1"]).is_err());
    }
}
