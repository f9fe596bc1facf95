//! What an HPA reads of the last half minute and minute: numbers or errors, as with every metric.

use crate::latency::{answer, vllm};
use crate::scene::{Scene, Server, scene, server};
use infmon_evaluation::metric::Metric::{self, TimeToFirstTokenP95, TokensPerSecond};
use infmon_samples::FailureKind::Timeout;
use std::time::Duration;

fn refused(name: &str) -> Server {
    vllm(name).age(47_000).failing(Timeout, "connect timeout", 47)
}

fn assert_reads(name: &str, scene: &mut Scene, metric: Metric, expected: Result<f64, &str>) {
    match (scene.metric(metric), expected) {
        (Ok(reading), Ok(value)) => {
            assert!((reading.value - value).abs() < 1e-9, "{name}: {reading:?}");
            assert!(
                reading.window.is_some_and(|window| window <= Duration::from_secs(60)),
                "{name}"
            );
        }
        (Err(words), Err(expected)) => {
            assert!(words.contains(expected), "{name}: {words}");
            assert!(words.starts_with(metric.name()), "{name}: {words}");
            assert!(words.ends_with(". Replicas are left as they are."), "{name}: {words}");
        }
        (got, _) => panic!("{name}: {got:?}"),
    }
}

#[test]
fn the_time_to_first_token_is_a_number_or_an_error() {
    let cases: Vec<(&str, Scene, f64, u64, Result<f64, &str>)> = vec![
        (
            "requests are answered",
            scene([vllm("a"), vllm("b")]),
            0.2,
            5,
            Ok(0.2425),
        ),
        ("a single one is", scene([vllm("a")]), 0.2, 1, Ok(0.2)),
        ("idle: nobody waited", scene([vllm("a").running(0.0)]), 0.2, 0, Ok(0.0)),
        (
            "requests run and have no token",
            scene([vllm("a")]),
            0.2,
            0,
            Err("is not known: requests run or wait, and in 25 s none had its first token"),
        ),
        (
            "above the last bucket",
            scene([vllm("a")]),
            70.0,
            5,
            Err("is not known: it is more than 10 s, where the histogram of the servers ends"),
        ),
        (
            "no server has a histogram",
            scene([server("a").running(0.0)]),
            0.2,
            0,
            Err("is not known: 1 of 1 endpoint has no histogram of it (a)"),
        ),
        (
            "one has none",
            scene([vllm("a"), server("b")]),
            0.2,
            0,
            Err("is not known: 1 of 2 endpoints has no histogram of it (b)"),
        ),
        (
            "one gives no data",
            scene([vllm("a"), refused("b")]),
            0.2,
            5,
            Err("1 of 2 endpoints has no sample younger than 10 s (b: connect timeout for"),
        ),
        (
            "one is not Ready",
            scene([vllm("a"), vllm("b").not_ready()]),
            0.2,
            5,
            Ok(0.2425),
        ),
        ("no endpoint", scene([]), 0.2, 0, Err("no pod matches the endpoints")),
    ];
    for (name, mut scene, after, each, expected) in cases {
        match (name, each) {
            ("a single one is", _) => {
                answer(&mut scene, 30, after, 0);
                answer(&mut scene, 1, after, 1);
                // The sum of one observation is the observation.
                answer(&mut scene, 5, after, 0);
            }
            (_, 0) => {
                scene.run(70);
            }
            _ => {
                answer(&mut scene, 70, after, each);
            }
        }
        assert_reads(name, &mut scene, TimeToFirstTokenP95, expected);
    }
}

#[test]
fn tokens_per_second_are_a_sum_or_an_error() {
    let tokens = |scene: &mut Scene, seconds: u64| {
        for second in 0..seconds {
            scene.server_mut(|server| {
                server.says(|sample| {
                    if let Some(total) = &mut sample.generated_tokens_total {
                        *total += 40.0 * if second == 0 { 0.0 } else { 1.0 };
                    }
                })
            });
            scene.look();
            scene.now += 1;
        }
    };
    let counts = |name: &str| server(name).says(|sample| sample.generated_tokens_total = Some(5e6));
    let cases: Vec<(&str, Scene, u64, Result<f64, &str>)> = vec![
        ("two servers", scene([counts("a"), counts("b")]), 30, Ok(80.0)),
        (
            "too short to tell",
            scene([counts("a")]),
            6,
            Err("is not known: a has been counted for 6 s only, and 10 s are needed"),
        ),
        (
            "one does not count",
            scene([counts("a"), server("b")]),
            30,
            Err("is not known: not every server counts the tokens that it generates"),
        ),
        (
            "no data",
            scene([refused("a")]),
            30,
            Err("has no sample younger than 10 s"),
        ),
    ];
    for (name, mut scene, seconds, expected) in cases {
        tokens(&mut scene, seconds + 1);
        scene.now -= 1;
        assert_reads(name, &mut scene, TokensPerSecond, expected);
    }
}

#[test]
fn a_restart_is_an_error_until_it_has_been_followed() {
    let mut scene = scene([vllm("a")]);
    answer(&mut scene, 70, 0.2, 5);
    scene.server_mut(|_| vllm("a"));
    let words = "a has been counted for 0 s only";
    assert_reads("restarted", &mut scene, TimeToFirstTokenP95, Err(words));
    scene.now += 1;
    answer(&mut scene, 12, 0.2, 5);
    assert_reads("followed", &mut scene, TimeToFirstTokenP95, Ok(0.2425));
}
