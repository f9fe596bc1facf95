//! A GPU that is faulty is named with its node, pod and next step, and is well again by rule.

use anyhow::{Context, ensure};
use infmon_end_to_end::{EnginePod, Monitor, engine_pod::pod_spec, polling::eventually, polling::took};
use infmon_nvml_stand_in::{Profile, ReturnCode, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::time::{Duration, Instant};

use crate::{Shared, assign};

/// An XID is reported at once; most of this is for a machine that is busy with other tests.
const TOLD_WITHIN: Duration = Duration::from_millis(1_500);
/// A call is overdue after 7 s, and begins up to a second after the driver began to hang; then comes the next report.
const HANG_TOLD_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_faulty_gpu_is_named_with_its_pod_and_the_next_step() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "gpu-faults";
    shared.place(place)?;
    let story = cluster.story("a faulty GPU is named with its pod and the next step");

    let good = Scenario::of(Profile::H100, 2);
    let uuids: Vec<String> = good.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let mut spec = pod_spec();
    spec["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": 1}});
    let one = EnginePod::start_with(cluster, Kind::Vllm, place, place, "one", spec.clone())?;
    let two = EnginePod::start_with(cluster, Kind::Vllm, place, place, "two", spec)?;
    assign(&shared, &one, &uuids[1])?;
    assign(&shared, &two, &uuids[0])?;
    let monitor = Monitor::apply(cluster.api(), place, "one", "one", &json!({}))?;
    let other = Monitor::apply(cluster.api(), place, "two", "two", &json!({}))?;
    let daemon = shared.daemon_with(place, &good)?;
    let well = monitor.wait_for("GPUsHealthy", "True", Duration::from_secs(20))?;
    ensure!(
        well.reason == "NoFaults" && well.message == "1 GPU shows no fault.",
        "{well:?}"
    );

    let mut faulty = good.clone();
    faulty.gpus[1] = faulty.gpus[1].clone().xid(119);
    daemon.driver.write(&faulty)?;
    let begun = Instant::now();
    let found = monitor.wait_for("GPUsHealthy", "False", Duration::from_secs(10))?;
    let told = took("the driver tells of an XID -> GPUsHealthy=False", begun);
    println!("  {}", found.message);
    ensure!(told < TOLD_WITHIN, "{told:?}");
    ensure!(found.reason == "Xid", "{found:?}");
    for word in [
        "GPU 1",
        &uuids[1][..12],
        &format!("on node {place}"),
        "XID 119",
        &format!("It serves pod {}.", one.name),
        "Next: drain gpu-faults and reset GPU 1",
        "docs/conditions.md#xid",
    ] {
        ensure!(found.message.contains(word), "no {word:?} in {found:?}");
    }
    let events = format!("/apis/events.k8s.io/v1/namespaces/{place}/events");
    eventually("an Event", Duration::from_secs(5), || {
        let events = cluster.api().list(&events)?;
        let event = events.iter().find(|event| event["reason"] == "Xid");
        let event = event.context("no Event with the reason Xid")?;
        ensure!(
            event["type"] == "Warning" && event["regarding"]["name"] == "one",
            "{event}"
        );
        Ok(())
    })?;
    let fine = other.condition("GPUsHealthy")?;
    ensure!(fine.status == "True", "the GPU of the other pod is in order: {fine:?}");

    // The GPU is reset: the kernel module is unloaded and loaded again.
    let mut gone = good.clone().init_error(ReturnCode::DRIVER_NOT_LOADED);
    for gpu in &mut gone.gpus {
        *gpu = gpu.clone().fail(ReturnCode::UNINITIALIZED);
    }
    daemon.driver.write(&gone)?;
    eventually("the driver is gone", Duration::from_secs(15), || {
        ensure!(daemon.process.log().contains("no GPU data"));
        Ok(())
    })?;
    // Silence disproves nothing: what the GPU showed stands until it begins anew.
    let kept = monitor.condition("GPUsHealthy")?;
    ensure!(kept.status == "False" && kept.reason == "Xid", "{kept:?}");
    daemon.driver.write(&good)?;
    let begun = Instant::now();
    monitor.wait_for("GPUsHealthy", "True", Duration::from_secs(60))?;
    took("the kernel module is loaded again -> GPUsHealthy=True", begun);

    daemon.driver.write(&good.clone().hang("GetMemoryInfo"))?;
    let begun = Instant::now();
    let found = monitor.wait_for("GPUsHealthy", "False", Duration::from_secs(20))?;
    let told = took("the driver hangs -> GPUsHealthy=False", begun);
    println!("  {}", found.message);
    ensure!(found.reason == "DriverUnresponsive", "{found:?}");
    ensure!(told < HANG_TOLD_WITHIN, "{told:?}");
    ensure!(found.message.contains(&one.name), "{found:?}");
    daemon.driver.write(&good)?;
    story.ends_well();
    Ok(())
}
