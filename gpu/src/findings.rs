//! Which of the causes that hold clocks down are faults.

use serde::{Deserialize, Serialize};

use crate::sample::{GpuSample, ThrottleCause};
use crate::throttle::CauseDuty;

/// A cause for which a GPU loses performance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Why clocks were lost.
    pub cause: ThrottleCause,
    /// Share of time, 0 to 1.
    pub duty: f64,
}

/// The causes that cost this GPU performance, most severe first. The caller compares the duty with its threshold.
///
/// A power cap alone is how GPU Boost works, and even an idle GPU counts it: it is named only where [`power_cap_costs_clocks`] agrees.
/// Sync boost and "below base clock" repeat what another cause has already said: see [`supporting_evidence`].
#[must_use]
pub fn lost_clocks(sample: &GpuSample, duties: &[CauseDuty]) -> Vec<Finding> {
    select(duties, |cause| match cause {
        ThrottleCause::PowerCap => power_cap_costs_clocks(sample),
        ThrottleCause::SyncBoost | ThrottleCause::BelowBaseClock => false,
        ThrottleCause::HardwareThermal
        | ThrottleCause::HardwarePowerBrake
        | ThrottleCause::SoftwareThermal
        | ThrottleCause::BoardLimit
        | ThrottleCause::Reliability => true,
    })
}

/// Causes that say nothing by themselves, to be shown beside a finding.
#[must_use]
pub fn supporting_evidence(duties: &[CauseDuty]) -> Vec<Finding> {
    select(duties, |cause| {
        matches!(cause, ThrottleCause::SyncBoost | ThrottleCause::BelowBaseClock)
    })
}

/// Whether the power limit costs this GPU clocks: somebody lowered the limit, the draw is at it (95 % or more), the GPU is busy (50 % or
/// more), and the SM clock is below 90 % of its maximum. False as long as any of the four is not known.
#[must_use]
pub fn power_cap_costs_clocks(sample: &GpuSample) -> bool {
    let at_limit = match (sample.power_milliwatts, sample.power_limit_milliwatts) {
        (Some(power), Some(limit)) => u64::from(power) * 100 >= u64::from(limit) * 95,
        _ => false,
    };
    let lowered = match (sample.power_limit_milliwatts, sample.power_limit_default_milliwatts) {
        (Some(limit), Some(default)) => limit < default,
        _ => false,
    };
    let slow = match (sample.sm_clock_mhz, sample.sm_clock_max_mhz) {
        (Some(clock), Some(highest)) => u64::from(clock) * 100 < u64::from(highest) * 90,
        _ => false,
    };
    let busy = sample.utilization_percent.is_some_and(|percent| percent >= 50);
    at_limit && lowered && slow && busy
}

fn select(duties: &[CauseDuty], counts: impl Fn(ThrottleCause) -> bool) -> Vec<Finding> {
    let lost = duties.iter().filter(|duty| duty.duty > 0.0 && counts(duty.cause));
    let mut findings: Vec<_> = lost
        .map(|duty| Finding {
            cause: duty.cause,
            duty: duty.duty,
        })
        .collect();
    findings.sort_by_key(|finding| finding.cause);
    findings
}
