//! The session against a driver that is away, goes away, loses a GPU, or does not answer.

use std::time::{Duration, Instant};

use crate::played::{Played, is_ready, options, problem, until};
use infmon_gpu::{DriverProblem, DriverState, GpuFailure, GpuMonitor, MonitorOptions, Stopped};
use infmon_nvml_stand_in::{Gpu, Profile, ReturnCode, Scenario, StandIn};

#[test]
fn a_library_that_is_absent_is_named_and_found_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = Scenario::of(Profile::H100, 1);
    let stand_in = StandIn::install(folder.path(), &scenario).unwrap();
    stand_in.remove_library().unwrap();
    let table = [
        ("by its path", options(&stand_in)),
        (
            "in folders",
            MonitorOptions {
                library_path: None,
                search_paths: vec!["/nowhere/lib".into(), folder.path().to_owned()],
                ..options(&stand_in)
            },
        ),
    ];
    for (name, options) in table {
        let monitor = GpuMonitor::start(options);
        let snapshot = until(&monitor, name, |snapshot| problem(snapshot).is_some());
        let (category, message) = problem(&snapshot).unwrap();
        assert_eq!(category, DriverProblem::LibraryNotFound, "{name}: {message}");
        assert!(
            message.contains(&folder.path().display().to_string()),
            "{name}: {message}"
        );
        assert!(snapshot.samples.is_empty() && snapshot.taken.is_none());

        let stand_in = StandIn::install(folder.path(), &scenario).unwrap();
        until(&monitor, name, |snapshot| {
            is_ready(snapshot) && snapshot.samples.len() == 1
        });
        assert_eq!(monitor.stop(Duration::from_secs(5)), Stopped::Cleanly);
        stand_in.remove_library().unwrap();
    }
}

#[test]
fn a_file_that_is_no_library_is_a_problem_and_not_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = StandIn::install(folder.path(), &Scenario::of(Profile::H100, 1)).unwrap();
    std::fs::write(stand_in.library_path(), "not a library").unwrap();
    let monitor = GpuMonitor::start(options(&stand_in));
    let snapshot = until(&monitor, "a problem", |snapshot| problem(snapshot).is_some());
    assert_eq!(problem(&snapshot).unwrap().0, DriverProblem::LibraryNotFound);
}

#[test]
fn every_refusal_of_the_driver_has_its_category_and_can_pass() {
    let table = [
        (
            ReturnCode::DRIVER_NOT_LOADED,
            DriverProblem::DriverNotLoaded,
            "not loaded",
        ),
        (
            ReturnCode::LIB_RM_VERSION_MISMATCH,
            DriverProblem::DriverVersionMismatch,
            "reboot",
        ),
        (ReturnCode::NO_PERMISSION, DriverProblem::NoPermission, "permission"),
        (ReturnCode::OPERATING_SYSTEM, DriverProblem::NoPermission, "cgroups"),
        (ReturnCode::UNKNOWN, DriverProblem::Unknown, "lost its access"),
        (ReturnCode(4242), DriverProblem::Unknown, "4242"),
    ];
    let good = Scenario::of(Profile::L40S, 1);
    for (code, category, text) in table {
        let played = Played::new(&good.clone().init_error(code));
        let snapshot = played.until("a problem", |snapshot| problem(snapshot).is_some());
        let (found, message) = problem(&snapshot).unwrap();
        assert_eq!(found, category, "{code}: {message}");
        assert!(message.contains(text), "{code}: {message}");
        played.play(&good);
        played.until("recovery", is_ready);
    }
}

#[test]
fn a_driver_without_gpus_is_said_to_have_none() {
    let played = Played::new(&Scenario::new("580.95.05"));
    let snapshot = played.until("a problem", |snapshot| problem(snapshot).is_some());
    assert_eq!(problem(&snapshot).unwrap().0, DriverProblem::NoDevices);
    played.play(&Scenario::of(Profile::T4, 1));
    played.until("a GPU", |snapshot| snapshot.samples.len() == 1);
}

#[test]
fn the_only_gpu_is_lost_and_comes_back() {
    let played = Played::new(&Scenario::of(Profile::H100, 1));
    played.until("samples", is_ready);
    let lost = Profile::H100.gpu(0).fail(ReturnCode::GPU_LOST);
    played.play(&Scenario::new("580.95.05").gpu(lost));
    let snapshot = played.until("loss", |snapshot| problem(snapshot).is_some());
    assert!(
        problem(&snapshot).unwrap().1.contains("fell off the bus"),
        "{snapshot:?}"
    );
    assert!(snapshot.samples.is_empty(), "no value outlives its session");
    played.play(&Scenario::of(Profile::H100, 1));
    played.until("recovery", |snapshot| is_ready(snapshot) && snapshot.samples.len() == 1);
}

