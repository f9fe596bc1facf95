//! A Service as endpoint: its real pods, through real EndpointSlices.

use anyhow::ensure;
use infmon_cluster_tests::{Installation, Namespace, Session, servers};
use infmon_end_to_end::{Monitor, eventually};
use serde_json::json;
use std::time::Duration;

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_service_is_followed_to_its_pods() -> anyhow::Result<()> {
    let session = Session::get()?;
    let namespace = Namespace::create(session, "services")?;
    let installation = Installation::with(session, &[])?;
    servers::llama(&namespace, "chat", 2)?;
    let endpoints = json!({"endpoints": [{"name": "servers", "service": {"name": "chat", "port": "http"}}]});
    let monitor = Monitor::apply(session.api(), namespace.name(), "behind", "behind", &endpoints)?;
    namespace.wait_for_replicas("chat", 2, servers::START)?;
    installation.wait_for_daemons(session)?;
    let endpoints = |expected: &str| {
        eventually(&format!("Ready with {expected}"), Duration::from_secs(40), || {
            let ready = monitor.condition("Ready")?;
            let summary = monitor.get()?["status"]["summary"].take();
            ensure!(
                ready.status == "True" && summary["endpoints"] == expected,
                "{ready:?}, {summary}"
            );
            Ok(())
        })
    };
    endpoints("2/2")?;
    namespace.kubectl(&["scale", "deployment", "chat", "--replicas=1"])?;
    endpoints("1/1")?;
    monitor.metric("queue-depth")?.success()?;
    namespace.delete()
}
