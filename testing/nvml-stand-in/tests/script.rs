//! Changes to what is played: each is made or refused in words, and a script comes in its order.
// Clippy knows tests by their attribute, and not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use infmon_nvml_stand_in::script::{change, parse};
use infmon_nvml_stand_in::{Cause, Event, Profile, Scenario};
use std::time::Duration;

fn changed(lines: &[&str]) -> Scenario {
    let mut scenario = Scenario::of(Profile::H100, 2);
    for line in lines {
        change(&mut scenario, line).unwrap();
    }
    scenario
}

#[test]
fn changes_are_made() {
    let scenario = changed(&[
        "gpu 1: temperature = 91",
        "every gpu: throttle.hardware_thermal = 0.4",
        "gpu 0: no throttle.hardware_thermal",
        "gpu 1: xid = 31",
        "gpu 1: xid = 79",
        "gpu 0: fail = GpuLost",
        "gpu 0: margin = unsupported",
        "driver: hang = GetMemoryInfo",
    ]);
    let [first, second] = scenario.gpus.as_slice() else {
        panic!("{scenario}")
    };
    assert_eq!((first.temperature, second.temperature), (Some(52), Some(91)));
    assert_eq!(first.throttle.get(&Cause::HardwareThermal), None);
    assert_eq!(second.throttle.get(&Cause::HardwareThermal), Some(&Some(0.4)));
    let told = |event: &Event| (event.serial, event.kind, event.data);
    assert_eq!(
        second.events.iter().map(told).collect::<Vec<_>>(),
        [(1, 8, 31), (2, 8, 79)]
    );
    assert_eq!((first.fail.len(), first.margin, scenario.hang.len()), (1, None, 1));

    let mut scenario = scenario;
    for line in ["gpu 0: no fail", "driver: no hang"] {
        change(&mut scenario, line).unwrap();
    }
    assert_eq!((scenario.gpus[0].fail.len(), scenario.hang.len()), (0, 0));
}

#[test]
fn what_cannot_be_done_is_told() {
    let table = [
        (
            "temperature = 91",
            "expected `gpu N:`, `every gpu:` or `driver:` at the start of",
        ),
        ("gpu 2: temperature = 91", "no such target; there are 2 GPUs, from 0"),
        ("gpu 0: temperature", "expected `KEY = VALUE` or `no KEY`"),
        ("gpu 0: colour = red", "unknown key"),
        ("gpu 0: temperature = hot", "hot"),
        ("gpu 0: xid = many", "not an XID: many"),
        ("gpu 0: no temperature", "nothing to take away: temperature"),
        ("driver: no driver", "nothing to take away: driver"),
    ];
    for (line, words) in table {
        let error = change(&mut Scenario::of(Profile::H100, 2), line).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn a_script_has_steps_in_order() {
    let steps = parse("gpu 0: xid = 31 # at once\n\nat 0.5\nat 2\ndriver: hang = Init\ngpu 0: xid = 79\n").unwrap();
    let told: Vec<_> = steps.iter().map(|step| (step.at, step.changes.len())).collect();
    assert_eq!(told, [(Duration::ZERO, 1), (Duration::from_secs(2), 2)]);
    for (text, error) in [
        ("at noon", "line 1: not a number of seconds: at noon"),
        ("at 2\nat 1", "line 2: earlier than the step before: at 1"),
        ("at -1", "line 1: seconds are from 0 to 86400: at -1"),
        ("at NaN", "line 1: seconds are from 0 to 86400: at NaN"),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text}");
    }
}
