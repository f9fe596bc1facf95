//! What breaks in a cluster, and what the status says meanwhile.

use anyhow::{Context, ensure};
use infmon_cluster::{Cluster, pod_processes};
use infmon_cluster_tests::{Installation, Namespace, Reader, Session, servers};
use infmon_control_plane::process;
use infmon_end_to_end::{
    Monitor, NAMESPACE, eventually,
    polling::{throughout, took},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A leader that was killed holds its Lease for 15 s, and the other looks every few (docs/architecture.md).
const TAKEOVER: Duration = Duration::from_secs(25);
/// A container that is killed for the first time is started again at once; then come the connection and the first samples.
const DAEMON_BACK: Duration = Duration::from_secs(15);

/// One server on each of two nodes, watched and Ready.
struct Scene {
    session: &'static Session,
    namespace: Namespace,
    installation: Installation,
    monitor: Monitor,
}

impl Scene {
    fn set(name: &str) -> anyhow::Result<Self> {
        let session = Session::get()?;
        let namespace = Namespace::create(session, name)?;
        let installation = Installation::with(session, &[])?;
        servers::llama(&namespace, "chat", 2)?;
        let monitor = Monitor::apply(session.api(), name, "chat", "chat", &json!({}))?;
        namespace.wait_for_replicas("chat", 2, servers::START)?;
        installation.wait_for_daemons(session)?;
        let scene = Self {
            session,
            namespace,
            installation,
            monitor,
        };
        scene.wait_for_both(Duration::from_secs(40))?;
        Ok(scene)
    }

    /// Waits until the monitor is Ready with two endpoints of two and gives a metric.
    fn wait_for_both(&self, limit: Duration) -> anyhow::Result<()> {
        eventually("Ready with 2/2 endpoints", limit, || {
            let ready = self.monitor.condition("Ready")?;
            let status = self.monitor.get()?["status"].take();
            ensure!(
                ready.status == "True" && status["summary"]["endpoints"] == "2/2",
                "{ready:?}, {}",
                status["summary"]
            );
            self.monitor.metric("queue-depth")?.success().map(drop)
        })
    }

    fn read(&self) -> Reader {
        Reader::start(self.session, &self.monitor.metric_path("v1beta2", "queue-depth"))
    }

    /// The pod of this component that `which` picks.
    fn pod(&self, component: &str, which: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.installation
            .pods(self.session, component)?
            .into_iter()
            .find(which)
            .with_context(|| format!("no such {component} pod"))
    }
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_killed_leader_is_replaced() -> anyhow::Result<()> {
    if Session::get()?.machine("kill -9 of the leader").is_none() {
        return Ok(());
    }
    let scene = Scene::set("leader")?;
    let leader = holder(scene.session)?;
    let pod = scene.pod("operator", |pod| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        leader.starts_with(&format!("{name}_"))
    })?;
    let reader = scene.read();
    let killed = Instant::now();
    kill(&pod, "infmon-operator")?;
    // Nobody writes for a while; a write is what shows that somebody does again.
    scene
        .session
        .api()
        .merge(&scene.monitor.path(), &json!({"spec": {"staleAfterSeconds": 11}}))?;
    eventually("the status follows the spec", TAKEOVER, || {
        let monitor = scene.monitor.get()?;
        ensure!(
            monitor["status"]["observedGeneration"] == monitor["metadata"]["generation"],
            "generation {} of {}",
            monitor["status"]["observedGeneration"],
            monitor["metadata"]["generation"]
        );
        Ok(())
    })?;
    took("kill -9 of the leader -> status written again", killed);
    scene.wait_for_both(Duration::from_secs(20))?;
    let readings = reader.stop();
    let last = readings.failed.last().map(|(at, _)| *at).unwrap_or_default();
    println!(
        "  {} reads, {} failed, the last {:.1} s after the kill",
        readings.good,
        readings.failed.len(),
        last.as_secs_f64()
    );
    // The address of the killed one stays in the Service until its kubelet says otherwise; the other answers half of the reads.
    ensure!(
        last < Duration::from_secs(10),
        "reads failed for {last:?}: {:?}",
        readings.failed.last()
    );
    scene.namespace.delete()
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_killed_daemon_comes_back() -> anyhow::Result<()> {
    if Session::get()?.machine("kill -9 of a daemon").is_none() {
        return Ok(());
    }
    let scene = Scene::set("daemon")?;
    let pod = scene.pod("node-daemon", |_| true)?;
    let (uid, before) = (pod["metadata"]["uid"].clone(), restarts(&pod));
    let reader = scene.read();
    let killed = Instant::now();
    kill(&pod, "infmon-node-daemon")?;
    eventually("the daemon runs again", DAEMON_BACK, || {
        let pod = scene.pod("node-daemon", |pod| pod["metadata"]["uid"] == uid)?;
        let status = &pod["status"]["containerStatuses"][0];
        ensure!(restarts(&pod) == before + 1 && status["ready"] == true, "{status}");
        Ok(())
    })?;
    took("kill -9 of a daemon -> ready again", killed);
    scene.wait_for_both(DAEMON_BACK)?;
    // For longer than samples count as fresh.
    throughout("Ready", Duration::from_secs(12), || {
        let ready = scene.monitor.condition("Ready")?;
        ensure!(ready.status == "True", "{ready:?}");
        Ok(())
    })?;
    let readings = reader.stop();
    println!("  {} reads, {} failed", readings.good, readings.failed.len());
    // It is back before the last samples are stale (10 s), so nobody notices.
    ensure!(readings.failed.is_empty(), "{:?}", readings.failed);
    scene.namespace.delete()
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_kubelet_that_restarts_is_not_noticed() -> anyhow::Result<()> {
    let Some(cluster) = Session::get()?.machine("the restart of a kubelet") else {
        return Ok(());
    };
    let scene = Scene::set("kubelet")?;
    let daemons = || -> anyhow::Result<u64> {
        let pods = scene.installation.pods(scene.session, "node-daemon")?;
        Ok(pods.iter().map(restarts).sum())
    };
    let before = daemons()?;
    let reader = scene.read();
    restart_kubelet(scene.session, cluster, "node1")?;
    let readings = reader.stop();
    scene.wait_for_both(Duration::from_secs(10))?;
    ensure!(readings.failed.is_empty(), "{:?}", readings.failed);
    ensure!(daemons()? == before, "daemons restarted");
    scene.namespace.delete()
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_drained_node_is_followed() -> anyhow::Result<()> {
    let scene = Scene::set("drain")?;
    let reader = scene.read();
    let begun = Instant::now();
    let node = scene.pod("operator", |_| true)?["spec"]["nodeName"]
        .as_str()
        .context("an operator without a node")?
        .to_owned();
    scene.session.kubectl(&["cordon", &node])?;
    let drained = scene.session.kubectl(&[
        "drain",
        &node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout=120s",
    ]);
    let done = drained.and_then(|_| {
        took("cordon and drain", begun);
        scene.namespace.wait_for_replicas("chat", 2, servers::START)?;
        scene.wait_for_both(Duration::from_secs(40))?;
        took("drain -> Ready with 2/2 on the other node", begun);
        eventually("no endpoint on the drained node", Duration::from_secs(20), || {
            let monitor = scene.monitor.get()?;
            let endpoints = monitor["status"]["endpoints"].as_array().cloned().unwrap_or_default();
            ensure!(
                endpoints.iter().all(|endpoint| endpoint["node"] != node.as_str()),
                "{endpoints:?}"
            );
            Ok(())
        })
    });
    // Whatever happened, the next test needs both nodes.
    scene.session.kubectl(&["uncordon", &node])?;
    done?;
    let readings = reader.stop();
    println!("  {} reads, {} failed", readings.good, readings.failed.len());
    // A server that became ready a moment ago has no sample yet, and a sum without it would not be true.
    let unexplained = readings.failed.iter().find(|(_, what)| !what.contains("no sample yet"));
    ensure!(unexplained.is_none(), "{unexplained:?}");
    ensure!(
        readings.failed.len() <= 20,
        "{} reads of 0.1 s failed",
        readings.failed.len()
    );
    scene.namespace.delete()
}

/// How often the container of a pod was started again.
fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or(0)
}

/// Who holds the operators' Lease.
fn holder(session: &Session) -> anyhow::Result<String> {
    let lease = session.api().get(&format!(
        "/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/inference-monitor-operator"
    ))?;
    let holder = lease["spec"]["holderIdentity"].as_str();
    holder.map(str::to_owned).context("nobody holds the Lease")
}

/// Kills a program of a pod as the kernel would.
fn kill(pod: &Value, program: &str) -> anyhow::Result<()> {
    let uid = pod["metadata"]["uid"].as_str().context("a pod without uid")?;
    let processes = pod_processes::of(uid, program);
    ensure!(processes.len() == 1, "{program} of {uid}: {processes:?}");
    process::kill(processes[0])
}

/// Kills a kubelet; the node starts it again, as systemd would. Returns when it has told the API server that it lives.
fn restart_kubelet(session: &Session, cluster: &Cluster, node: &str) -> anyhow::Result<()> {
    let node = cluster.node(node)?;
    let old = node.kubelet_process()?;
    let killed = Instant::now();
    process::kill(old)?;
    eventually("another kubelet", Duration::from_secs(20), || {
        let new = node.kubelet_process()?;
        ensure!(new != old, "still process {old}");
        Ok(())
    })?;
    // It answers once it has seen all its pods again.
    eventually("the kubelet healthy", Duration::from_secs(60), || {
        let answer = session
            .api()
            .ask(&format!("/api/v1/nodes/{}/proxy/healthz", node.name()))?;
        answer.success().map(drop)
    })?;
    took("kubelet killed -> healthy", killed);
    Ok(())
}
