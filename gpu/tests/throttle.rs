//! Duty from counters, over one interval and over windows.

use std::time::Duration;

use ThrottleCause::{HardwareThermal, PowerCap, SoftwareThermal};
use infmon_gpu::{ThrottleCause, ThrottleCounter, ThrottleWindow, duty, implausible};

const MILLISECOND: u64 = 1_000_000;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn counter(cause: ThrottleCause, milliseconds: u64) -> ThrottleCounter {
    ThrottleCounter {
        cause,
        nanoseconds: milliseconds * MILLISECOND,
    }
}

fn assert_near(measured: f64, expected: f64, name: &str) {
    assert!(
        (measured - expected).abs() < 1e-6,
        "{name}: {measured} is not {expected}"
    );
}

#[test]
fn causes_are_numbered_in_order_of_severity() {
    for (position, cause) in ThrottleCause::ALL.into_iter().enumerate() {
        assert_eq!(cause as usize, position);
    }
}

#[test]
fn duty_of_an_interval() {
    struct Case {
        name: &'static str,
        before: Vec<ThrottleCounter>,
        after: Vec<ThrottleCounter>,
        elapsed: Duration,
        duty: Vec<(ThrottleCause, f64)>,
        implausible: Vec<(ThrottleCause, f64)>,
    }
    let table = [
        Case {
            name: "the share of time is gained time over elapsed time",
            before: vec![counter(HardwareThermal, 1_000), counter(PowerCap, 50)],
            after: vec![counter(HardwareThermal, 1_380), counter(PowerCap, 50)],
            elapsed: seconds(1),
            duty: vec![(HardwareThermal, 0.38), (PowerCap, 0.0)],
            implausible: vec![],
        },
        Case {
            name: "one counter that goes backwards makes the whole interval unknown",
            before: vec![counter(HardwareThermal, 1_000), counter(PowerCap, 50)],
            after: vec![counter(HardwareThermal, 10), counter(PowerCap, 60)],
            elapsed: seconds(1),
            duty: vec![],
            implausible: vec![],
        },
        Case {
            name: "a cause in only one reading is left out",
            before: vec![counter(HardwareThermal, 0)],
            after: vec![counter(HardwareThermal, 500), counter(PowerCap, 500)],
            elapsed: seconds(1),
            duty: vec![(HardwareThermal, 0.5)],
            implausible: vec![],
        },
        Case {
            name: "more time than there was is kept apart",
            before: vec![counter(HardwareThermal, 0), counter(PowerCap, 0)],
            after: vec![counter(HardwareThermal, 1_040), counter(PowerCap, 380_000)],
            elapsed: seconds(1),
            duty: vec![(HardwareThermal, 1.04)],
            implausible: vec![(PowerCap, 380.0)],
        },
        Case {
            name: "no time, no duty",
            before: vec![counter(HardwareThermal, 0)],
            after: vec![counter(HardwareThermal, 5)],
            elapsed: Duration::ZERO,
            duty: vec![],
            implausible: vec![],
        },
    ];
    for case in table {
        let check = |measured: Vec<(ThrottleCause, f64)>, expected: &[(ThrottleCause, f64)]| {
            assert_eq!(measured.len(), expected.len(), "{}: {measured:?}", case.name);
            for ((cause, duty), (expected_cause, expected)) in measured.iter().zip(expected) {
                assert_eq!(cause, expected_cause, "{}", case.name);
                assert_near(*duty, *expected, case.name);
            }
        };
        check(duty(&case.before, &case.after, case.elapsed), &case.duty);
        check(implausible(&case.before, &case.after, case.elapsed), &case.implausible);
    }
}

/// One duty of a window, with the seconds it was measured over.
fn over(window: &ThrottleWindow, length: u64, cause: ThrottleCause) -> Option<(f64, f64)> {
    let duties = window.duty_over(seconds(length));
    duties
        .iter()
        .find(|duty| duty.cause == cause)
        .map(|duty| (duty.duty, duty.over.as_secs_f64()))
}

