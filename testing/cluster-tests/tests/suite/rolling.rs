//! Updates: what rolls, what does not, and that nobody who reads a metric notices.

use anyhow::{Context, ensure};
use infmon_cluster_tests::{Installation, Namespace, Reader, Session, servers};
use infmon_end_to_end::{Monitor, NAMESPACE, eventually, polling::took};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn an_update_loses_no_read() -> anyhow::Result<()> {
    let session = Session::get()?;
    let namespace = Namespace::create(session, "rolling")?;
    // Daemons of the profiles of a test before go soon.
    let grace = "nodeDaemon.removalGraceSeconds=5";
    let installation = Installation::with(session, &[grace])?;
    servers::llama(&namespace, "chat", 2)?;
    let monitor = Monitor::apply(session.api(), namespace.name(), "chat", "chat", &json!({}))?;
    namespace.wait_for_replicas("chat", 2, servers::START)?;
    eventually("one DaemonSet", Duration::from_secs(60), || {
        let sets = installation.daemon_sets(session)?;
        ensure!(sets.len() == 1, "{}", sets.len());
        Ok(())
    })?;
    installation.wait_for_daemons(session)?;
    monitor.wait_for("Ready", "True", Duration::from_secs(30))?;
    eventually("a metric", Duration::from_secs(30), || {
        monitor.metric("queue-depth")?.success()
    })?;

    let operators = uids(&installation.pods(session, "operator")?);
    let daemons = uids(&installation.pods(session, "node-daemon")?);
    let reader = Reader::start(session, &monitor.metric_path("v1beta2", "queue-depth"));
    let begun = Instant::now();
    // Their log's format is part of both pod templates.
    let installation = Installation::with(
        session,
        &[grace, "operator.logFormat=text", "nodeDaemon.logFormat=text"],
    )?;
    eventually("other operators and other daemons", Duration::from_secs(120), || {
        for (component, before) in [("operator", &operators), ("node-daemon", &daemons)] {
            let now = installation.pods(session, component)?;
            ensure!(
                now.len() == before.len() && uids(&now).keys().all(|uid| !before.contains_key(uid)),
                "not all {component} pods are new"
            );
        }
        Ok(())
    })?;
    installation.wait_for_daemons(session)?;
    took("operator and daemons rolled", begun);
    monitor.wait_for("Ready", "True", Duration::from_secs(30))?;
    let readings = reader.stop();
    println!("  {} reads, {} failed", readings.good, readings.failed.len());
    ensure!(readings.good > 50, "only {} reads in the whole update", readings.good);
    ensure!(readings.failed.is_empty(), "failed reads: {:?}", readings.failed);
    namespace.delete()
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_changed_node_profile_rolls_its_own_daemons_only() -> anyhow::Result<()> {
    let session = Session::get()?;
    let namespace = Namespace::create(session, "profiles")?;
    let nodes = session.api().list("/api/v1/nodes")?;
    let [first, second, ..] = nodes.as_slice() else {
        println!("skipped: two profiles need two nodes");
        return Ok(());
    };
    let name_of = |node: &Value| node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let (first, second) = (name_of(first), name_of(second));
    let profiles = [
        // The daemons of the default profile go soon.
        "nodeDaemon.removalGraceSeconds=5".to_owned(),
        "nodeProfiles[0].name=one".to_owned(),
        format!("nodeProfiles[0].nodeSelector.kubernetes\\.io/hostname={first}"),
        "nodeProfiles[1].name=two".to_owned(),
        format!("nodeProfiles[1].nodeSelector.kubernetes\\.io/hostname={second}"),
    ];
    let mut values: Vec<&str> = profiles.iter().map(String::as_str).collect();
    let installation = Installation::with(session, &values)?;
    Monitor::apply(session.api(), namespace.name(), "chat", "chat", &json!({}))?;
    eventually("two DaemonSets", Duration::from_secs(60), || {
        let sets = installation.daemon_sets(session)?;
        let names: Vec<String> = sets.iter().map(&name_of).collect();
        ensure!(
            names == ["inference-monitor-node-daemon-one", "inference-monitor-node-daemon-two"],
            "{names:?}"
        );
        Ok(())
    })?;
    installation.wait_for_daemons(session)?;
    let before = uids(&installation.pods(session, "node-daemon")?);

    values.push("nodeProfiles[1].gpuAccess.visibleDevices=none");
    let installation = Installation::with(session, &values)?;
    eventually("another daemon on the second node", Duration::from_secs(60), || {
        let now = uids(&installation.pods(session, "node-daemon")?);
        let new: Vec<&String> = now
            .iter()
            .filter(|(uid, _)| !before.contains_key(*uid))
            .map(|(_, node)| node)
            .collect();
        ensure!(
            new == [&second] && now.len() == 2,
            "new daemons on {new:?}, {} in all",
            now.len()
        );
        Ok(())
    })?;
    installation.wait_for_daemons(session)?;
    let after = uids(&installation.pods(session, "node-daemon")?);
    let stayed: Vec<&String> = after
        .iter()
        .filter(|(uid, _)| before.contains_key(*uid))
        .map(|(_, node)| node)
        .collect();
    ensure!(stayed == [&first], "the daemon that stayed is on {stayed:?}");
    let restarts = session.kubectl(&[
        "get",
        "pods",
        "--namespace",
        NAMESPACE,
        "--selector=app.kubernetes.io/component=node-daemon",
        "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    ])?;
    ensure!(
        restarts.split_whitespace().all(|count| count == "0"),
        "restarts: {restarts}"
    );
    namespace.delete().context("after the profiles")
}

/// Pods by uid, with their node.
fn uids(pods: &[Value]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    pods.iter()
        .map(|pod| (text(&pod["metadata"]["uid"]), text(&pod["spec"]["nodeName"])))
        .collect()
}
