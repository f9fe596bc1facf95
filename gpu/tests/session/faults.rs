//! Faults of GPUs as the session sees them: XIDs, ECC, memory repair, recovery actions, GPUs that vanish.

use std::time::{Duration, Instant};

use crate::played::{Played, is_ready, problem};
use infmon_gpu::kernel_log::parse_record;
use infmon_gpu::{
    CallClass, DriverState, GpuFailure, GpuHealth, IncidentKind, RecoveryAction, Snapshot, StandingFault,
};
use infmon_nvml_stand_in::{Event, Gpu, Profile, ReturnCode, Scenario};

/// XID and how often, by GPU index.
fn xids(snapshot: &Snapshot) -> Vec<(u32, u32, u64)> {
    let xids = snapshot.incidents.iter().filter_map(|incident| match incident.kind {
        IncidentKind::Xid { number } => Some((incident.index, number, incident.count)),
        IncidentKind::EccUncorrectable => None,
    });
    xids.collect()
}

fn with(count: u32, index: usize, change: impl FnOnce(Gpu) -> Gpu) -> Scenario {
    let mut scenario = Scenario::of(Profile::H100, count);
    scenario.gpus[index] = change(scenario.gpus[index].clone());
    scenario
}

#[test]
fn an_xid_is_told_at_once_with_its_gpu() {
    let played = Played::new(&with(3, 0, |gpu| gpu.xid(13)));
    played.until("samples", is_ready);
    played.monitor.set_period(Duration::from_secs(3_600));
    // No round of samples is needed for it.
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    let mut scenario = with(3, 0, |gpu| gpu.xid(13));
    scenario.gpus[2] = scenario.gpus[2].clone().xid(119).xid(119);
    scenario.gpus[2].events[1].gpu_instance = Some(5);
    played.play(&scenario);
    let snapshot = played.until("both XIDs", |snapshot| xids(snapshot).iter().any(|xid| xid.2 == 2));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(
        xids(&snapshot),
        [(2, 119, 2)],
        "what came before the session is not told"
    );
    let incident = &snapshot.incidents[0];
    assert_eq!(incident.uuid, scenario.gpus[2].uuid);
    assert_eq!(incident.place.gpu_instance, Some(5));
    assert!(incident.first >= begun && incident.first <= incident.last);
}

#[test]
fn xids_outlive_the_session_and_end_with_the_driver() {
    let played = Played::new(&Scenario::of(Profile::H100, 2));
    played.until("samples", is_ready);
    played.play(&with(2, 1, |gpu| gpu.xid(31)));
    played.until("the XID", |snapshot| xids(snapshot) == [(1, 31, 1)]);
    let sxid = parse_record("3,1,2,-;nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 LTSSM Fault Up");
    assert!(played.monitor.note_kernel_event(&sxid.unwrap()));
    let switches = |snapshot: &Snapshot| snapshot.switch_incidents.len();
    assert_eq!(switches(&played.monitor.latest()), 1);

    // Another GPU is lost and comes back: sessions are renewed, and what happened to this one stays.
    let mut lost = with(2, 1, |gpu| gpu.xid(31));
    lost.gpus[0] = lost.gpus[0].clone().fail(ReturnCode::GPU_LOST);
    played.play(&lost);
    played.until("loss", |snapshot| snapshot.failed.len() == 1);
    played.play(&with(2, 1, |gpu| gpu.xid(31)));
    let snapshot = played.until("recovery", |snapshot| {
        snapshot.samples.len() == 2 && snapshot.failed.is_empty()
    });
    assert_eq!((xids(&snapshot), switches(&snapshot)), (vec![(1, 31, 1)], 1));

    // The kernel module is loaded anew: that resets the GPUs.
    let mut gone = Scenario::of(Profile::H100, 2).init_error(ReturnCode::DRIVER_NOT_LOADED);
    for gpu in &mut gone.gpus {
        *gpu = gpu.clone().fail(ReturnCode::UNINITIALIZED);
    }
    played.play(&gone);
    let not_loaded = |snapshot: &Snapshot| {
        problem(snapshot).is_some_and(|(category, _)| category == infmon_gpu::DriverProblem::DriverNotLoaded)
    };
    let snapshot = played.until("an unloaded driver", not_loaded);
    assert_eq!(xids(&snapshot), [(1, 31, 1)], "that alone resets nothing");
    played.play(&Scenario::of(Profile::H100, 2));
    let snapshot = played.until("recovery", |snapshot| {
        is_ready(snapshot) && snapshot.incidents.is_empty()
    });
    assert_eq!((xids(&snapshot), switches(&snapshot)), (vec![], 0));
}

