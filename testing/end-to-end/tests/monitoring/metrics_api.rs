//! The aggregated API as `kubectl get --raw` and RBAC see it.

use anyhow::{Context, ensure};
use infmon_end_to_end::{EnginePod, Monitor, eventually, monitor::value};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::time::Duration;

use crate::Shared;

#[test]
fn metrics_are_read_in_both_versions_and_only_by_those_who_may() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "metrics-api";
    shared.place(place)?;
    let story = cluster.story("metrics are read in both versions and only by those who may");
    cluster.wait_for_metrics_api()?;

    let one = EnginePod::start(cluster, Kind::Vllm, place, place, "one")?;
    let two = EnginePod::start(cluster, Kind::LlamaCpp, place, place, "two")?;
    one.set_requests(3, 5);
    two.set_requests(4, 2);
    let monitor = Monitor::apply(cluster.api(), place, "one", "one", &json!({}))?;
    Monitor::apply(cluster.api(), place, "two", "two", &json!({}))?;
    let _daemon = shared.daemon(place)?;
    eventually("a value", Duration::from_secs(10), || {
        value(monitor.metric("queue-depth")?)
    })?;

    for version in ["v1beta1", "v1beta2"] {
        let raw = cluster
            .plane()
            .kubectl(&["get", "--raw", &monitor.metric_path(version, "queue-depth")])?;
        let list: serde_json::Value = serde_json::from_str(&raw)?;
        ensure!(
            list["apiVersion"] == format!("custom.metrics.k8s.io/{version}"),
            "{raw}"
        );
        ensure!(list["items"][0]["value"] == "3", "{raw}");
        let described = &list["items"][0]["describedObject"];
        ensure!(
            described["kind"] == "InferenceMonitor" && described["name"] == "one",
            "{raw}"
        );

        let every = Monitor::existing(cluster.api(), place, "*").metric_path(version, "in-flight-requests");
        let values = |query: &str| -> anyhow::Result<Vec<(String, String)>> {
            let list = cluster.api().get(&format!("{every}{query}"))?;
            let items = list["items"].as_array().context("no items")?;
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let mut values: Vec<_> = items
                .iter()
                .map(|item| (text(&item["describedObject"]["name"]), text(&item["value"])))
                .collect();
            values.sort();
            Ok(values)
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        eventually("both monitors", Duration::from_secs(10), || {
            let values = values("")?;
            ensure!(values == [pair("one", "8"), pair("two", "6")], "{values:?}");
            Ok(())
        })?;
        let selected = values("?labelSelector=app%3Dtwo")?;
        ensure!(selected == [pair("two", "6")], "{selected:?}");
    }

    let jane = cluster.plane().kubeconfig_for_user("jane", None, "jane-metrics")?;
    let jane = cluster.api_as(&jane)?;
    let path = monitor.metric_path("v1beta2", "queue-depth");
    let refused = jane.ask(&path)?;
    ensure!(
        refused.status == 403 && refused.message().contains("jane"),
        "{refused:?}"
    );
    cluster.plane().kubectl(&[
        "create",
        "rolebinding",
        "jane",
        "--namespace",
        place,
        "--clusterrole=inference-monitor-view",
        "--user=jane",
    ])?;
    // A refusal is remembered for 10 s.
    eventually("jane may read", Duration::from_secs(15), || {
        jane.ask(&path)?.success().map(drop)
    })?;
    let elsewhere =
        jane.ask(&Monitor::existing(cluster.api(), "default", "any").metric_path("v1beta2", "queue-depth"))?;
    ensure!(elsewhere.status == 403, "{elsewhere:?}");

    let unknown = cluster.api().ask(&monitor.metric_path("v1beta2", "no-such-metric"))?;
    ensure!(unknown.status == 404, "{unknown:?}");
    let missing = cluster
        .api()
        .ask(&Monitor::existing(cluster.api(), place, "none").metric_path("v1beta2", "queue-depth"))?;
    ensure!(missing.status == 404, "{missing:?}");
    story.ends_well();
    Ok(())
}
