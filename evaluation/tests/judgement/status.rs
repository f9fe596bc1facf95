//! What is written, and when it is worth a write.

use crate::scene::{gpu, scene, server};
use infmon_crds::v1alpha1::{
    ConditionType, EndpointStatus, GpuStatus, InferenceMonitorStatus, Load, OomRisk, Summary, reason,
};
use infmon_evaluation::status::{Change, change, status, transitions};
use infmon_gpu::ThrottleCause::HardwareThermal;
use infmon_samples::FailureKind::{Timeout, Unreachable};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn of(scene: &mut crate::scene::Scene, previous: &InferenceMonitorStatus, second: i64) -> InferenceMonitorStatus {
    let endpoints = scene.endpoints();
    status(&scene.judge(), previous, Some(1), endpoints, at(second))
}

fn since(status: &InferenceMonitorStatus, kind: ConditionType) -> i64 {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.as_str())
        .unwrap();
    condition.last_transition_time.0.as_second()
}

#[test]
fn transition_times_move_only_when_the_status_does() {
    let mut scene = scene([server("a")]);
    let first = of(&mut scene, &InferenceMonitorStatus::default(), 100);
    assert!(ConditionType::ALL.iter().all(|kind| since(&first, *kind) == 100));
    // Another message, another reason, the same status.
    scene.problems.push("endpoint x: no such thing".into());
    let second = of(&mut scene, &first, 200);
    assert_ne!(second.conditions[0].message, first.conditions[0].message);
    assert_eq!(since(&second, ConditionType::Ready), 100);
    scene.server_mut(|server| server.no_sample().failing(Timeout, "no answer", 50));
    scene.now += 11;
    let third = of(&mut scene, &second, 300);
    assert_eq!(since(&third, ConditionType::Ready), 300);
    assert_eq!(since(&third, ConditionType::EndpointsReachable), 300);
    assert_eq!(since(&third, ConditionType::Throttled), 100);
    scene.server_mut(|server| server.failing(Unreachable, "connection refused", 60));
    let fourth = of(&mut scene, &third, 400);
    assert_eq!(
        since(&fourth, ConditionType::EndpointsReachable),
        300,
        "another reason is no transition"
    );
    assert_eq!(change(&third, &fourth), Change::Summary);
}

#[test]
fn transition_times_are_whole_seconds() {
    let mut scene = scene([server("a")]);
    let verdict = scene.look();
    let time = at(100).checked_add(jiff::Span::new().milliseconds(700)).unwrap();
    let written = status(&verdict, &InferenceMonitorStatus::default(), Some(1), Vec::new(), time);
    assert_eq!(written.conditions[0].last_transition_time.0, at(100));
}

#[test]
fn numbers_that_nobody_knows_are_absent() {
    let written = of(
        &mut scene([server("a").age(60_000)]),
        &InferenceMonitorStatus::default(),
        1,
    );
    let expected = Summary {
        endpoints: "0/1".into(),
        ..Summary::default()
    };
    assert_eq!((written.summary, written.load), (Some(expected), Some(Load::Unknown)));
    assert_eq!(written.engine, None);
}

#[test]
fn numbers_that_are_known_are_told() {
    let mut scene = scene([server("a").waiting(3.0).kv(0.87), server("b").on("n2")])
        .gpu(gpu("n1", 0, "GPU-1").loses(HardwareThermal, 0.38))
        .gpu(gpu("n2", 0, "GPU-2"));
    scene.run(70);
    let written = of(&mut scene, &InferenceMonitorStatus::default(), 1);
    let expected = Summary {
        endpoints: "2/2".into(),
        waiting: Some(3),
        running: Some(4),
        kv_cache_usage: Some("87%".into()),
        gpus: Some(2),
        throttled_gpus: Some(1),
        throttled: Some("1/2".into()),
        oom_risk: OomRisk::Low,
    };
    assert_eq!(written.summary, Some(expected));
    assert_eq!(written.engine.as_deref(), Some("VLLM"));
    assert_eq!(written.gpus[0].throttled.as_deref(), Some("HardwareThermal 38%"));
    assert_eq!(written.gpus[0].memory_usage.as_deref(), Some("92%"));
}

