//! LatencyHigh, and the load by time in the queue and failures.

use crate::scene::{Scene, Server, assert_presentable, finding, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::LatencyHigh;
use infmon_crds::v1alpha1::{InferenceMonitorStatus, LatencyThreshold, Load, Quantile};
use infmon_engines::{Histogram, Latency};
use infmon_evaluation::status::{Change, change, status};
use infmon_evaluation::{Estimate, LatencyKind, Memory, Verdict};
use infmon_samples::FailureKind::Timeout;

const LOW: &str = "False BelowThreshold";
const FIRST_TOKEN: &str = "True TimeToFirstToken";

/// Bounds of vLLM.
const FIRST_TOKEN_BOUNDS: &[f64] = &[0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const REQUEST_BOUNDS: &[f64] = &[0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0];

type Place = fn(&mut Latency) -> &mut Option<Histogram>;

fn first_token(latency: &mut Latency) -> &mut Option<Histogram> {
    &mut latency.time_to_first_token
}

fn queue_time(latency: &mut Latency) -> &mut Option<Histogram> {
    &mut latency.queue_time
}

/// The server has seen `count` more requests that took so long.
fn observes(server: Server, place: Place, bounds: &[f64], seconds: f64, count: u64) -> Server {
    server.says(|sample| {
        let empty = || Histogram {
            count: 0.0,
            sum_seconds: 0.0,
            buckets: bounds
                .iter()
                .map(|bound| (Some(*bound), 0.0))
                .chain([(None, 0.0)])
                .collect(),
        };
        let histogram = place(&mut sample.latency).get_or_insert_with(empty);
        histogram.count += count as f64;
        histogram.sum_seconds += seconds * count as f64;
        for (bound, cumulative) in &mut histogram.buckets {
            if bound.is_none_or(|bound| seconds <= bound) {
                *cumulative += count as f64;
            }
        }
    })
}

/// A server that publishes vLLM's histograms and has served nothing.
pub(crate) fn vllm(name: &str) -> Server {
    let server = observes(server(name), first_token, FIRST_TOKEN_BOUNDS, 0.0, 0);
    observes(server, queue_time, REQUEST_BOUNDS, 0.0, 0)
}

/// So many seconds in which each server has `each` first tokens a second, after so long.
pub(crate) fn answer(scene: &mut Scene, seconds: u64, after: f64, each: u64) -> Verdict {
    for _ in 0..seconds {
        scene.server_mut(|server| observes(server, first_token, FIRST_TOKEN_BOUNDS, after, each));
        scene.look();
        scene.now += 1;
    }
    scene.judge()
}

/// The same of the queue.
fn queue(scene: &mut Scene, seconds: u64, after: f64, each: u64) -> Verdict {
    for _ in 0..seconds {
        scene.server_mut(|server| observes(server, queue_time, REQUEST_BOUNDS, after, each));
        scene.look();
        scene.now += 1;
    }
    scene.judge()
}

fn message(verdict: &Verdict) -> &str {
    &finding(verdict, LatencyHigh).message
}

#[test]
fn the_quantile_must_stay_above_for_its_time() {
    let mut scene = scene([vllm("a")]);
    scene.spec.thresholds.time_to_first_token_milliseconds.for_seconds = 20;
    let verdict = answer(&mut scene, 70, 0.2, 5);
    assert_eq!(short(&verdict, LatencyHigh), LOW);
    assert_eq!(
        message(&verdict),
        "Time to first token P95 242 ms (threshold 2000 ms for 20 s)."
    );
    // More than a twentieth is slow after three or four seconds.
    assert_eq!(short(&answer(&mut scene, 20, 4.0, 5), LatencyHigh), LOW);
    let verdict = answer(&mut scene, 5, 4.0, 5);
    assert_eq!(short(&verdict, LatencyHigh), FIRST_TOKEN);
    assert_presentable(&verdict);
    assert_eq!(verdict.load, Load::Degraded);
    // The slow ones leave the window, and then the time to clear begins.
    let verdict = answer(&mut scene, 35, 0.2, 5);
    assert_eq!(
        message(&verdict),
        "Time to first token P95 242 ms (threshold 2000 ms for 20 s), 145 requests in 29 s: back within the threshold; the condition clears when that has held for 20 s. docs/conditions.md#timetofirsttoken"
    );
    assert_eq!(short(&answer(&mut scene, 20, 0.2, 5), LatencyHigh), LOW);
}

#[test]
fn a_rush_does_not_raise_by_default() {
    let mut scene = scene([vllm("a")]);
    answer(&mut scene, 70, 0.2, 1);
    for second in 0..130 {
        let rush = second < 29;
        let verdict = answer(&mut scene, 1, if rush { 9.0 } else { 0.2 }, if rush { 50 } else { 1 });
        assert_eq!(short(&verdict, LatencyHigh), LOW, "after {second} s");
    }
}

#[test]
fn messages_tell_number_bound_place_and_next_step() {
    let mut scene = scene([vllm("a"), vllm("b"), server("c")]);
    scene.spec.thresholds.end_to_end_milliseconds = Some(LatencyThreshold {
        quantile: Quantile::P99,
        above: 30_000,
        for_seconds: 60,
    });
    scene.spec.thresholds.queue_time_milliseconds = Some(LatencyThreshold {
        quantile: Quantile::P50,
        above: 100,
        for_seconds: 10,
    });
    for second in 0..140 {
        for (place, slow) in [(0, 4.0), (1, 0.2)] {
            let server = observes(scene.servers[place].clone(), first_token, FIRST_TOKEN_BOUNDS, slow, 3);
            scene.servers[place] = observes(server, queue_time, REQUEST_BOUNDS, 0.7, 3);
        }
        scene.now += u64::from(second > 0);
        scene.look();
    }
    let verdict = scene.judge();
    assert_eq!(
        message(&verdict),
        "Time to first token P95 4750 ms (threshold 2000 ms for 60 s), 174 requests in 29 s, worst a with 4875 ms. Counted: 2 of 3 endpoints. Next: add replicas if requests wait, else look at the length of the prompts. Also time in the queue P50 650 ms (threshold 100 ms for 10 s). docs/conditions.md#timetofirsttoken"
    );
}

#[test]
fn what_is_not_known_is_not_called_fast() {
    let refused = |name: &str| vllm(name).age(47_000).failing(Timeout, "connect timeout", 47);
    let cases = [
        (
            "an engine without histograms",
            scene([server("a")]),
            0,
            "Unknown NotPublished",
            "No server publishes a histogram of time to first token. docs/conditions.md#notpublished",
        ),
        (
            "nothing was asked",
            scene([vllm("a")]),
            0,
            "Unknown TooFewRequests",
            "Nothing to judge by: in 25 s no request was counted. docs/conditions.md#toofewrequests",
        ),
        (
            "no data",
            scene([refused("a")]),
            5,
            "Unknown StaleData",
            "1 of 1 endpoint has no fresh sample, so the latency is not known: a: connect timeout for 48 s. docs/conditions.md#staledata",
        ),
        (
            "switched off",
            scene([vllm("a")]).spec(|spec| spec.thresholds.time_to_first_token_milliseconds.above = 0),
            5,
            "Unknown NotJudged",
            "No latency is judged: timeToFirstTokenMilliseconds.above is 0, and no other threshold is given. docs/conditions.md#notjudged",
        ),
        (
            "one of two has data",
            scene([vllm("a"), refused("b")]),
            5,
            LOW,
            "Time to first token P95 242 ms (threshold 2000 ms for 60 s). Counted: 1 of 2 endpoints.",
        ),
        (
            "no endpoint",
            scene([]),
            0,
            "Unknown NoEndpoints",
            "No endpoint is selected, so the latency is not known.",
        ),
    ];
    for (name, mut scene, each, expected, words) in cases {
        let verdict = if each > 0 {
            answer(&mut scene, 66, 0.2, each)
        } else {
            scene.run(60)
        };
        assert_eq!(short(&verdict, LatencyHigh), expected, "{name}: {}", message(&verdict));
        assert_eq!(message(&verdict), words, "{name}");
        assert_presentable(&verdict);
    }
}

#[test]
fn too_few_requests_turn_the_condition_rarely() {
    let mut scene = scene([vllm("a")]);
    answer(&mut scene, 61, 0.2, 0);
    let verdict = answer(&mut scene, 4, 0.2, 2);
    assert_eq!(
        message(&verdict),
        "Too few to judge time to first token by: 8 requests in 29 s, 10 are needed. docs/conditions.md#toofewrequests"
    );
    assert_eq!(short(&answer(&mut scene, 1, 0.2, 2), LatencyHigh), LOW);
    // Fewer than ten are left in the window, then none.
    assert_eq!(short(&answer(&mut scene, 22, 0.2, 0), LatencyHigh), LOW);
    assert_eq!(
        short(&answer(&mut scene, 12, 0.2, 0), LatencyHigh),
        "Unknown TooFewRequests"
    );
}

#[test]
fn a_value_above_the_last_bound_is_more_than_it() {
    let mut scene = scene([vllm("a")]);
    scene.spec.thresholds.time_to_first_token_milliseconds.for_seconds = 0;
    let verdict = answer(&mut scene, 20, 30.0, 5);
    assert_eq!(short(&verdict, LatencyHigh), FIRST_TOKEN);
    assert!(
        message(&verdict).starts_with("Time to first token P95 more than 10.0 s (threshold 2000 ms"),
        "{}",
        message(&verdict)
    );
    let value = verdict
        .traffic
        .quantiles
        .iter()
        .find(|(kind, quantile, _)| (*kind, *quantile) == (LatencyKind::TimeToFirstToken, Quantile::P95));
    assert_eq!(value.map(|value| value.2), Some(Estimate::MoreThan(10.0)));
    // A threshold beyond the histogram: it may be exceeded or not.
    scene.spec.thresholds.time_to_first_token_milliseconds.above = 20_000;
    scene.memory = Memory::default();
    let verdict = answer(&mut scene, 5, 30.0, 5);
    assert_eq!(short(&verdict, LatencyHigh), "Unknown NotPublished");
    assert_eq!(
        message(&verdict),
        "Time to first token P95 is more than 10.0 s, where the histogram ends: nobody can say whether it is above 20.0 s. docs/conditions.md#notpublished"
    );
}

#[test]
fn a_restart_of_the_server_is_neither_slow_nor_fast() {
    let mut scene = scene([vllm("a")]);
    scene.spec.thresholds.time_to_first_token_milliseconds.for_seconds = 10;
    assert_eq!(short(&answer(&mut scene, 30, 4.0, 5), LatencyHigh), FIRST_TOKEN);
    scene.server_mut(|_| vllm("a"));
    let verdict = scene.look();
    assert_eq!(
        short(&verdict, LatencyHigh),
        "Unknown TooFewRequests",
        "the finding may still stand"
    );
    assert_eq!(verdict.traffic.generated_tokens_per_second, None);
    scene.now += 1;
    assert_eq!(short(&answer(&mut scene, 3, 4.0, 5), LatencyHigh), FIRST_TOKEN);
    scene.server_mut(|_| vllm("a"));
    scene.look();
    scene.now += 1;
    assert_eq!(short(&answer(&mut scene, 15, 0.2, 5), LatencyHigh), LOW);
}

#[test]
fn a_new_process_takes_over_from_the_status() {
    let mut before = scene([vllm("a")]);
    let verdict = answer(&mut before, 130, 4.0, 5);
    assert_eq!(short(&verdict, LatencyHigh), FIRST_TOKEN);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let written = status(&verdict, &InferenceMonitorStatus::default(), Some(1), Vec::new(), now);
    let mut after = scene([vllm("a")]);
    after.memory = Memory::from_status(&written);
    assert_eq!(short(&answer(&mut after, 3, 4.0, 1), LatencyHigh), FIRST_TOKEN);
    let next = status(&after.judge(), &written, Some(1), Vec::new(), now);
    assert_ne!(change(&written, &next), Change::Transition);
}

#[test]
fn a_steady_service_is_worth_no_write() {
    let mut scene = scene([vllm("a"), vllm("b")]);
    answer(&mut scene, 100, 0.4, 3);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let written = status(
        &scene.judge(),
        &InferenceMonitorStatus::default(),
        Some(1),
        Vec::new(),
        now,
    );
    for second in 0..200 {
        let verdict = answer(&mut scene, 1, 0.2 + f64::from(second % 7) / 10.0, 3);
        let next = status(&verdict, &written, Some(1), Vec::new(), now);
        assert_eq!(change(&written, &next), Change::None, "after {second} s");
    }
}

#[test]
fn the_load_follows_the_time_in_the_queue() {
    for (milliseconds, load) in [
        (0, Load::Healthy),
        (9, Load::Healthy),
        (30, Load::Healthy),
        (49, Load::Healthy),
        (51, Load::Degraded),
        (99, Load::Degraded),
        (101, Load::Overloaded),
        (2_000, Load::Overloaded),
    ] {
        // Some request waits at every look, which alone would be Degraded.
        let mut scene = scene([vllm("a").waiting(2.0)]);
        let verdict = queue(&mut scene, 30, f64::from(milliseconds) / 1000.0, 10);
        assert_eq!(verdict.load, load, "{milliseconds} ms");
        // It is that of now: half a minute later it is another.
        assert_eq!(
            queue(&mut scene, 30, 0.001, 10).load,
            Load::Healthy,
            "{milliseconds} ms"
        );
    }
}

#[test]
fn the_load_does_not_swing_around_a_bound() {
    let mut scene = scene([vllm("a")]);
    assert_eq!(queue(&mut scene, 30, 0.055, 10).load, Load::Degraded);
    for second in 0..60 {
        let after = if second / 20 % 2 == 0 { 0.045 } else { 0.055 };
        assert_eq!(queue(&mut scene, 1, after, 10).load, Load::Degraded, "{second}");
    }
    assert_eq!(queue(&mut scene, 30, 0.035, 10).load, Load::Healthy);
}

#[test]
fn without_a_queue_time_the_load_follows_the_queue() {
    let cases = [
        ("no server publishes it", scene([server("a").waiting(2.0)]), 10),
        ("one of two does not", scene([vllm("a").waiting(2.0), server("b")]), 0),
        ("too few requests begin to run", scene([vllm("a").waiting(2.0)]), 0),
    ];
    for (name, mut scene, each) in cases {
        if each > 0 {
            scene.run(30);
        } else {
            queue(&mut scene, 30, 0.0, 0);
        }
        assert_eq!(scene.judge().load, Load::Degraded, "{name}");
    }
}

#[test]
fn the_load_follows_failures() {
    for (failed, load) in [(0.0, Load::Healthy), (2.0, Load::Healthy), (3.0, Load::Degraded)] {
        let mut scene = scene([server("a")]);
        for second in 0..70 {
            let ended = f64::from(second);
            scene.server_mut(|server| {
                server.says(|sample| {
                    sample.requests_succeeded_total = Some(ended * (10.0 - failed));
                    sample.requests_failed_total = Some(ended * failed);
                    sample.request_outcomes = [
                        ("stop".to_owned(), ended * (10.0 - failed)),
                        ("abort".to_owned(), ended * failed),
                    ]
                    .into();
                })
            });
            scene.look();
            scene.now += 1;
        }
        let verdict = scene.judge();
        assert_eq!(verdict.load, load, "{failed} of 10");
        assert_eq!(
            verdict.traffic.failed_share.map(|share| (share * 10.0).round()),
            Some(failed)
        );
        assert_eq!(verdict.traffic.failed_per_second, Some(failed));
        let outcomes = [("abort".to_owned(), failed), ("stop".to_owned(), 10.0 - failed)];
        assert_eq!(verdict.traffic.outcomes_per_second, outcomes.into());
    }
}

#[test]
fn reasons_of_servers_add_up_and_need_every_server() {
    let ends = |server: Server, reason: &str, total: u64| {
        let reason = reason.to_owned();
        server.says(|sample| sample.request_outcomes = [(reason, total as f64), ("stop".to_owned(), 7.0)].into())
    };
    let mut scene = scene([server("a"), server("b"), server("c")]);
    for second in 0..70 {
        for (place, reason) in [(0, "abort"), (1, "error"), (2, "abort")] {
            scene.servers[place] = ends(scene.servers[place].clone(), reason, second * 2);
        }
        scene.look();
        scene.now += 1;
    }
    let expected = [
        ("abort".to_owned(), 4.0),
        ("error".to_owned(), 2.0),
        ("stop".to_owned(), 0.0),
    ];
    assert_eq!(scene.judge().traffic.outcomes_per_second, expected.into());
    scene.servers[1] = scene.servers[1].clone().says(|sample| sample.request_outcomes.clear());
    scene.look();
    assert!(scene.judge().traffic.outcomes_per_second.is_empty());
}

#[test]
fn rates_are_those_of_the_window_and_survive_a_restart() {
    let says = |tokens: f64| {
        move |server: Server| {
            server.says(|sample| {
                sample.prompt_tokens_total = Some(tokens * 4.0);
                sample.generated_tokens_total = Some(tokens);
                sample.prefix_cache_query_tokens_total = Some(tokens * 4.0);
                sample.prefix_cache_hit_tokens_total = Some(tokens * 3.0);
            })
        }
    };
    let mut scene = scene([server("a"), server("b")]);
    let mut run = |from: f64, seconds: u64| {
        for second in 0..seconds {
            scene.server_mut(says(from + second as f64 * 50.0));
            scene.look();
            scene.now += 1;
        }
        scene.judge().traffic
    };
    assert_eq!(run(1e6, 10).generated_tokens_per_second, None, "too short to tell");
    let traffic = run(1e6 + 500.0, 60);
    assert_eq!(traffic.generated_tokens_per_second, Some(100.0));
    assert_eq!(traffic.prompt_tokens_per_second, Some(400.0));
    assert_eq!(traffic.prefix_cache_hit_ratio, Some(0.75));
    // Restarted: begins at 0 again.
    assert_eq!(run(0.0, 5).generated_tokens_per_second, None);
    assert_eq!(run(250.0, 10).generated_tokens_per_second, Some(100.0));
}
