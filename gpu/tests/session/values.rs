//! The session against a driver in order: values, counters, processes, what a driver does not have.

use std::time::{Duration, Instant};

use crate::played::{Played, is_ready};
use infmon_gpu::{
    CallClass, DriverState, GpuHealth, GpuProcess, GpuSample, RecoveryAction, Stopped, ThrottleCause, ThrottleWindow,
};
use infmon_nvml_stand_in::{Cause, Process, Profile, Scenario};

const MIB: u64 = 1 << 20;

#[test]
fn every_value_of_an_h100_arrives() {
    let mut gpu = Profile::H100
        .gpu(3)
        .throttle(Cause::SoftwareThermal, 0.1)
        .process(4711, 65_536);
    gpu.processes.push(Process {
        pid: 12,
        used_mib: None,
    });
    gpu.power_limit_mw = Some(500_000);
    let played = Played::new(&Scenario::of(Profile::H100, 3).gpu(gpu.clone()));
    let snapshot = played.until("samples", |snapshot| is_ready(snapshot) && snapshot.samples.len() == 4);

    assert_eq!(
        snapshot.driver,
        DriverState::Ready {
            driver_version: "580.95.05".to_owned()
        }
    );
    assert!(snapshot.taken.is_some());
    assert_eq!(snapshot.failed, []);
    let sample = &snapshot.samples[3];
    let expected = GpuSample {
        index: 3,
        uuid: gpu.uuid.clone(),
        minor_number: Some(3),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_total_bytes: Some(gpu.memory_total_mib * MIB),
        memory_free_bytes: Some(gpu.memory_free_mib() * MIB),
        memory_used_bytes: Some(gpu.memory_used_mib * MIB),
        utilization_percent: Some(87),
        memory_utilization_percent: Some(41),
        sm_clock_mhz: Some(1_980),
        sm_clock_max_mhz: Some(1_980),
        memory_clock_mhz: Some(2_619),
        power_milliwatts: Some(420_000),
        power_limit_milliwatts: Some(500_000),
        power_limit_default_milliwatts: Some(700_000),
        energy_millijoules: sample.energy_millijoules,
        temperature_celsius: Some(52),
        temperature_margin_celsius: Some(35),
        memory_temperature_celsius: Some(61),
        throttle: sample.throttle.clone(),
        clocks_event_reasons: Some(0x20),
        processes: Some(vec![
            GpuProcess {
                pid: 4711,
                used_bytes: Some(65_536 * MIB),
                ..GpuProcess::default()
            },
            GpuProcess {
                pid: 12,
                ..GpuProcess::default()
            },
        ]),
        health: GpuHealth {
            recovery_action: Some(RecoveryAction::None),
            ecc_uncorrectable_volatile: Some(0),
            ecc_uncorrectable_aggregate: Some(0),
            remapped_rows_uncorrectable: Some(0),
            row_remap_pending: Some(false),
            row_remap_failed: Some(false),
            retired_pages: None,
            page_retirement_pending: None,
            xid_events: Some(true),
        },
        mig_instances: None,
    };
    assert_eq!(*sample, expected);
    assert!(sample.energy_millijoules.is_some());
    let causes: Vec<_> = sample.throttle.iter().map(|counter| counter.cause).collect();
    assert_eq!(causes, ThrottleCause::ALL);

    let snapshot = played.until("calls of every class", |snapshot| snapshot.ticks >= 3);
    let classes: Vec<_> = snapshot.calls.iter().map(|calls| calls.class).collect();
    assert_eq!(
        classes,
        CallClass::ALL
            .iter()
            .copied()
            // The draw is a field of this GPU, and it has no MIG.
            .filter(|class| !matches!(class, CallClass::Shutdown | CallClass::Power | CallClass::Gpm))
            .collect::<Vec<_>>()
    );
    for calls in &snapshot.calls {
        assert!(
            calls.count > 0 && calls.max_microseconds <= calls.total_microseconds,
            "{calls:?}"
        );
    }
    assert_eq!(played.monitor.stop(Duration::from_secs(5)), Stopped::Cleanly);
}

#[test]
fn what_a_t4_does_not_have_is_none_and_not_zero() {
    let played = Played::new(&Scenario::of(Profile::T4, 1));
    let snapshot = played.until("samples", |snapshot| !snapshot.samples.is_empty());
    let sample = &snapshot.samples[0];
    assert_eq!(sample.temperature_celsius, Some(58));
    assert_eq!(
        sample.temperature_margin_celsius,
        Some(93 - 58),
        "by the temperature of its slowdown"
    );
    assert_eq!(sample.memory_temperature_celsius, None);
    assert_eq!(sample.processes, Some(vec![]));
    let uncounted = |cause| sample.throttle.iter().all(|counter| counter.cause != cause);
    assert!(uncounted(ThrottleCause::BoardLimit) && uncounted(ThrottleCause::Reliability));
    assert_eq!(sample.throttle.len(), 6);
}

