//! A server that refuses, hangs or says that its metrics are off is named with the reason, and disturbs no other.

use anyhow::ensure;
use infmon_end_to_end::{EnginePod, Monitor, polling::throughout};
use infmon_simulated_engine::{Kind, Mode};
use serde_json::json;
use std::time::Duration;

use crate::Shared;

#[test]
fn failing_servers_are_told_apart_and_disturb_no_other() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "targets";
    shared.place(place)?;
    let story = cluster.story("failing servers are told apart and disturb no other");

    let good = EnginePod::start(cluster, Kind::Vllm, place, place, "good")?;
    let healthy = Monitor::apply(cluster.api(), place, "good", "good", &json!({"staleAfterSeconds": 3}))?;
    let cases = [
        (
            "llama-without-metrics",
            Kind::LlamaCpp,
            Mode::MetricsDisabled,
            "MetricsDisabled",
            "--metrics",
        ),
        (
            "llama-with-key",
            Kind::LlamaCpp,
            Mode::Unauthorized,
            "Unauthorized",
            "401",
        ),
        ("vllm-that-hangs", Kind::Vllm, Mode::Hang, "Timeout", ""),
    ];
    let mut failing = Vec::new();
    for (name, kind, mode, reason, words) in cases {
        let pod = EnginePod::start(cluster, kind, place, place, name)?;
        pod.engine.misbehave(mode);
        let monitor = Monitor::apply(cluster.api(), place, name, name, &json!({"staleAfterSeconds": 3}))?;
        failing.push((pod, monitor, reason, words));
    }
    let _daemon = shared.daemon(place)?;

    healthy.wait_for("Ready", "True", Duration::from_secs(10))?;
    for (pod, monitor, reason, words) in &failing {
        let found = monitor.wait_for("EndpointsReachable", "False", Duration::from_secs(20))?;
        println!("  {}: {}", found.reason, found.message);
        ensure!(found.reason == *reason, "{found:?}");
        ensure!(
            found.message.contains(words) && found.message.contains(&pod.name),
            "{found:?}"
        );
        ensure!(
            monitor.metric("queue-depth")?.success().is_err(),
            "a number for a server that gives none"
        );
    }
    healthy.wait_for("EndpointsReachable", "True", Duration::from_secs(5))?;
    throughout(
        "the healthy monitor stays Ready and fresh",
        Duration::from_secs(5),
        || {
            let ready = healthy.condition("Ready")?;
            ensure!(ready.status == "True", "{ready:?}");
            healthy.metric("queue-depth")?.success().map(drop)
        },
    )?;

    // What was wrong is put right, without a restart of anything.
    for (pod, ..) in &failing {
        pod.engine.misbehave(Mode::Normal);
    }
    for (_, monitor, ..) in &failing {
        monitor.wait_for("EndpointsReachable", "True", Duration::from_secs(25))?;
        monitor.wait_for("Ready", "True", Duration::from_secs(5))?;
    }
    drop(good);
    story.ends_well();
    Ok(())
}
