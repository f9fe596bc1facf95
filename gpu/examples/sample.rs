//! Samples the GPUs of this machine for some seconds and prints JSON: the last samples, how many driver calls were made and what they took,
//! the throttle duties, and the CPU time of a round of samples and of the whole.
//!
//! `cargo run -p infmon-gpu --features nvml --example sample -- [seconds] [period in ms] [library]`; `stand-in` as the library plays 8 H100.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use infmon_gpu::{CauseDuty, GpuMonitor, MonitorOptions, Snapshot, ThrottleWindow, lost_clocks};
use infmon_nvml_stand_in::{Cause, Profile, Scenario, StandIn};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let period = arguments.next().map_or(Ok(1_000), |text| text.parse())?;
    let mut options = MonitorOptions {
        period: Duration::from_millis(period),
        ..MonitorOptions::default()
    };
    let folder = tempfile::tempdir()?;
    options.library_path = match arguments.next().as_deref() {
        Some("stand-in") => Some(stand_in(&folder)?.library_path()),
        other => other.map(Into::into),
    };

    let monitor = GpuMonitor::start(options);
    let epoch = Instant::now();
    let length = Duration::from_secs(seconds);
    let mut windows: BTreeMap<String, ThrottleWindow> = BTreeMap::new();
    let mut baseline: Option<Baseline> = None;
    while epoch.elapsed() < length {
        std::thread::sleep(Duration::from_millis(period.min(1_000) / 2));
        let snapshot = monitor.latest();
        let Some(at) = snapshot.taken.map(|taken| taken.saturating_duration_since(epoch)) else {
            continue;
        };
        // What comes before the second round is start-up.
        if baseline.is_none() && snapshot.ticks >= 2 {
            baseline = Some(Baseline {
                at: Instant::now(),
                nanoseconds: cpu_nanoseconds()?,
                snapshot: std::sync::Arc::clone(&snapshot),
            });
        }
        for sample in &snapshot.samples {
            let window = windows
                .entry(sample.uuid.clone())
                .or_insert_with(|| ThrottleWindow::new(length * 2));
            window.push(at, &sample.throttle);
        }
    }
    let snapshot = monitor.latest();
    let cost = match &baseline {
        Some(before) if snapshot.ticks > before.snapshot.ticks => cost(before, &snapshot, cpu_nanoseconds()?),
        _ => Value::Null,
    };
    let stopping = Instant::now();
    let stopped = monitor.stop(Duration::from_secs(5));
    let report = json!({
        "driver": snapshot.driver,
        "rounds": snapshot.ticks,
        "gpus": snapshot.samples.iter().map(|sample| {
            let duties = windows.get(&sample.uuid).map(|window| window.duty_over(length)).unwrap_or_default();
            json!({"sample": sample, "duty": duty(&duties), "lostClocks": lost_clocks(sample, &duties)})
        }).collect::<Vec<_>>(),
        "failed": snapshot.failed.iter().map(|gpu| json!({"index": gpu.index, "uuid": gpu.uuid, "message": gpu.message})).collect::<Vec<_>>(),
        "calls": calls(&snapshot),
        "cost": cost,
        "stopped": format!("{stopped:?} in {:?}", stopping.elapsed()),
    });
    println!("{report:#}");
    Ok(())
}

/// What was so far, when start-up was over.
struct Baseline {
    at: Instant,
    nanoseconds: u64,
    snapshot: std::sync::Arc<Snapshot>,
}

/// CPU time and driver calls since then.
fn cost(before: &Baseline, now: &Snapshot, nanoseconds: u64) -> Value {
    let rounds = (now.ticks - before.snapshot.ticks) as f64;
    let seconds = before.at.elapsed().as_secs_f64();
    let spent = (nanoseconds - before.nanoseconds) as f64;
    let gpus = now.samples.len() as f64;
    let earlier = |class| {
        let calls = before.snapshot.calls.iter().find(|calls| calls.class == class);
        calls.map_or(0, |calls| calls.count)
    };
    let per_gpu: Vec<(String, f64)> = now
        .calls
        .iter()
        .map(|calls| {
            (
                calls.class.as_str().to_owned(),
                (calls.count - earlier(calls.class)) as f64 / gpus / rounds,
            )
        })
        .collect();
    json!({
        "cpuMicrosecondsPerRound": spent / rounds / 1e3,
        "percentOfACore": spent / seconds / 1e7,
        "callsPerGpuAndRound": per_gpu.iter().map(|(_, calls)| calls).sum::<f64>(),
        "callsPerGpuAndRoundByClass": per_gpu.into_iter().filter(|(_, calls)| *calls > 0.0).collect::<BTreeMap<_, _>>(),
    })
}

fn stand_in(folder: &tempfile::TempDir) -> std::io::Result<StandIn> {
    let mut scenario = Scenario::of(Profile::H100, 8);
    for (gpu, pid) in scenario.gpus.iter_mut().zip(4_711..) {
        *gpu = gpu.clone().process(pid, 70_000);
    }
    scenario.gpus[2] = scenario.gpus[2].clone().throttle(Cause::HardwareThermal, 0.38);
    StandIn::install(folder.path(), &scenario)
}

fn duty(duties: &[CauseDuty]) -> Value {
    duties
        .iter()
        .map(|duty| {
            (
                duty.cause.as_str().to_owned(),
                json!({"duty": duty.duty, "overSeconds": duty.over.as_secs_f64()}),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn calls(snapshot: &Snapshot) -> Value {
    let mean = |calls: &infmon_gpu::CallStats| calls.total_microseconds as f64 / calls.count as f64;
    snapshot
        .calls
        .iter()
        .map(|calls| {
            let cost = json!({"count": calls.count, "meanMicroseconds": mean(calls), "maxMicroseconds": calls.max_microseconds});
            (calls.class.as_str().to_owned(), cost)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// CPU time of the NVML threads by the kernel's precise account.
fn cpu_nanoseconds() -> Result<u64, Box<dyn Error>> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if !std::fs::read_to_string(task.join("comm"))?.starts_with("nvml") {
            continue;
        }
        let text = std::fs::read_to_string(task.join("schedstat"))?;
        total += text.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(total)
}
