//! Where nothing else tells which pod has which GPU, the processes on it do.

use anyhow::{Context, ensure};
use infmon_end_to_end::{EnginePod, Monitor, eventually};
use infmon_nvml_stand_in::{Cause, Profile, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Shared;

const PID: u32 = 4711;

#[test]
fn a_throttled_gpu_is_laid_to_the_pod_whose_process_is_on_it() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "processes";
    shared.place(place)?;
    let story = cluster.story("a throttled GPU is laid to the pod whose process is on it");

    let mut scenario = Scenario::of(Profile::H100, 2);
    scenario.gpus[1] = scenario.gpus[1]
        .clone()
        .process(PID, 1000)
        .throttle(Cause::HardwareThermal, 0.4);
    let one = EnginePod::start(cluster, Kind::Vllm, place, place, "one")?;
    let _two = EnginePod::start(cluster, Kind::Vllm, place, place, "two")?;
    let thresholds = json!({"thresholds": {"throttledPercent": {"above": 1, "forSeconds": 5}}});
    let monitor = Monitor::apply(cluster.api(), place, "one", "one", &thresholds)?;
    let other = Monitor::apply(cluster.api(), place, "two", "two", &thresholds)?;
    let mut daemon = shared.daemon_with(place, &scenario)?;
    // By the node it may be anybody's.
    for monitor in [&monitor, &other] {
        monitor.wait_for("Throttled", "True", Duration::from_secs(20))?;
    }

    let pod = cluster
        .api()
        .get(&format!("/api/v1/namespaces/{place}/pods/{}", one.name))?;
    let uid = pod["metadata"]["uid"].as_str().context("a pod without uid")?;
    let proc = cluster.plane().data_dir().join("processes-proc");
    put(&proc, "1", "/../../../../init.scope")?;
    put(&proc, "self", "/")?;
    let container = "c".repeat(64);
    let slice = uid.replace('-', "_");
    let path = format!("/../../kubepods-burstable-pod{slice}.slice/cri-containerd-{container}.scope");
    put(&proc, &PID.to_string(), &path)?;
    daemon.look_up_processes(proc)?;
    other.wait_for("Throttled", "Unknown", Duration::from_secs(30))?;
    let words = other.condition("Throttled")?.message;
    ensure!(
        words.contains("no process of its pods is on a GPU of node processes"),
        "{words}"
    );
    // The message of a condition is written with its next transition; the live one is in the status of a new monitor.
    let fresh = Monitor::apply(cluster.api(), place, "fresh", "one", &thresholds)?;
    let told = fresh.wait_for("Throttled", "True", Duration::from_secs(15))?;
    println!("  {}", told.message);
    let words = format!("Processes of pod {} were seen on it.", one.name);
    ensure!(told.message.contains(&words), "{told:?}");
    eventually("the memory of the pod in the status", Duration::from_secs(20), || {
        let gpus = fresh.get()?["status"]["gpus"].take();
        let expected = json!([{"target": one.name, "memoryMiB": 1000}]);
        ensure!(
            gpus[0]["attribution"] == "Process" && gpus[0]["pods"] == expected,
            "{gpus}"
        );
        ensure!(gpus.as_array().is_some_and(|gpus| gpus.len() == 1), "{gpus}");
        Ok(())
    })?;
    story.ends_well();
    Ok(())
}

fn put(proc: &Path, process: &str, path: &str) -> anyhow::Result<()> {
    let folder = proc.join(process);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("cgroup"), format!("0::{path}\n"))?;
    fs::write(folder.join("comm"), "python3\n")?;
    fs::write(folder.join("stat"), format!("7 (python3) S {}100 0", "0 ".repeat(18)))?;
    Ok(())
}