/// Feeds a window from the monitor until the duties over `length` are as expected; the longer it takes, the more a busy machine disturbs.
fn assert_duties(played: &Played, length: Duration, expected: &[(ThrottleCause, f64)]) {
    let epoch = Instant::now();
    let mut window = ThrottleWindow::new(Duration::from_secs(60));
    loop {
        let snapshot = played.until("a round", |snapshot| {
            let at = snapshot.taken.and_then(|taken| taken.checked_duration_since(epoch));
            at.is_some_and(|at| window.latest().is_none_or(|latest| at > latest))
        });
        let at = snapshot.taken.unwrap().duration_since(epoch);
        window.push(at, &snapshot.samples[0].throttle);
        let duties = window.duty_over(length);
        let is_as_expected = |(cause, expected): &(ThrottleCause, f64)| {
            let measured = duties
                .iter()
                .find(|duty| duty.cause == *cause && duty.over >= length * 9 / 10);
            measured.is_some_and(|measured| (measured.duty - expected).abs() <= 0.05)
        };
        if expected.iter().all(is_as_expected) {
            return;
        }
        assert!(
            epoch.elapsed() < Duration::from_secs(20),
            "{duties:?} is not {expected:?}"
        );
    }
}

#[test]
fn duty_is_measured_and_follows_the_cause() {
    let gpu = || Profile::H100.gpu(0);
    let played = Played::new(&Scenario::new("580.95.05").gpu(gpu().throttle(Cause::HardwareThermal, 0.38)));
    let length = Duration::from_secs(2);
    assert_duties(
        &played,
        length,
        &[(ThrottleCause::HardwareThermal, 0.38), (ThrottleCause::PowerCap, 0.0)],
    );

    played.play(&Scenario::new("580.95.05").gpu(gpu().throttle(Cause::PowerCap, 0.9)));
    assert_duties(
        &played,
        length,
        &[(ThrottleCause::HardwareThermal, 0.0), (ThrottleCause::PowerCap, 0.9)],
    );
}

/// A hardware throttle that is over before anybody looks: what a bitmask does not show.
#[test]
fn a_burst_between_two_samples_is_in_the_next_one() {
    let cool = Scenario::of(Profile::H100, 1);
    let played = Played::new(&cool);
    played.monitor.set_period(Duration::from_secs(1));
    let lost = |snapshot: &infmon_gpu::Snapshot| {
        let counters = snapshot.samples.first().map_or(&[][..], |sample| &sample.throttle);
        let heat = counters
            .iter()
            .find(|counter| counter.cause == ThrottleCause::HardwareThermal);
        heat.map_or(0, |counter| counter.nanoseconds)
    };
    played.until("samples", |snapshot| snapshot.ticks >= 2);
    let mut hot = cool.clone();
    hot.gpus[0] = hot.gpus[0].clone().throttle(Cause::HardwareThermal, 1.0);
    let mut measured = 0;
    for _ in 0..20 {
        let before = played.monitor.latest();
        let later = played.until("a round", |snapshot| snapshot.ticks > before.ticks);
        // The stand-in counts from the moment at which its state was written to that of the next one.
        let written = |scenario: &Scenario| {
            played.play(scenario);
            std::fs::metadata(played.stand_in.state_path())
                .unwrap()
                .modified()
                .unwrap()
        };
        let begun = written(&hot);
        std::thread::sleep(Duration::from_millis(200));
        let burst = written(&cool).duration_since(begun).unwrap();
        if played.monitor.latest().ticks != later.ticks {
            // A busy machine: the next round came in the midst of it.
            continue;
        }
        let next = played.until("the next round", |snapshot| snapshot.ticks > later.ticks);
        let gained = (lost(&next) - lost(&later)) as f64;
        let error = (gained / burst.as_nanos() as f64 - 1.0).abs();
        println!(
            "{burst:?} of throttling measured as {gained:.0} ns, off by {:.2} %",
            error * 100.0
        );
        assert!(error < 0.05, "{burst:?} measured as {gained} ns");
        measured += 1;
        if measured == 5 {
            return;
        }
    }
    panic!("only {measured} bursts lay between two rounds");
}

#[test]
fn both_numberings_of_the_throttle_fields_are_read_right() {
    for driver in ["575.57.08", "580.65.06", "580.82.07", "610.57.04"] {
        let gpu = Profile::L40S
            .gpu(0)
            .throttle(Cause::SoftwareThermal, 0.2)
            .throttle(Cause::HardwareThermal, 0.5)
            .throttle(Cause::HardwarePowerBrake, 0.8);
        let played = Played::new(&Scenario::new(driver).gpu(gpu));
        let expected = [
            (ThrottleCause::SoftwareThermal, 0.2),
            (ThrottleCause::HardwareThermal, 0.5),
            (ThrottleCause::HardwarePowerBrake, 0.8),
        ];
        assert_duties(&played, Duration::from_secs(1), &expected);
    }
}

