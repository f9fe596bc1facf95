//! The stock HorizontalPodAutoscaler on our metrics, with real servers under a real load.

use anyhow::{Context, ensure};
use infmon_cluster_tests::{Installation, Namespace, Session, servers};
use infmon_end_to_end::{
    Answer, Monitor, eventually,
    monitor::{number, value},
    polling::took,
};
use serde_json::json;
use std::time::{Duration, Instant};

/// The controller looks every 15 s; from the queue to a metric above the target, ours is allowed this much of it.
const OURS: Duration = Duration::from_secs(2);
const HPA_SYNC: Duration = Duration::from_secs(15);
/// New replicas start, old ones have a grace period, and two cores run it all.
const SCALED: Duration = Duration::from_secs(120);
/// Numbers alone change a status every 15 s at most.
const SUMMARY: Duration = Duration::from_secs(20);

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn the_queue_scales_the_servers_up_and_down() -> anyhow::Result<()> {
    let session = Session::get()?;
    let namespace = Namespace::create(session, "queue")?;
    let installation = Installation::with(session, &[])?;
    servers::llama(&namespace, "chat", 1)?;
    let monitor = Monitor::apply(session.api(), namespace.name(), "chat", "chat", &json!({}))?;
    namespace.wait_for_replicas("chat", 1, servers::START)?;
    installation.wait_for_daemons(session)?;
    monitor.wait_for("Ready", "True", Duration::from_secs(30))?;
    servers::autoscaler(&namespace, "chat", "queue-depth", 3, 1)?;
    eventually("the HPA reads the metric", Duration::from_secs(60), || {
        scaling_active(session, &namespace, "chat")
    })?;

    servers::load(&namespace, "chat", 16)?;
    let queue = || queued(session, &namespace, "chat").and_then(|text| number(&text)).ok();
    let metric = || monitor.metric("queue-depth").and_then(quantity).ok();
    // Both are asked in turn, so that the difference of their times is a difference of ours.
    let mut in_server = None;
    let in_metric = eventually(
        "more than three waiting, in the metric",
        Duration::from_secs(60),
        || {
            if in_server.is_none() && queue() > Some(3.0) {
                in_server = Some(Instant::now());
            }
            ensure!(metric() > Some(3.0), "metric {:?}, server {:?}", metric(), queue());
            Ok(Instant::now())
        },
    )?;
    let in_server = in_server.context("the metric had a queue before the server")?;
    let ours = in_metric.duration_since(in_server);
    println!(
        "  {:>8.2} s  queue in the server -> queue in the metric",
        ours.as_secs_f64()
    );
    ensure!(ours <= OURS, "the metric shows the queue after {ours:?}");
    eventually("more replicas wanted", HPA_SYNC + Duration::from_secs(5), || {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/chat", namespace.name());
        let wanted = session.api().get(&path)?["spec"]["replicas"].as_u64();
        ensure!(wanted > Some(1), "{wanted:?}");
        Ok(())
    })?;
    took("queue in the server -> more replicas wanted (HPA sync 15 s)", in_server);

    let table = session.kubectl(&["get", "infmon", "-n", namespace.name()])?;
    println!("{table}");
    namespace.wait_for_replicas("chat", 3, SCALED)?;
    took("queue in the server -> three replicas ready", in_server);
    // A server that has just become Ready has no sample yet, and the sum is not known without it.
    eventually("kubectl get infmon shows the queue", SUMMARY, || {
        let waiting = monitor.get()?["status"]["summary"]["waiting"].take();
        ensure!(waiting.as_u64() > Some(0), "kubectl get infmon shows {waiting} waiting");
        Ok(())
    })?;

    servers::stop_load(&namespace, "chat")?;
    let stopped = Instant::now();
    namespace.wait_for_replicas("chat", 1, SCALED)?;
    took("load gone -> one replica", stopped);
    monitor.wait_for("Ready", "True", Duration::from_secs(30))?;
    namespace.delete()
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn idle_servers_go_to_zero_and_wake_up() -> anyhow::Result<()> {
    let session = Session::get()?;
    let namespace = Namespace::create(session, "zero")?;
    let installation = Installation::with(session, &[])?;
    servers::llama(&namespace, "chat", 1)?;
    servers::gateway(&namespace, "gateway", "chat")?;
    let pods = |name: &str, app: &str| json!({"name": name, "pods": {"selector": {"matchLabels": {"app": app}}, "port": "http"}});
    let endpoints = json!({"endpoints": [pods("servers", "chat"), pods("gateway", "gateway")]});
    let monitor = Monitor::apply(session.api(), namespace.name(), "chat", "chat", &endpoints)?;
    namespace.wait_for_replicas("chat", 1, servers::START)?;
    namespace.wait_for_replicas("gateway", 1, servers::START)?;
    installation.wait_for_daemons(session)?;
    monitor.wait_for("Ready", "True", Duration::from_secs(30))?;

    let idle = Instant::now();
    servers::autoscaler(&namespace, "chat", "in-flight-requests", 2, 0)?;
    namespace.wait_for_replicas("chat", 0, SCALED)?;
    took("idle -> no server", idle);
    // Nobody runs and nobody waits: that is known, and it is what the HPA reads.
    eventually("a metric without servers", Duration::from_secs(20), || {
        let value = monitor.metric("in-flight-requests").and_then(quantity).ok();
        ensure!(value == Some(0.0), "{value:?}");
        Ok(())
    })?;
    println!("{}", session.kubectl(&["get", "infmon,hpa", "-n", namespace.name()])?);

    let sent = Instant::now();
    servers::load(&namespace, "gateway", 3)?;
    eventually("requests wait at the gateway", Duration::from_secs(30), || {
        let value = monitor.metric("queue-depth").and_then(quantity).ok();
        ensure!(value >= Some(3.0), "{value:?}");
        Ok(())
    })?;
    took("first request -> it waits in the metric", sent);
    eventually("a server", SCALED, || {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/chat", namespace.name());
        let ready = session.api().get(&path)?["status"]["readyReplicas"].as_u64();
        ensure!(ready >= Some(1), "{ready:?}");
        Ok(())
    })?;
    took("first request -> a server ready", sent);
    eventually("requests answered", SCALED, || servers::answered(&namespace, "gateway"))?;
    took("first request -> answered", sent);
    servers::stop_load(&namespace, "gateway")?;
    namespace.wait_for_replicas("chat", 0, SCALED)?;
    namespace.delete()
}

fn scaling_active(session: &Session, namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let path = format!(
        "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/{name}",
        namespace.name()
    );
    let status = session.api().get(&path)?["status"].take();
    let active = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "ScalingActive" && condition["status"] == "True");
    ensure!(active, "{status}");
    Ok(())
}

/// What the server itself says waits in it, read past all of ours.
fn queued(session: &Session, namespace: &Namespace, service: &str) -> anyhow::Result<String> {
    let path = format!(
        "/api/v1/namespaces/{}/services/{service}:http/proxy/metrics",
        namespace.name()
    );
    let body = session.api().ask(&path)?.success()?;
    let line = body
        .lines()
        .find_map(|line| line.strip_prefix("llamacpp:requests_deferred "));
    line.map(str::to_owned).context("no requests_deferred")
}

fn quantity(answer: Answer) -> anyhow::Result<f64> {
    number(&value(answer)?)
}
