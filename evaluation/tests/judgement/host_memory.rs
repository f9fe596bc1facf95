//! OOMRisk: host memory of the pods.

use crate::scene::{Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::OomRisk as Condition;
use infmon_crds::v1alpha1::Load;
use infmon_crds::v1alpha1::OomRisk::{self, High, Low, Medium, Unknown};
use infmon_samples::HostMemory;
use std::time::Duration;

const CALM: &str = "False BelowThreshold";
const PRESSED: &str = "True HostMemoryPressure";
const GIB: f64 = (1_u64 << 30) as f64;

/// So many GiB of a limit of 16.
fn holding(gib: f64) -> HostMemory {
    HostMemory {
        age: Duration::from_secs(2),
        working_set_bytes: (gib * GIB) as u64,
        active_file_bytes: Some(0),
        limit_bytes: Some(16 << 30),
        pressure_full_percent: Some(0.0),
        oom_kills_total: Some(0),
    }
}

fn with(memory: HostMemory) -> Scene {
    let mut scene = scene([server("a"), server("b")]).gpu(gpu("n1", 0, "GPU-1"));
    scene.servers[0].host = Some(holding(2.0));
    scene.servers[1].host = Some(memory);
    scene
}

#[test]
fn the_level_follows_the_table() {
    let full_cache = HostMemory {
        active_file_bytes: Some((9.0 * GIB) as u64),
        ..holding(15.9)
    };
    let stalled = |percent| HostMemory {
        pressure_full_percent: Some(percent),
        limit_bytes: None,
        ..holding(15.9)
    };
    let cases: [(&str, HostMemory, &str, OomRisk); 9] = [
        ("half of the limit", holding(8.0), CALM, Low),
        ("just below", holding(14.3), CALM, Low),
        ("near", holding(14.5), PRESSED, Medium),
        ("as good as full", holding(15.6), PRESSED, High),
        ("full of page cache", full_cache, CALM, Low),
        ("no limit", stalled(0.0), CALM, Low),
        ("waits for memory", stalled(11.0), PRESSED, High),
        ("nonsense", stalled(f64::NAN), CALM, Low),
        (
            "an old reading",
            HostMemory {
                age: Duration::from_secs(60),
                ..holding(15.9)
            },
            CALM,
            Low,
        ),
    ];
    for (name, memory, expected, risk) in cases {
        let verdict = with(memory).run(30);
        assert_eq!(
            (short(&verdict, Condition).as_str(), verdict.oom_risk),
            (expected, risk),
            "{name}"
        );
        assert_presentable(&verdict);
    }
}

#[test]
fn messages_tell_number_bound_place_and_next_step() {
    let verdict = with(holding(15.0)).run(30);
    assert_eq!(
        finding(&verdict, Condition).message,
        "Pod b on node n1 holds 15.0 of 16.0 GiB of host memory (94%, threshold 90%). Next: raise resources.limits.memory of its containers, or find what grows there. docs/conditions.md#hostmemorypressure"
    );
    assert_eq!(verdict.load, Load::Healthy, "memory that fills is no load");
    let verdict = with(holding(8.0)).run(30);
    assert_eq!(
        finding(&verdict, Condition).message,
        "KV cache at 20% (threshold 90%), 6144 MiB of GPU memory free (threshold 512 MiB), 50% of a pod's host memory in use (threshold 90%)."
    );
}

#[test]
fn a_kill_is_told_at_once_and_for_ten_minutes() {
    let mut scene = with(HostMemory {
        oom_kills_total: Some(4),
        ..holding(3.0)
    });
    assert_eq!(
        short(&scene.run(30), Condition),
        CALM,
        "kills before we looked are not news"
    );
    scene.servers[1].host.as_mut().unwrap().oom_kills_total = Some(5);
    scene.now += 1;
    let verdict = scene.look();
    assert_eq!((short(&verdict, Condition).as_str(), verdict.oom_risk), (PRESSED, High));
    let message = &finding(&verdict, Condition).message;
    assert!(
        message.contains("(19%, threshold 90%), and the kernel killed a process of it for lack of memory, 2 s ago."),
        "{message}"
    );
    assert_presentable(&verdict);
    assert_eq!(short(&scene.run(590), Condition), PRESSED);
    assert_eq!(short(&scene.run(40), Condition), CALM);
}

#[test]
fn a_leak_is_told_before_the_limit_is_near() {
    let mut scene = with(holding(6.0));
    scene.run(300);
    for second in 0..220 {
        scene.servers[1].host = Some(holding(6.0 + 0.015 * f64::from(second)));
        scene.look();
        scene.now += 1;
    }
    let verdict = scene.judge();
    assert_eq!(
        (short(&verdict, Condition).as_str(), verdict.oom_risk),
        (PRESSED, Medium)
    );
    let message = &finding(&verdict, Condition).message;
    assert!(
        message.contains("(58%, threshold 90%), grows by 922 MiB/min (full in about 7 min)"),
        "{message}"
    );
    assert!(
        verdict
            .memory_exhaustion
            .is_some_and(|left| (420..475).contains(&left.as_secs())),
        "{verdict:?}"
    );
}

#[test]
fn pressure_that_is_not_read_any_more_is_not_called_calm() {
    let mut scene = with(holding(15.0));
    assert_eq!(short(&scene.run(30), Condition), PRESSED);
    for server in &mut scene.servers {
        server.host = None;
    }
    scene.now += 1;
    assert_eq!(
        short(&scene.run(10), Condition),
        PRESSED,
        "the last reading is young enough"
    );
    let verdict = scene.run(20);
    assert_eq!(
        (short(&verdict, Condition).as_str(), verdict.oom_risk),
        ("Unknown SeriesMissing", Unknown)
    );
    assert_eq!(
        finding(&verdict, Condition).message,
        "The host memory of the pods is no longer known. docs/conditions.md#seriesmissing"
    );
}
