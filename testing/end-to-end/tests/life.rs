//! The life of an installation: the first monitor brings the daemons, conditions follow the servers, the last one takes the daemons away.

use anyhow::{Context, ensure};
use infmon_end_to_end::{
    Cluster, DaemonProcess, EnginePod, Monitor, NAMESPACE, OperatorProcess, Settings, eventually,
    operator_process::series, polling::took, programs::repository, writes,
};
use infmon_nvml_stand_in::{Profile, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};

const GRACE_SECONDS: u32 = 3;
const DAEMON_SET: &str =
    "/apis/apps/v1/namespaces/inference-monitor-system/daemonsets/inference-monitor-node-daemon-default";
const OPERATOR: &str = "inference-monitor-operator";

#[test]
fn from_the_first_monitor_to_the_last() -> anyhow::Result<()> {
    let cluster = Cluster::start(Settings {
        removal_grace_seconds: GRACE_SECONDS,
        ..Settings::default()
    })?;
    let story = cluster.story("from the first monitor to the last");
    cluster.add_node("gpu-a")?;
    let operators = OperatorProcess::start_all(&cluster, "gpu-a")?;
    ensure!(!cluster.api().exists(DAEMON_SET)?, "a DaemonSet without a monitor");

    // The samples are what a reader of the documentation applies first.
    for sample in [
        "vllm-monitor.yaml",
        "llamacpp-monitor.yaml",
        "custom-monitor.yaml",
        "hpa-queue-depth.yaml",
    ] {
        let yaml = fs::read_to_string(repository().join("manifests/samples").join(sample))?;
        eventually("the CRD served", Duration::from_secs(20), || {
            cluster.plane().kubectl_apply(&yaml)
        })?;
    }
    let applied = Instant::now();
    let sample = Monitor::existing(cluster.api(), "default", "llama-70b");
    let engine = EnginePod::start(&cluster, Kind::Vllm, "gpu-a", "default", "vllm-llama-70b")?;
    engine.engine.change(|load| {
        load.waiting = 3;
        load.running = 7;
        load.kv_cache_usage = 0.52;
    });
    let set = eventually("the DaemonSet", Duration::from_secs(10), || {
        cluster.api().get(DAEMON_SET)
    })?;
    took("monitor applied -> DaemonSet", applied);
    made_by_the_operator(&cluster, &set)?;
    let unwatched = sample.wait_for("Ready", "False", Duration::from_secs(15))?;
    ensure!(unwatched.reason == "NoNodeDaemon", "{unwatched:?}");

    let daemon = DaemonProcess::start(&cluster, "gpu-a", &operators, &Scenario::of(Profile::H100, 2))?;
    let started = Instant::now();
    eventually("the first report", Duration::from_secs(10), || {
        let exposition = operators[0].exposition(&cluster)?;
        let reports = series(&exposition, "infmon_link_reports_total", &[]).context("no counter of reports")?;
        ensure!(reports > 0.0, "{reports} reports");
        Ok(())
    })?;
    took("daemon started -> first report", started);
    let reported = Instant::now();
    sample.wait_for("Ready", "True", Duration::from_secs(5))?;
    took("first report -> Ready=True", reported);
    shows_the_numbers(&cluster)?;

    queue_depth_follows_the_servers(&cluster)?;
    edits_are_corrected(&cluster)?;
    the_last_monitor_takes_the_daemons_away(&cluster)?;
    drop(daemon);
    story.ends_well();
    Ok(())
}

fn made_by_the_operator(cluster: &Cluster, set: &Value) -> anyhow::Result<()> {
    let owner = &set["metadata"]["ownerReferences"][0];
    ensure!(
        owner["kind"] == "Deployment" && owner["name"] == OPERATOR,
        "owner: {owner}"
    );
    let written = eventually("its write in the audit log", Duration::from_secs(5), || {
        let writes = writes::since(cluster, 0)?;
        let found = writes.stored.keys().find(|write| write.contains("daemonsets")).cloned();
        found.context("no write of a DaemonSet by our identities")
    })?;
    ensure!(written.starts_with(OPERATOR) && written.contains("patch"), "{written}");
    Ok(())
}

fn shows_the_numbers(cluster: &Cluster) -> anyhow::Result<()> {
    // Numbers alone are written every 15 s at most.
    let row = eventually("the numbers in kubectl get", Duration::from_secs(20), || {
        let table = cluster.plane().kubectl(&["get", "infmon", "llama-70b"])?;
        let row = table.lines().nth(1).context("no row")?.to_owned();
        for cell in ["True", "VLLM", "1/1", " 3 ", " 7 ", "52%", "0/2", "Low"] {
            ensure!(row.contains(cell), "no {cell} in {table}");
        }
        Ok(row)
    })?;
    println!("  {row}");
    Ok(())
}

