//! How soon faults of GPUs are conditions at the API server, as a Markdown table:
//! `cargo run --release -p infmon-end-to-end --example gpu_figures`, about 5 minutes.
//!
//! Everything is on one machine, and the driver is the stand-in. A target that is missed ends it with an error.

use anyhow::{Context, ensure};
use infmon_end_to_end::{Cluster, DaemonProcess, EnginePod, Monitor, OperatorProcess, Settings, engine_pod::pod_spec};
use infmon_nvml_stand_in::{Cause, Profile, ReturnCode, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::{
    fs, thread,
    time::{Duration, Instant},
};

const GPUS: u32 = 8;
const ROUNDS: u64 = 3;
const NODE: &str = "gpu-a";
/// From the driver's event to the condition.
const XID_WITHIN: Duration = Duration::from_millis(1_500);
/// From the first call that hangs.
const HANG_WITHIN: Duration = Duration::from_secs(10);
/// A burst is told with the next report.
const BURST_WITHIN: Duration = Duration::from_secs(2);
const BURST: Duration = Duration::from_millis(200);

fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start(Settings::default())?;
    let story = cluster.story("figures of GPU faults");
    cluster.add_node(NODE)?;
    let operators = OperatorProcess::start_all(&cluster, NODE)?;
    let good = Scenario::of(Profile::H100, GPUS);
    let thresholds = json!({"thresholds": {"throttledPercent": {"above": 1, "forSeconds": 5}}});
    let mut servers = Vec::new();
    for (index, gpu) in good.gpus.iter().enumerate() {
        let app = format!("server-{index}");
        let mut spec = pod_spec();
        spec["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": 1}});
        let pod = EnginePod::start_with(&cluster, Kind::Vllm, NODE, "default", &app, spec)?;
        assign(&cluster, &pod, &gpu.uuid)?;
        let monitor = Monitor::apply(cluster.api(), "default", &app, &app, &thresholds)?;
        servers.push((pod, monitor));
    }
    let daemon = DaemonProcess::start(&cluster, NODE, &operators, &good)?;
    let all_well = || -> anyhow::Result<()> {
        for (_, monitor) in &servers {
            monitor.wait_for("GPUsHealthy", "True", Duration::from_secs(120))?;
            monitor.wait_for("Throttled", "False", Duration::from_secs(60))?;
        }
        Ok(())
    };
    all_well()?;

    let mut bursts = Vec::new();
    for round in 0..4 * ROUNDS {
        pause(round);
        let (index, monitor) = (
            round as usize % servers.len(),
            &servers[round as usize % servers.len()].1,
        );
        let mut hot = good.clone();
        hot.gpus[index] = hot.gpus[index].clone().throttle(Cause::HardwareThermal, 1.0);
        daemon.driver.write(&hot)?;
        thread::sleep(BURST);
        daemon.driver.write(&good)?;
        let begun = Instant::now();
        let found = monitor.wait_for("Throttled", "True", Duration::from_secs(10))?;
        bursts.push(begun.elapsed());
        if round == 0 {
            println!("{}", found.message);
        }
    }
    all_well()?;

    let mut xids = Vec::new();
    for round in 0..ROUNDS {
        let mut faulty = good.clone();
        for (index, (_, monitor)) in servers.iter().enumerate() {
            pause(round * u64::from(GPUS) + index as u64);
            faulty.gpus[index] = faulty.gpus[index].clone().xid(119);
            daemon.driver.write(&faulty)?;
            let begun = Instant::now();
            let found = monitor.wait_for("GPUsHealthy", "False", Duration::from_secs(10))?;
            xids.push(begun.elapsed());
            ensure!(found.reason == "Xid", "{found:?}");
        }
        reload(&daemon, &good)?;
        all_well()?;
    }

    let mut hangs = Vec::new();
    for round in 0..ROUNDS {
        pause(round);
        daemon.driver.write(&good.clone().hang("GetMemoryInfo"))?;
        let begun = Instant::now();
        let monitor = &servers[0].1;
        let found = monitor.wait_for("GPUsHealthy", "False", Duration::from_secs(20))?;
        hangs.push(begun.elapsed());
        ensure!(found.reason == "DriverUnresponsive", "{found:?}");
        daemon.driver.write(&good)?;
        all_well()?;
    }

    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    let cores = thread::available_parallelism()?;
    println!(
        "\nOne machine with {cores} cores for everything, load average {load} at the end, {GPUS} stand-in GPUs.\n"
    );
    println!("| what | target | figure |\n|---|---|---|");
    let rows = [
        (
            "A hardware throttle of 200 ms, from its end to Throttled=True",
            BURST_WITHIN,
            bursts,
        ),
        ("XID told by the driver to GPUsHealthy=False", XID_WITHIN, xids),
        ("Driver hangs to GPUsHealthy=False", HANG_WITHIN, hangs),
    ];
    let mut missed = Vec::new();
    for (what, target, mut times) in rows {
        times.sort_unstable();
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "| {what} | <= {target:?} | median {median:.2?}, max {most:.2?} ({} times) |",
            times.len()
        );
        if most > target {
            missed.push(format!("{what}: {most:.2?}"));
        }
    }
    story.ends_well();
    ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
    Ok(())
}

/// At no fixed phase to the sampling.
fn pause(round: u64) {
    thread::sleep(Duration::from_millis(1_700 + round * 137 % 1_000));
}

/// The kernel module is unloaded and loaded again: what happened before is over.
fn reload(daemon: &DaemonProcess, good: &Scenario) -> anyhow::Result<()> {
    let mut gone = good.clone().init_error(ReturnCode::DRIVER_NOT_LOADED);
    for gpu in &mut gone.gpus {
        *gpu = gpu.clone().fail(ReturnCode::UNINITIALIZED);
    }
    daemon.driver.write(&gone)?;
    thread::sleep(Duration::from_secs(4));
    Ok(daemon.driver.write(good)?)
}

/// What a cluster with a device plugin says in the status of a pod.
fn assign(cluster: &Cluster, pod: &EnginePod, uuid: &str) -> anyhow::Result<()> {
    let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
    let mut statuses = cluster.api().get(&path)?["status"]["containerStatuses"].take();
    statuses.get_mut(0).context("no container status")?["allocatedResourcesStatus"] =
        json!([{"name": "nvidia.com/gpu", "resources": [{"resourceID": uuid, "health": "Healthy"}]}]);
    let status = json!({"status": {"containerStatuses": statuses}});
    cluster.api().merge(&format!("{path}/status"), &status)?;
    Ok(())
}
