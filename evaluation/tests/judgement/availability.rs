//! Ready, EndpointsReachable, MetricsRecognized.

use crate::scene::{Scene, assert_presentable, finding, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::{EndpointsReachable, MetricsRecognized, Ready};
use infmon_samples::FailureKind;

/// Name, scene, and the three conditions.
type Case = (&'static str, Scene, [&'static str; 3]);

const MONITORING: &str = "True Monitoring";
const ALL: &str = "True AllEndpoints";
const REFUSED: &str = "connection refused";

fn failing(name: &str, kind: FailureKind, seconds: u64) -> crate::scene::Server {
    server(name).no_sample().failing(kind, "it went wrong.", seconds)
}

fn cases() -> Vec<Case> {
    use FailureKind::{Malformed, Timeout, UnknownEngine, Unreachable};
    vec![
        ("one server, well", scene([server("a")]), [MONITORING, ALL, ALL]),
        (
            "no endpoint",
            scene([]),
            ["False NoEndpoints", "Unknown NoEndpoints", "Unknown NoEndpoints"],
        ),
        (
            "no endpoint, and a reason for it",
            scene([]).problem("endpoint servers: pod a declares no TCP container port http; declared: none"),
            ["False InvalidSpec", "Unknown NoEndpoints", "Unknown NoEndpoints"],
        ),
        (
            "a problem beside a server that is well",
            scene([server("a")]).problem("endpoint other: no such thing"),
            [MONITORING, ALL, ALL],
        ),
        (
            "no endpoint, just started",
            scene([]).watched_for(9),
            [
                "Unknown WaitingForData",
                "Unknown WaitingForData",
                "Unknown WaitingForData",
            ],
        ),
        (
            "no daemon",
            scene([server("a")]).silent("n1"),
            ["False NoNodeDaemon", "Unknown StaleData", "Unknown StaleData"],
        ),
        (
            "no daemon, just started",
            scene([server("a")]).silent("n1").watched_for(9),
            [
                "Unknown WaitingForData",
                "Unknown WaitingForData",
                "Unknown WaitingForData",
            ],
        ),
        (
            "no daemon on one node of three",
            scene([server("a"), server("b").on("n2"), server("c").on("n3")]).silent("n3"),
            [MONITORING, "Unknown WaitingForData", ALL],
        ),
        (
            "no daemon on two nodes of three",
            scene([server("a"), server("b").on("n2"), server("c").on("n3")])
                .silent("n2")
                .silent("n3"),
            ["False NoNodeDaemon", "Unknown StaleData", ALL],
        ),
        (
            "the first sample is on its way",
            scene([server("a").unreported()]),
            [
                "Unknown WaitingForData",
                "Unknown WaitingForData",
                "Unknown WaitingForData",
            ],
        ),
        (
            "a sample just young enough",
            scene([server("a").age(10_000)]),
            [MONITORING, ALL, ALL],
        ),
        (
            "a sample just too old",
            scene([server("a").age(10_001)]),
            ["False StaleData", "Unknown StaleData", "Unknown StaleData"],
        ),
        (
            "one lost scrape",
            scene([server("a").failing(Timeout, "no answer within 900 ms", 1)]),
            [MONITORING, ALL, ALL],
        ),
        (
            "one lost scrape, at a period of 60 s",
            scene([server("a").age(90_000).failing(Timeout, "no answer within 5 s", 40)]).spec(|spec| {
                spec.sample_period_milliseconds = 60_000;
                spec.stale_after_seconds = 300;
            }),
            [MONITORING, ALL, ALL],
        ),
        (
            "scrapes fail for 3 s, the data is still young",
            scene([server("a").age(3_500).failing(Unreachable, REFUSED, 3)]),
            [MONITORING, "False Unreachable", ALL],
        ),
        (
            "one of three fails",
            scene([server("a"), server("b"), failing("c", Timeout, 47)]),
            [MONITORING, "False Timeout", ALL],
        ),
        (
            "one of two fails: half is enough",
            scene([server("a"), failing("b", Timeout, 47)]),
            [MONITORING, "False Timeout", ALL],
        ),
        (
            "two of three fail, the worst reason is told",
            scene([server("a"), failing("b", Timeout, 47), failing("c", Unreachable, 5)]),
            ["False StaleData", "False Unreachable", ALL],
        ),
        (
            "a body that cannot be parsed: the server answers",
            scene([failing("a", Malformed, 20)]),
            ["False StaleData", ALL, "False Malformed"],
        ),
        (
            "a body of no engine that is known",
            scene([failing("a", UnknownEngine, 20)]),
            ["False StaleData", ALL, "False UnknownEngine"],
        ),
        (
            "a series is missing",
            scene([server("a").lacks(&["vllm:num_requests_running"], "start it without --disable-log-stats")]),
            [MONITORING, ALL, "False SeriesMissing"],
        ),
        (
            "a pod that is not Ready does not count",
            scene([server("a"), failing("b", Unreachable, 400).not_ready()]),
            [MONITORING, ALL, ALL],
        ),
        (
            "a pod that is not Ready lacks series",
            scene([server("a"), server("b").not_ready().lacks(&["x"], "")]),
            [MONITORING, ALL, ALL],
        ),
        (
            "a pod that is not Ready does not stand in for one that is",
            scene([server("a").unreported(), server("b").not_ready()]),
            [
                "Unknown WaitingForData",
                "Unknown WaitingForData",
                "Unknown WaitingForData",
            ],
        ),
        (
            "no pod is Ready, and none answers",
            scene([failing("a", Unreachable, 400).not_ready()]),
            ["False NoEndpoints", "Unknown NoEndpoints", "Unknown NoEndpoints"],
        ),
        (
            "no pod is Ready, though one answers",
            scene([server("a").not_ready()]),
            ["False NoEndpoints", "Unknown NoEndpoints", "Unknown NoEndpoints"],
        ),
        (
            "a url endpoint",
            scene([server("gpu-box:80").anywhere()]),
            [MONITORING, ALL, ALL],
        ),
        (
            "a url endpoint and no daemon at all",
            scene([server("gpu-box:80").anywhere()]).silent("n1"),
            ["False NoNodeDaemon", "Unknown StaleData", "Unknown StaleData"],
        ),
    ]
}

