//! A server that no product knows is watched by the series that its user maps.

use anyhow::ensure;
use infmon_end_to_end::{EnginePod, Monitor, eventually, monitor::value};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::time::Duration;

use crate::Shared;

#[test]
fn a_server_of_nobodys_make_is_watched_by_its_own_series() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "custom";
    shared.place(place)?;
    let story = cluster.story("a server of nobody's make is watched by its own series");
    cluster.wait_for_metrics_api()?;

    let server = EnginePod::start(cluster, Kind::Homemade, place, place, "home")?;
    server.engine.change(|load| {
        load.waiting = 3;
        load.running = 5;
        load.kv_cache_usage = 0.42;
    });
    let whole = json!([
        {"field": "Waiting", "series": "home_requests", "matchLabels": {"state": "queued"}},
        {"field": "Running", "series": "home_requests", "matchLabels": {"state": "active"}},
        {"field": "KVCacheUsage", "series": "home_cache_used_percent", "unit": "Percent"},
        {"field": "GeneratedTokensTotal", "series": "home_tokens_total", "matchLabels": {"kind": "generated"}},
        {"field": "TimeToFirstToken", "series": "home_first_token_milliseconds", "unit": "Milliseconds"},
    ]);
    let mapped = |name: &str, fields: serde_json::Value| {
        let custom = json!({"engine": "Custom", "custom": {"fields": fields, "modelLabel": "model"}});
        Monitor::apply(cluster.api(), place, name, "home", &custom)
    };
    let monitor = mapped("whole", whole)?;
    // The same server by other words: each monitor has what its own mapping says.
    let reversed = json!([
        {"field": "Waiting", "series": "home_requests", "matchLabels": {"state": "active"}},
    ]);
    let reversed = mapped("reversed", reversed)?;
    let slip = json!([
        {"field": "Running", "series": "home_requests", "matchLabels": {"state": "active"}},
        {"field": "Waiting", "series": "home_request"},
    ]);
    let slip = mapped("slip", slip)?;
    let auto = Monitor::apply(cluster.api(), place, "auto", "home", &json!({}))?;
    let _daemon = shared.daemon(place)?;

    monitor.wait_for("Ready", "True", Duration::from_secs(15))?;
    let recognized = monitor.wait_for("MetricsRecognized", "True", Duration::from_secs(10))?;
    ensure!(recognized.message.starts_with("Custom recognised"), "{recognized:?}");
    eventually("the status", Duration::from_secs(20), || {
        let status = &monitor.get()?["status"];
        ensure!(status["engine"] == "Custom", "{status:#}");
        ensure!(status["summary"]["waiting"] == 3, "{status:#}");
        ensure!(status["summary"]["kvCacheUsage"] == "42%", "{status:#}");
        Ok(())
    })?;
    for (monitor, metric, expected) in [
        (&monitor, "queue-depth", "3"),
        (&monitor, "in-flight-requests", "8"),
        (&monitor, "kv-cache-usage", "420m"),
        (&reversed, "queue-depth", "5"),
    ] {
        let found = eventually(metric, Duration::from_secs(10), || value(monitor.metric(metric)?))?;
        ensure!(found == expected, "{metric}: {found}");
    }

    let unmapped = reversed.metric("running-requests")?;
    ensure!(
        unmapped.message().contains("spec.custom maps no series to Running"),
        "{unmapped:?}"
    );
    let missing = slip.wait_for("MetricsRecognized", "False", Duration::from_secs(10))?;
    ensure!(
        missing.reason == "SeriesMissing" && missing.message.contains("home_request"),
        "{missing:?}"
    );
    ensure!(
        slip.metric("queue-depth")?.success().is_err(),
        "a number for a series that is not there"
    );
    let unknown = auto.wait_for("MetricsRecognized", "False", Duration::from_secs(10))?;
    ensure!(unknown.reason == "UnknownEngine", "{unknown:?}");
    story.ends_well();
    Ok(())
}
