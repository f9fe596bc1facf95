//! What an HPA reads.

use crate::scene::{Scene, gpu, scene, server};
use infmon_evaluation::metric::Metric::{
    self, InFlightRequests, KvCacheUsage, QueueDepth, RunningRequests, ThrottledGpus,
};
use infmon_gpu::ThrottleCause::HardwareThermal;
use infmon_samples::FailureKind::Timeout;
use std::time::Duration;

fn refused(name: &str) -> crate::scene::Server {
    server(name).age(47_000).failing(Timeout, "connect timeout", 47)
}

#[test]
fn numbers_are_sums_or_errors() {
    let cases: Vec<(&str, Metric, Scene, Result<f64, &str>)> = vec![
        (
            "waiting",
            QueueDepth,
            scene([server("a").waiting(9.0), server("b").waiting(3.0)]),
            Ok(12.0),
        ),
        (
            "running",
            RunningRequests,
            scene([server("a").running(9.0), server("b")]),
            Ok(11.0),
        ),
        (
            "in flight",
            InFlightRequests,
            scene([server("a").waiting(9.0), server("b")]),
            Ok(13.0),
        ),
        ("an idle service is 0", QueueDepth, scene([server("a")]), Ok(0.0)),
        (
            "the fullest cache",
            KvCacheUsage,
            scene([server("a").kv(0.5), server("b").kv(0.75)]),
            Ok(0.75),
        ),
        (
            "one of three gives no data",
            QueueDepth,
            scene([server("a"), refused("b"), server("c")]),
            Err(
                "queue-depth is not known: 1 of 3 endpoints has no sample younger than 10 s (b: connect timeout for 47 s). Replicas are left as they are.",
            ),
        ),
        (
            "four of four give no data",
            QueueDepth,
            scene([
                refused("a"),
                server("b").age(20_000),
                server("c").unreported(),
                server("d").on("n2"),
            ])
            .silent("n2"),
            Err(
                "queue-depth is not known: 4 of 4 endpoints have no sample younger than 10 s (a: connect timeout for 47 s; b: last sample 20 s ago; and 2 more). Replicas are left as they are.",
            ),
        ),
        (
            "no endpoint",
            QueueDepth,
            scene([]),
            Err(
                "queue-depth is not known: no pod matches the endpoints, so nobody is left to see a queue; scaling from zero needs an endpoint that holds requests meanwhile (docs/autoscaling.md#to-zero-and-back). Replicas are left as they are.",
            ),
        ),
        (
            "no endpoint, and a reason for it",
            QueueDepth,
            scene([]).problem("endpoint servers: pod a declares no TCP container port http; declared: none"),
            Err(
                "no endpoint can be measured (endpoint servers: pod a declares no TCP container port http; declared: none). R",
            ),
        ),
        (
            "a server that takes requests and cannot be measured",
            QueueDepth,
            scene([server("a")]).partial("endpoint servers: pod b declares no TCP container port http; declared: none"),
            Err(
                "not every endpoint can be measured (endpoint servers: pod b declares no TCP container port http; declared: none). R",
            ),
        ),
        (
            "one that takes none and cannot be measured",
            QueueDepth,
            scene([server("a").waiting(4.0)]).problem("endpoint servers: pod b uses the network of its node"),
            Ok(4.0),
        ),
        (
            "a pod that is not Ready and silent does not block",
            QueueDepth,
            scene([server("a").waiting(4.0), refused("b").not_ready()]),
            Ok(4.0),
        ),
        (
            "nor one whose body lacks the series",
            QueueDepth,
            scene([
                server("a").waiting(4.0),
                server("b").not_ready().says(|s| s.waiting = None),
            ]),
            Ok(4.0),
        ),
        (
            "the queue of a pod that lost its readiness still waits",
            QueueDepth,
            scene([server("a").waiting(4.0), server("b").not_ready().waiting(500.0)]),
            Ok(504.0),
        ),
        (
            "its cache does not count",
            KvCacheUsage,
            scene([server("a").kv(0.5), server("b").not_ready().kv(0.9)]),
            Ok(0.5),
        ),
        (
            "all overloaded, none Ready, all known",
            QueueDepth,
            scene([server("a").not_ready().waiting(70.0)]),
            Ok(70.0),
        ),
        (
            "none Ready, not all known",
            QueueDepth,
            scene([server("a").not_ready().waiting(1.0), refused("b").not_ready()]),
            Err("none of 2 endpoints takes requests, since their pods are not Ready"),
        ),
        (
            "the engine has no such series",
            QueueDepth,
            scene([server("a").says(|s| s.waiting = None)]),
            Err("not every server publishes it"),
        ),
        (
            "one of two engines has no such series",
            KvCacheUsage,
            scene([server("a"), server("b").says(|s| s.kv_cache_usage = None)]),
            Err("not every server publishes it"),
        ),
        (
            "half of a sum",
            InFlightRequests,
            scene([server("a").says(|s| s.running = None)]),
            Err("not every server publishes it"),
        ),
        (
            "NaN",
            QueueDepth,
            scene([server("a").waiting(f64::NAN)]),
            Err("not every server publishes it"),
        ),
        (
            "negative",
            QueueDepth,
            scene([server("a").waiting(-1.0), server("b").waiting(5.0)]),
            Err("not every server publishes it"),
        ),
        (
            "infinite",
            QueueDepth,
            scene([server("a").waiting(f64::INFINITY)]),
            Err("not every server publishes it"),
        ),
        (
            "infinite by sum",
            QueueDepth,
            scene([server("a").waiting(f64::MAX), server("b").waiting(f64::MAX)]),
            Err("not every server publishes it"),
        ),
        (
            "no GPU",
            ThrottledGpus,
            scene([server("a")]),
            Err("throttled-gpus is not known"),
        ),
    ];
    for (name, metric, mut scene, expected) in cases {
        match (scene.metric(metric), expected) {
            (Ok(reading), Ok(value)) => assert!((reading.value - value).abs() < 1e-9, "{name}: {reading:?}"),
            (Err(words), Err(expected)) => {
                assert!(words.contains(expected), "{name}: {words}");
                assert!(words.ends_with("Replicas are left as they are."), "{name}: {words}");
                assert!(!words.contains("  ") && !words.contains(".."), "{name}: {words}");
            }
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
}

#[test]
fn the_age_is_that_of_the_oldest_sample() {
    let mut scene = scene([server("a").age(700), server("b").age(2_500)]);
    assert_eq!(scene.metric(QueueDepth).unwrap().age, Duration::from_millis(2_500));
}

#[test]
fn data_turns_from_number_to_error_when_it_is_too_old() {
    let mut scene = scene([server("a").age(0)]);
    scene.look();
    scene.silent.insert("n1".into());
    scene.now += 10;
    assert!(scene.metric(QueueDepth).is_ok());
    scene.now += 1;
    let words = scene.metric(QueueDepth).unwrap_err();
    assert!(words.contains("(a: no node daemon connected on node n1)"), "{words}");
}

#[test]
fn throttled_gpus_stand_for_all_gpus_or_for_none() {
    let both = || {
        scene([server("a"), server("b").on("n2")])
            .gpu(gpu("n1", 0, "GPU-1").loses(HardwareThermal, 0.5))
            .gpu(gpu("n2", 0, "GPU-2"))
    };
    let mut seen = both();
    seen.run(30);
    assert_eq!(seen.metric(ThrottledGpus).map(|reading| reading.value), Ok(1.0));
    let mut half = both();
    half.gpus.truncate(1);
    half.run(30);
    assert!(half.metric(ThrottledGpus).is_err(), "node n2 gives no GPU data");
}

#[test]
fn names_are_lower_case_and_unique() {
    for metric in Metric::ALL {
        assert_eq!(Metric::from_name(metric.name()), Some(metric));
        assert!(
            metric
                .name()
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        );
        assert!(!metric.description().is_empty());
    }
    assert_eq!(Metric::from_name("Queue-Depth"), None);
}