#[test]
fn availability_follows_the_table() {
    for (name, mut scene, expected) in cases() {
        let verdict = scene.look();
        let got = [Ready, EndpointsReachable, MetricsRecognized].map(|kind| short(&verdict, kind));
        assert_eq!(got, expected, "{name}: {:#?}", verdict.findings);
        assert_presentable(&verdict);
    }
}

#[test]
fn every_kind_of_failure_has_its_reason() {
    for kind in FailureKind::ALL {
        let verdict = scene([failing("a", kind, 20)]).look();
        let told = format!("False {}", kind.as_str());
        // A server that answers without its metrics says what they need: it is both.
        let both = matches!(kind, FailureKind::MetricsDisabled | FailureKind::Unauthorized);
        let recognition = both || kind.is_recognition();
        assert_eq!(short(&verdict, MetricsRecognized) == told, recognition, "{kind:?}");
        let reachable = both || !kind.is_recognition();
        assert_eq!(short(&verdict, EndpointsReachable) == told, reachable, "{kind:?}");
        assert_presentable(&verdict);
    }
}

#[test]
fn messages_name_who_and_why() {
    let refused = |name| {
        server(name)
            .no_sample()
            .failing(FailureKind::Timeout, "connect timeout", 47)
    };
    let verdict = scene([server("a"), refused("b"), refused("c"), refused("d")]).look();
    assert_eq!(
        finding(&verdict, Ready).message,
        "3 of 4 endpoints have no sample younger than 10 s: b: connect timeout for 47 s; c: connect timeout for 47 s; and 1 more. docs/conditions.md#staledata"
    );
    assert_eq!(
        finding(&verdict, EndpointsReachable).message,
        "3 of 4 endpoints give no metrics. b: connect timeout (for 47 s); c: connect timeout (for 47 s); and 1 more. docs/conditions.md#timeout"
    );
    let hint = "start it without --disable-log-stats";
    let verdict = scene([server("a").lacks(&["vllm:num_requests_running"], hint)]).look();
    assert_eq!(
        finding(&verdict, MetricsRecognized).message,
        "VLLM on a serves no vllm:num_requests_running. Next: start it without --disable-log-stats. docs/conditions.md#seriesmissing"
    );
    let limit = "Ollama tells which models are loaded and nothing else.";
    let verdict = scene([server("a").lacks(&[], limit), server("b").lacks(&[], limit)]).run(12);
    assert_eq!(
        finding(&verdict, MetricsRecognized).message,
        "VLLM v1-0.12+ recognised on 2 of 2 endpoints. Ollama tells which models are loaded and nothing else."
    );
    let verdict = scene([server("a"), server("b").not_ready()]).look();
    assert_eq!(
        finding(&verdict, Ready).message,
        "Data is fresh from 1 of 1 endpoint. 1 more takes no requests (its pod is not Ready)."
    );
}

