//! Command line of the operator.

use clap::Parser;
use infmon_runtime::LogFormat;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Watches InferenceMonitors, writes their status, serves the metrics that an HPA scales on
#[derive(Clone, Debug, Parser)]
#[command(name = "infmon-operator", version)]
pub struct Args {
    /// Namespace that the operator runs in
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of the operator's pod: its identity in the election and in Events
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// Configuration file
    #[arg(long, default_value = "/etc/inference-monitor/config.yaml")]
    pub config: PathBuf,
    /// Address of the metrics API (TLS): custom.metrics.k8s.io
    #[arg(long, default_value = "0.0.0.0:6443")]
    pub metrics_api_listen: SocketAddr,
    /// Address of the link (gRPC over TLS): node daemons report here
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub link_listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics (plain HTTP)
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub admin_listen: SocketAddr,
    /// Seconds to go on serving after SIGTERM, until nobody sends requests here any more
    #[arg(long, default_value_t = 10)]
    pub drain_seconds: u64,
    /// text or json
    #[arg(long, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}