#[test]
fn a_window_finds_a_burst_and_forgets_it() {
    let mut window = ThrottleWindow::new(seconds(300));
    let mut lost = 0;
    for second in 0..=400 {
        // 20 s of full throttling, from second 100 on.
        lost += if (101..=120).contains(&second) { 1_000 } else { 0 };
        window.push(seconds(second), &[counter(HardwareThermal, lost)]);
        match second {
            0 => assert_eq!(
                over(&window, 60, HardwareThermal),
                None,
                "one reading is not an interval"
            ),
            100 => assert_eq!(over(&window, 60, HardwareThermal), Some((0.0, 60.0))),
            120 => {
                let (duty, covered) = over(&window, 60, HardwareThermal).unwrap();
                assert_near(duty, 20.0 / 60.0, "60 s after the burst began");
                assert_near(covered, 60.0, "covered");
                assert_near(over(&window, 10, HardwareThermal).unwrap().0, 1.0, "within the burst");
            }
            200 => assert_eq!(over(&window, 60, HardwareThermal), Some((0.0, 60.0))),
            300 => assert_near(
                over(&window, 300, HardwareThermal).unwrap().0,
                20.0 / 300.0,
                "whole history",
            ),
            _ => {}
        }
    }
    // The history reaches back to second 100, and the burst is still in it; then it is not.
    assert_near(
        over(&window, 300, HardwareThermal).unwrap().0,
        20.0 / 300.0,
        "edge of the history",
    );
    for second in 401..=430 {
        window.push(seconds(second), &[counter(HardwareThermal, lost)]);
    }
    assert_eq!(over(&window, 300, HardwareThermal).map(|(duty, _)| duty), Some(0.0));
}

#[test]
fn a_reset_leaves_a_hole_and_not_a_number() {
    let mut window = ThrottleWindow::new(seconds(300));
    for second in 0..=10 {
        window.push(seconds(second), &[counter(SoftwareThermal, 90_000 + second * 500)]);
    }
    for second in 20..=30 {
        window.push(seconds(second), &[counter(SoftwareThermal, (second - 20) * 500)]);
    }
    let (duty, covered) = over(&window, 60, SoftwareThermal).unwrap();
    assert_near(duty, 0.5, "both sides of the reset");
    assert_near(covered, 20.0, "without the 10 s in between");
}

#[test]
fn a_pause_is_covered_by_the_counters_up_to_the_length_of_the_history() {
    let mut window = ThrottleWindow::new(seconds(300));
    window.push(seconds(0), &[counter(SoftwareThermal, 0)]);
    window.push(seconds(90), &[counter(SoftwareThermal, 45_000)]);
    assert_eq!(
        over(&window, 60, SoftwareThermal),
        Some((0.5, 90.0)),
        "the interval is longer than asked for"
    );
    window.push(seconds(1_000), &[counter(SoftwareThermal, 45_000)]);
    assert_eq!(over(&window, 60, SoftwareThermal), None, "too long ago to say anything");
    window.push(seconds(1_001), &[counter(SoftwareThermal, 45_250)]);
    assert_eq!(over(&window, 60, SoftwareThermal), Some((0.25, 1.0)));
}

#[test]
fn an_old_or_repeated_reading_changes_nothing() {
    let mut window = ThrottleWindow::new(seconds(300));
    window.push(seconds(10), &[counter(PowerCap, 0)]);
    window.push(seconds(20), &[counter(PowerCap, 1_000)]);
    window.push(seconds(20), &[counter(PowerCap, 9_000)]);
    window.push(seconds(15), &[counter(PowerCap, 0)]);
    assert_eq!(window.latest(), Some(seconds(20)));
    assert_eq!(over(&window, 60, PowerCap), Some((0.1, 10.0)));
}

#[test]
fn a_wrong_unit_is_kept_apart_in_windows_too() {
    let mut window = ThrottleWindow::new(seconds(300));
    for second in 0..=10 {
        window.push(
            seconds(second),
            &[
                counter(PowerCap, second * 380_000),
                counter(SoftwareThermal, second * 10),
            ],
        );
    }
    assert_eq!(over(&window, 60, PowerCap), None);
    assert_near(over(&window, 60, SoftwareThermal).unwrap().0, 0.01, "the other cause");
    let implausible = window.implausible_over(seconds(60));
    assert_eq!(implausible.len(), 1);
    assert_near(implausible[0].duty, 380.0, "as measured");
}

#[test]
fn a_cause_that_comes_and_goes_is_measured_over_its_own_time() {
    let mut window = ThrottleWindow::new(seconds(300));
    window.push(seconds(0), &[counter(PowerCap, 0)]);
    window.push(seconds(10), &[counter(PowerCap, 1_000), counter(HardwareThermal, 0)]);
    window.push(
        seconds(20),
        &[counter(PowerCap, 2_000), counter(HardwareThermal, 5_000)],
    );
    window.push(seconds(30), &[counter(PowerCap, 3_000)]);
    assert_eq!(over(&window, 60, PowerCap), Some((0.1, 30.0)));
    assert_eq!(over(&window, 60, HardwareThermal), Some((0.5, 10.0)));
}
