//! Which throttle causes are findings.

use std::time::Duration;

use ThrottleCause::{
    BelowBaseClock, BoardLimit, HardwarePowerBrake, HardwareThermal, PowerCap, Reliability, SoftwareThermal, SyncBoost,
};
use infmon_gpu::{CauseDuty, GpuSample, ThrottleCause, lost_clocks, power_cap_costs_clocks, supporting_evidence};

fn duties(entries: &[(ThrottleCause, f64)]) -> Vec<CauseDuty> {
    entries
        .iter()
        .map(|&(cause, duty)| CauseDuty {
            cause,
            duty,
            over: Duration::from_secs(60),
        })
        .collect()
}

/// A busy H100 whose power limit was lowered to 500 W.
fn capped() -> GpuSample {
    GpuSample {
        utilization_percent: Some(98),
        sm_clock_mhz: Some(1_410),
        sm_clock_max_mhz: Some(1_980),
        power_milliwatts: Some(498_000),
        power_limit_milliwatts: Some(500_000),
        power_limit_default_milliwatts: Some(700_000),
        ..GpuSample::default()
    }
}

fn with(change: impl FnOnce(&mut GpuSample)) -> GpuSample {
    let mut sample = capped();
    change(&mut sample);
    sample
}

#[test]
fn a_power_cap_needs_corroboration() {
    let table = [
        ("all four hold", capped(), true),
        (
            "draw at 95 % of the limit",
            with(|sample| sample.power_milliwatts = Some(475_000)),
            true,
        ),
        (
            "draw below that",
            with(|sample| sample.power_milliwatts = Some(474_000)),
            false,
        ),
        (
            "limit as shipped: GPU Boost",
            with(|sample| sample.power_limit_milliwatts = Some(700_000)),
            false,
        ),
        ("idle", with(|sample| sample.utilization_percent = Some(49)), false),
        (
            "clocks near the maximum",
            with(|sample| sample.sm_clock_mhz = Some(1_782)),
            false,
        ),
        (
            "utilisation unknown",
            with(|sample| sample.utilization_percent = None),
            false,
        ),
        ("draw unknown", with(|sample| sample.power_milliwatts = None), false),
        (
            "limit unknown",
            with(|sample| sample.power_limit_milliwatts = None),
            false,
        ),
        (
            "default limit unknown",
            with(|sample| sample.power_limit_default_milliwatts = None),
            false,
        ),
        ("clock unknown", with(|sample| sample.sm_clock_mhz = None), false),
        (
            "highest clock unknown",
            with(|sample| sample.sm_clock_max_mhz = None),
            false,
        ),
    ];
    let duties = duties(&[(PowerCap, 0.9)]);
    for (name, sample, expected) in table {
        assert_eq!(power_cap_costs_clocks(&sample), expected, "{name}");
        assert_eq!(!lost_clocks(&sample, &duties).is_empty(), expected, "{name}");
    }
}

#[test]
fn captured_power_caps_of_healthy_gpus_are_no_findings() {
    // From public captures: counters ran although nothing was lost.
    let idle_2080s = GpuSample {
        utilization_percent: Some(0),
        sm_clock_mhz: Some(300),
        sm_clock_max_mhz: Some(2_100),
        power_milliwatts: Some(39_000),
        power_limit_milliwatts: Some(250_000),
        power_limit_default_milliwatts: Some(250_000),
        ..GpuSample::default()
    };
    let busy_l40s = GpuSample {
        utilization_percent: Some(90),
        sm_clock_mhz: Some(2_520),
        sm_clock_max_mhz: Some(2_520),
        power_milliwatts: Some(145_000),
        power_limit_milliwatts: Some(350_000),
        power_limit_default_milliwatts: Some(350_000),
        ..GpuSample::default()
    };
    assert_eq!(lost_clocks(&idle_2080s, &duties(&[(PowerCap, 0.59)])), []);
    assert_eq!(lost_clocks(&busy_l40s, &duties(&[(PowerCap, 0.27)])), []);
}

#[test]
fn faults_count_by_themselves_and_evidence_does_not() {
    let unknown = GpuSample::default();
    let all = duties(&ThrottleCause::ALL.map(|cause| (cause, 0.1)));
    let causes: Vec<_> = lost_clocks(&unknown, &all)
        .iter()
        .map(|finding| finding.cause)
        .collect();
    assert_eq!(
        causes,
        [
            HardwareThermal,
            HardwarePowerBrake,
            SoftwareThermal,
            BoardLimit,
            Reliability
        ]
    );
    let causes: Vec<_> = supporting_evidence(&all).iter().map(|finding| finding.cause).collect();
    assert_eq!(causes, [SyncBoost, BelowBaseClock]);
    assert_eq!(
        lost_clocks(&unknown, &duties(&[(HardwareThermal, 0.0)])),
        [],
        "no time lost, no finding"
    );
}