fn queue_depth_follows_the_servers(cluster: &Cluster) -> anyhow::Result<()> {
    const FOR: Duration = Duration::from_secs(2);
    let engine = EnginePod::start(cluster, Kind::Vllm, "gpu-a", "default", "chat")?;
    let thresholds = json!({"thresholds": {"queueDepth": {"perEndpoint": 5, "forSeconds": FOR.as_secs()}}});
    let monitor = Monitor::apply(cluster.api(), "default", "chat", "chat", &thresholds)?;
    monitor.wait_for("Ready", "True", Duration::from_secs(10))?;
    monitor.wait_for("QueueDepthHigh", "False", Duration::from_secs(5))?;

    engine.set_requests(12, 16);
    let crossed = Instant::now();
    let high = monitor.wait_for("QueueDepthHigh", "True", FOR + Duration::from_secs(2))?;
    took("12 wait in the server -> QueueDepthHigh=True (2 s asked for)", crossed);
    ensure!(crossed.elapsed() >= FOR, "earlier than asked for");
    ensure!(
        high.reason == "AboveThreshold" && high.message.contains("12"),
        "{high:?}"
    );
    println!("  {}", high.message);

    engine.set_requests(1, 16);
    let crossed = Instant::now();
    monitor.wait_for("QueueDepthHigh", "False", FOR + Duration::from_secs(2))?;
    took("1 waits in the server -> QueueDepthHigh=False (2 s asked for)", crossed);

    for reason in ["AboveThreshold", "BelowThreshold", "Monitoring"] {
        eventually("Events of the transitions", Duration::from_secs(5), || {
            let events = cluster.api().list("/apis/events.k8s.io/v1/namespaces/default/events")?;
            let found = events
                .iter()
                .find(|event| event["regarding"]["name"] == "chat" && event["reason"] == reason);
            let found = found.with_context(|| format!("no Event {reason} among {}", events.len()))?;
            ensure!(found["regarding"]["kind"] == "InferenceMonitor", "{found}");
            Ok(())
        })?;
    }
    Ok(())
}

fn edits_are_corrected(cluster: &Cluster) -> anyhow::Result<()> {
    let image = "/spec/template/spec/containers/0/image";
    let set = cluster.api().get(DAEMON_SET)?;
    let before = set.pointer(image).cloned().context("no image")?;
    let edit = json!({"spec": {"template": {"spec": {"containers": [{"name": "node-daemon", "image": "someone.else/daemon:1"}]}}}});
    cluster.plane().kubectl(&[
        "patch",
        "daemonset",
        "--namespace",
        NAMESPACE,
        "inference-monitor-node-daemon-default",
        "--patch",
        &edit.to_string(),
    ])?;
    let edited = Instant::now();
    eventually("the edit of the DaemonSet corrected", Duration::from_secs(10), || {
        let set = cluster.api().get(DAEMON_SET)?;
        let now = set.pointer(image);
        ensure!(now == Some(&before), "the image is {now:?}");
        Ok(())
    })?;
    took("DaemonSet edited by hand -> corrected", edited);
    Ok(())
}

fn the_last_monitor_takes_the_daemons_away(cluster: &Cluster) -> anyhow::Result<()> {
    for name in ["qwen-7b", "my-server", "chat"] {
        Monitor::existing(cluster.api(), "default", name).delete()?;
    }
    std::thread::sleep(Duration::from_secs(u64::from(GRACE_SECONDS) + 2));
    ensure!(
        cluster.api().exists(DAEMON_SET)?,
        "the DaemonSet went while a monitor was there"
    );
    Monitor::existing(cluster.api(), "default", "llama-70b").delete()?;
    let deleted = Instant::now();
    let grace = Duration::from_secs(u64::from(GRACE_SECONDS));
    eventually("the DaemonSet removed", grace + Duration::from_secs(5), || {
        ensure!(!cluster.api().exists(DAEMON_SET)?, "it is still there");
        Ok(())
    })?;
    took("last monitor deleted -> DaemonSet removed (3 s of grace)", deleted);
    ensure!(deleted.elapsed() >= grace, "earlier than the time of grace");
    eventually("its pods removed", Duration::from_secs(15), || {
        let pods = cluster.component_pods("node-daemon")?;
        ensure!(pods.is_empty(), "{} pods are left", pods.len());
        Ok(())
    })
}
