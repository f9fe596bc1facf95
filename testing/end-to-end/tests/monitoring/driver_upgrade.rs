//! The daemon lets go of a driver that is upgraded, by the labels that NVIDIA's GPU Operator sets, and takes it up again.

use anyhow::ensure;
use infmon_end_to_end::{EnginePod, Monitor, polling::eventually, polling::took};
use infmon_nvml_stand_in::{Profile, Scenario, StandIn};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

use crate::Shared;

#[test]
fn a_driver_that_is_upgraded_is_let_go_of() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "driver-upgrade";
    shared.place(place)?;
    let story = cluster.story("a driver that is upgraded is let go of");
    let _pod = EnginePod::start(cluster, Kind::Vllm, place, place, "chat")?;
    let monitor = Monitor::apply(cluster.api(), place, "chat", "chat", &json!({}))?;
    let before = Scenario::with_driver(Profile::H100, 1, "580.95.05");
    let daemon = shared.daemon_with(place, &before)?;
    monitor.wait_for("GPUsHealthy", "True", Duration::from_secs(20))?;
    let mapped = || -> anyhow::Result<bool> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.process.id()))?;
        Ok(maps.contains("libnvidia-ml.so.1"))
    };
    ensure!(mapped()?, "the library is not in the daemon");

    let label = |state: &str| {
        let labels = json!({"metadata": {"labels": {"nvidia.com/gpu-driver-upgrade-state": state}}});
        cluster.api().merge(&format!("/api/v1/nodes/{place}"), &labels)
    };
    label("pod-deletion-required")?;
    label("pod-restart-required")?;
    let begun = Instant::now();
    eventually("the library unloaded", Duration::from_secs(10), || {
        ensure!(!mapped()?, "it is still there");
        Ok(())
    })?;
    took(
        "the node's label says that the driver's pod is restarted -> library unloaded",
        begun,
    );
    let told = monitor.wait_for("GPUsHealthy", "Unknown", Duration::from_secs(10))?;
    println!("  {}", told.message);
    ensure!(
        told.reason == "NoGpuData" && told.message.contains("is being upgraded"),
        "{told:?}"
    );
    // The server is still measured.
    ensure!(
        monitor.condition("Ready")?.status == "True",
        "the daemon goes on scraping"
    );

    let after = Scenario::with_driver(Profile::H100, 1, "590.48.01");
    let library = daemon.driver.library_path();
    StandIn::install(library.parent().unwrap_or(&library), &after)?;
    label("validation-required")?;
    let begun = Instant::now();
    monitor.wait_for("GPUsHealthy", "True", Duration::from_secs(15))?;
    took("the new driver is there -> GPUsHealthy=True", begun);
    story.ends_well();
    Ok(())
}
