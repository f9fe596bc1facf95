//! The daemon as a process: wiring only.

use crate::args::Args;
use crate::metrics::LinkCollector;
use crate::{DaemonMetrics, DaemonOptions, spawn};
use anyhow::Context as _;
use infmon_link::{LinkClient, OperatorState};
use infmon_runtime::{AdminServer, Readiness, Shutdown, process};
use infmon_samples::Plan;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// All tasks end within it, also when the driver hangs or nobody is there to connect to.
const STOP_DEADLINE: Duration = Duration::from_millis(1500);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the admin address cannot be listened on, or signal handlers cannot be installed. Nothing that comes later ends the daemon:
/// GPUs, targets and operators may go and come back.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("cannot install signal handlers")?;
    let metrics = DaemonMetrics::default();
    let link = LinkClient::new(args.link());

    let mut registry = Registry::default();
    process::register(&mut registry, "node-daemon", env!("CARGO_PKG_VERSION"));
    metrics.register(&mut registry);
    registry.register_collector(Box::new(LinkCollector(link.links())));

    let readiness = Readiness::new();
    let connected = readiness.latch("a stream to the operator");
    let mut links = link.links();
    shutdown.spawn("readiness", async move {
        let is_connected = |state: &OperatorState| *state == OperatorState::Connected;
        if links.wait_for(|links| links.values().any(is_connected)).await.is_ok() {
            connected.release();
        }
    });

    let admin = AdminServer::bind(args.admin_listen, readiness.clone(), Arc::new(registry))
        .await
        .with_context(|| format!("cannot listen on {} (--admin-listen)", args.admin_listen))?;
    tracing::info!(
        node = args.node_name,
        version = env!("CARGO_PKG_VERSION"),
        admin = %admin.local_address()?,
        "node daemon started"
    );
    shutdown.spawn("admin server", admin.run(shutdown.token()));

    let (plan_sender, plan) = watch::channel(Arc::new(Plan::default()));
    let options = DaemonOptions {
        gpu: args.gpu(),
        pod_resources: args.pod_resources(),
        kernel_log: args.kernel_log.clone(),
        host_memory: args.host_memory(),
        processes: args.processes(),
        addresses: args.addresses(),
        metrics,
    };
    let reports = spawn(options, plan, &shutdown);
    shutdown.spawn("operator link", link.run(plan_sender, reports, shutdown.token()));

    shutdown.requested().await;
    readiness.stop();
    if let Err(error) = shutdown.finish(STOP_DEADLINE).await {
        tracing::warn!(%error, "ended without waiting any longer");
    }
    Ok(())
}
