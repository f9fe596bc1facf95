//! A running core, targets, and waiting with a deadline.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod kubelet;
pub mod tls;

use infmon_node_daemon::{
    AddressPolicy, DaemonMetrics, DaemonOptions, GpuOptions, HostMemoryOptions, PodResourcesOptions, ProcessOptions,
    spawn,
};
use infmon_runtime::Shutdown;
use infmon_samples::{Plan, Report, Scheme, Target, TargetId, TargetReport};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub const PERIOD: Duration = Duration::from_millis(100);
pub const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A target with periods short enough for tests.
pub fn target(id: &str, address: SocketAddr) -> Target {
    Target {
        id: TargetId(id.to_owned()),
        scheme: Scheme::Http,
        address: address.to_string(),
        metrics_path: "/metrics".to_owned(),
        engine: None,
        mapping: infmon_engines::Mapping::default(),
        period: PERIOD,
        deadline: Duration::from_millis(500),
        body_limit_bytes: 1024 * 1024,
        access: infmon_samples::Access::default(),
        pod_uid: None,
    }
}

pub fn plan(revision: u64, targets: Vec<Target>) -> Plan {
    Plan {
        revision,
        period: PERIOD,
        targets,
        release_gpus: false,
    }
}

/// A daemon that asks nobody and reads nothing but its targets.
fn bare(gpu: GpuOptions) -> DaemonOptions {
    DaemonOptions {
        gpu,
        pod_resources: None,
        kernel_log: None,
        host_memory: None,
        processes: None,
        addresses: AddressPolicy::Any,
        metrics: DaemonMetrics::default(),
    }
}

/// The core of a daemon.
pub struct Core {
    pub plan: watch::Sender<Arc<Plan>>,
    pub reports: watch::Receiver<Arc<Report>>,
    pub shutdown: Shutdown,
}

impl Core {
    pub fn start(gpu: GpuOptions, targets: Vec<Target>) -> Self {
        Self::start_with(gpu, AddressPolicy::Any, targets)
    }

    pub fn start_with(gpu: GpuOptions, addresses: AddressPolicy, targets: Vec<Target>) -> Self {
        let options = DaemonOptions { addresses, ..bare(gpu) };
        Self::start_core(options, targets)
    }

    /// A core that reads a kernel's log.
    pub fn start_with_kernel_log(gpu: GpuOptions, kernel_log: PathBuf) -> Self {
        let kernel_log = Some(kernel_log);
        Self::start_core(
            DaemonOptions {
                kernel_log,
                ..bare(gpu)
            },
            Vec::new(),
        )
    }

    /// A core that asks a kubelet.
    pub fn start_asking(pod_resources: PodResourcesOptions) -> Self {
        let pod_resources = Some(pod_resources);
        let options = bare(GpuOptions::Off);
        Self::start_core(
            DaemonOptions {
                pod_resources,
                ..options
            },
            Vec::new(),
        )
    }

    /// A core that looks up whose the processes on the GPUs are.
    pub fn start_looking(gpu: GpuOptions, processes: ProcessOptions) -> Self {
        let processes = Some(processes);
        Self::start_core(DaemonOptions { processes, ..bare(gpu) }, Vec::new())
    }

    /// A core that reads host memory.
    pub fn start_with_host_memory(host_memory: HostMemoryOptions, targets: Vec<Target>) -> Self {
        let host_memory = Some(host_memory);
        let options = bare(GpuOptions::Off);
        Self::start_core(DaemonOptions { host_memory, ..options }, targets)
    }

    fn start_core(options: DaemonOptions, targets: Vec<Target>) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(plan(1, targets)));
        let shutdown = Shutdown::new();
        let reports = spawn(options, receiver, &shutdown);
        Self {
            plan: sender,
            reports,
            shutdown,
        }
    }

    pub fn follow(&self, revision: u64, targets: Vec<Target>) {
        self.plan.send_replace(Arc::new(plan(revision, targets)));
    }

    /// Waits for a report for which `condition` gives something.
    pub async fn report<T>(&mut self, what: &str, mut condition: impl FnMut(&Report) -> Option<T>) -> T {
        let wait = async {
            loop {
                self.reports.changed().await.expect("the core runs");
                let report = Arc::clone(&self.reports.borrow_and_update());
                if let Some(value) = condition(&report) {
                    return value;
                }
            }
        };
        let limit = tokio::time::timeout(Duration::from_secs(15), wait).await;
        limit.unwrap_or_else(|_| panic!("not within 15 s: {what}; last: {:?}", self.reports.borrow()))
    }

    /// Waits for the state of one target.
    pub async fn target<T>(
        &mut self,
        id: &str,
        what: &str,
        mut condition: impl FnMut(&TargetReport) -> Option<T>,
    ) -> T {
        self.report(what, |report| {
            let of_target = |target: &&TargetReport| target.id.0 == id;
            report.targets.iter().find(of_target).and_then(&mut condition)
        })
        .await
    }

    /// Waits for a good sample without failure.
    pub async fn good(&mut self, id: &str) -> infmon_samples::Observation {
        self.target(id, "a good sample", |target| match target.failure {
            None => target.last.clone(),
            Some(_) => None,
        })
        .await
    }

    /// Waits for a failure.
    pub async fn failure(&mut self, id: &str) -> infmon_samples::Failure {
        self.target(id, "a failure", |target| target.failure.clone()).await
    }
}

/// Polls until `condition` gives something.
pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(15);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < give_up, "not within 15 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