#[test]
fn the_engine_stays_while_its_servers_are_away_and_never_mixes() {
    let mut scene = scene([server("a")]);
    let first = of(&mut scene, &InferenceMonitorStatus::default(), 1);
    scene.server_mut(|server| server.age(60_000));
    scene.now += 11;
    let away = of(&mut scene, &first, 2);
    assert_eq!(
        (away.engine.as_deref(), away.engine_generation.as_deref()),
        (Some("VLLM"), Some("v1-0.12+"))
    );
    scene.server_mut(|_| {
        server("a").says(|sample| {
            sample.engine = Some(infmon_engines::Engine::LlamaCpp);
            sample.generation.clear();
        })
    });
    let other = of(&mut scene, &away, 3);
    assert_eq!(
        (other.engine.as_deref(), other.engine_generation),
        (Some("LlamaCpp"), None)
    );
}

#[test]
fn lists_are_bounded_and_worst_first() {
    let many = (0..50).map(|number| server(&format!("s{number:02}")).waiting(f64::from(number)));
    let others = [
        server("failing").age(60_000).failing(Timeout, "no answer", 50),
        server("stale").age(60_000),
        server("starting").not_ready().no_sample(),
        server("new").unreported(),
        server("far").on("n9"),
    ];
    let mut scene = scene(many.chain(others)).silent("n9");
    for index in 0..40 {
        let share = f64::from(index) / 100.0;
        let uuid = format!("GPU-{index}");
        scene.gpus.push(gpu("n1", index, &uuid).loses(HardwareThermal, share));
    }
    scene.run(70);
    let written = of(&mut scene, &InferenceMonitorStatus::default(), 1);
    let names: Vec<&str> = written
        .endpoints
        .iter()
        .map(|endpoint| endpoint.target.as_str())
        .collect();
    assert_eq!(names.len(), 32);
    assert_eq!(names[..6], ["failing", "far", "stale", "new", "s49", "s48"]);
    assert_eq!(written.endpoints[0].message.as_deref(), Some("no answer (for 50 s)"));
    assert_eq!((written.gpus.len(), written.gpus[0].index), (32, 39));
}

#[test]
fn nothing_from_outside_breaks_the_bounds_of_the_resource() {
    let long = "é".repeat(4000);
    let mut scene = scene([
        server(&"h".repeat(400)).kv(1e300).waiting(1e300).running(f64::NAN),
        server("b").age(60_000).failing(Timeout, &long, 50),
    ])
    .gpu(gpu("n1", 0, &format!("GPU-{long}")).with(|sample| sample.name = long.clone()))
    .problem(&long);
    let written = of(&mut scene, &InferenceMonitorStatus::default(), 1);
    for condition in &written.conditions {
        assert!(condition.message.len() <= 1024);
    }
    for endpoint in &written.endpoints {
        assert!(endpoint.target.len() <= 253);
        assert!(endpoint.message.as_ref().is_none_or(|message| message.len() <= 512));
        assert!(endpoint.kv_cache_usage.as_ref().is_none_or(|text| text.len() <= 8));
        assert_ne!(endpoint.running, Some(0), "NaN is not 0");
    }
    assert!(written.gpus[0].uuid.len() <= 96 && written.gpus[0].name.as_ref().is_some_and(|name| name.len() <= 128));
    assert_eq!(change(&written, &written), Change::None);
}

/// A status with these numbers.
fn numbers(waiting: Option<i64>, kv: Option<&str>) -> InferenceMonitorStatus {
    InferenceMonitorStatus {
        observed_generation: Some(1),
        load: Some(Load::Healthy),
        summary: Some(Summary {
            endpoints: "3/3".into(),
            waiting,
            kv_cache_usage: kv.map(Into::into),
            ..Summary::default()
        }),
        ..InferenceMonitorStatus::default()
    }
}

