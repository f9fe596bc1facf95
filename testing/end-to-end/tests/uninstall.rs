//! What is left after `helm uninstall`: the CRD with its monitors, and nothing that breaks the cluster. With Helm 3.

use anyhow::ensure;
use infmon_control_plane::HelmVersion;
use infmon_end_to_end::{
    Cluster, DaemonProcess, EnginePod, Monitor, NAMESPACE, OperatorProcess, Settings,
    cluster::{API_SERVICES, RELEASE},
    eventually,
    operator_process::DRAIN_SECONDS,
    polling::took,
};
use infmon_nvml_stand_in::{Profile, Scenario};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn uninstall_leaves_a_clean_cluster() -> anyhow::Result<()> {
    let cluster = Cluster::start(Settings {
        helm: HelmVersion::V3,
        ..Settings::default()
    })?;
    let story = cluster.story("uninstall leaves a clean cluster");
    let api = cluster.api();
    cluster.add_node("gpu-a")?;
    cluster.add_namespace("tenant")?;
    let mut operators = OperatorProcess::start_all(&cluster, "gpu-a")?;
    let engine = EnginePod::start(&cluster, Kind::Vllm, "gpu-a", "tenant", "chat")?;
    let monitor = Monitor::apply(cluster.api(), "tenant", "chat", "chat", &json!({}))?;
    let daemon = DaemonProcess::start(&cluster, "gpu-a", &operators, &Scenario::of(Profile::T4, 1))?;
    monitor.wait_for("Ready", "True", Duration::from_secs(10))?;
    cluster.wait_for_metrics_api()?;

    cluster
        .plane()
        .helm(HelmVersion::V3, &["uninstall", RELEASE, "--namespace", NAMESPACE])?;
    let begun = Instant::now();
    // The kubelet ends what ran in the pods.
    operators[0].process()?.terminate()?;
    daemon.process.terminate()?;
    for name in API_SERVICES {
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
        ensure!(!api.exists(&path)?, "{name} is left");
    }
    let status = operators[0].process()?.wait(Duration::from_secs(DRAIN_SECONDS + 6))?;
    ensure!(status.success(), "the operator ended with {status}");
    took("uninstall -> the operator has ended", begun);

    // What the operator made belongs to its Deployment and goes with it.
    let system = |kind: &str| format!("/{kind}/namespaces/{NAMESPACE}");
    for path in [
        format!("{}/daemonsets", system("apis/apps/v1")),
        format!("{}/secrets", system("api/v1")),
        format!("{}/pods", system("api/v1")),
        format!("{}/configmaps", system("api/v1")),
        format!("{}/leases", system("apis/coordination.k8s.io/v1")),
    ] {
        eventually("what the operator made is gone", Duration::from_secs(20), || {
            let left: Vec<String> = api
                .list(&path)?
                .iter()
                .map(|object| object["metadata"]["name"].to_string())
                .filter(|name| name != "\"kube-root-ca.crt\"")
                .collect();
            ensure!(left.is_empty(), "{path}: {left:?}");
            Ok(())
        })?;
    }
    took("uninstall -> all that the operator made is gone", begun);
    for kind in ["clusterroles", "clusterrolebindings"] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{kind}");
        let names: Vec<String> = api
            .list(&path)?
            .iter()
            .map(|object| object["metadata"]["name"].to_string())
            .filter(|name| name.contains("inference-monitor"))
            .collect();
        ensure!(names.is_empty(), "{kind}: {names:?}");
    }
    ensure!(monitor.get()?["spec"].is_object(), "the monitors went with the release");

    // An APIService without a server would hold both up for ever.
    for namespace in ["tenant", NAMESPACE] {
        let path = format!("/api/v1/namespaces/{namespace}");
        api.delete(&path)?;
        let begun = Instant::now();
        eventually("the namespace is gone", Duration::from_secs(40), || {
            let answer = api.ask(&path)?;
            ensure!(answer.status == 404, "{}", answer.body);
            Ok(())
        })?;
        took("namespace deleted -> gone", begun);
    }
    drop(engine);
    story.ends_well();
    Ok(())
}
