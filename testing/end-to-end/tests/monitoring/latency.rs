//! A service that becomes slow says so, with the number and the server, and says when it is over.

use anyhow::ensure;
use infmon_end_to_end::{
    EnginePod, Monitor,
    monitor::{number, value},
    polling::{eventually, took},
};
use infmon_simulated_engine::Kind;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Shared;

#[test]
fn a_slow_service_is_named_with_its_worst_server() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    let place = "latency";
    shared.place(place)?;
    let story = cluster.story("a slow service is named with its worst server");

    let fast = EnginePod::start(cluster, Kind::Vllm, place, place, "chat")?;
    let slow = EnginePod::start(cluster, Kind::Vllm, place, place, "chat")?;
    let thresholds = json!({"thresholds": {
        "timeToFirstTokenMilliseconds": {"quantile": "P90", "above": 1000, "forSeconds": 3},
    }});
    let monitor = Monitor::apply(cluster.api(), place, "chat", "chat", &thresholds)?;
    let llama = EnginePod::start(cluster, Kind::LlamaCpp, place, place, "llama")?;
    let without = Monitor::apply(cluster.api(), place, "llama", "llama", &json!({}))?;
    let _daemon = shared.daemon(place)?;
    let idle = monitor.wait_for("LatencyHigh", "Unknown", Duration::from_secs(20))?;
    ensure!(idle.status == "Unknown", "{idle:?}");

    let (milliseconds, over) = (AtomicU64::new(200), AtomicBool::new(false));
    std::thread::scope(|scope| -> anyhow::Result<()> {
        // Twenty requests a second on each server, those of the second as slow as the test says.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let after = milliseconds.load(Ordering::Relaxed) as f64 / 1000.0;
                for (pod, after) in [(&fast, 0.2), (&slow, after)] {
                    pod.engine.change(|load| {
                        load.running = 4;
                        load.generated_tokens_total += 100;
                        load.time_to_first_token.observe(after, 5);
                    });
                }
                std::thread::sleep(Duration::from_millis(250));
            }
        });
        let told = (|| {
            monitor.wait_for("LatencyHigh", "False", Duration::from_secs(20))?;
            milliseconds.store(4000, Ordering::Relaxed);
            let begun = Instant::now();
            let found = monitor.wait_for("LatencyHigh", "True", Duration::from_secs(40))?;
            took("half of the requests wait 4 s -> LatencyHigh=True (3 s)", begun);
            println!("  {}", found.message);
            ensure!(found.reason == "TimeToFirstToken", "{found:?}");
            for words in [
                "Time to first token P90",
                "threshold 1000 ms for 3 s",
                &format!("worst {} with", slow.name),
                "Next: add replicas",
            ] {
                ensure!(found.message.contains(words), "no {words:?} in {found:?}");
            }
            // Both need ten seconds of each server.
            let seconds = eventually("a time to first token", Duration::from_secs(15), || {
                number(&value(monitor.metric("time-to-first-token-p95-seconds")?)?)
            })?;
            ensure!(seconds > 1.0 && seconds < 5.0, "{seconds} s");
            let tokens = number(&value(monitor.metric("tokens-per-second")?)?)?;
            ensure!(tokens > 400.0 && tokens < 1200.0, "{tokens} tokens per second");
            ensure!(
                monitor.get()?["status"]["load"] == "Degraded",
                "the load does not follow"
            );

            milliseconds.store(200, Ordering::Relaxed);
            let begun = Instant::now();
            monitor.wait_for("LatencyHigh", "False", Duration::from_secs(90))?;
            took("all are fast again -> LatencyHigh=False (the window and 3 s)", begun);
            let none = without.condition("LatencyHigh")?;
            ensure!(
                (none.status.as_str(), none.reason.as_str()) == ("Unknown", "NotPublished"),
                "{none:?}"
            );
            let refused = without.metric("time-to-first-token-p95-seconds")?;
            ensure!(refused.status != 200, "a number of nothing: {refused:?}");
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        told
    })?;
    drop(llama);
    story.ends_well();
    Ok(())
}