#[test]
fn events_that_cannot_be_had_are_said_to_be_missing_and_disturb_nothing() {
    let table = [
        (
            "no symbol to wait with",
            Scenario::of(Profile::H100, 1).absent_symbol("nvmlEventSetWait_v2"),
        ),
        (
            "no symbol to make a set",
            Scenario::of(Profile::H100, 1).absent_symbol("nvmlEventSetCreate"),
        ),
        (
            "a GPU that tells of nothing",
            with(1, 0, |gpu| {
                gpu.fail_call("nvmlDeviceGetSupportedEventTypes", ReturnCode::NOT_SUPPORTED)
            }),
        ),
        (
            "a GPU that refuses",
            with(1, 0, |gpu| {
                gpu.fail_call("nvmlDeviceRegisterEvents", ReturnCode::UNKNOWN)
            }),
        ),
        (
            "a wait that always fails",
            Scenario::of(Profile::H100, 1).missing_symbol("nvmlEventSetWait_v2"),
        ),
    ];
    for (name, scenario) in table {
        let played = Played::new(&scenario);
        let deaf = |snapshot: &Snapshot| {
            let sample = snapshot.samples.first();
            sample.is_some_and(|sample| sample.health.xid_events == Some(false))
        };
        let snapshot = played.until(name, deaf);
        assert!(is_ready(&snapshot), "{name}");
        assert_eq!(snapshot.samples[0].health.recovery_action, Some(RecoveryAction::None));
    }
}

#[test]
fn a_wait_for_events_that_hangs_is_a_driver_that_hangs() {
    let played = Played::new(&Scenario::of(Profile::H100, 1));
    played.until("samples", is_ready);
    played.play(&Scenario::of(Profile::H100, 1).hang("nvmlEventSetWait_v2"));
    let ticks = played
        .until("unresponsive driver", |snapshot| {
            matches!(snapshot.driver, DriverState::Unresponsive { .. })
        })
        .ticks;
    played.until("samples meanwhile", |snapshot| snapshot.ticks > ticks + 3);
    played.play(&Scenario::of(Profile::H100, 1));
    played.until("recovery", is_ready);
}

#[test]
fn uncorrectable_errors_are_counted_from_the_second_look_on() {
    let errors = |volatile, aggregate| {
        with(1, 0, |mut gpu| {
            (gpu.ecc_volatile, gpu.ecc_aggregate) = (Some(volatile), Some(aggregate));
            gpu
        })
    };
    let played = Played::new(&errors(3, 9));
    let snapshot = played.until("samples", |snapshot| snapshot.ticks >= 5);
    assert_eq!(snapshot.incidents, [], "old errors are no news");
    assert_eq!(snapshot.samples[0].health.ecc_uncorrectable_volatile, Some(3));
    let ecc = |snapshot: &Snapshot| {
        let mut all = snapshot.incidents.iter();
        all.find(|incident| incident.kind == IncidentKind::EccUncorrectable)
            .map_or(0, |incident| incident.count)
    };
    played.play(&errors(5, 11));
    played.until("two more", |snapshot| ecc(snapshot) == 2);
    played.play(&errors(5, 12));
    played.until("one that only the aggregate counts", |snapshot| ecc(snapshot) == 3);
    played.play(&errors(0, 12));
    let ticks = played.monitor.latest().ticks;
    let snapshot = played.until("a reset", |snapshot| snapshot.ticks > ticks + 4);
    assert_eq!(ecc(&snapshot), 3, "a counter that goes back adds nothing");
}

