//! Servers whose numbers lag behind what they do, each in its own way: nothing is claimed that they do not say.

use crate::scene::{Scene, Server, assert_presentable, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::{EndpointsReachable, LatencyHigh, MetricsRecognized, QueueDepthHigh};
use infmon_crds::v1alpha1::Load;
use infmon_engines::Engine;
use infmon_evaluation::Verdict;
use infmon_evaluation::metric::Metric;

fn of(engine: Engine, name: &str) -> Server {
    server(name).says(|sample| {
        sample.engine = Some(engine);
        sample.preemptions_total = None;
        sample.prompt_tokens_total = Some(1e6);
        sample.generated_tokens_total = Some(2e6);
    })
}

/// So many seconds in which the servers do not change what they say.
fn stand_still(scene: &mut Scene, seconds: u64) -> Verdict {
    for _ in 1..seconds {
        scene.now += 1;
        scene.look();
    }
    scene.now += 1;
    scene.look()
}

/// The servers have generated so many more tokens.
fn generate(scene: &mut Scene, tokens: f64) {
    scene.server_mut(|server| {
        server.says(|sample| sample.generated_tokens_total = sample.generated_tokens_total.map(|total| total + tokens))
    });
}

#[test]
fn tokens_that_are_counted_at_the_end_are_not_known_while_requests_run() {
    let engines = Engine::ALL.map(|engine| (engine, ""));
    // What NIM 2.x runs counts as ever.
    let behind = [(Engine::Nim, "2.x-sglang-0.5.23+"), (Engine::Nim, "2.x-vllm-v1-0.12+")];
    for (engine, generation) in engines.into_iter().chain(behind) {
        let served = of(engine, "a").says(|sample| generation.clone_into(&mut sample.generation));
        let mut scene = scene([served]);
        // One answer of a minute and a half.
        let verdict = stand_still(&mut scene, 90);
        assert_presentable(&verdict);
        assert_eq!(verdict.load, Load::Healthy, "{engine:?}: no stall is claimed");
        let at_the_end = matches!(
            engine,
            Engine::LlamaCpp | Engine::Sglang | Engine::TensorRtLlm | Engine::Tgi
        ) || generation.starts_with("2.x-sglang-");
        let expected = (!at_the_end).then_some(0.0);
        assert_eq!(verdict.traffic.generated_tokens_per_second, expected, "{engine:?}");
        assert_eq!(verdict.traffic.prompt_tokens_per_second, expected, "{engine:?}");
        match scene.metric(Metric::TokensPerSecond) {
            Ok(reading) => assert!(!at_the_end && reading.value == 0.0, "{engine:?}: {reading:?}"),
            Err(words) => assert!(
                at_the_end && words.contains("a counts tokens when a request ends, and in 5"),
                "{engine:?}: {words}"
            ),
        }
        // It ends.
        generate(&mut scene, 5_500.0);
        stand_still(&mut scene, 1);
        let rate = scene.metric(Metric::TokensPerSecond).unwrap().value;
        assert!((90.0..=101.0).contains(&rate), "{engine:?}: {rate}");
        // And nothing runs any more: a counter that stands still is a rate of 0.
        scene.server_mut(|server| server.running(0.0));
        stand_still(&mut scene, 70);
        assert_eq!(scene.metric(Metric::TokensPerSecond).unwrap().value, 0.0, "{engine:?}");
    }
}

#[test]
fn gauges_that_stand_after_the_last_request_are_shown_as_they_are_and_turn_nothing() {
    // SGLang before 0.5.23 writes them half a minute late.
    let mut scene = scene([of(Engine::Sglang, "a").running(24.0).waiting(3.0)]);
    for second in 0..30 {
        let verdict = stand_still(&mut scene, 1);
        assert_eq!(scene.metric(Metric::InFlightRequests).unwrap().value, 27.0, "{second}");
        assert_eq!(short(&verdict, QueueDepthHigh), "False BelowThreshold", "{second}");
        assert_eq!(short(&verdict, EndpointsReachable), "True AllEndpoints", "{second}");
    }
    scene.server_mut(|server| server.running(0.0).waiting(0.0));
    let verdict = stand_still(&mut scene, 1);
    assert_eq!(scene.metric(Metric::InFlightRequests).unwrap().value, 0.0);
    assert_eq!(verdict.running, Some(0.0));
    assert_eq!(stand_still(&mut scene, 6).load, Load::Idle);
}

#[test]
fn a_long_prefill_that_freezes_everything_is_fresh_data() {
    // vLLM V1 in a prefill of a minute and a half: the queue is there, and no number moves.
    let mut scene = scene([of(Engine::Vllm, "a").running(4.0).waiting(2.0)]);
    let verdict = stand_still(&mut scene, 90);
    assert_eq!(short(&verdict, EndpointsReachable), "True AllEndpoints");
    assert_eq!(short(&verdict, MetricsRecognized), "True AllEndpoints");
    assert_eq!(short(&verdict, QueueDepthHigh), "False BelowThreshold");
    assert_eq!(short(&verdict, LatencyHigh), "Unknown NotPublished");
    assert_eq!(scene.metric(Metric::QueueDepth).unwrap().value, 2.0);
    assert_presentable(&verdict);
}

#[test]
fn a_rank_that_restarts_makes_no_rate_wrong_upwards_or_negative() {
    // Two ranks of 100 tokens a second each; the total is what the server says of both.
    for (name, before) in [("the sum falls", 1e6), ("the sum goes on to rise", 30.0)] {
        let mut scene = scene([of(Engine::Vllm, "a")]);
        let (mut first, mut second) = (1e6, before);
        let mut seen = Vec::new();
        for now in 0..150 {
            first += 100.0;
            second = if now == 60 { 0.0 } else { second + 100.0 };
            if now < 60 && before < 1e3 {
                // It has not done much yet when it restarts.
                second = before;
            }
            scene.server_mut(|server| server.says(|sample| sample.generated_tokens_total = Some(first + second)));
            scene.look();
            scene.now += 1;
            seen.extend(scene.judge().traffic.generated_tokens_per_second);
        }
        assert!(seen.iter().all(|rate| (0.0..=200.0).contains(rate)), "{name}: {seen:?}");
        let last = seen.last().unwrap();
        assert!((last - 200.0).abs() < 1e-9, "{name}: {last}");
    }
}

#[test]
fn a_server_that_tells_its_queue_with_the_first_request_is_not_idle_before() {
    // TGI and vLLM V0 make their gauges when they first need them.
    let silent = of(Engine::Tgi, "a").says(|sample| {
        sample.waiting = None;
        sample.running = None;
        sample.generated_tokens_total = None;
    });
    let silent = silent.lacks(&["tgi_queue_size"], "send a request, or wait for one");
    let mut scene = scene([silent]);
    let verdict = stand_still(&mut scene, 30);
    assert_eq!((verdict.load, verdict.waiting), (Load::Unknown, None));
    assert_eq!(short(&verdict, MetricsRecognized), "False SeriesMissing");
    assert!(scene.metric(Metric::QueueDepth).is_err());
    scene.server_mut(|_| of(Engine::Tgi, "a"));
    let verdict = stand_still(&mut scene, 12);
    assert_eq!(verdict.load, Load::Healthy);
    assert_eq!(
        verdict.traffic.generated_tokens_per_second, None,
        "a request runs, and none has ended"
    );
}