#[test]
fn silence_means_nothing_until_the_settling_time_is_over() {
    let mut scene = scene([server("a")]).silent("n1").watched_for(0);
    let settles = scene.now + 10;
    let verdict = scene.look();
    assert!(!verdict.settled);
    assert_eq!(verdict.due, Some(infmon_evaluation::Moment::from_secs(settles)));
    scene.now = settles;
    let verdict = scene.judge();
    assert_eq!(short(&verdict, Ready), "False NoNodeDaemon");
    assert!(
        !verdict.settled,
        "a daemon that lost the operator before may still come back"
    );
    scene.now = settles + 10;
    assert_eq!(verdict.due, Some(infmon_evaluation::Moment::from_secs(scene.now)));
    assert!(scene.judge().settled);
}

#[test]
fn complete_data_settles_at_once() {
    assert!(scene([server("a")]).watched_for(1).look().settled);
    assert!(
        !scene([server("a"), server("b").unreported()])
            .watched_for(1)
            .look()
            .settled
    );
}

#[test]
fn a_server_that_comes_and_goes_does_not_flap() {
    let mut scene = scene([server("a")]);
    let mut turns = 0;
    let mut last = short(&scene.look(), EndpointsReachable);
    for round in 0..60 {
        scene.now += 1;
        // Down for 4 s, up for 1 s, again and again.
        scene.server_mut(|_| match round % 5 {
            4 => server("a"),
            down => server("a")
                .age(down * 1000 + 1400)
                .failing(FailureKind::Unreachable, REFUSED, down),
        });
        let verdict = scene.look();
        assert_presentable(&verdict);
        let now = short(&verdict, EndpointsReachable);
        turns += u32::from(now != last);
        last = now;
    }
    assert_eq!((turns, last.as_str()), (1, "False Unreachable"));
    scene.server_mut(|_| server("a"));
    scene.now += 1;
    let verdict = scene.run(8);
    assert_eq!(short(&verdict, EndpointsReachable), "False Unreachable");
    assert!(
        finding(&verdict, EndpointsReachable)
            .message
            .ends_with("clears when that has held for 10 s.")
    );
    scene.now += 1;
    assert_eq!(short(&scene.look(), EndpointsReachable), ALL);
}

#[test]
fn data_from_before_the_start_of_the_process_is_not_young() {
    let mut scene = scene([server("a").age(300_000)]);
    scene.now = 2;
    let verdict = scene.look();
    assert_eq!(verdict.fresh, 0, "a sample of 300 s ago cannot be 2 s old");
    assert_eq!(verdict.waiting, None);
}
