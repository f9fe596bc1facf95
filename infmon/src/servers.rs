//! What is served on loopback: /metrics, the JSON API, the metrics API.

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use infmon_node_daemon::DaemonMetrics;
use infmon_operator::exposition::WorldCollector;
use infmon_operator::json_api;
use infmon_operator::metric_source::WorldMetrics;
use infmon_operator::metrics_api::{self, Access, ApiState, Groups};
use infmon_operator::world::SharedWorld;
use infmon_runtime::{AdminServer, Readiness};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where the value that an HPA reads is found, below the address.
pub(crate) fn queue_depth_path(namespace: &str, monitor: &str) -> String {
    format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/inferencemonitors.inferencemonitor.io/{monitor}/queue-depth"
    )
}

/// Listens on `address`.
pub(crate) async fn bind(
    address: SocketAddr,
    world: &SharedWorld,
    daemon: &DaemonMetrics,
    simulated: bool,
) -> anyhow::Result<AdminServer> {
    let mut registry = Registry::default();
    infmon_runtime::process::register(&mut registry, "infmon", env!("CARGO_PKG_VERSION"));
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::from(simulated));
    registry.register(
        "infmon_simulated",
        "1 when servers are simulated: nothing here is real then",
        gauge,
    );
    daemon.register(&mut registry);
    registry.register_collector(Box::new(WorldCollector::new(world.clone())));

    let source = Arc::new(WorldMetrics::new(world.clone()));
    // Whoever reaches loopback may read; there is no cluster to ask.
    let state = ApiState::new(source, Access::Open, Groups::CUSTOM, Arc::new(|| Ok(())));
    let routes = Router::new()
        .route("/", get(move || async move { index(simulated) }))
        .merge(json_api::router(world.clone()))
        // The metrics API is the fallback, so it also answers for what does not exist.
        .merge(metrics_api::router(state));

    match AdminServer::bind(address, Readiness::new(), Arc::new(registry)).await {
        Ok(server) => Ok(server.with_routes(routes)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => anyhow::bail!(
            "port {} is taken (another infmon?): choose a free one with --listen {}:0, or --listen {}:{}",
            address.port(),
            address.ip(),
            address.ip(),
            address.port().wrapping_add(1).max(1024)
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address} (--listen)")),
    }
}

fn index(simulated: bool) -> String {
    let simulated = if simulated { "   SIMULATED" } else { "" };
    format!(
        "inference-monitor {}{simulated}\n\n/metrics           for Prometheus\n/api/v1/monitors   monitors with their status of this moment, JSON\n/api/v1/monitors/NAMESPACE/NAME/endpoints   what each server said last, JSON\n/api/v1/nodes      GPUs, JSON\n/apis              metrics as an HPA reads them\n",
        env!("CARGO_PKG_VERSION")
    )
}