#[test]
fn a_driver_without_some_calls_still_gives_the_rest() {
    let table = [
        (
            "the call answers that it is not there",
            Scenario::of(Profile::H100, 1).missing_symbol("nvmlDeviceGetTemperature"),
        ),
        (
            "the library does not export it",
            Scenario::of(Profile::H100, 1).absent_symbol("nvmlDeviceGetTemperature"),
        ),
    ];
    for (name, scenario) in table {
        let scenario = scenario
            .missing_symbol("nvmlDeviceGetUtilizationRates")
            .absent_symbol("nvmlDeviceGetMarginTemperature")
            .absent_symbol("nvmlDeviceGetCurrentClocksEventReasons")
            .absent_symbol("nvmlDeviceGetComputeRunningProcesses_v3");
        let played = Played::new(&scenario);
        let snapshot = played.until("samples", |snapshot| snapshot.ticks >= 2);
        let sample = &snapshot.samples[0];
        assert_eq!(sample.temperature_celsius, Some(52), "{name}: by the newer call");
        assert_eq!(sample.clocks_event_reasons, Some(0), "{name}: by the older call");
        assert_eq!(sample.utilization_percent, None, "{name}");
        assert_eq!(sample.temperature_margin_celsius, None, "{name}");
        assert_eq!(sample.processes, None, "{name}");
        assert_eq!(sample.throttle.len(), 8, "{name}");
    }
}

#[test]
fn power_limits_come_from_the_older_calls_where_there_are_no_fields() {
    let played = Played::new(&Scenario::of(Profile::Rtx4090, 1).missing_symbol("nvmlDeviceGetFieldValues"));
    let snapshot = played.until("samples", |snapshot| !snapshot.samples.is_empty());
    assert_eq!(snapshot.samples[0].power_limit_milliwatts, Some(450_000));
    assert_eq!(snapshot.samples[0].power_limit_default_milliwatts, Some(450_000));
    assert_eq!(snapshot.samples[0].throttle, []);
}

#[test]
fn a_long_process_list_arrives_whole() {
    let gpu = (0..100).fold(Profile::H100.gpu(0), |gpu, pid| gpu.process(1_000 + pid, 64));
    let played = Played::new(&Scenario::new("580.95.05").gpu(gpu));
    let snapshot = played.until("samples", |snapshot| !snapshot.samples.is_empty());
    let pids: Vec<_> = snapshot.samples[0]
        .processes
        .iter()
        .flatten()
        .map(|process| process.pid)
        .collect();
    assert_eq!(pids, (1_000..1_100).collect::<Vec<_>>());
}

#[test]
fn process_lists_are_read_more_rarely_than_the_rest() {
    let played = Played::new(&Scenario::of(Profile::H100, 2));
    let snapshot = played.until("rounds", |snapshot| snapshot.ticks >= 12);
    let count = |class| {
        snapshot
            .calls
            .iter()
            .find(|calls| calls.class == class)
            .map_or(0, |calls| calls.count)
    };
    assert_eq!(count(CallClass::Memory), 2 * snapshot.ticks);
    assert!(
        count(CallClass::Processes) <= 2 * (snapshot.ticks / 2 + 2),
        "{snapshot:?}"
    );
    assert!(count(CallClass::Processes) >= 6, "{snapshot:?}");
}

#[test]
fn the_period_can_be_changed_while_it_runs() {
    let played = Played::new(&Scenario::of(Profile::H100, 1));
    played.until("samples", is_ready);
    played.monitor.set_period(Duration::from_secs(3_600));
    // At most one round was due when the period changed.
    let before = played.monitor.latest().ticks;
    std::thread::sleep(Duration::from_millis(500));
    let after = played.monitor.latest().ticks;
    assert!(after <= before + 1, "{before} then {after}");
    played.monitor.set_period(Duration::from_millis(100));
    played.until("faster rounds", |snapshot| snapshot.ticks >= after + 3);
}

#[test]
fn stopping_leaves_the_driver_and_unloads_its_library() {
    let mut played = Played::new(&Scenario::of(Profile::H100, 8));
    played.until("samples", is_ready);
    assert!(played.is_loaded());
    let other = infmon_gpu::GpuMonitor::start(crate::played::options(&played.stand_in));
    let monitor = std::mem::replace(&mut played.monitor, other);
    assert_eq!(monitor.stop(Duration::from_secs(5)), Stopped::Cleanly);
    let other = infmon_gpu::GpuMonitor::start(infmon_gpu::MonitorOptions {
        library_path: Some("/nowhere".into()),
        ..infmon_gpu::MonitorOptions::default()
    });
    let monitor = std::mem::replace(&mut played.monitor, other);
    assert_eq!(monitor.stop(Duration::from_secs(5)), Stopped::Cleanly);
    assert!(!played.is_loaded(), "{:?}", played.mappings().collect::<Vec<_>>());
}
