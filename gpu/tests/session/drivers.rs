//! Every GPU model with every branch of the driver: each value is right, or absent because that board or that driver does not have it.

use crate::played::Played;
use infmon_gpu::{GpuHealth, GpuProcess, GpuSample, RecoveryAction, Snapshot, ThrottleCause};
use infmon_nvml_stand_in::{Cause, Gpu, Profile, Scenario};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// A driver and what it tells, by NVIDIA's change log; written down here once more, so that the stand-in is not its own judge.
struct Driver {
    version: &'static str,
    memory: bool,
    processes: bool,
    /// The margin, of boards that have one.
    margin: bool,
    recovery_action: bool,
    /// Heat and power brake by hardware, as counters of their own.
    hardware_counters: bool,
}

const fn driver(version: &'static str, has: [bool; 5]) -> Driver {
    let [memory, processes, margin, recovery_action, hardware_counters] = has;
    Driver {
        version,
        memory,
        processes,
        margin,
        recovery_action,
        hardware_counters,
    }
}

const DRIVERS: [Driver; 9] = [
    driver("470.256.02", [false, false, false, false, false]),
    driver("535.247.01", [true, true, false, false, false]),
    driver("570.172.08", [true, true, true, true, false]),
    driver("575.57.08", [true, true, true, true, true]),
    driver("580.65.06", [true, true, true, true, true]),
    driver("580.95.05", [true, true, true, true, true]),
    driver("590.48.01", [true, true, true, true, true]),
    driver("610.57.04", [true, true, true, true, true]),
    // A version of the branch that is the newest in the change log; its number is made up.
    driver("615.10.01", [true, true, true, true, true]),
];

/// A busy GPU on which every counter moves at a pace of its own.
fn played(profile: Profile) -> Gpu {
    let mut gpu = profile
        .gpu(0)
        .throttle(Cause::HardwareThermal, 0.9)
        .throttle(Cause::HardwarePowerBrake, 0.8)
        .throttle(Cause::SoftwareThermal, 0.7)
        .throttle(Cause::PowerCap, 0.6)
        .throttle(Cause::SyncBoost, 0.3)
        .throttle(Cause::BelowBaseClock, 0.2)
        .process(4_711, 1_024);
    for (cause, duty) in [(Cause::BoardLimit, 0.5), (Cause::Reliability, 0.4)] {
        if gpu.throttle.get(&cause) != Some(&None) {
            gpu = gpu.throttle(cause, duty);
        }
    }
    gpu.power_limit_mw = gpu.power_limit_mw.map(|limit| limit - 1_000);
    gpu
}

fn expected(profile: Profile, gpu: &Gpu, driver: &Driver) -> GpuSample {
    use Profile::{A100, B200, H100, H200, L40S, Rtx4090, T4};
    let data_centre = matches!(profile, A100 | H100 | H200 | B200 | L40S);
    let margin = match profile {
        // 89 and 93 C less what they have: by the temperature of their slowdown, whatever the driver.
        A100 => Some(35),
        T4 => Some(35),
        H100 | H200 | B200 => driver.margin.then_some(35),
        L40S => driver.margin.then_some(32),
        Rtx4090 => driver.margin.then_some(27),
    };
    let memory = |mib: u64| driver.memory.then_some(mib * MIB);
    GpuSample {
        mig_instances: None,
        index: 0,
        uuid: gpu.uuid.clone(),
        minor_number: Some(0),
        name: gpu.name.clone(),
        memory_total_bytes: memory(gpu.memory_total_mib),
        memory_free_bytes: memory(gpu.memory_free_mib()),
        memory_used_bytes: memory(gpu.memory_used_mib),
        utilization_percent: Some(87),
        memory_utilization_percent: Some(41),
        sm_clock_mhz: gpu.sm_clock,
        sm_clock_max_mhz: gpu.sm_clock_max,
        memory_clock_mhz: gpu.memory_clock,
        power_milliwatts: gpu.power_mw,
        power_limit_milliwatts: gpu.power_limit_mw,
        power_limit_default_milliwatts: gpu.power_limit_default_mw,
        energy_millijoules: None,
        temperature_celsius: gpu.temperature,
        temperature_margin_celsius: margin,
        memory_temperature_celsius: matches!(profile, A100 | H100 | H200 | B200).then_some(61),
        throttle: Vec::new(),
        clocks_event_reasons: Some(gpu.event_reasons()),
        processes: driver.processes.then(|| {
            vec![GpuProcess {
                pid: 4_711,
                used_bytes: Some(1_024 * MIB),
                ..GpuProcess::default()
            }]
        }),
        health: GpuHealth {
            recovery_action: (data_centre && driver.recovery_action).then_some(RecoveryAction::None),
            ecc_uncorrectable_volatile: (profile != Rtx4090).then_some(0),
            ecc_uncorrectable_aggregate: (profile != Rtx4090).then_some(0),
            remapped_rows_uncorrectable: data_centre.then_some(0),
            row_remap_pending: data_centre.then_some(false),
            row_remap_failed: data_centre.then_some(false),
            retired_pages: (profile == T4).then_some(0),
            page_retirement_pending: (profile == T4).then_some(false),
            xid_events: Some(true),
        },
    }
}