#[test]
fn an_event_makes_the_session_look_closer() {
    let scenario = |events: bool, volatile| {
        with(1, 0, |mut gpu| {
            gpu.ecc_volatile = Some(volatile);
            if events {
                gpu = gpu.event(Event::DOUBLE_BIT_ECC, 0);
            }
            gpu
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let stand_in = infmon_nvml_stand_in::StandIn::install(folder.path(), &scenario(false, 0)).unwrap();
    let rarely = infmon_gpu::MonitorOptions {
        process_period: Duration::from_secs(3_600),
        ..crate::played::options(&stand_in)
    };
    let monitor = infmon_gpu::GpuMonitor::start(rarely);
    crate::played::until(&monitor, "samples", is_ready);
    stand_in.write(&scenario(false, 1)).unwrap();
    let ticks = monitor.latest().ticks;
    let snapshot = crate::played::until(&monitor, "rounds", |snapshot| snapshot.ticks > ticks + 5);
    assert_eq!(snapshot.samples[0].health.ecc_uncorrectable_volatile, Some(0));
    stand_in.write(&scenario(true, 1)).unwrap();
    crate::played::until(&monitor, "the error", |snapshot| !snapshot.incidents.is_empty());
}

#[test]
fn what_the_driver_says_of_memory_and_recovery_arrives() {
    let gpu = Gpu {
        recovery_action: Some(4),
        remapped_rows: Some(2),
        remap_pending: Some(1),
        remap_failed: Some(1),
        ..Profile::H100.gpu(0)
    };
    let old = Gpu {
        retired_pages: Some(7),
        retirement_pending: Some(1),
        ..Profile::T4.gpu(1)
    };
    let none = Profile::Rtx4090.gpu(2);
    let played = Played::new(&Scenario::new("580.95.05").gpu(gpu).gpu(old).gpu(none));
    let snapshot = played.until("samples", |snapshot| snapshot.samples.len() == 3);
    let standing = |index: usize| snapshot.samples[index].health.standing().collect::<Vec<_>>();
    assert_eq!(
        standing(0),
        [
            StandingFault::RecoveryAction,
            StandingFault::RowRemapFailed,
            StandingFault::RowRemapPending
        ]
    );
    assert_eq!(
        snapshot.samples[0].health.recovery_action,
        Some(RecoveryAction::DrainAndReset)
    );
    assert_eq!(standing(1), [StandingFault::PageRetirementPending]);
    assert_eq!(snapshot.samples[1].health.retired_pages, Some(7));
    assert_eq!(
        snapshot.samples[2].health,
        GpuHealth {
            xid_events: Some(true),
            ..GpuHealth::default()
        },
        "what a board does not have is not known, and no fault"
    );
}

#[test]
fn a_fault_stands_while_the_driver_refuses_to_tell_of_it() {
    let faulty = |gpu: Gpu| Gpu {
        recovery_action: Some(1),
        remap_failed: Some(1),
        ..gpu
    };
    let refuse = |gpu: Gpu| gpu.fail_call("nvmlDeviceGetFieldValues", ReturnCode::UNKNOWN);
    let standing = |snapshot: &Snapshot| -> Vec<StandingFault> {
        let samples = snapshot.samples.iter();
        samples.flat_map(|sample| sample.health.standing()).collect()
    };
    let both = [StandingFault::RecoveryAction, StandingFault::RowRemapFailed];
    let refused = |snapshot: &Snapshot| {
        snapshot
            .samples
            .iter()
            .any(|sample| sample.energy_millijoules.is_none())
    };

    let played = Played::new(&with(1, 0, faulty));
    played.until("faults", |snapshot| standing(snapshot) == both);
    played.play(&with(1, 0, |gpu| refuse(faulty(gpu))));
    let ticks = played.until("refusals", refused).ticks;
    let snapshot = played.until("slow rounds", |snapshot| snapshot.ticks > ticks + 6);
    assert_eq!(standing(&snapshot), both);
    // Another GPU appears: the next session knows it too.
    let mut two = with(2, 0, |gpu| refuse(faulty(gpu)));
    two.gpus[1] = Profile::H100.gpu(1);
    played.play(&two);
    let snapshot = played.until("a second GPU", |snapshot| snapshot.samples.len() == 2);
    assert_eq!(standing(&snapshot), both);
    played.play(&Scenario::of(Profile::H100, 1));
    played.until("repair", |snapshot| is_ready(snapshot) && standing(snapshot).is_empty());

    // What was in order is not known to be so any more.
    played.play(&with(1, 0, refuse));
    played.until("no health", |snapshot| {
        snapshot.samples.iter().any(|sample| !sample.health.is_known())
    });
}

#[test]
fn errors_beside_a_refusal_are_counted_after_it() {
    let errors = |count, refused: bool| {
        with(1, 0, |mut gpu| {
            (gpu.ecc_volatile, gpu.ecc_aggregate) = (Some(count), Some(count));
            if refused {
                gpu = gpu.fail_call("nvmlDeviceGetFieldValues", ReturnCode::UNKNOWN);
            }
            gpu
        })
    };
    let volatile = |snapshot: &Snapshot| snapshot.samples[0].health.ecc_uncorrectable_volatile;
    let played = Played::new(&errors(3, false));
    played.until("samples", is_ready);
    played.play(&errors(3, true));
    played.until("a refusal", |snapshot| volatile(snapshot).is_none());
    played.play(&errors(5, false));
    let snapshot = played.until("the count", |snapshot| volatile(snapshot) == Some(5));
    assert_eq!(snapshot.incidents.len(), 1);
    assert_eq!(snapshot.incidents[0].count, 2);
}

#[test]
fn a_gpu_that_wants_a_reset_begins_anew_when_it_answers() {
    for call in ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetFieldValues"] {
        let scenario = |reset: bool| {
            with(2, 1, |gpu| {
                let gpu = gpu.xid(119);
                if reset {
                    gpu.fail_call(call, ReturnCode::RESET_REQUIRED)
                } else {
                    gpu
                }
            })
        };
        let played = Played::new(&Scenario::of(Profile::H100, 2));
        played.until("samples", is_ready);
        played.play(&scenario(false));
        played.until("the XID", |snapshot| xids(snapshot) == [(1, 119, 1)]);
        played.play(&scenario(true));
        let wants = |snapshot: &Snapshot| {
            let mut failed = snapshot.failed.iter();
            failed.any(|gpu| gpu.failure == GpuFailure::ResetRequired && gpu.index == 1)
        };
        let init = played.until(call, wants).calls[0].count;
        // A new session opens it, and that is not yet an answer.
        let mut three = scenario(true);
        three.gpus.push(Profile::H100.gpu(2));
        played.play(&three);
        let snapshot = played.until("another session", |snapshot| {
            snapshot.calls[0].count > init && snapshot.samples.len() == 2 && wants(snapshot)
        });
        assert_eq!(xids(&snapshot), [(1, 119, 1)], "{call}");
        let mut well = scenario(false);
        well.gpus.push(Profile::H100.gpu(2));
        played.play(&well);
        let snapshot = played.until("an answer", |snapshot| snapshot.samples.len() == 3);
        assert_eq!(xids(&snapshot), [], "{call}");
    }
}

#[test]
fn a_lost_gpu_stays_named_while_the_others_refuse() {
    let played = Played::new(&Scenario::of(Profile::H100, 2));
    played.until("samples", |snapshot| snapshot.samples.len() == 2);
    let mut scenario = with(2, 0, |gpu| gpu.fail(ReturnCode::GPU_LOST));
    scenario.gpus[1] = Profile::H100
        .gpu(1)
        .fail_call("nvmlDeviceGetMemoryInfo", ReturnCode::UNKNOWN)
        .fail_call("nvmlDeviceGetFieldValues", ReturnCode::UNKNOWN);
    played.play(&scenario);
    let snapshot = played.until("every GPU refuses", |snapshot| {
        problem(snapshot).is_some_and(|(_, message)| message.contains("every GPU refuses"))
    });
    let failures: Vec<_> = snapshot.failed.iter().map(|gpu| (gpu.index, gpu.failure)).collect();
    assert_eq!(failures, [(0, GpuFailure::Lost), (1, GpuFailure::Refused)]);
}

#[test]
fn a_gpu_that_is_no_longer_enumerated_is_missed_by_its_name() {
    let played = Played::new(&Scenario::of(Profile::H100, 3));
    played.until("samples", |snapshot| snapshot.samples.len() == 3);
    // The one in the middle: the indexes of the others move.
    let mut scenario = Scenario::of(Profile::H100, 3);
    let missed = scenario.gpus.remove(1).uuid;
    played.play(&scenario);
    let snapshot = played.until("a missed GPU", |snapshot| {
        snapshot.samples.len() == 2
            && snapshot
                .failed
                .iter()
                .any(|gpu| gpu.failure == GpuFailure::NotEnumerated)
    });
    assert_eq!(snapshot.failed.len(), 1);
    assert_eq!(snapshot.failed[0].uuid.as_deref(), Some(missed.as_str()));
    assert_eq!(
        (snapshot.failed[0].index, snapshot.failed[0].minor_number),
        (1, Some(1))
    );
    let since = snapshot.failed[0].since;
    played.play(&Scenario::new("580.95.05"));
    let snapshot = played.until("none", |snapshot| problem(snapshot).is_some());
    assert_eq!(snapshot.failed.len(), 3, "{snapshot:?}");
    assert!(snapshot.failed.iter().any(|gpu| gpu.since == since));
    played.play(&Scenario::of(Profile::H100, 3));
    played.until("recovery", |snapshot| {
        snapshot.samples.len() == 3 && snapshot.failed.is_empty()
    });
}

#[test]
fn a_gpu_that_a_driver_loaded_anew_does_not_have_is_missed() {
    let played = Played::new(&Scenario::of(Profile::H100, 2));
    played.until("samples", |snapshot| snapshot.samples.len() == 2);
    let mut gone = Scenario::of(Profile::H100, 2).init_error(ReturnCode::DRIVER_NOT_LOADED);
    for gpu in &mut gone.gpus {
        *gpu = gpu.clone().fail(ReturnCode::UNINITIALIZED);
    }
    played.play(&gone);
    let snapshot = played.until("an unloaded driver", |snapshot| problem(snapshot).is_some());
    let sessions = snapshot.calls[0].count;
    played.play(&Scenario::of(Profile::H100, 1));
    let snapshot = played.until("a missed GPU", |snapshot| {
        is_ready(snapshot) && !snapshot.failed.is_empty()
    });
    assert_eq!(snapshot.failed[0].failure, GpuFailure::NotEnumerated);
    assert!(snapshot.calls[0].count >= sessions + 2, "told by the second session");
}

#[test]
fn the_only_gpu_stays_named_while_it_is_lost() {
    let played = Played::new(&Scenario::of(Profile::H100, 1));
    played.until("samples", is_ready);
    played.play(&with(1, 0, |gpu| gpu.fail(ReturnCode::GPU_LOST)));
    let snapshot = played.until("loss", |snapshot| problem(snapshot).is_some());
    let init = |snapshot: &Snapshot| snapshot.calls[0].count;
    let before = init(&snapshot);
    let snapshot = played.until("another session", |snapshot| init(snapshot) > before + 1);
    assert_eq!(snapshot.failed.len(), 1);
    assert_eq!(snapshot.failed[0].failure, GpuFailure::Lost);
    assert_eq!(
        snapshot.failed[0].uuid.as_deref(),
        Some(Profile::H100.gpu(0).uuid.as_str())
    );
}

#[test]
fn a_gpu_costs_eight_calls_a_second_at_most() {
    // Where nothing is a field, the draw takes a call of its own, and so do the limits.
    let mut scenario = Scenario::of(Profile::H100, 2);
    for gpu in &mut scenario.gpus {
        *gpu = gpu
            .clone()
            .fail_call("nvmlDeviceGetFieldValues", ReturnCode::NOT_SUPPORTED);
    }
    for scenario in [scenario, Scenario::of(Profile::H100, 2)] {
        let played = Played::new(&scenario);
        let counted = |snapshot: &Snapshot, which: fn(CallClass) -> bool| -> u64 {
            let calls = snapshot.calls.iter().filter(|calls| which(calls.class));
            calls.map(|calls| calls.count).sum()
        };
        let all = |class| !matches!(class, CallClass::Init | CallClass::Facts | CallClass::Events);
        let first = played.until("a round", |snapshot| snapshot.ticks >= 1);
        let later = played.until("rounds", |snapshot| snapshot.ticks >= first.ticks + 16);
        let grown = |which| (counted(&later, which) - counted(&first, which)) as f64;
        let rounds = 2.0 * (later.ticks - first.ticks) as f64;
        // Each slow round has at most six calls more: processes, health, event bits, memory clock, two limits. At the real periods
        // one round of eight is slow.
        let slow_rounds = grown(|class| class == CallClass::Processes);
        let most_slow = if scenario.gpus[0].fail.is_empty() { 4.0 } else { 6.0 };
        let fast = (grown(all) - slow_rounds * most_slow) / rounds;
        assert!((5.9..=7.1).contains(&fast), "{fast}");
        // The driver says itself what its answers took, one microsecond each in the stand-in; nothing where it gives none.
        let told = later.calls.iter().filter_map(|calls| calls.driver_microseconds);
        assert_eq!(told.sum::<u64>() > 0, scenario.gpus[0].fail.is_empty());
        assert!(fast + most_slow / 8.0 <= 8.0, "{fast} + {most_slow} / 8");
    }
}
