//! A minute without an API server, and a minute in which nothing happens. Both mostly wait, so they run beside each other.

use anyhow::{Context, ensure};
use infmon_end_to_end::{
    Cluster, DaemonProcess, EnginePod, FrontProxy, Monitor, OperatorProcess, Settings, eventually, monitor::value,
    operator_process::series, polling::took, writes,
};
use infmon_nvml_stand_in::{Profile, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::{
    thread,
    time::{Duration, Instant},
};

const A_MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_minute_without_the_api_server() -> anyhow::Result<()> {
    const BEFORE: u64 = 2;
    const AFTER: u64 = 40;
    let cluster = Cluster::start(Settings {
        replicas: 2,
        ..Settings::default()
    })?;
    let story = cluster.story("a minute without the API server");
    cluster.add_node("gpu-a")?;
    let mut operators = OperatorProcess::start_all(&cluster, "gpu-a")?;
    let engine = EnginePod::start(&cluster, Kind::Vllm, "gpu-a", "default", "chat")?;
    engine.set_requests(BEFORE, 8);
    let spec = json!({"staleAfterSeconds": 3, "thresholds": {"queueDepth": {"perEndpoint": 5, "forSeconds": 0}}});
    let monitor = Monitor::apply(cluster.api(), "default", "chat", "chat", &spec)?;
    let mut daemon = DaemonProcess::start(&cluster, "gpu-a", &operators, &Scenario::of(Profile::H100, 1))?;
    monitor.wait_for("Ready", "True", Duration::from_secs(10))?;
    monitor.wait_for("QueueDepthHigh", "False", Duration::from_secs(10))?;
    let front_proxy = cluster.front_proxy()?;

    cluster.plane().stop_apiserver();
    let stopped = Instant::now();
    let mut changed: Option<Instant> = None;
    let mut reads = 0;
    let mut oldest: f64 = 0.0;
    while stopped.elapsed() < A_MINUTE {
        if changed.is_none() && stopped.elapsed() > A_MINUTE / 3 {
            engine.set_requests(AFTER, 8);
            changed = Some(Instant::now());
        }
        for operator in &mut operators {
            operator.process()?.check()?;
            let age = report_age(&cluster, operator)?;
            ensure!(age < 3.0, "the newest report is {age} s old");
            oldest = oldest.max(age);
            let value = read(&cluster, &front_proxy, operator, &monitor)?;
            reads += 1;
            // A period of a second, and the way here.
            let settled = |changed: Instant| changed.elapsed() > Duration::from_secs(3);
            let allowed: &[u64] = match changed {
                None => &[BEFORE],
                Some(changed) if settled(changed) => &[AFTER],
                Some(_) => &[BEFORE, AFTER],
            };
            ensure!(
                allowed.iter().any(|allowed| value == allowed.to_string()),
                "{value}, which is none of {allowed:?}, after {:?}",
                stopped.elapsed()
            );
        }
        daemon.process.check()?;
        thread::sleep(Duration::from_millis(500));
    }
    println!("  {reads} reads without the API server, all answered; reports at most {oldest:.1} s old");

    cluster.plane().start_apiserver()?;
    let back = Instant::now();
    monitor.wait_for("QueueDepthHigh", "True", Duration::from_secs(15))?;
    took(
        "API server back -> the condition that turned meanwhile is written",
        back,
    );
    monitor.wait_for("Ready", "True", Duration::from_secs(1))?;
    cluster.wait_for_metrics_api()?;
    eventually("a read through the aggregator", Duration::from_secs(20), || {
        let value = value(monitor.metric("queue-depth")?)?;
        ensure!(value == AFTER.to_string(), "{value}");
        Ok(())
    })?;
    took("API server back -> metrics through the aggregator", back);
    // Watches live on: what is new is seen.
    let second = Monitor::apply(cluster.api(), "default", "second", "chat", &spec)?;
    second.wait_for("Ready", "True", Duration::from_secs(15))?;
    took("API server back -> a new monitor is Ready", back);
    for operator in &mut operators {
        operator.process()?.check()?;
    }
    daemon.process.check()?;
    story.ends_well();
    Ok(())
}

fn report_age(cluster: &Cluster, operator: &OperatorProcess) -> anyhow::Result<f64> {
    let exposition = operator.exposition(cluster)?;
    series(&exposition, "infmon_node_report_age_seconds", &["gpu-a"]).context("no age of the node's report")
}

fn read(
    cluster: &Cluster,
    front_proxy: &FrontProxy,
    operator: &OperatorProcess,
    monitor: &Monitor,
) -> anyhow::Result<String> {
    let path = monitor.metric_path("v1beta2", "queue-depth");
    cluster.runtime().block_on(async {
        let mut connection = front_proxy.connect(operator.metrics_api()).await?;
        value(connection.get(&path).await?)
    })
}

#[test]
fn a_minute_in_which_nothing_happens_writes_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::start(Settings {
        replicas: 2,
        ..Settings::default()
    })?;
    let story = cluster.story("a minute in which nothing happens writes nothing");
    let mut engines = Vec::new();
    let mut daemons = Vec::new();
    let mut monitors = Vec::new();
    for node in ["gpu-a", "gpu-b"] {
        cluster.add_node(node)?;
    }
    let operators = OperatorProcess::start_all(&cluster, "gpu-a")?;
    for (app, kind, node) in [
        ("chat", Kind::Vllm, "gpu-a"),
        ("code", Kind::LlamaCpp, "gpu-b"),
        ("embed", Kind::Vllm, "gpu-b"),
    ] {
        let engine = EnginePod::start(&cluster, kind, node, "default", app)?;
        engine.set_requests(0, 3);
        engines.push(engine);
        monitors.push(Monitor::apply(cluster.api(), "default", app, app, &json!({}))?);
    }
    for node in ["gpu-a", "gpu-b"] {
        daemons.push(DaemonProcess::start(
            &cluster,
            node,
            &operators,
            &Scenario::of(Profile::H100, 4),
        )?);
    }
    for monitor in &monitors {
        monitor.wait_for("Ready", "True", Duration::from_secs(15))?;
    }
    cluster.wait_for_metrics_api()?;
    // A caller without special rights, as the HPA is, so that access is reviewed.
    let reader = cluster.plane().kubeconfig_for_user("reader", None, "reader")?;
    let reader = cluster.api_as(&reader)?;
    let binding = [
        "create",
        "rolebinding",
        "reader",
        "--clusterrole=inference-monitor-view",
        "--user=reader",
    ];
    cluster.plane().kubectl(&binding)?;
    // Numbers alone may be written once more after 15 s.
    thread::sleep(Duration::from_secs(17));

    let before = statuses(&monitors)?;
    let offset = cluster.plane().audit_offset()?;
    let begun = Instant::now();
    let mut reads = 0;
    while begun.elapsed() < A_MINUTE {
        for monitor in &monitors {
            reader.ask(&monitor.metric_path("v1beta2", "queue-depth"))?.success()?;
            reads += 1;
        }
        thread::sleep(Duration::from_secs(1));
    }
    let writes = writes::since(&cluster, offset)?;
    println!(
        "  in 60 s, with {reads} metric reads: {} writes, {} Lease renewals, {} reviews",
        writes.stored.values().sum::<usize>(),
        writes.lease,
        writes.reviews
    );
    let after = statuses(&monitors)?;
    ensure!(
        writes.stored.is_empty(),
        "{:#?}\nbefore: {before}\nafter: {after}",
        writes.stored
    );
    ensure!(
        (20..=35).contains(&writes.lease),
        "{} Lease renewals in 60 s",
        writes.lease
    );
    // An access is remembered for 10 s by each of the two replicas, for each of the three monitors.
    ensure!(writes.reviews <= 2 * 3 * 7, "{} reviews in 60 s", writes.reviews);
    drop((engines, daemons));
    story.ends_well();
    Ok(())
}

/// What would be written, to show what changed.
fn statuses(monitors: &[Monitor]) -> anyhow::Result<String> {
    let statuses: anyhow::Result<Vec<String>> = monitors
        .iter()
        .map(|monitor| Ok(monitor.get()?["status"].to_string()))
        .collect();
    Ok(statuses?.join("\n"))
}
