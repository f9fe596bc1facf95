//! The stock HorizontalPodAutoscaler scales on our queue depth, and leaves everything as it is when the depth is not known.

use anyhow::{Context, ensure};
use infmon_end_to_end::{
    Cluster, EnginePod, Monitor,
    engine_pod::pod_spec,
    eventually,
    monitor::value,
    polling::{throughout, took},
};
use infmon_simulated_engine::{Kind, Mode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::Shared;

const PLACE: &str = "autoscaling";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/autoscaling/deployments/web";
const HPA: &str = "/apis/autoscaling/v2/namespaces/autoscaling/horizontalpodautoscalers/web";
const OUR_WORDS: &str = "queue-depth is not known";

#[test]
fn the_hpa_follows_the_queue_and_never_a_stale_number() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    shared.place(PLACE)?;
    let story = cluster.story("the HPA follows the queue and never a stale number");
    cluster.wait_for_metrics_api()?;
    deploy(cluster)?;
    let engine = EnginePod::run(cluster, Kind::Vllm, &only_pod(cluster)?, PLACE)?;
    engine.set_requests(5, 8);
    let monitor = Monitor::apply(cluster.api(), PLACE, "web", "web", &json!({"staleAfterSeconds": 3}))?;
    let mut daemon = shared.daemon(PLACE)?;
    eventually("a value", Duration::from_secs(10), || {
        value(monitor.metric("queue-depth")?)
    })?;
    // The controller learns a new CRD within 30 s.
    wait_for_scaling(cluster, "True", "", Duration::from_secs(45))?;

    engine.set_requests(20, 8);
    let begun = Instant::now();
    wait_for_replicas(cluster, 4)?;
    took("20 wait in the server -> 4 replicas", begun);
    engine.set_requests(9, 8);
    let begun = Instant::now();
    wait_for_replicas(cluster, 2)?;
    took("9 wait in the server -> 2 replicas", begun);

    engine.engine.misbehave(Mode::Hang);
    let begun = Instant::now();
    let told = wait_for_scaling(cluster, "False", OUR_WORDS, Duration::from_secs(15))?;
    took("server hangs (stale after 3 s) -> ScalingActive=False", begun);
    println!("  {told}");
    ensure!(
        told.contains(&engine.name) && told.contains("Replicas are left as they are"),
        "{told}"
    );
    stays_as_it_is(cluster, &monitor, 2)?;
    engine.set_requests(15, 8);
    engine.engine.misbehave(Mode::Normal);
    let begun = Instant::now();
    wait_for_replicas(cluster, 3)?;
    took("server answers again -> HPA acts", begun);

    daemon.process.kill()?;
    let begun = Instant::now();
    let told = wait_for_scaling(cluster, "False", OUR_WORDS, Duration::from_secs(15))?;
    took("daemon killed (stale after 3 s) -> ScalingActive=False", begun);
    println!("  {told}");
    engine.set_requests(50, 8);
    stays_as_it_is(cluster, &monitor, 3)?;
    daemon.restart()?;
    let begun = Instant::now();
    wait_for_replicas(cluster, 10)?;
    took("daemon back -> HPA acts", begun);
    story.ends_well();
    Ok(())
}

fn deploy(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.api().apply(
        DEPLOYMENT,
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": PLACE},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()},
            },
        }),
    )?;
    cluster.api().apply(
        HPA,
        &json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web", "namespace": PLACE},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1, "maxReplicas": 10,
                "metrics": [{"type": "Object", "object": {
                    "describedObject": {
                        "apiVersion": "inferencemonitor.io/v1alpha1", "kind": "InferenceMonitor", "name": "web",
                    },
                    "metric": {"name": "queue-depth"},
                    "target": {"type": "AverageValue", "averageValue": "5"},
                }}],
                "behavior": {
                    "scaleUp": {
                        "stabilizationWindowSeconds": 0,
                        "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}],
                    },
                    "scaleDown": {"stabilizationWindowSeconds": 0},
                },
            },
        }),
    )?;
    Ok(())
}

/// The first pod of the Deployment. The others stay Pending, as servers do that still wait for a GPU: they take no requests, so the
/// monitor does not need their data, and the HPA takes them away first.
fn only_pod(cluster: &Cluster) -> anyhow::Result<Value> {
    eventually("the first pod of the Deployment", Duration::from_secs(20), || {
        let pods = cluster
            .api()
            .list(&format!("/api/v1/namespaces/{PLACE}/pods?labelSelector=app=web"))?;
        pods.into_iter().next().context("there is none")
    })
}

fn replicas(cluster: &Cluster) -> anyhow::Result<Value> {
    Ok(cluster.api().get(DEPLOYMENT)?["spec"]["replicas"].clone())
}

fn wait_for_replicas(cluster: &Cluster, wanted: u32) -> anyhow::Result<()> {
    eventually(&format!("{wanted} replicas"), Duration::from_secs(15), || {
        let replicas = replicas(cluster)?;
        ensure!(
            replicas == wanted,
            "{replicas} replicas; HPA: {}",
            scaling_active(cluster)?
        );
        Ok(())
    })
}

fn scaling_active(cluster: &Cluster) -> anyhow::Result<Value> {
    let hpa = cluster.api().get(HPA)?;
    let conditions = hpa["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition["type"] == "ScalingActive");
    found.context("the HPA has no condition ScalingActive")
}

fn wait_for_scaling(cluster: &Cluster, status: &str, words: &str, limit: Duration) -> anyhow::Result<String> {
    eventually(&format!("ScalingActive={status}"), limit, || {
        let active = scaling_active(cluster)?;
        let message = active["message"].as_str().unwrap_or_default();
        ensure!(active["status"] == status && message.contains(words), "{active}");
        Ok(message.to_owned())
    })
}

/// The metric stays an error, and the HPA leaves the Deployment alone.
fn stays_as_it_is(cluster: &Cluster, monitor: &Monitor, wanted: u32) -> anyhow::Result<()> {
    throughout(
        "no number is served and nothing is scaled",
        Duration::from_secs(5),
        || {
            let answer = monitor.metric("queue-depth")?;
            ensure!(answer.status >= 400, "a number is served: {answer:?}");
            let replicas = replicas(cluster)?;
            ensure!(replicas == wanted, "{replicas} replicas instead of {wanted}");
            Ok(())
        },
    )
}
