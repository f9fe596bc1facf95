//! The core against simulated engines, well-behaved and not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::{Core, LOCAL, PERIOD, target};
use infmon_engines::{Engine, Field, MappedSeries, Mapping};
use infmon_node_daemon::{AddressPolicy, GpuOptions};
use infmon_samples::{FailureKind, TargetReport};
use infmon_simulated_engine::{Kind, Mode, SimulatedEngine};
use std::time::Duration;

async fn engine(kind: Kind) -> SimulatedEngine {
    SimulatedEngine::start(kind, LOCAL).await.unwrap()
}

#[tokio::test]
async fn a_vllm_server_is_read() {
    let server = engine(Kind::Vllm).await;
    server.change(|load| {
        load.waiting = 7;
        load.running = 3;
    });
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address())]);
    let observation = core.good("a").await;
    assert_eq!(observation.sample.engine, Some(Engine::Vllm));
    assert_eq!(
        (observation.sample.waiting, observation.sample.running),
        (Some(7.0), Some(3.0))
    );
    assert!(observation.recognition.missing.is_empty(), "{observation:?}");
    assert!(observation.age < Duration::from_secs(1) && observation.took < Duration::from_secs(1));
}

#[tokio::test]
async fn a_llama_server_is_read_with_its_slots() {
    let server = engine(Kind::LlamaCpp).await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address())]);
    let observation = core.good("a").await;
    assert_eq!(observation.sample.engine, Some(Engine::LlamaCpp));
    assert!(observation.sample.max_concurrency.is_some(), "{observation:?}");
}

