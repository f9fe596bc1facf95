//! Figures of a running installation, as a Markdown table: `cargo run --release -p infmon-end-to-end --example figures`.
//!
//! Everything is on one machine: etcd, API server, controller manager, operator, daemons, simulated engines, and the reader.

use anyhow::{Context, ensure};
use infmon_end_to_end::{
    Cluster, DaemonProcess, EnginePod, Monitor, OperatorProcess, Settings, eventually, monitor::value, process::Usage,
};
use infmon_nvml_stand_in::{Profile, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const MONITORS: usize = 200;
const REQUESTS_PER_SECOND: u32 = 200;

fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start(Settings::default())?;
    let story = cluster.story("figures");
    for node in ["gpu-a", "gpu-b"] {
        cluster.add_node(node)?;
    }
    let mut operators = OperatorProcess::start_all(&cluster, "gpu-a")?;
    let engine = EnginePod::start(&cluster, Kind::Vllm, "gpu-a", "default", "chat")?;
    let monitor = Monitor::apply(cluster.api(), "default", "chat", "chat", &json!({}))?;
    let _daemon = DaemonProcess::start(&cluster, "gpu-a", &operators, &Scenario::of(Profile::H100, 1))?;
    monitor.wait_for("Ready", "True", Duration::from_secs(10))?;
    cluster.wait_for_metrics_api()?;

    let mut table = Table::default();
    metric_age(&engine, &monitor, &mut table)?;
    crossings(&cluster, &engine, &mut table)?;
    daemon_usage(&cluster, &operators, &mut table)?;
    let before = operators[0].process()?.usage()?;
    table.row("Operator, 2 nodes, 9 endpoints: resident memory", &mebibytes(before));
    latency(&cluster, &mut operators, &mut table)?;
    table.print()?;
    story.ends_well();
    Ok(())
}

#[derive(Default)]
struct Table(Vec<(String, String)>);

impl Table {
    fn row(&mut self, what: &str, figure: &str) {
        println!("  {what}: {figure}");
        self.0.push((what.to_owned(), figure.to_owned()));
    }

    fn print(&self) -> anyhow::Result<()> {
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().unwrap_or_default();
        let cores = thread::available_parallelism()?;
        println!("\nOne machine with {cores} cores for everything, load average {load} at the end.\n");
        println!("| what | figure |\n|---|---|");
        for (what, figure) in &self.0 {
            println!("| {what} | {figure} |");
        }
        Ok(())
    }
}

/// Times, to take quantiles of.
struct Times(Vec<Duration>);

impl Times {
    fn quantile(&mut self, quantile: f64) -> f64 {
        self.0.sort_unstable();
        let rank = (self.0.len() as f64 * quantile).ceil() as usize;
        let found = self.0.get(rank.saturating_sub(1));
        found.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }

    fn tell(&mut self, digits: usize) -> String {
        format!(
            "p50 {:.digits$} ms, p99 {:.digits$} ms, max {:.digits$} ms ({} samples)",
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(1.0),
            self.0.len()
        )
    }
}

fn mebibytes(usage: Usage) -> String {
    format!("{:.1} MiB", usage.resident_kib as f64 / 1024.0)
}

