//! Whose GPU it is: a real kubelet gives GPUs to pods, and a GPU that loses clocks is laid to the one that has it.

use anyhow::{Context, ensure};
use infmon_cluster::{Node, pod_processes, simulated_gpus};
use infmon_cluster_tests::{Installation, Namespace, Session, servers};
use infmon_end_to_end::{Monitor, NAMESPACE, eventually, polling::took};
use infmon_nvml_stand_in::Cause;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

/// `forSeconds` of the monitors, a window to see it in, and a kubelet that is asked every ten seconds.
const RAISED: Duration = Duration::from_secs(40);
const CLEARED: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn pod_resources_tell_whose_gpu_it_is() -> anyhow::Result<()> {
    // On this node the pod's status does not tell, so the kubelet's own API is the only source.
    whose_gpu("podresources", "node1", true)
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn the_status_of_a_pod_tells_whose_gpu_it_is() -> anyhow::Result<()> {
    whose_gpu("podstatus", "node2", false)
}

fn whose_gpu(place: &str, node: &str, pod_resources: bool) -> anyhow::Result<()> {
    let session = Session::get()?;
    let Some(cluster) = session.machine("simulated GPUs") else {
        return Ok(());
    };
    let node = cluster.node(node)?;
    let namespace = Namespace::create(session, place)?;
    // A hostPath is more than restricted and baseline allow; docs/security.md says so for both opt-ins.
    Installation::allow(session, "privileged")?;
    let profile = [
        format!("nodeProfiles[0].gpuAccess.driverRoot={}", simulated_gpus::DRIVER_ROOT),
        "nodeProfiles[0].name=default".to_owned(),
        format!("nodeProfiles[0].podResources={pod_resources}"),
    ];
    let values: Vec<&str> = profile.iter().map(String::as_str).collect();
    let installation = Installation::with(session, &values)?;
    for name in ["hot", "cool"] {
        servers::llama(&namespace, name, 1)?;
        give_gpu(&namespace, name, &node)?;
    }
    let thresholds = json!({"thresholds": {"throttledPercent": {"above": 1, "forSeconds": 5}}});
    let hot = Monitor::apply(session.api(), place, "hot", "hot", &thresholds)?;
    let cool = Monitor::apply(session.api(), place, "cool", "cool", &thresholds)?;
    for name in ["hot", "cool"] {
        namespace.wait_for_replicas(name, 1, servers::START)?;
    }
    installation.wait_for_daemons(session)?;
    let (gpu, pod) = (gpu_of(&namespace, "hot")?, pod_of(&namespace, "hot")?);
    let others = gpu_of(&namespace, "cool")?;
    ensure!(gpu != others, "both have {gpu}");
    for monitor in [&hot, &cool] {
        monitor.wait_for("Throttled", "False", RAISED)?;
    }

    heat(&node, &gpu, 0.4)?;
    let begun = Instant::now();
    let found = hot.wait_for("Throttled", "True", RAISED)?;
    took("GPU loses 40% of its clocks -> Throttled=True (5 s window)", begun);
    println!("  {}", found.message);
    let name = pod["metadata"]["name"].as_str().context("a pod without name")?;
    for word in [&gpu[..12], &node.name(), name] {
        ensure!(found.message.contains(word), "no {word:?} in {found:?}");
    }
    // Its neighbour on the same node has lost nothing, now and for a while.
    let calm = cool.condition("Throttled")?;
    ensure!(calm.status == "False", "the neighbour: {calm:?}");
    heat(&node, &gpu, 0.0)?;
    hot.wait_for("Throttled", "False", CLEARED)?;
    heat(&node, &others, 0.4)?;
    let found = cool.wait_for("Throttled", "True", RAISED)?;
    ensure!(found.message.contains(&others[..12]), "{found:?}");
    let calm = hot.condition("Throttled")?;
    ensure!(calm.status == "False", "the first one: {calm:?}");
    heat(&node, &others, 0.0)?;

    let default = ["nodeProfiles[0].name=default"];
    Installation::with(session, &default)?.wait_for_daemons(session)?;
    Installation::allow(session, "restricted")?;
    namespace.delete()
}

/// Asks for a GPU on this node.
fn give_gpu(namespace: &Namespace, deployment: &str, node: &Node) -> anyhow::Result<()> {
    let patch = json!({"spec": {"template": {"spec": {
        "nodeSelector": {"kubernetes.io/hostname": node.name()},
        "containers": [{"name": "server", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    }}}});
    namespace
        .kubectl(&["patch", "deployment", deployment, "--patch", &patch.to_string()])
        .map(drop)
}

fn pod_of(namespace: &Namespace, app: &str) -> anyhow::Result<Value> {
    let session = Session::get()?;
    eventually(&format!("one pod of {app}"), Duration::from_secs(30), || {
        let pods = session.api().list(&format!(
            "/api/v1/namespaces/{}/pods?labelSelector=app={app}",
            namespace.name()
        ))?;
        ensure!(pods.len() == 1, "{} pods", pods.len());
        pods.into_iter().next().context("no pod")
    })
}

/// The GPU of a pod, as its own process was told by the device plugin: a source that the product does not read.
fn gpu_of(namespace: &Namespace, app: &str) -> anyhow::Result<String> {
    let pod = pod_of(namespace, app)?;
    let uid = pod["metadata"]["uid"].as_str().context("a pod without uid")?;
    let process = pod_processes::of(uid, "llama-server");
    let process = process.first().context("no process in the pod")?;
    let environment = fs::read(format!("/proc/{process}/environ"))?;
    environment
        .split(|byte| *byte == 0)
        .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix("NVIDIA_VISIBLE_DEVICES="))
        .map(str::to_owned)
        .context("the device plugin gave no GPU")
}

fn heat(node: &Node, gpu: &str, duty: f64) -> anyhow::Result<()> {
    simulated_gpus::change(node, |scenario| {
        for one in scenario.gpus.iter_mut().filter(|one| one.uuid == gpu) {
            *one = one.clone().throttle(Cause::HardwareThermal, duty);
        }
    })
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn the_default_profile_is_restricted() -> anyhow::Result<()> {
    let session = Session::get()?;
    let namespace = Namespace::create(session, "restricted")?;
    Installation::allow(session, "restricted")?;
    let installation = Installation::with(session, &["nodeProfiles[0].name=default"])?;
    Monitor::apply(session.api(), namespace.name(), "any", "any", &json!({}))?;
    // Under enforcement, pods that need more would not be there.
    installation.wait_for_daemons(session)?;
    let warnings = session.kubectl(&[
        "label",
        "--dry-run=server",
        "--overwrite",
        "namespace",
        NAMESPACE,
        "pod-security.kubernetes.io/enforce=restricted",
    ])?;
    ensure!(!warnings.contains("violate"), "{warnings}");
    for component in ["operator", "node-daemon"] {
        for pod in installation.pods(session, component)? {
            is_confined(&pod).with_context(|| format!("{component}: {}", pod["metadata"]["name"]))?;
        }
    }
    namespace.delete()
}

/// What docs/security.md says of every pod of the default installation.
fn is_confined(pod: &Value) -> anyhow::Result<()> {
    let spec = &pod["spec"];
    ensure!(spec["securityContext"]["runAsNonRoot"] == true, "may be root");
    ensure!(
        spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
        "no seccomp profile"
    );
    for of_host in ["hostNetwork", "hostPID", "hostIPC"] {
        ensure!(spec[of_host].as_bool() != Some(true), "{of_host}");
    }
    for container in spec["containers"].as_array().into_iter().flatten() {
        let context = &container["securityContext"];
        ensure!(context["readOnlyRootFilesystem"] == true, "its root can be written");
        ensure!(context["allowPrivilegeEscalation"] == false, "privileges may rise");
        ensure!(context["capabilities"]["drop"] == json!(["ALL"]), "capabilities");
        ensure!(context["capabilities"]["add"].is_null(), "capabilities are added");
        ensure!(context["privileged"].as_bool() != Some(true), "privileged");
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        ensure!(volume["hostPath"].is_null(), "a hostPath: {volume}");
    }
    Ok(())
}