#[test]
fn numbers_are_worth_a_write_when_they_moved_far_enough() {
    let requests = [
        (Some(0), Some(1), true),
        (Some(1), Some(0), true),
        (Some(4), Some(5), true),
        (Some(9), Some(10), false),
        (Some(20), Some(22), false),
        (Some(20), Some(23), true),
        (Some(95), Some(104), false),
        (Some(104), Some(95), false),
        (Some(1000), Some(1100), false),
        (Some(1000), Some(1200), true),
        (Some(i64::MAX), Some(i64::MAX), false),
        (Some(0), Some(i64::MAX), true),
        (None, Some(0), true),
        (Some(0), None, true),
        (None, None, false),
    ];
    for (before, after, worth) in requests {
        let got = change(&numbers(before, None), &numbers(after, None));
        assert_eq!(got == Change::Summary, worth, "{before:?} -> {after:?}");
    }
    let usage = [
        (Some("4%"), Some("5%"), false),
        (Some("87%"), Some("88%"), false),
        (Some("85%"), Some("90%"), true),
        (Some("5%"), Some("0%"), true),
        (None, Some("0%"), true),
    ];
    for (before, after, worth) in usage {
        let got = change(&numbers(None, before), &numbers(None, after));
        assert_eq!(got == Change::Summary, worth, "{before:?} -> {after:?}");
    }
}

#[test]
fn a_number_that_swings_around_a_boundary_is_written_once() {
    let mut written = numbers(Some(0), Some("0%"));
    let mut writes = 0;
    for step in 0..100 {
        let next = numbers(Some(24 + step % 2), Some(if step % 2 == 0 { "7%" } else { "8%" }));
        if change(&written, &next) != Change::None {
            writes += 1;
            written = next;
        }
    }
    assert_eq!(writes, 1);
}

fn condition(kind: &str, status: &str, reason: &str) -> Condition {
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: "Words.".into(),
        observed_generation: Some(1),
        last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)),
    }
}

#[test]
fn changes_follow_the_table() {
    let base = || InferenceMonitorStatus {
        conditions: vec![
            condition("Ready", "True", reason::MONITORING),
            condition("Throttled", "False", reason::BELOW_THRESHOLD),
        ],
        endpoints: vec![EndpointStatus {
            target: "a".into(),
            state: "Fresh".into(),
            ..EndpointStatus::default()
        }],
        gpus: vec![GpuStatus {
            uuid: "GPU-1".into(),
            ..GpuStatus::default()
        }],
        ..numbers(Some(1), None)
    };
    type Edit = fn(&mut InferenceMonitorStatus);
    let cases: [(&str, Edit, Change); 16] = [
        ("nothing", |_| {}, Change::None),
        ("a message", |s| s.conditions[0].message = "Other.".into(), Change::None),
        (
            "a transition time",
            |s| s.conditions[0].last_transition_time.0 = at(9),
            Change::None,
        ),
        (
            "a condition turned",
            |s| s.conditions[1].status = "True".into(),
            Change::Transition,
        ),
        (
            "a reason",
            |s| s.conditions[1].reason = reason::NO_GPU_DATA.into(),
            Change::Summary,
        ),
        (
            "the generation of a condition",
            |s| s.conditions[0].observed_generation = Some(2),
            Change::Transition,
        ),
        (
            "the generation",
            |s| s.observed_generation = Some(2),
            Change::Transition,
        ),
        (
            "a condition came",
            |s| s.conditions.push(condition("OOMRisk", "False", "x")),
            Change::Transition,
        ),
        (
            "a condition of somebody else",
            |s| s.conditions.insert(0, condition("Theirs", "True", "x")),
            Change::None,
        ),
        ("another order", |s| s.conditions.reverse(), Change::None),
        ("the load", |s| s.load = Some(Load::Idle), Change::Summary),
        (
            "the risk",
            |s| s.summary.as_mut().unwrap().oom_risk = OomRisk::High,
            Change::Summary,
        ),
        (
            "the state of an endpoint",
            |s| s.endpoints[0].state = "Timeout".into(),
            Change::Summary,
        ),
        (
            "a number of an endpoint",
            |s| s.endpoints[0].waiting = Some(900),
            Change::None,
        ),
        (
            "a GPU is throttled",
            |s| s.gpus[0].throttled = Some("HardwareThermal 3%".into()),
            Change::Summary,
        ),
        (
            "the temperature of a GPU",
            |s| s.gpus[0].temperature_celsius = Some(80),
            Change::None,
        ),
    ];
    for (name, edit, expected) in cases {
        let mut next = base();
        edit(&mut next);
        assert_eq!(change(&base(), &next), expected, "{name}");
    }
    let throttled = |share: &str| {
        let mut status = base();
        status.gpus[0].throttled = Some(share.into());
        status
    };
    let (hot, hotter, other) = ("HardwareThermal 3%", "HardwareThermal 9%", "PowerCap 9%");
    assert_eq!(change(&throttled(hot), &throttled(hotter)), Change::None);
    assert_eq!(change(&throttled(hot), &throttled(other)), Change::Summary);
    assert_eq!(change(&InferenceMonitorStatus::default(), &base()), Change::Transition);
}

