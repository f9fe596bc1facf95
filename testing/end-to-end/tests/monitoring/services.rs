//! A monitor that names a Service finds the pods behind it, by the EndpointSlices that Kubernetes makes.
//!
//! The pod has an address that nobody answers: an EndpointSlice refuses the loopback addresses of the other tests. What is found is told
//! in the status; no daemon runs on the node.

use anyhow::{Context, ensure};
use infmon_end_to_end::{Monitor, engine_pod::pod_spec, eventually};
use serde_json::json;
use std::{net::IpAddr, time::Duration};

use crate::Shared;

#[test]
fn a_service_is_followed_to_its_pods() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "services";
    shared.place(place)?;
    let story = cluster.story("a Service is followed to its pods");

    let mut spec = pod_spec();
    spec["nodeName"] = place.into();
    let pod = cluster.api().create(
        &format!("/api/v1/namespaces/{place}/pods"),
        &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "behind-0", "labels": {"app": "behind"}}, "spec": spec,
        }),
    )?;
    cluster.report_running(&pod, IpAddr::from([10, 99, 0, 7]))?;
    let services = format!("/api/v1/namespaces/{place}/services");
    cluster.api().create(
        &services,
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "behind"},
            "spec": {"selector": {"app": "behind"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }),
    )?;
    let endpoints = json!({"endpoints": [{"name": "servers", "service": {"name": "behind", "port": "http"}}]});
    let monitor = Monitor::apply(cluster.api(), place, "behind", "behind", &endpoints)?;

    // A reason or an endpoint that changes is written when the last write is 15 s old.
    eventually("the pod behind the Service", Duration::from_secs(60), || {
        let status = monitor.get()?["status"].clone();
        let found = status["endpoints"].get(0).with_context(|| status.to_string())?;
        ensure!(
            found["target"] == "behind-0" && found["node"] == place && found["state"] == "NoNodeDaemon",
            "{found}"
        );
        Ok(())
    })?;

    cluster.api().delete(&format!("{services}/behind"))?;
    eventually("the fault of a Service that is gone", Duration::from_secs(60), || {
        let ready = monitor.condition("Ready")?;
        ensure!(
            ready.reason == "InvalidSpec" && ready.message.contains("no EndpointSlice belongs to Service behind"),
            "{ready:?}"
        );
        Ok(())
    })?;
    monitor.delete()?;
    story.ends_well();
    Ok(())
}