#[test]
fn one_lost_gpu_does_not_take_the_others_along() {
    for code in [ReturnCode::GPU_LOST, ReturnCode::GPU_NOT_FOUND] {
        let played = Played::new(&Scenario::of(Profile::H100, 3));
        played.until("samples", |snapshot| snapshot.samples.len() == 3);
        let mut scenario = Scenario::of(Profile::H100, 3);
        scenario.gpus[1] = Profile::H100.gpu(1).fail(code);
        played.play(&scenario);
        let check = |snapshot: &infmon_gpu::Snapshot| {
            assert!(problem(snapshot).is_none(), "{snapshot:?}");
            snapshot.failed.len() == 1
        };
        let snapshot = played.until("loss", check);
        let uuid = Profile::H100.gpu(1).uuid;
        assert_eq!(snapshot.failed[0].uuid.as_deref(), Some(uuid.as_str()));
        assert_eq!(snapshot.failed[0].failure, GpuFailure::Lost);
        // The session is renewed, and that changes nothing.
        let initialised = |snapshot: &infmon_gpu::Snapshot| snapshot.calls[0].count;
        let snapshot = played.until("renewal", |snapshot| initialised(snapshot) >= 3);
        let indices: Vec<_> = snapshot.samples.iter().map(|sample| sample.index).collect();
        assert_eq!(indices, [0, 2]);
        assert_eq!(
            snapshot.failed[0].uuid.as_deref(),
            Some(uuid.as_str()),
            "remembered from the first session"
        );
        played.play(&Scenario::of(Profile::H100, 3));
        played.until("recovery", |snapshot| {
            snapshot.samples.len() == 3 && snapshot.failed.is_empty()
        });
    }
}

/// A GPU for which nothing but its name can be read.
fn refusing(ordinal: u32, code: ReturnCode) -> Gpu {
    Profile::H100
        .gpu(ordinal)
        .fail_call("GetMemoryInfo", code)
        .fail_call("GetFieldValues", code)
}

#[test]
fn a_gpu_that_needs_a_reset_is_told_apart() {
    let mut scenario = Scenario::of(Profile::H100, 2);
    scenario.gpus[0] = refusing(0, ReturnCode::RESET_REQUIRED);
    let played = Played::new(&scenario);
    let snapshot = played.until("samples", |snapshot| snapshot.ticks >= 10);
    assert_eq!(snapshot.samples.len(), 1);
    assert!(
        snapshot.failed[0].failure == GpuFailure::ResetRequired && snapshot.failed[0].message.contains("reset"),
        "{snapshot:?}"
    );
}

#[test]
fn access_that_is_taken_away_ends_the_session() {
    let played = Played::new(&Scenario::of(Profile::H100, 1));
    played.until("samples", is_ready);
    played.play(&Scenario::new("580.95.05").gpu(refusing(0, ReturnCode::NO_PERMISSION)));
    let snapshot = played.until("a problem", |snapshot| problem(snapshot).is_some());
    let (category, message) = problem(&snapshot).unwrap();
    assert_eq!(category, DriverProblem::NoPermission);
    assert!(message.contains("restart"), "{message}");
}

#[test]
fn a_hanging_call_is_unresponsive_and_passes() {
    for call in ["GetMemoryInfo", "GetFieldValues", "GetComputeRunningProcesses"] {
        let good = Scenario::of(Profile::H100, 2);
        let played = Played::new(&good);
        let taken = played.until("samples", |snapshot| snapshot.samples.len() == 2).taken;
        played.play(&good.clone().hang(call));
        let is_unresponsive =
            |snapshot: &infmon_gpu::Snapshot| matches!(snapshot.driver, DriverState::Unresponsive { for_seconds: 1.. });
        let snapshot = played.until("unresponsive driver", is_unresponsive);
        assert_eq!(snapshot.samples.len(), 2, "what was known stays, with its age");
        assert!(snapshot.taken.unwrap().elapsed() >= Duration::from_secs(1));
        played.play(&good);
        played.until("recovery", |snapshot| is_ready(snapshot) && snapshot.taken > taken);
    }
}

#[test]
fn initialisation_may_take_longer_and_not_for_ever() {
    let played = Played::new(&Scenario::of(Profile::H100, 1).hang("nvmlInit"));
    let begun = Instant::now();
    let is_starting = |snapshot: &infmon_gpu::Snapshot| snapshot.driver == DriverState::Starting;
    played.until("unresponsive driver", |snapshot| !is_starting(snapshot));
    assert!(matches!(
        played.monitor.latest().driver,
        DriverState::Unresponsive { .. }
    ));
    assert!(
        begun.elapsed() >= Duration::from_millis(1_500),
        "six times the patience of other calls"
    );
    played.play(&Scenario::of(Profile::H100, 1));
    played.until("recovery", is_ready);
}

