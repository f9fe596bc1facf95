//! Heat before it costs clocks: NearSlowdown of Throttled, TemperatureHigh of GPUsHealthy.

use crate::scene::{Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::{GpusHealthy, Throttled};
use infmon_crds::v1alpha1::{
    InferenceMonitorSpec, InferenceMonitorStatus, TemperatureMarginThreshold, TemperatureThreshold,
};
use infmon_evaluation::{Memory, Verdict, status};
use infmon_gpu::{GpuHealth, RecoveryAction, ThrottleCause::HardwareThermal};

const COOL: &str = "False BelowThreshold";
const NEAR: &str = "False NearSlowdown";
const WELL: &str = "True NoFaults";
const HOT: &str = "False TemperatureHigh";

fn uuid(number: u32) -> String {
    format!("GPU-{number}0000000-0000-0000-0000-000000000000")
}

/// GPU 3 of pod `a`, so hot and with so many degrees left.
fn one(celsius: Option<u32>, margin: Option<i32>) -> Scene {
    let gpu = gpu("n1", 3, &uuid(1)).with(|sample| {
        sample.temperature_celsius = celsius;
        sample.temperature_margin_celsius = margin;
        sample.health = GpuHealth {
            recovery_action: Some(RecoveryAction::None),
            xid_events: Some(true),
            ..GpuHealth::default()
        };
    });
    scene([server("a").device(&uuid(1))]).gpu(gpu)
}

fn limit(above: i32, for_seconds: i32) -> impl FnOnce(&mut InferenceMonitorSpec) {
    move |spec| spec.thresholds.gpu_temperature_celsius = Some(TemperatureThreshold { above, for_seconds })
}

fn margin(below: i32, for_seconds: i32) -> impl FnOnce(&mut InferenceMonitorSpec) {
    move |spec| {
        spec.thresholds.gpu_temperature_margin_celsius = TemperatureMarginThreshold { below, for_seconds };
    }
}

fn set(scene: &mut Scene, celsius: u32, margin: i32) {
    for gpu in &mut scene.gpus {
        gpu.sample.temperature_celsius = Some(celsius);
        gpu.sample.temperature_margin_celsius = Some(margin);
    }
}

fn written(verdict: &Verdict) -> InferenceMonitorStatus {
    let wall = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let before = InferenceMonitorStatus::default();
    status::status(verdict, &before, Some(1), Vec::new(), wall)
}

#[test]
fn heat_follows_the_table() {
    let two = one(Some(60), Some(30)).gpu(gpu("n1", 4, &uuid(2)).with(|sample| {
        sample.temperature_margin_celsius = Some(2);
        sample.temperature_celsius = Some(99);
    }));
    let cases = [
        ("far from it", one(Some(88), Some(6)), 200, COOL, WELL),
        ("near, not yet long", one(Some(88), Some(5)), 119, COOL, WELL),
        ("near for two minutes", one(Some(88), Some(5)), 120, NEAR, WELL),
        ("no margin told", one(Some(120), None), 200, COOL, WELL),
        ("off", one(Some(88), Some(0)).spec(margin(0, 0)), 200, COOL, WELL),
        (
            "set otherwise",
            one(Some(70), Some(14)).spec(margin(15, 10)),
            10,
            NEAR,
            WELL,
        ),
        ("the GPU of another pod", two, 200, COOL, WELL),
        ("no limit given", one(Some(149), Some(20)), 200, COOL, WELL),
        (
            "at the limit",
            one(Some(85), Some(20)).spec(limit(85, 0)),
            5,
            COOL,
            WELL,
        ),
        (
            "above it, not yet long",
            one(Some(86), Some(20)).spec(limit(85, 60)),
            59,
            COOL,
            WELL,
        ),
        (
            "above it for a minute",
            one(Some(86), Some(20)).spec(limit(85, 60)),
            60,
            COOL,
            HOT,
        ),
        (
            "no temperature told",
            one(None, Some(20)).spec(limit(85, 0)),
            60,
            COOL,
            WELL,
        ),
    ];
    for (name, mut scene, seconds, throttled, healthy) in cases {
        let verdict = scene.run(seconds);
        let found = (short(&verdict, Throttled), short(&verdict, GpusHealthy));
        assert_eq!((found.0.as_str(), found.1.as_str()), (throttled, healthy), "{name}");
        assert_presentable(&verdict);
    }
}

#[test]
fn a_gpu_that_loses_clocks_is_no_longer_only_near_it() {
    let mut scene = one(Some(92), Some(-1));
    assert_eq!(short(&scene.run(130), Throttled), NEAR);
    scene.gpus = scene
        .gpus
        .into_iter()
        .map(|gpu| gpu.loses(HardwareThermal, 0.2))
        .collect();
    assert_eq!(short(&scene.run(20), Throttled), "True HardwareThermal");
}

#[test]
fn the_messages_have_everything() {
    let mut scene = one(Some(88), Some(3)).spec(limit(80, 30));
    let verdict = scene.run(150);
    assert_eq!(
        finding(&verdict, Throttled).message,
        "GPU 3 (GPU-10000000) on node n1 kept its clocks and is 3 C from slowing down (threshold: below 6 C for 120 s): 88 C, margin 3 C, 650 of 700 W, SM 1065 of 1980 MHz. It serves pod a. Next: check airflow and fans of n1 before it loses clocks. docs/conditions.md#nearslowdown"
    );
    assert_eq!(
        finding(&verdict, GpusHealthy).message,
        "GPU 3 (GPU-10000000) on node n1: 88 C (threshold 80 C for 30 s). It serves pod a. Next: check airflow, fans and inlet temperature of n1. docs/conditions.md#temperaturehigh"
    );
    set(&mut scene, 70, 20);
    let verdict = scene.run(10);
    assert_eq!(
        finding(&verdict, Throttled).message,
        "GPU 3 (GPU-10000000) on node n1 kept its clocks and is 20 C from slowing down (threshold: below 6 C for 120 s): 70 C, margin 20 C, 650 of 700 W, SM 1065 of 1980 MHz: back within the threshold; the condition clears when that has held for 2 min. docs/conditions.md#nearslowdown"
    );
    assert_presentable(&verdict);
    set(&mut scene, 95, 0);
    let verdict = scene.run(1);
    let message = &finding(&verdict, Throttled).message;
    assert!(
        message.contains("is at the temperature at which it slows down (threshold"),
        "{message}"
    );
}

#[test]
fn both_clear_as_slowly_as_they_rise() {
    let mut scene = one(Some(90), Some(2)).spec(limit(85, 60));
    let verdict = scene.run(130);
    assert_eq!(
        (
            short(&verdict, Throttled).as_str(),
            short(&verdict, GpusHealthy).as_str()
        ),
        (NEAR, HOT)
    );
    set(&mut scene, 60, 30);
    assert_eq!(short(&scene.run(58), GpusHealthy), HOT);
    // After the threshold's own time the condition still wants the 30 s of every other fault.
    assert_eq!(short(&scene.run(20), GpusHealthy), HOT);
    let verdict = scene.run(20);
    assert_eq!(
        (
            short(&verdict, Throttled).as_str(),
            short(&verdict, GpusHealthy).as_str()
        ),
        (NEAR, WELL)
    );
    assert_eq!(short(&scene.run(25), Throttled), COOL);
    // A moment of heat brings neither back.
    set(&mut scene, 90, 2);
    scene.run(10);
    set(&mut scene, 60, 30);
    let verdict = scene.run(120);
    assert_eq!(
        (
            short(&verdict, Throttled).as_str(),
            short(&verdict, GpusHealthy).as_str()
        ),
        (COOL, WELL)
    );
}

#[test]
fn a_warning_is_one_event_and_survives_a_restart() {
    let mut scene = one(Some(90), Some(2));
    let before = scene.run(20);
    let calm = written(&before);
    assert_eq!(status::transitions(&before, &calm), []);
    let verdict = scene.run(120);
    let events = status::transitions(&verdict, &calm);
    let [event] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (event.kind.as_str(), event.reason.as_str(), event.warning),
        ("Throttled", "NearSlowdown", true)
    );
    let warned = written(&verdict);
    assert_eq!(status::transitions(&verdict, &warned), [], "told once");
    assert_eq!(status::change(&calm, &warned), status::Change::Summary);

    scene.memory = Memory::from_status(&warned);
    assert_eq!(short(&scene.run(2), Throttled), NEAR);
    set(&mut scene, 60, 30);
    assert_eq!(short(&scene.run(125), Throttled), COOL);
}