/// The server reports the time as its number of waiting requests; what a reader sees is then its age.
fn metric_age(engine: &EnginePod, monitor: &Monitor, table: &mut Table) -> anyhow::Result<()> {
    let start = Instant::now();
    let stop = AtomicBool::new(false);
    let times = thread::scope(|scope| -> anyhow::Result<Vec<Duration>> {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let now = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                engine.set_requests(now, 8);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let read = || -> anyhow::Result<Duration> {
            let then = Duration::from_millis(value(monitor.metric("queue-depth")?)?.parse()?);
            Ok(start.elapsed().saturating_sub(then))
        };
        // Two periods, so that no value from before is left; then at no fixed phase to the sampling.
        thread::sleep(Duration::from_secs(3));
        let times = (0..300)
            .map(|_| {
                thread::sleep(Duration::from_millis(137));
                read()
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        times
    })?;
    engine.set_requests(0, 0);
    table.row(
        "Age of queue-depth read through the API server, 1 Hz sampling",
        &Times(times).tell(0),
    );
    Ok(())
}

/// From the number in the server to the condition in the API server.
fn crossings(cluster: &Cluster, engine: &EnginePod, table: &mut Table) -> anyhow::Result<()> {
    let at_once = json!({"thresholds": {"queueDepth": {"perEndpoint": 5, "forSeconds": 0}}});
    let monitor = Monitor::apply(cluster.api(), "default", "crossings", "chat", &at_once)?;
    monitor.wait_for("QueueDepthHigh", "False", Duration::from_secs(10))?;
    let mut times = Vec::new();
    for crossing in 0..60 {
        let (waiting, status) = if crossing % 2 == 0 { (40, "True") } else { (0, "False") };
        engine.set_requests(waiting, 8);
        let begun = Instant::now();
        monitor.wait_for("QueueDepthHigh", status, Duration::from_secs(10))?;
        times.push(begun.elapsed());
        // At no fixed phase to the sampling, and below the budget for writes.
        thread::sleep(Duration::from_millis(613 + crossing * 17));
    }
    table.row(
        "Threshold crossed in the server to condition at the API server, 1 Hz, forSeconds 0",
        &Times(times).tell(0),
    );
    Ok(())
}

/// A node with 8 GPUs and 8 servers.
fn daemon_usage(cluster: &Cluster, operators: &[OperatorProcess], table: &mut Table) -> anyhow::Result<()> {
    let engines: Vec<EnginePod> = (0..8)
        .map(|_| EnginePod::start(cluster, Kind::Vllm, "gpu-b", "default", "eight"))
        .collect::<anyhow::Result<_>>()?;
    let monitor = Monitor::apply(cluster.api(), "default", "eight", "eight", &json!({}))?;
    let daemon = DaemonProcess::start(cluster, "gpu-b", operators, &Scenario::of(Profile::H100, 8))?;
    monitor.wait_for("Ready", "True", Duration::from_secs(15))?;
    thread::sleep(Duration::from_secs(5));
    let stop = Arc::new(AtomicBool::new(false));
    let busy = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            // Numbers that change, as those of a server under load do.
            let mut step = 0;
            while !stop.load(Ordering::Relaxed) {
                step += 1;
                for engine in &engines {
                    engine.engine.change(|load| {
                        load.waiting = step % 5;
                        load.running = 8 + step % 3;
                        load.generated_tokens_total += 400;
                        load.time_to_first_token.observe(0.2, 4);
                        load.end_to_end.observe(2.5, 4);
                    });
                }
                thread::sleep(Duration::from_millis(250));
            }
        }
    });
    let first = daemon.process.usage()?;
    let mut most = first.resident_kib;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_secs(1));
        most = most.max(daemon.process.usage()?.resident_kib);
    }
    let cpu = daemon.process.usage()?.cpu - first.cpu;
    let share = cpu.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    stop.store(true, Ordering::Relaxed);
    busy.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
    table.row(
        "Node daemon, 8 GPUs (stand-in), 8 vLLM bodies of 53 KB at 1 Hz: most resident memory in 60 s",
        &format!("{:.1} MiB", most as f64 / 1024.0),
    );
    table.row("The same: CPU", &format!("{share:.2} % of a core"));
    Ok(())
}

/// Where the time of a request starts: when it was due, so that one slow answer shows in those that wait behind it; but the timer itself
/// is up to a millisecond late.
fn begin(due: tokio::time::Instant) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    if now - due > Duration::from_millis(2) { due } else { now }
}

/// GETs at a steady rate with many monitors.
fn latency(cluster: &Cluster, operators: &mut [OperatorProcess], table: &mut Table) -> anyhow::Result<()> {
    let monitors: Vec<Monitor> = (0..MONITORS)
        .map(|number| Monitor::apply(cluster.api(), "default", &format!("many-{number}"), "chat", &json!({})))
        .collect::<anyhow::Result<_>>()?;
    // Ten statuses are written in a second.
    for monitor in &monitors {
        monitor.wait_for("Ready", "True", Duration::from_secs(60))?;
    }
    let paths: Vec<String> = monitors
        .iter()
        .map(|monitor| monitor.metric_path("v1beta2", "queue-depth"))
        .collect();
    eventually("a value", Duration::from_secs(10), || {
        value(monitors[0].metric("queue-depth")?)
    })?;

    let address = operators[0].metrics_api();
    let front_proxy = cluster.front_proxy()?;
    let before = operators[0].process()?.usage()?;
    let begun = Instant::now();
    let direct = cluster.runtime().block_on(async {
        let mut connection = front_proxy.connect(address).await?;
        let mut times = Vec::new();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
        for path in paths.iter().cycle().take(4000) {
            let due = begin(pace.tick().await);
            let answer = connection.get(path).await?;
            times.push(due.elapsed());
            ensure!(answer.status == 200, "{answer:?}");
        }
        anyhow::Ok(times)
    })?;
    let after = operators[0].process()?.usage()?;
    let share = (after.cpu - before.cpu).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let what = format!("GET at {REQUESTS_PER_SECOND}/s with {MONITORS} monitors");
    table.row(
        &format!("{what}, from the operator over one TLS connection"),
        &Times(direct).tell(2),
    );
    table.row(
        "Operator meanwhile",
        &format!("{} resident, {share:.1} % of a core", mebibytes(after)),
    );

    let api = cluster.api().clone();
    let through = cluster.runtime().block_on(async {
        let mut requests = tokio::task::JoinSet::new();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
        for path in paths.iter().cycle().take(4000) {
            let due = begin(pace.tick().await);
            let (api, path) = (api.clone(), path.clone());
            requests.spawn(async move {
                let answer = api
                    .send_async(http::Method::GET, &path, "application/json", String::new())
                    .await?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(due.elapsed())
            });
        }
        let mut times = Vec::new();
        while let Some(time) = requests.join_next().await {
            times.push(time.context("a request panicked")??);
        }
        anyhow::Ok(times)
    })?;
    table.row(&format!("{what}, through the API server"), &Times(through).tell(2));
    Ok(())
}
