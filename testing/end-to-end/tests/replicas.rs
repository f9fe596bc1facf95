//! Two replicas: metric reads outlive each of them, and only one at a time writes.

use anyhow::{Context, ensure};
use infmon_end_to_end::{
    Answer, Cluster, DaemonProcess, EnginePod, Monitor, OperatorProcess, Settings, eventually,
    lease::{holder, leader},
    operator_process::{DRAIN_SECONDS, series},
    polling::took,
    writes,
};
use infmon_nvml_stand_in::{Profile, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const READ_EVERY: Duration = Duration::from_millis(40);
const WAITING: u64 = 3;

/// The Lease lasts 15 s; the other replica looks every 2 to 2.4 s.
const TAKE_OVER: Duration = Duration::from_secs(15 + 4);

/// What a reader saw.
#[derive(Default)]
struct Reads {
    good: usize,
    failed: Vec<String>,
    slowest: Duration,
    time: Duration,
}

impl Reads {
    /// Reads until `stop`, at a steady pace.
    fn until(stop: &AtomicBool, mut read: impl FnMut() -> anyhow::Result<Answer>) -> Self {
        let mut reads = Self::default();
        let begun = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            match read().and_then(infmon_end_to_end::monitor::value) {
                Ok(value) if value == WAITING.to_string() => reads.good += 1,
                Ok(value) => reads.failed.push(format!("{:.2?}: the value {value}", begun.elapsed())),
                Err(error) => reads.failed.push(format!("{:.2?}: {error:#}", begun.elapsed())),
            }
            let took = asked.elapsed();
            reads.slowest = reads.slowest.max(took);
            thread::sleep(READ_EVERY.saturating_sub(took));
        }
        reads.time = begun.elapsed();
        reads
    }

    fn tell(&self, what: &str) {
        println!(
            "  {what}: {} of {} reads answered in {:.1?}, the slowest in {:.0?}",
            self.good,
            self.good + self.failed.len(),
            self.time,
            self.slowest
        );
        for failure in self.failed.iter().take(5) {
            println!("    {failure}");
        }
    }
}

#[test]
fn reads_and_writes_go_on_without_the_leader() -> anyhow::Result<()> {
    let cluster = Cluster::start(Settings {
        replicas: 2,
        ..Settings::default()
    })?;
    let story = cluster.story("reads and writes go on without the leader");
    cluster.add_node("gpu-a")?;
    let mut operators = OperatorProcess::start_all(&cluster, "gpu-a")?;
    let engine = EnginePod::start(&cluster, Kind::Vllm, "gpu-a", "default", "chat")?;
    engine.set_requests(WAITING, 8);
    let none = json!({"thresholds": {"queueDepth": {"perEndpoint": 1, "forSeconds": 0}}});
    let monitor = Monitor::apply(cluster.api(), "default", "chat", "chat", &none)?;
    let _daemon = DaemonProcess::start(&cluster, "gpu-a", &operators, &Scenario::of(Profile::H100, 1))?;
    monitor.wait_for("Ready", "True", Duration::from_secs(10))?;
    cluster.wait_for_metrics_api()?;
    all_ready(&cluster)?;

    let watched = AtomicBool::new(false);
    let admins = [operators[0].admin(), operators[1].admin()];
    let leaders = thread::scope(|scope| -> anyhow::Result<Vec<String>> {
        let _end = EndOnDrop(&watched);
        let sampler = scope.spawn(|| two_leaders(&cluster, admins, &watched));
        let first = terminate_the_leader(&cluster, &mut operators, &monitor)?;
        writes_a_transition(&cluster, &engine, &monitor)?;
        operators[first].start(&cluster)?;
        operators[first].wait_until_ready(&cluster, Duration::from_secs(40))?;
        all_ready(&cluster)?;
        let second = kill_the_leader(&cluster, &mut operators, &monitor)?;
        writes_a_transition(&cluster, &engine, &monitor)?;
        watched.store(true, Ordering::Relaxed);
        let samples = sampler.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))??;
        println!("  {samples} looks at who leads, never two");
        Ok([first, second, first]
            .map(|index| operators[index].pod().to_owned())
            .to_vec())
    })?;

    // What only the leader may write came from one replica after the other, never from both by turns.
    let mut writers: Vec<String> = writes::by_pod(&cluster)?.into_iter().map(|(pod, _)| pod).collect();
    writers.dedup();
    ensure!(writers == leaders, "writers {writers:?}, leaders {leaders:?}");
    story.ends_well();
    Ok(())
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn all_ready(cluster: &Cluster) -> anyhow::Result<()> {
    eventually("both replicas take connections", Duration::from_secs(20), || {
        ensure!(cluster.proxy().ready() == 2, "{} ready", cluster.proxy().ready());
        Ok(())
    })
}