/// Causes with the pace that the stand-in plays, as this board and this driver count them.
fn counted(profile: Profile, driver: &Driver) -> Vec<(ThrottleCause, f64)> {
    let limits = profile != Profile::T4;
    let table = [
        (ThrottleCause::HardwareThermal, 0.9, driver.hardware_counters),
        (ThrottleCause::HardwarePowerBrake, 0.8, driver.hardware_counters),
        (ThrottleCause::SoftwareThermal, 0.7, true),
        (ThrottleCause::PowerCap, 0.6, true),
        (ThrottleCause::BoardLimit, 0.5, limits),
        (ThrottleCause::Reliability, 0.4, limits),
        (ThrottleCause::SyncBoost, 0.3, true),
        (ThrottleCause::BelowBaseClock, 0.2, true),
    ];
    let counts = table.into_iter().filter(|(.., counts)| *counts);
    counts.map(|(cause, pace, _)| (cause, pace)).collect()
}

fn check(profile: Profile, driver: &Driver) {
    let what = format!("{} under {}", profile.as_str(), driver.version);
    let gpu = played(profile);
    let played = Played::new(&Scenario::new(driver.version).gpu(gpu.clone()));
    played.until(&what, |snapshot| snapshot.ticks >= 2);
    let epoch = Instant::now();
    let later = |snapshot: &Snapshot| {
        snapshot
            .taken
            .is_some_and(|taken| taken > epoch + Duration::from_millis(100))
    };
    let snapshot = played.until(&what, later);
    let sample = &snapshot.samples[0];
    let told = GpuSample {
        throttle: Vec::new(),
        energy_millijoules: None,
        ..sample.clone()
    };
    assert_eq!(told, expected(profile, &gpu, driver), "{what}");
    let counters: Vec<_> = sample.throttle.iter().map(|counter| counter.cause).collect();
    let expected = counted(profile, driver);
    let causes: Vec<_> = expected.iter().map(|(cause, _)| *cause).collect();
    assert_eq!(counters, causes, "{what}");
    // Each counter began with the library and moves at its own pace, so that their ratios tell whether one was taken for another.
    let nanoseconds = |cause| sample.throttle.iter().find(|counter| counter.cause == cause);
    let elapsed = nanoseconds(ThrottleCause::PowerCap).map_or(0.0, |counter| counter.nanoseconds as f64 / 0.6);
    assert!(elapsed > 5e7, "{what}: {elapsed} ns");
    for (counter, (_, pace)) in sample.throttle.iter().zip(expected) {
        let measured = counter.nanoseconds as f64 / elapsed;
        assert!(
            (measured - pace).abs() < 0.02,
            "{what}: {counter:?}, {measured} of the time"
        );
    }
    assert!(sample.energy_millijoules.is_some_and(|energy| energy > 0), "{what}");
}

#[test]
fn every_model_under_every_driver_is_read_right() {
    let checked: usize = std::thread::scope(|scope| {
        let models = Profile::ALL.map(|profile| {
            scope.spawn(move || {
                DRIVERS.iter().for_each(|driver| check(profile, driver));
                DRIVERS.len()
            })
        });
        models.into_iter().map(|model| model.join().unwrap()).sum()
    });
    assert_eq!(checked, 7 * 9);
}