#[test]
fn stopping_does_not_wait_for_a_call_that_hangs() {
    for call in ["GetUtilizationRates", "Shutdown", "Init"] {
        let Played {
            folder: _folder,
            stand_in,
            monitor,
        } = Played::new(&Scenario::of(Profile::H100, 1));
        until(&monitor, "samples", is_ready);
        let mut scenario = Scenario::of(Profile::H100, 1).hang(call);
        scenario.gpus[0].temperature = Some(99);
        stand_in.write(&scenario).unwrap();
        if call == "GetUtilizationRates" {
            until(&monitor, "unresponsive driver", |snapshot| !is_ready(snapshot));
        } else {
            until(&monitor, "the change", |snapshot| {
                snapshot.samples[0].temperature_celsius == Some(99)
            });
        }
        let begun = Instant::now();
        let stopped = monitor.stop(Duration::from_millis(500));
        assert!(
            begun.elapsed() < Duration::from_millis(1_500),
            "{call}: {:?}",
            begun.elapsed()
        );
        let expected = if call == "Init" {
            Stopped::Cleanly
        } else {
            Stopped::Abandoned
        };
        assert_eq!(stopped, expected, "{call}");
    }
}

#[test]
fn an_upgraded_library_is_loaded_in_place_of_the_old_one() {
    let played = Played::new(&Scenario::of(Profile::H100, 1));
    played.until("samples", is_ready);
    // The driver goes away under the session, is upgraded, and comes back.
    played.play(
        &Scenario::of(Profile::H100, 1)
            .init_error(ReturnCode::DRIVER_NOT_LOADED)
            .gpu(Gpu::default()),
    );
    let mut gone = Scenario::of(Profile::H100, 1).init_error(ReturnCode::DRIVER_NOT_LOADED);
    gone.gpus[0] = Profile::H100.gpu(0).fail(ReturnCode::UNINITIALIZED);
    played.play(&gone);
    played.until("loss", |snapshot| problem(snapshot).is_some());
    let mut upgraded = Scenario::of(Profile::H100, 1);
    upgraded.driver = "610.57.04".to_owned();
    StandIn::install(played.folder.path(), &upgraded).unwrap();
    let snapshot = played.until("recovery", is_ready);
    assert_eq!(
        snapshot.driver,
        DriverState::Ready {
            driver_version: "610.57.04".to_owned()
        }
    );
    assert!(played.is_loaded());
    assert!(
        played.mappings().all(|line| !line.contains("(deleted)")),
        "the old library was unloaded"
    );
}

#[test]
fn a_library_without_nvml_shutdown_does_not_abort_the_process() {
    let played = Played::new(&Scenario::of(Profile::H100, 1).absent_symbol("nvmlShutdown"));
    let snapshot = played.until("a problem", |snapshot| problem(snapshot).is_some());
    assert!(problem(&snapshot).unwrap().1.contains("nvmlShutdown"), "{snapshot:?}");
}

#[test]
fn a_driver_that_is_upgraded_is_let_go_of_and_taken_up_again() {
    let before = Scenario::with_driver(Profile::H100, 2, "580.95.05");
    let played = Played::new(&before);
    played.until("samples", |snapshot| is_ready(snapshot) && snapshot.samples.len() == 2);
    let mut faulty = before.clone();
    faulty.gpus[1] = faulty.gpus[1].clone().xid(79);
    played.play(&faulty);
    played.until("the XID", |snapshot| !snapshot.incidents.is_empty());

    let begun = Instant::now();
    played.monitor.set_released(true);
    let snapshot = played.until("a release", |snapshot| problem(snapshot).is_some());
    assert_eq!(problem(&snapshot).unwrap().0, DriverProblem::DriverUpgrade);
    assert!(snapshot.samples.is_empty() && snapshot.taken.is_none());
    // `rmmod` looks at the files that are open; the library is what a process can show of that.
    assert!(!played.is_loaded());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(
        !snapshot.incidents.is_empty(),
        "nothing says yet that the fault is over"
    );
    std::thread::sleep(Duration::from_millis(300));
    assert!(!played.is_loaded(), "it stays away");

    let after = Scenario::with_driver(Profile::H100, 2, "590.48.01");
    StandIn::install(played.folder.path(), &after).unwrap();
    played.monitor.set_released(false);
    let snapshot = played.until("the new driver", |snapshot| snapshot.samples.len() == 2);
    let DriverState::Ready { driver_version } = &snapshot.driver else {
        panic!("{snapshot:?}")
    };
    assert_eq!(driver_version, "590.48.01");
    let snapshot = played.until("a round", |later| later.ticks > snapshot.ticks + 1);
    assert_eq!(snapshot.incidents, [], "what happened under the old driver is over");
}

#[test]
fn a_monitor_that_let_go_still_stops() {
    let played = Played::new(&Scenario::of(Profile::H100, 1));
    played.until("samples", is_ready);
    played.monitor.set_released(true);
    played.until("a release", |snapshot| problem(snapshot).is_some());
    assert_eq!(played.monitor.stop(Duration::from_secs(5)), Stopped::Cleanly);
}