/// SIGTERM, as in a rollout: no read through the API server fails.
fn terminate_the_leader(
    cluster: &Cluster,
    operators: &mut [OperatorProcess],
    monitor: &Monitor,
) -> anyhow::Result<usize> {
    let first = leader(cluster, operators)?;
    let stop = AtomicBool::new(false);
    let all = thread::scope(|scope| -> anyhow::Result<Vec<Reads>> {
        let _end = EndOnDrop(&stop);
        let readers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| Reads::until(&stop, || monitor.metric("queue-depth"))))
            .collect();
        thread::sleep(Duration::from_secs(2));
        let before = holder(cluster)?;
        let process = operators[first].process()?;
        process.terminate()?;
        let begun = Instant::now();
        eventually("another leader", Duration::from_secs(8), || {
            let now = holder(cluster)?;
            ensure!(now != before, "{now} still leads");
            Ok(())
        })?;
        took("SIGTERM to the leader -> another leads", begun);
        let status = process.wait(Duration::from_secs(DRAIN_SECONDS + 6))?;
        took("SIGTERM to the leader -> it has ended", begun);
        ensure!(status.success(), "it ended with {status}");
        thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().map_err(|_| anyhow::anyhow!("a reader panicked")))
            .collect()
    })?;
    for reads in &all {
        reads.tell("through the aggregator");
        ensure!(reads.failed.is_empty(), "{} reads failed", reads.failed.len());
        let rate = reads.good as f64 / reads.time.as_secs_f64();
        ensure!(
            rate >= 10.0,
            "only {rate:.1} reads/s by one of two readers: the test says little"
        );
    }
    Ok(first)
}

/// SIGKILL, as when a node dies: the other replica answers all along, and writes when the Lease has run out.
fn kill_the_leader(cluster: &Cluster, operators: &mut [OperatorProcess], monitor: &Monitor) -> anyhow::Result<usize> {
    let second = leader(cluster, operators)?;
    let other = operators[1 - second].metrics_api();
    let front_proxy = cluster.front_proxy()?;
    let path = monitor.metric_path("v1beta2", "queue-depth");
    let stop = AtomicBool::new(false);
    let (direct, through) = thread::scope(|scope| -> anyhow::Result<(Reads, Reads)> {
        let _end = EndOnDrop(&stop);
        let direct = scope.spawn(|| -> anyhow::Result<Reads> {
            let mut connection = cluster.runtime().block_on(front_proxy.connect(other))?;
            Ok(Reads::until(&stop, || {
                cluster.runtime().block_on(connection.get(&path))
            }))
        });
        let through = scope.spawn(|| Reads::until(&stop, || monitor.metric("queue-depth")));
        thread::sleep(Duration::from_secs(1));
        let before = holder(cluster)?;
        operators[second].process()?.kill()?;
        let begun = Instant::now();
        eventually("another leader", TAKE_OVER, || {
            let now = holder(cluster)?;
            ensure!(now != before, "{now} still leads");
            Ok(())
        })?;
        took("SIGKILL of the leader -> another leads", begun);
        stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow::anyhow!("a reader panicked");
        Ok((direct.join().map_err(panicked)??, through.join().map_err(panicked)?))
    })?;
    direct.tell("directly from the other replica");
    ensure!(direct.failed.is_empty(), "{} reads failed", direct.failed.len());
    through.tell("through the aggregator");
    // Connections to the killed replica break; none of the reads after the next probe may go there.
    ensure!(through.failed.len() <= 20, "{} reads failed", through.failed.len());
    Ok(second)
}

/// The leader of now writes: a condition turns, and back.
fn writes_a_transition(cluster: &Cluster, engine: &EnginePod, monitor: &Monitor) -> anyhow::Result<()> {
    engine.set_requests(0, 8);
    monitor.wait_for("QueueDepthHigh", "False", Duration::from_secs(5))?;
    engine.set_requests(WAITING, 8);
    monitor.wait_for("QueueDepthHigh", "True", Duration::from_secs(5))?;
    // Reads that follow must see the number again.
    eventually("the number is back", Duration::from_secs(5), || {
        let value = infmon_end_to_end::monitor::value(monitor.metric("queue-depth")?)?;
        ensure!(value == WAITING.to_string(), "{value}");
        cluster.wait_for_metrics_api()
    })
}

/// Fails as soon as two replicas say that they lead. Returns the number of looks.
fn two_leaders(cluster: &Cluster, admins: [std::net::SocketAddr; 2], stop: &AtomicBool) -> anyhow::Result<usize> {
    let leads = |admin| -> bool {
        let answer = cluster.runtime().block_on(async {
            let mut connection = infmon_end_to_end::http_client::Connection::plain(admin).await?;
            connection.get("/metrics", &[]).await
        });
        let text = answer.map(|answer| answer.body).unwrap_or_default();
        series(&text, "infmon_leader", &[]) == Some(1.0)
    };
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        // The first may have handed over between the two looks: only one that still leads after the second look counts.
        let both = leads(admins[0]) && leads(admins[1]) && leads(admins[0]);
        ensure!(!both, "two replicas lead");
        looks += 1;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(looks).and_then(|looks: usize| (looks > 0).then_some(looks).context("no look at all"))
}