#[test]
fn another_fault_of_the_spec_is_a_change() {
    let faulty = |message: &str| InferenceMonitorStatus {
        conditions: vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition {
            type_: "Ready".into(),
            status: "False".into(),
            reason: "InvalidSpec".into(),
            message: message.into(),
            observed_generation: None,
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
        }],
        ..InferenceMonitorStatus::default()
    };
    assert_eq!(change(&faulty("no label"), &faulty("no hosts")), Change::Summary);
    assert_eq!(change(&faulty("no label"), &faulty("no label")), Change::None);
}

#[test]
fn endpoints_that_change_places_in_a_full_list_are_no_change() {
    let list = |from: usize, state: &str| InferenceMonitorStatus {
        endpoints: (from..from + 32)
            .map(|number| EndpointStatus {
                target: format!("s{number}"),
                state: state.into(),
                ..EndpointStatus::default()
            })
            .collect(),
        ..numbers(None, None)
    };
    assert_eq!(change(&list(0, "Fresh"), &list(5, "Fresh")), Change::None);
    assert_eq!(change(&list(0, "Timeout"), &list(5, "Timeout")), Change::Summary);
}

#[test]
fn transitions_tell_what_is_news() {
    let previous = |pairs: &[(&str, &str)]| InferenceMonitorStatus {
        conditions: pairs
            .iter()
            .map(|(kind, status)| condition(kind, status, "x"))
            .collect(),
        ..InferenceMonitorStatus::default()
    };
    let news = |scene: &mut crate::scene::Scene, before: &InferenceMonitorStatus| {
        let verdict = scene.run(40);
        let found = transitions(&verdict, before);
        found
            .into_iter()
            .map(|news| format!("{}={} {}", news.kind, news.outcome.as_str(), news.warning))
            .collect::<Vec<_>>()
    };
    let well = || scene([server("a")]).gpu(gpu("n1", 0, "GPU-1"));
    let failing = || scene([server("a").no_sample().failing(Timeout, "no answer", 50)]);
    let good = [
        ("Ready", "True"),
        ("EndpointsReachable", "True"),
        ("MetricsRecognized", "True"),
        ("Throttled", "False"),
        ("OOMRisk", "False"),
        ("QueueDepthHigh", "False"),
    ];
    assert_eq!(
        news(&mut well(), &previous(&[])),
        [""; 0],
        "a new monitor that is well is no news"
    );
    assert_eq!(news(&mut well(), &previous(&good)), [""; 0]);
    assert_eq!(
        news(&mut failing(), &previous(&[])),
        ["Ready=False true", "EndpointsReachable=False true"]
    );
    assert_eq!(
        news(&mut failing(), &previous(&good)),
        ["Ready=False true", "EndpointsReachable=False true"]
    );
    assert_eq!(
        news(&mut well(), &previous(&[("Ready", "False")])),
        ["Ready=True false"]
    );
    assert_eq!(
        news(&mut well(), &previous(&[("OOMRisk", "True")])),
        ["OOMRisk=False false"]
    );
    assert_eq!(news(&mut well(), &previous(&[("OOMRisk", "Unknown")])), [""; 0]);
    let queue = &mut scene([server("a").waiting(70.0)]);
    assert_eq!(
        news(queue, &previous(&[("QueueDepthHigh", "Unknown")])),
        ["QueueDepthHigh=True true"]
    );
}
