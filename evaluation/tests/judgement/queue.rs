//! QueueDepthHigh, its hysteresis, and the load.

use crate::scene::{Scene, Server, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::QueueDepthHigh;
use infmon_crds::v1alpha1::{InferenceMonitorStatus, Load};
use infmon_evaluation::{Memory, Moment, status};
use infmon_gpu::ThrottleCause::HardwareThermal;
use infmon_samples::FailureKind::Timeout;

const HIGH: &str = "True AboveThreshold";
const LOW: &str = "False BelowThreshold";

fn refused(name: &str) -> Server {
    server(name).age(47_000).failing(Timeout, "connect timeout", 47)
}

fn set_waiting(scene: &mut Scene, waiting: f64) {
    scene.server_mut(|server| server.waiting(waiting));
}

#[test]
fn raises_and_clears_exact_to_the_second() {
    let mut scene = scene([server("a").waiting(6.0)]);
    assert_eq!(short(&scene.run(9), QueueDepthHigh), LOW);
    scene.now += 1;
    assert_eq!(short(&scene.look(), QueueDepthHigh), HIGH);
    scene.now += 5;
    set_waiting(&mut scene, 5.0);
    let verdict = scene.run(9);
    assert_eq!(short(&verdict, QueueDepthHigh), HIGH);
    assert_eq!(
        finding(&verdict, QueueDepthHigh).message,
        "5 requests wait, 5.0 per endpoint (threshold 5 for 10 s): back within the threshold; the condition clears when that has held for 10 s."
    );
    scene.now += 1;
    assert_eq!(short(&scene.look(), QueueDepthHigh), LOW);
}

#[test]
fn the_due_moment_raises_without_a_new_report() {
    let mut scene = scene([server("a").waiting(6.0).age(0)]);
    scene.spec.thresholds.queue_depth.for_seconds = 4;
    let verdict = scene.look();
    assert_eq!(verdict.due, Some(Moment::from_secs(scene.now + 4)));
    scene.now += 4;
    assert_eq!(short(&scene.judge(), QueueDepthHigh), HIGH);
}

#[test]
fn due_comes_when_data_turns_stale() {
    let mut scene = scene([server("a").age(3_000)]);
    let due = scene.look().due.unwrap();
    assert!(
        due > Moment::from_secs(scene.now + 7) && due < Moment::from_secs(scene.now + 8),
        "{due:?}"
    );
    scene.now += 8;
    let verdict = scene.judge();
    assert_eq!((verdict.fresh, verdict.due), (0, None));
}

#[test]
fn an_unknown_time_starts_the_count_anew() {
    let mut scene = scene([server("a").waiting(6.0)]);
    scene.run(8);
    scene.now += 1;
    scene.server_mut(|server| server.says(|sample| sample.waiting = None));
    assert_eq!(short(&scene.look(), QueueDepthHigh), "Unknown SeriesMissing");
    scene.now += 1;
    set_waiting(&mut scene, 6.0);
    assert_eq!(short(&scene.run(9), QueueDepthHigh), LOW);
    scene.now += 1;
    assert_eq!(short(&scene.look(), QueueDepthHigh), HIGH);
}

#[test]
fn a_standing_finding_survives_a_time_without_data() {
    let mut scene = scene([server("a").waiting(60.0)]);
    scene.run(10);
    scene.now += 1;
    let good = scene.servers.clone();
    scene.server_mut(|_| refused("a"));
    scene.silent.insert("n1".into());
    scene.now += 20;
    assert_eq!(short(&scene.look(), QueueDepthHigh), "Unknown StaleData");
    scene.servers = good;
    scene.silent.clear();
    scene.now += 1;
    assert_eq!(short(&scene.look(), QueueDepthHigh), HIGH);
}

#[test]
fn a_new_process_takes_over_from_the_status() {
    let mut before = scene([server("a").waiting(60.0)]);
    let verdict = before.run(10);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let written = status::status(&verdict, &InferenceMonitorStatus::default(), Some(1), Vec::new(), now);

    let mut after = scene([server("a").waiting(60.0)]);
    after.memory = Memory::from_status(&written);
    let verdict = after.look();
    assert_eq!(
        (short(&verdict, QueueDepthHigh).as_str(), verdict.load),
        (HIGH, Load::Overloaded)
    );
    set_waiting(&mut after, 0.0);
    after.now += 1;
    assert_eq!(short(&after.run(9), QueueDepthHigh), HIGH);
    after.now += 1;
    assert_eq!(short(&after.look(), QueueDepthHigh), LOW);
}

#[test]
fn zero_seconds_raise_at_once() {
    let mut scene = scene([server("a").waiting(6.0)]).spec(|spec| spec.thresholds.queue_depth.for_seconds = 0);
    assert_eq!(short(&scene.look(), QueueDepthHigh), HIGH);
}

#[test]
fn messages_tell_number_bound_place_and_next_step() {
    let cases = [
        (
            scene([server("a").waiting(9.0), server("b").waiting(3.0)]),
            "12 requests wait, 6.0 per endpoint (threshold 5 for 10 s), worst a with 9. Next: add replicas. docs/conditions.md#abovethreshold",
        ),
        (
            scene([server("a").waiting(9.0)]),
            "9 requests wait, 9.0 per endpoint (threshold 5 for 10 s). Next: add replicas. docs/conditions.md#abovethreshold",
        ),
        (
            scene([server("a").waiting(9.0), server("b").waiting(9.0), refused("c")]),
            "18 requests wait, 9.0 per endpoint (threshold 5 for 10 s), worst b with 9. Counted: 2 of 3 endpoints. Next: add replicas. docs/conditions.md#abovethreshold",
        ),
        (
            scene([server("a").waiting(1.0)]),
            "1 request waits, 1.0 per endpoint (threshold 5 for 10 s).",
        ),
    ];
    for (mut scene, expected) in cases {
        let verdict = scene.run(10);
        assert_eq!(finding(&verdict, QueueDepthHigh).message, expected);
        assert_presentable(&verdict);
    }
}

#[test]
fn pods_that_are_not_ready_neither_raise_nor_dilute() {
    let mut draining = scene([server("a"), server("b").not_ready().waiting(50.0)]);
    assert_eq!(short(&draining.run(15), QueueDepthHigh), LOW);
    let mut starting = scene([
        server("a").waiting(8.0),
        server("b").not_ready(),
        server("c").not_ready(),
    ]);
    assert_eq!(short(&starting.run(15), QueueDepthHigh), HIGH);
}

#[test]
fn nonsense_is_unknown() {
    for value in [f64::NAN, f64::INFINITY, -3.0] {
        let verdict = scene([server("a").waiting(value)]).run(12);
        assert_eq!(short(&verdict, QueueDepthHigh), "Unknown SeriesMissing");
        assert_eq!((verdict.waiting, verdict.load), (None, Load::Unknown));
        assert_presentable(&verdict);
    }
}

#[test]
fn load_follows_its_rules() {
    let hot = || gpu("n1", 0, "GPU-1").loses(HardwareThermal, 0.3);
    let cases = [
        (
            "nothing runs, nothing waits",
            scene([server("a").running(0.0)]),
            Load::Idle,
        ),
        ("requests run", scene([server("a")]), Load::Healthy),
        (
            "requests wait below the threshold",
            scene([server("a").waiting(2.0)]),
            Load::Degraded,
        ),
        (
            "requests wait above the threshold",
            scene([server("a").waiting(9.0)]),
            Load::Overloaded,
        ),
        ("a GPU is throttled", scene([server("a")]).gpu(hot()), Load::Degraded),
        (
            "a GPU is throttled, nothing runs",
            scene([server("a").running(0.0)]).gpu(hot()),
            Load::Degraded,
        ),
        (
            "the cache is above the threshold",
            scene([server("a").kv(0.93)]),
            Load::Degraded,
        ),
        (
            "the cache is as good as full",
            scene([server("a").kv(0.98)]),
            Load::Overloaded,
        ),
        ("no data", scene([refused("a")]), Load::Unknown),
        (
            "data from one of three",
            scene([server("a"), refused("b"), refused("c")]),
            Load::Unknown,
        ),
        (
            "data from two of three",
            scene([server("a"), server("b"), refused("c")]),
            Load::Healthy,
        ),
        (
            "what runs is not known, and nothing waits",
            scene([server("a").says(|s| s.running = None)]),
            Load::Unknown,
        ),
        (
            "what runs is not known, and too many wait",
            scene([server("a").waiting(9.0).says(|s| s.running = None)]),
            Load::Overloaded,
        ),
        (
            "what waits is not known",
            scene([server("a").says(|s| s.waiting = None)]),
            Load::Unknown,
        ),
        ("no endpoint", scene([]), Load::Unknown),
        ("no pod is Ready", scene([server("a").not_ready()]), Load::Unknown),
    ];
    for (name, mut scene, load) in cases {
        let verdict = scene.run(65);
        assert_eq!(verdict.load, load, "{name}");
        assert_presentable(&verdict);
    }
}

#[test]
fn a_server_that_does_not_tell_what_runs_is_not_idle_while_it_ends_requests() {
    let mut scene = scene([server("a").says(|sample| sample.running = None)]);
    for second in 0..120_u32 {
        let ended = f64::from(second.min(60));
        scene.server_mut(|server| server.says(|sample| sample.requests_succeeded_total = Some(ended)));
        let load = scene.look().load;
        // The rate is that of the last minute, and needs some samples.
        match second {
            20..=100 => assert_eq!(load, Load::Healthy, "{second}"),
            0..=3 => assert_eq!(load, Load::Unknown, "{second}"),
            _ => {}
        }
        scene.now += 1;
    }
    assert_eq!(scene.run(10).load, Load::Unknown, "idle, or one long request");
}

#[test]
fn a_request_that_waits_for_a_moment_does_not_degrade() {
    let mut scene = scene([server("a").waiting(1.0)]);
    assert_eq!(scene.run(4).load, Load::Healthy);
    scene.now += 1;
    assert_eq!(scene.look().load, Load::Degraded);
}
