//! What is growth and what is not, second by second.

use super::*;
use proptest::prelude::*;

const GIB: f64 = (1_u64 << 30) as f64;
const MIB: f64 = (1_u64 << 20) as f64;
const TOTAL: f64 = 80.0 * GIB;

/// The judgement after so many seconds of a series of bytes in use.
fn after(seconds: u64, used: impl Fn(f64) -> f64) -> Growth {
    let mut trend = GrowthTrend::default();
    let mut level = 0.0;
    for second in 0..=seconds {
        level = used(second as f64);
        trend.push(Moment::from_secs(1000 + second), level as u64, TOTAL as u64);
    }
    trend.judge(Moment::default(), (TOTAL - level) as u64)
}

fn growing(growth: Growth) -> (f64, f64) {
    match growth {
        Growth::Growing {
            bytes_per_second,
            time_to_exhaustion,
        } => (bytes_per_second, time_to_exhaustion.as_secs_f64()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_leak_tells_its_rate_and_when_memory_is_full() {
    for mib_per_second in [0.5, 2.0, 20.0] {
        let used = |second: f64| 70.0 * GIB + mib_per_second * MIB * second;
        let (rate, time) = growing(after(420, used));
        assert!((rate / MIB / mib_per_second - 1.0).abs() < 0.1, "{rate}");
        let truly = (TOTAL - used(420.0)) / (mib_per_second * MIB);
        assert!((time / truly - 1.0).abs() < 0.1, "{time} instead of {truly}");
    }
}

#[test]
fn a_leak_that_begins_after_a_quiet_time_is_as_fast_as_it_is() {
    let used = |second: f64| 70.0 * GIB + 4.0 * MIB * (second - 700.0).max(0.0);
    let (rate, _) = growing(after(900, used));
    assert!((rate / MIB - 4.0).abs() < 0.6, "{rate}");
}

#[test]
fn steps_of_an_allocator_count_from_the_fourth_on() {
    let small = |second: f64| 70.0 * GIB + 0.25 * GIB * (second / 100.0).floor();
    let (rate, _) = growing(after(450, small));
    assert!((0.5..1.5).contains(&(rate / (0.25 * GIB / 100.0))), "{rate}");
    let steps = |count: f64| move |second: f64| 60.0 * GIB + 2.0 * GIB * (second / 100.0).floor().min(count);
    for (count, seconds) in [(1.0, 300), (2.0, 290), (3.0, 390)] {
        assert_eq!(after(seconds, steps(count)), Growth::Steady, "{count}");
    }
    assert_eq!(
        after(550, steps(9.0)),
        Growth::Steady,
        "large ones count from the sixth on"
    );
    let (rate, _) = growing(after(650, steps(9.0)));
    assert!((0.5..1.5).contains(&(rate / (2.0 * GIB / 100.0))), "{rate}");
}

#[test]
fn what_is_no_growth() {
    let cases: [(&str, &dyn Fn(f64) -> f64); 8] = [
        ("a plateau", &|_| 75.0 * GIB),
        ("a plateau that trembles", &|second| {
            75.0 * GIB + 20.0 * MIB * (second * 1.7).sin()
        }),
        ("one step", &|second| {
            if second < 400.0 { 60.0 * GIB } else { 70.0 * GIB }
        }),
        ("a load that ends", &|second| 10.0 * GIB + 0.5 * GIB * second.min(120.0)),
        ("a model that is loaded again", &|second| {
            if second < 500.0 {
                70.0 * GIB
            } else {
                5.0 * GIB + 0.25 * GIB * (second - 500.0).min(260.0)
            }
        }),
        ("waves", &|second| 60.0 * GIB + 10.0 * GIB * (second / 60.0).sin()),
        ("memory that is given back", &|second| 70.0 * GIB - 5.0 * MIB * second),
        ("growth that slows down to nothing", &|second| {
            70.0 * GIB + 2.0 * GIB * (1.0 - (-second / 60.0).exp())
        }),
    ];
    for (name, used) in cases {
        assert_eq!(after(890, used), Growth::Steady, "{name}");
    }
}

#[test]
fn growth_that_slows_down_is_followed_to_its_end() {
    let used = |second: f64| 60.0 * GIB + 8.0 * GIB * (1.0 - (-second / 200.0).exp());
    assert_eq!(after(420, used), Growth::Steady, "12 GiB are left at its end");
    let used = |second: f64| 73.0 * GIB + 8.0 * GIB * (1.0 - (-second / 200.0).exp());
    growing(after(400, used));
}

#[test]
fn waves_do_not_hide_a_leak_beneath_them() {
    let leak = |second: f64| 60.0 * GIB + 4.0 * GIB * (second / 60.0).sin().powi(2) + 8.0 * MIB * second;
    let (rate, _) = growing(after(890, leak));
    assert!((rate / MIB - 8.0).abs() < 3.0, "{rate}");
}

#[test]
fn a_step_begins_the_series_anew_and_hides_no_leak_behind_it() {
    let used = |second: f64| {
        let step = if second < 300.0 { 0.0 } else { 6.0 * GIB };
        70.0 * GIB + step + 1.5 * MIB * (second - 300.0).max(0.0)
    };
    assert_eq!(after(360, used), Growth::Steady);
    let (rate, _) = growing(after(700, used));
    assert!((rate / MIB - 1.5).abs() < 0.4, "{rate}");
}

#[test]
fn a_short_series_says_nothing_and_neither_does_one_with_a_hole() {
    let leak = |second: f64| 70.0 * GIB + 20.0 * MIB * second;
    assert_eq!(after(60, leak), Growth::Unknown(Unsure::TooShort));
    let mut trend = GrowthTrend::default();
    for second in (0..300).chain(500..540) {
        trend.push(Moment::from_secs(second), leak(second as f64) as u64, TOTAL as u64);
    }
    assert_eq!(
        trend.judge(Moment::default(), 1 << 30),
        Growth::Unknown(Unsure::TooShort)
    );
}

#[test]
fn what_was_before_the_moment_does_not_count() {
    let mut trend = GrowthTrend::default();
    for second in 0..600 {
        let used = 10.0 * GIB + 0.2 * GIB * (second as f64).min(300.0);
        trend.push(Moment::from_secs(second), used as u64, TOTAL as u64);
    }
    assert_eq!(trend.judge(Moment::from_secs(310), 1 << 30), Growth::Steady);
    assert_eq!(trend.grown_bytes(Moment::from_secs(310)), Some(0));
    assert_eq!(
        trend.judge(Moment::from_secs(590), 1 << 30),
        Growth::Unknown(Unsure::TooShort)
    );
    assert_eq!(trend.grown_bytes(Moment::from_secs(900)), None);
}

#[test]
fn another_total_begins_anew() {
    let mut trend = GrowthTrend::default();
    for second in 0..200 {
        trend.push(Moment::from_secs(second), second << 28, TOTAL as u64);
    }
    trend.push(Moment::from_secs(200), 1 << 30, (TOTAL / 2.0) as u64);
    assert_eq!(trend.points.len(), 1);
}

proptest! {
    /// Whatever comes: bounded, and no number that is none.
    #[test]
    fn any_series_is_bounded_and_judged(
        samples in proptest::collection::vec((0_u64..200, any::<u64>()), 0..300),
        total in any::<u64>(),
        free in any::<u64>(),
    ) {
        let mut trend = GrowthTrend::default();
        let mut second = 0;
        for (wait, used) in samples {
            second += wait / 8;
            trend.push(Moment::from_secs(second), used, total);
            prop_assert!(trend.points.len() <= POINTS_MAX);
        }
        prop_assert!(trend.points.capacity() * size_of::<Point>() <= 720);
        if let Growth::Growing { bytes_per_second, .. } = trend.judge(Moment::default(), free) {
            prop_assert!(bytes_per_second.is_finite() && bytes_per_second > 0.0);
            prop_assert!(trend.may_grow());
        }
    }
}
