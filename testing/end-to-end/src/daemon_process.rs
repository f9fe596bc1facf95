//! A node daemon: the real binary with the token of the pod that the DaemonSet controller made for its node.

use anyhow::Context;
use infmon_nvml_stand_in::{Scenario, StandIn};
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Command,
};

use crate::{
    Cluster, NAMESPACE, OperatorProcess, addresses,
    process::{Process, arguments},
    programs::Programs,
};

const ADMIN_PORT: u16 = 8080;
/// The audience of a daemon's token.
pub const AUDIENCE: &str = "inference-monitor-link";
/// The daemons' ServiceAccount.
pub const SERVICE_ACCOUNT: &str = "inference-monitor-node-daemon";

/// Whom a daemon says it is, and the token it shows.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Node.
    pub node: String,
    /// Pod.
    pub pod: String,
    /// Token.
    pub token: String,
    /// The pod as the DaemonSet made it.
    pub spec: Value,
}

impl Credentials {
    /// Those of the pod that the DaemonSet has on a node. The pod is bound and reported running first.
    ///
    /// # Errors
    /// When the DaemonSet controller makes no pod.
    pub fn of_node(cluster: &Cluster, node: &str) -> anyhow::Result<Self> {
        let pod = cluster.daemon_pod(node)?;
        cluster.bind(&pod, node)?;
        cluster.report_running(&pod, addresses::next())?;
        let name = pod["metadata"]["name"]
            .as_str()
            .context("a pod without a name")?
            .to_owned();
        let token = cluster
            .plane()
            .service_account_token(NAMESPACE, SERVICE_ACCOUNT, Some(AUDIENCE), Some(&name))?;
        Ok(Self {
            node: node.to_owned(),
            pod: name,
            token,
            spec: pod,
        })
    }
}

/// A daemon with a GPU driver of its own.
#[derive(Debug)]
pub struct DaemonProcess {
    /// The process.
    pub process: Process,
    /// The driver.
    pub driver: StandIn,
    /// The name of its pod.
    pub pod: String,
    ip: IpAddr,
    program: Box<Start>,
}

/// All that is needed to start it again.
#[derive(Debug)]
struct Start {
    name: String,
    node: String,
    pod: String,
    arguments: Vec<String>,
    /// Where its processes are, when it looks up whose those on the GPUs are.
    proc: Option<PathBuf>,
    log: PathBuf,
}

impl DaemonProcess {
    /// Starts the daemon of a node as the DaemonSet would.
    ///
    /// # Errors
    /// When it has no pod, or cannot be started.
    pub fn start(
        cluster: &Cluster,
        node: &str,
        operators: &[OperatorProcess],
        scenario: &Scenario,
    ) -> anyhow::Result<Self> {
        let credentials = Credentials::of_node(cluster, node)?;
        Self::start_with(cluster, &credentials, operators, scenario)
    }

    /// Starts a daemon with chosen credentials.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(
        cluster: &Cluster,
        credentials: &Credentials,
        operators: &[OperatorProcess],
        scenario: &Scenario,
    ) -> anyhow::Result<Self> {
        let ip = addresses::next();
        let name = format!("daemon-{}-{ip}", credentials.node);
        let driver = StandIn::install(&cluster.plane().data_dir().join(format!("{name}-driver")), scenario)?;
        let ca_file = cluster.write_file(&format!("{name}.ca.crt"), &cluster.certificate_authority()?)?;
        let token_file = cluster.write_file(&format!("{name}.token"), &credentials.token)?;
        let mut changed = vec![
            ("--ca-file", ca_file.display().to_string()),
            ("--token-file", token_file.display().to_string()),
            ("--nvml-library", driver.library_path().display().to_string()),
            ("--admin-listen", SocketAddr::new(ip, ADMIN_PORT).to_string()),
            ("--log-format", "text".to_owned()),
        ];
        // The name of the link's Service stands for these in a cluster.
        changed.extend(
            operators
                .iter()
                .map(|operator| ("--operator", operator.link().to_string())),
        );
        let start = Start {
            node: credentials.node.clone(),
            pod: credentials.pod.clone(),
            arguments: arguments(&credentials.spec, &changed),
            proc: None,
            log: cluster.log_file(&name),
            name,
        };
        Ok(Self {
            process: start.run()?,
            driver,
            pod: credentials.pod.clone(),
            ip,
            program: Box::new(start),
        })
    }

    /// Starts it again after it was killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = self.program.run()?;
        Ok(())
    }

    /// Starts it again as a profile with `hostPID` would, with a folder in the place of `/proc`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn look_up_processes(&mut self, proc: PathBuf) -> anyhow::Result<()> {
        self.program.proc = Some(proc);
        self.process.kill()?;
        self.restart()
    }

    /// Where it serves probes and `/metrics`.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.ip, ADMIN_PORT)
    }
}

impl Start {
    fn run(&self) -> anyhow::Result<Process> {
        let mut command = Command::new(&Programs::locate()?.node_daemon);
        command
            .env_clear()
            .env("NODE_NAME", &self.node)
            .env("POD_NAME", &self.pod)
            .args(&self.arguments);
        if let Some(proc) = &self.proc {
            command
                .env("INFMON_PROCESS_OWNERS", "true")
                .env("INFMON_PROC_ROOT", proc);
        }
        Process::start(&self.name, command, &self.log)
    }
}
