//! A GPU that loses clocks is named with its node, cause, share and pods.

use anyhow::{Context, ensure};
use infmon_end_to_end::{EnginePod, Monitor, engine_pod::pod_spec, monitor::value, polling::took};
use infmon_nvml_stand_in::{Cause, Profile, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::time::{Duration, Instant};

use crate::{Shared, assign};

#[test]
fn a_throttled_gpu_is_named_with_its_pods() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "throttling";
    shared.place(place)?;
    let story = cluster.story("a throttled GPU is named with its pods");

    let scenario = Scenario::of(Profile::H100, 2);
    let (cool, hot) = (scenario.gpus[0].uuid.clone(), scenario.gpus[1].uuid.clone());
    let mut spec = pod_spec();
    spec["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": 1}});
    let one = EnginePod::start_with(cluster, Kind::Vllm, place, place, "one", spec.clone())?;
    let two = EnginePod::start_with(cluster, Kind::Vllm, place, place, "two", spec)?;
    let thresholds = json!({"thresholds": {"throttledPercent": {"above": 1, "forSeconds": 5}}});
    let monitor = Monitor::apply(cluster.api(), place, "one", "one", &thresholds)?;
    let other = Monitor::apply(cluster.api(), place, "two", "two", &thresholds)?;
    let daemon = shared.daemon_with(place, &scenario)?;
    monitor.wait_for("Throttled", "False", Duration::from_secs(20))?;

    let mut heated = scenario.clone();
    heated.gpus[1] = heated.gpus[1].clone().throttle(Cause::HardwareThermal, 0.4);
    daemon.driver.write(&heated)?;
    let begun = Instant::now();
    let found = monitor.wait_for("Throttled", "True", Duration::from_secs(10))?;
    took("GPU loses 40% of its clocks -> Throttled=True (5 s window)", begun);
    println!("  {}", found.message);
    ensure!(found.reason == "HardwareThermal", "{found:?}");
    for word in [
        "GPU 1",
        &hot[..12],
        place,
        "heat",
        "threshold 1%",
        &one.name,
        "does not tell",
    ] {
        ensure!(found.message.contains(word), "no {word:?} in {found:?}");
    }
    let duty = found
        .message
        .split("for ")
        .nth(1)
        .and_then(|rest| rest.split('%').next());
    let duty: f64 = duty.context("no share")?.parse()?;
    ensure!(duty > 1.0 && duty < 60.0, "{duty}%");
    ensure!(
        value(monitor.metric("throttled-gpus")?)? == "1",
        "the metric does not follow"
    );

    // Now the kubelet tells which pod has which device: only the pod of the hot GPU is concerned.
    assign(&shared, &one, &hot)?;
    assign(&shared, &two, &cool)?;
    other.wait_for("Throttled", "False", Duration::from_secs(45))?;
    let found = monitor.wait_for("Throttled", "True", Duration::from_secs(5))?;
    ensure!(found.message.contains(&hot[..12]), "{found:?}");
    // The message of a condition is written with its next transition or number; the live one is in the new status of a new monitor.
    let fresh = Monitor::apply(cluster.api(), place, "fresh", "one", &thresholds)?;
    let told = fresh.wait_for("Throttled", "True", Duration::from_secs(10))?;
    println!("  {}", told.message);
    ensure!(
        told.message.contains(&format!("It serves pod {}", one.name)),
        "{told:?}"
    );

    daemon.driver.write(&scenario)?;
    let begun = Instant::now();
    monitor.wait_for("Throttled", "False", Duration::from_secs(45))?;
    took("GPU has its clocks back -> Throttled=False", begun);
    story.ends_well();
    Ok(())
}
