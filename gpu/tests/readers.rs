//! Several readers of GPUs on one node: what their snapshots come to together.

use infmon_gpu::{CallClass, CallStats, DriverProblem, DriverState, GpuSample, Snapshot, merged};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn ready(version: &str) -> DriverState {
    DriverState::Ready {
        driver_version: version.to_owned(),
    }
}

fn unavailable(category: DriverProblem) -> DriverState {
    DriverState::Unavailable {
        category,
        message: category.as_str().to_owned(),
    }
}

fn snapshot(driver: DriverState, uuids: &[&str], taken: Option<Instant>) -> Arc<Snapshot> {
    let sample = |uuid: &&str| GpuSample {
        uuid: (*uuid).to_owned(),
        ..GpuSample::default()
    };
    Arc::new(Snapshot {
        driver,
        taken,
        samples: uuids.iter().map(sample).collect(),
        ticks: 3,
        calls: vec![CallStats {
            class: CallClass::Memory,
            count: 2,
            total_microseconds: 10,
            max_microseconds: 7,
            driver_microseconds: None,
        }],
        ..Snapshot::default()
    })
}

#[test]
fn one_reader_is_passed_on_as_it_is() {
    assert!(merged(&[]).is_none());
    let alone = snapshot(ready("580"), &["GPU-1"], None);
    let same = merged(std::slice::from_ref(&alone)).expect("one");
    assert!(Arc::ptr_eq(&alone, &same));
}

#[test]
fn gpus_of_all_are_told_with_the_age_of_the_oldest() {
    let now = Instant::now();
    let before = now.checked_sub(Duration::from_secs(2)).unwrap_or(now);
    let both = merged(&[
        snapshot(ready("580"), &["GPU-1", "GPU-2"], Some(now)),
        snapshot(ready("6.14"), &["AMD-1"], Some(before)),
        snapshot(unavailable(DriverProblem::NoDevices), &[], None),
    ])
    .expect("several");
    let uuids: Vec<&str> = both.samples.iter().map(|sample| sample.uuid.as_str()).collect();
    assert_eq!(uuids, ["GPU-1", "GPU-2", "AMD-1"]);
    assert_eq!((both.taken, both.ticks), (Some(before), 9));
    let [calls] = both.calls.as_slice() else {
        panic!("{:?}", both.calls)
    };
    let sums = (calls.count, calls.total_microseconds, calls.max_microseconds);
    assert_eq!(sums, (6, 30, 7), "one series for each class");
}

#[test]
fn the_state_that_explains_most_is_told() {
    let hung = || DriverState::Unresponsive { for_seconds: 9 };
    let cases = [
        (
            "no library",
            unavailable(DriverProblem::LibraryNotFound),
            ready("6.14"),
            ready("6.14"),
        ),
        (
            "no device",
            ready("580"),
            unavailable(DriverProblem::NoDevices),
            ready("580"),
        ),
        (
            "none has any",
            unavailable(DriverProblem::LibraryNotFound),
            unavailable(DriverProblem::NoDevices),
            unavailable(DriverProblem::LibraryNotFound),
        ),
        (
            "one starts",
            DriverState::Starting,
            unavailable(DriverProblem::NoDevices),
            DriverState::Starting,
        ),
        (
            "one is not there yet",
            DriverState::Starting,
            ready("6.14"),
            ready("6.14"),
        ),
        (
            "a mismatch",
            ready("6.14"),
            unavailable(DriverProblem::DriverVersionMismatch),
            unavailable(DriverProblem::DriverVersionMismatch),
        ),
        ("one hangs", unavailable(DriverProblem::DriverUpgrade), hung(), hung()),
    ];
    for (name, one, other, expected) in cases {
        let both = merged(&[snapshot(one, &[], None), snapshot(other, &[], None)]).expect("two");
        assert_eq!(both.driver, expected, "{name}");
    }
}