#[tokio::test]
async fn a_server_of_nobodys_make_is_read_by_its_mapping() {
    let server = engine(Kind::Homemade).await;
    server.change(|load| {
        load.waiting = 7;
        load.running = 3;
    });
    let queued = |name: &str| {
        let series = MappedSeries {
            field: Field::Waiting,
            name: name.to_owned(),
            labels: [("state".to_owned(), "queued".to_owned())].into(),
            unit: None,
            aggregation: None,
        };
        Mapping::new(vec![series], Some("model".to_owned())).unwrap()
    };
    let by = |id: &str, mapping| infmon_samples::Target {
        engine: Some(Engine::Custom),
        mapping,
        ..target(id, server.address())
    };
    let targets = vec![
        by("mapped", queued("home_requests")),
        by("slip", queued("home_request")),
        by("without", Mapping::default()),
        target("auto", server.address()),
    ];
    let mut core = Core::start(GpuOptions::Off, targets);
    let observation = core.good("mapped").await;
    assert_eq!(observation.sample.engine, Some(Engine::Custom));
    assert_eq!(
        (observation.sample.waiting, observation.sample.running),
        (Some(7.0), None)
    );
    assert_eq!(observation.sample.models, ["simulated-model"]);
    assert_eq!(observation.recognition.missing, [""; 0]);
    for (id, words) in [
        ("slip", "similar names are: home_requests; correct spec.custom"),
        ("without", "update the node daemon"),
        // What a daemon does that does not know the engine.
        ("auto", "no series of a known inference server, only home_"),
    ] {
        let failure = core.failure(id).await;
        assert_eq!(failure.kind, FailureKind::UnknownEngine, "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
    }
    server.misbehave(Mode::MetricsDisabled);
    let failure = core.failure("mapped").await;
    assert!(
        failure
            .message
            .contains("answers 501 on /metrics: correct spec.metricsPath"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn every_misbehaviour_has_a_name_and_a_next_step() {
    let table = [
        (Mode::Unauthorized, FailureKind::Unauthorized, "API key"),
        (Mode::MetricsDisabled, FailureKind::MetricsDisabled, "--metrics"),
        (Mode::Loading, FailureKind::Loading, "loads its model"),
        (Mode::Hang, FailureKind::Timeout, "no complete answer within 500 ms"),
        (
            Mode::SlowTrickle,
            FailureKind::Timeout,
            "no complete answer within 500 ms",
        ),
        (Mode::Busy, FailureKind::Timeout, "/health is good: the server is busy"),
        (Mode::HugeBody, FailureKind::BodyTooLarge, "larger than 1048576 bytes"),
        (Mode::Malformed, FailureKind::Malformed, "check the metrics path"),
        (Mode::HalfBody, FailureKind::Unreachable, "broke off within the body"),
        (Mode::Redirect, FailureKind::HttpStatus, "redirects are not followed"),
    ];
    for (mode, kind, words) in table {
        let server = engine(Kind::LlamaCpp).await;
        let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address())]);
        core.good("a").await;
        server.misbehave(mode);
        let failure = core.failure("a").await;
        assert_eq!(failure.kind, kind, "{mode:?}: {failure:?}");
        assert!(failure.message.contains(words), "{mode:?}: {failure:?}");
        assert!(
            failure.message.starts_with(&format!("{}/metrics: ", server.address())),
            "{failure:?}"
        );

        // The last sample stays and grows old; the failure counts from its beginning.
        let grown = |target: &TargetReport| {
            let (failure, last) = (target.failure.as_ref()?, target.last.as_ref()?);
            (failure.since > 2 * PERIOD && last.age > 2 * PERIOD).then_some(())
        };
        core.target("a", "an old sample beside the failure", grown).await;
        server.misbehave(Mode::Normal);
        assert!(core.good("a").await.age < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_until_it_comes() {
    let server = engine(Kind::Vllm).await;
    let address = server.address();
    server.shutdown().await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", address)]);
    let failure = core.failure("a").await;
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(failure.message.contains("connection refused"), "{failure:?}");
    let _server = SimulatedEngine::start(Kind::Vllm, address).await.unwrap();
    core.good("a").await;
}

#[tokio::test]
async fn bad_targets_delay_nobody() {
    let good = engine(Kind::Vllm).await;
    let mut targets = vec![target("good", good.address())];
    let mut bad = Vec::new();
    for (index, mode) in [Mode::Hang, Mode::SlowTrickle, Mode::HugeBody, Mode::Hang]
        .into_iter()
        .enumerate()
    {
        let server = engine(Kind::Vllm).await;
        server.misbehave(mode);
        targets.push(target(&format!("bad-{index}"), server.address()));
        bad.push(server);
    }
    let mut core = Core::start(GpuOptions::Off, targets);
    core.good("good").await;
    let mut worst = Duration::ZERO;
    let mut reports = 0;
    core.report("30 reports", |report| {
        reports += 1;
        worst = worst.max(report.targets[0].last.as_ref().unwrap().age);
        (reports >= 30).then_some(())
    })
    .await;
    // Two periods, and room for a busy machine.
    assert!(worst < 2 * PERIOD + Duration::from_millis(300), "{worst:?}");
}

#[tokio::test]
async fn the_engine_of_the_spec_is_held_to() {
    let server = engine(Kind::LlamaCpp).await;
    let mut wrong = target("a", server.address());
    wrong.engine = Some(Engine::Vllm);
    let mut core = Core::start(GpuOptions::Off, vec![wrong]);
    let failure = core.failure("a").await;
    assert_eq!(failure.kind, FailureKind::UnknownEngine);
    assert!(failure.message.contains("spec.engine"), "{failure:?}");
}

#[tokio::test]
async fn a_plan_change_keeps_what_did_not_change() {
    let (first, second) = (engine(Kind::Vllm).await, engine(Kind::LlamaCpp).await);
    let mut core = Core::start(GpuOptions::Off, vec![target("a", first.address())]);
    core.good("a").await;

    // The sample of the old plan is still there in the first report of the new one, although its server is now mute.
    first.misbehave(Mode::Hang);
    let mut slower = target("a", first.address());
    slower.deadline = Duration::from_secs(2);
    core.follow(2, vec![target("b", second.address()), slower]);
    let ids = core
        .report("the new plan", |report| {
            let ids: Vec<_> = report.targets.iter().map(|target| target.id.0.clone()).collect();
            (report.plan_revision == 2).then(|| (ids, report.targets[1].last.is_some()))
        })
        .await;
    assert_eq!(ids, (vec!["b".to_owned(), "a".to_owned()], true));
    core.good("b").await;

    // Another server under the same id starts from nothing.
    core.follow(3, vec![target("b", first.address())]);
    let last = core
        .report("the third plan", |report| {
            (report.plan_revision == 3).then(|| report.targets[0].last.clone())
        })
        .await;
    assert_eq!(last, None);
    let requests = second.requests();
    core.failure("b").await;
    assert_eq!(second.requests(), requests, "a removed target is left alone");
    core.follow(4, Vec::new());
    core.report("no targets", |report| report.targets.is_empty().then_some(()))
        .await;
}

#[tokio::test]
async fn the_period_is_kept_and_requests_do_not_pile_up() {
    let (server, hanging) = (engine(Kind::Vllm).await, engine(Kind::Vllm).await);
    hanging.misbehave(Mode::Hang);
    let targets = vec![target("a", server.address()), target("b", hanging.address())];
    let mut core = Core::start(GpuOptions::Off, targets);
    core.good("a").await;
    core.failure("b").await;
    let (before, hung) = (server.requests(), hanging.requests());
    let began = std::time::Instant::now();
    let mut reports = 0;
    core.report("20 reports", |_| {
        reports += 1;
        (reports > 20).then_some(())
    })
    .await;
    let periods = began.elapsed().as_secs_f64() / PERIOD.as_secs_f64();
    let made = (server.requests() - before) as f64;
    assert!((made - periods).abs() <= 2.0, "{made} requests in {periods} periods");
    let hung = (hanging.requests() - hung) as f64;
    assert!(
        hung <= periods / 5.0 + 2.0,
        "{hung} requests to a server that takes 5 periods each"
    );
}

#[tokio::test]
async fn this_machine_is_not_scraped_from_within_a_cluster() {
    let server = engine(Kind::Vllm).await;
    let mut by_name = target("name", server.address());
    by_name.address = format!("localhost:{}", server.address().port());
    let targets = vec![target("address", server.address()), by_name];
    let mut core = Core::start_with(GpuOptions::Off, AddressPolicy::NotLocal, targets);
    for id in ["address", "name"] {
        let failure = core.failure(id).await;
        assert!(
            failure.kind == FailureKind::Unreachable && failure.message.contains("is not scraped"),
            "{failure:?}"
        );
    }
    assert_eq!(server.requests(), 0);
}
