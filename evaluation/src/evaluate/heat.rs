//! Heat before it costs clocks: a GPU near its slowdown, and one above the temperature that the user set.

use super::gpus::{Serving, evidence};
use super::{Finding, GpuVerdict, Input, Outcome, anchor, clears, seconds_of};
use crate::{Hold, Moment};
use infmon_crds::v1alpha1::{InferenceMonitorStatus, Thresholds, reason};

/// Memory of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    near_slowdown: Hold,
    hot: Hold,
}

impl Holds {
    /// As the status written before a restart tells them.
    pub(super) fn from_status(status: &InferenceMonitorStatus) -> Self {
        let standing = |reason: &str| Hold::standing(status.conditions.iter().any(|told| told.reason == reason));
        Self {
            near_slowdown: standing(reason::NEAR_SLOWDOWN),
            hot: standing(reason::TEMPERATURE_HIGH),
        }
    }

    pub(super) fn due(self, thresholds: &Thresholds) -> [Option<Moment>; 2] {
        let margin = &thresholds.gpu_temperature_margin_celsius;
        let hot = thresholds.gpu_temperature_celsius.as_ref();
        [
            self.near_slowdown.due(seconds_of(margin.for_seconds)),
            hot.and_then(|hot| self.hot.due(seconds_of(hot.for_seconds))),
        ]
    }
}

/// What stands now; the GPU is the worst one that tells.
#[derive(Debug, Default)]
pub(super) struct Heat<'a> {
    /// The GPU with the fewest degrees left before it slows down, and these.
    near_slowdown: Option<(&'a GpuVerdict, i32)>,
    /// The hottest GPU, and how hot it is.
    hot: Option<(&'a GpuVerdict, u32)>,
}

/// Looks at the GPUs of a monitor. A GPU that tells no margin or no temperature plays no part.
pub(super) fn judge<'a>(input: &Input<'_>, serving: &'a Serving, holds: Holds) -> (Heat<'a>, Holds) {
    let thresholds = &input.spec.thresholds;
    let gpus = &serving.verdicts;
    let margin = &thresholds.gpu_temperature_margin_celsius;
    let nearest = gpus
        .iter()
        .filter_map(|gpu| Some((gpu, gpu.sample.temperature_margin_celsius?)))
        .min_by_key(|(_, margin)| *margin);
    let near_slowdown = if margin.below > 0 {
        let beyond = nearest.map(|(_, left)| left < margin.below);
        holds
            .near_slowdown
            .update(beyond, input.now, seconds_of(margin.for_seconds))
    } else {
        Hold::default()
    };
    let hottest = gpus
        .iter()
        .filter_map(|gpu| Some((gpu, gpu.sample.temperature_celsius?)))
        .max_by_key(|(_, celsius)| *celsius);
    let hot = match &thresholds.gpu_temperature_celsius {
        Some(threshold) => {
            let beyond = hottest.map(|(_, celsius)| i64::from(celsius) > i64::from(threshold.above));
            holds.hot.update(beyond, input.now, seconds_of(threshold.for_seconds))
        }
        None => Hold::default(),
    };
    let heat = Heat {
        near_slowdown: nearest.filter(|_| near_slowdown.is_raised()),
        hot: hottest.filter(|_| hot.is_raised()),
    };
    (heat, Holds { near_slowdown, hot })
}

impl<'a> Heat<'a> {
    /// A Throttled that is False with the warning that it may not stay so. What is True or not known says more than a warning.
    pub(super) fn warn(&self, input: &Input<'_>, throttled: Finding) -> Finding {
        let Some((gpu, left)) = self
            .near_slowdown
            .filter(|_| throttled.outcome == Outcome::False && throttled.reason == reason::BELOW_THRESHOLD)
        else {
            return throttled;
        };
        let threshold = &input.spec.thresholds.gpu_temperature_margin_celsius;
        let numbers = format!(
            "{} kept its clocks and is {} (threshold: below {} C for {} s){}",
            gpu.label(),
            match left {
                left if left > 0 => format!("{left} C from slowing down"),
                0 => "at the temperature at which it slows down".to_owned(),
                left => format!("{} C above the temperature at which it slows down", left.unsigned_abs()),
            },
            threshold.below,
            threshold.for_seconds,
            evidence(&gpu.sample),
        );
        let message = if left < threshold.below {
            format!(
                "{numbers}. {} Next: check airflow and fans of {} before it loses clocks.",
                gpu.serves(),
                gpu.node
            )
        } else {
            format!("{numbers}: {}.", clears(seconds_of(threshold.for_seconds)))
        };
        Finding {
            reason: reason::NEAR_SLOWDOWN,
            message: format!("{message} {}", anchor(reason::NEAR_SLOWDOWN)),
            ..throttled
        }
    }

    /// The GPU that is hotter than the user allows, what to say of it, and what to do.
    pub(super) fn fault(&self, input: &Input<'_>) -> Option<(&'a GpuVerdict, String, String)> {
        let (gpu, celsius) = self.hot?;
        let threshold = input.spec.thresholds.gpu_temperature_celsius.as_ref()?;
        let numbers = format!(
            "{celsius} C (threshold {} C for {} s)",
            threshold.above, threshold.for_seconds
        );
        let what = if i64::from(celsius) > i64::from(threshold.above) {
            numbers
        } else {
            format!("{numbers}: {}", clears(seconds_of(threshold.for_seconds)))
        };
        let node = &gpu.node;
        let next = format!("check airflow, fans and inlet temperature of {node}");
        Some((gpu, what, next))
    }
}
