//! Throttled: which GPUs serve the monitor, and do they lose clocks.

use super::{Finding, Input, Outcome, anchor, fresh_gpus, nodes_of};
use crate::Place;
use infmon_crds::v1alpha1::{ConditionType, reason};
use infmon_gpu::lost_clocks;
use infmon_gpu::{CauseDuty, DriverState, GpuSample, ThrottleCause};
use std::collections::BTreeSet;
use std::time::Duration;

/// One GPU that serves the monitor.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuVerdict {
    /// Node.
    pub node: String,
    /// The sample.
    pub sample: GpuSample,
    /// Cause and share (0-1) of lost clocks above the threshold, worst cause first, and the time over which it was taken.
    pub throttled: Option<(ThrottleCause, f64, Duration)>,
    /// Pods of the monitor that the GPU serves.
    pub pods: Vec<String>,
    /// The pods were told by device id; otherwise they merely run on the same node.
    pub by_device: bool,
}

impl GpuVerdict {
    /// `GPU 3 (GPU-5f2c91e0) on node gpu-a7`.
    pub(crate) fn label(&self) -> String {
        let short: String = self.sample.uuid.chars().take(12).collect();
        format!("GPU {} ({short}) on node {}", self.sample.index, self.node)
    }

    /// The sentence that says whom it serves.
    pub(crate) fn serves(&self) -> String {
        let names = self
            .pods
            .iter()
            .take(3)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let more = if self.pods.len() > 3 {
            format!(" and {} more", self.pods.len() - 3)
        } else {
            String::new()
        };
        if self.by_device {
            format!("It serves pod {names}{more}.")
        } else {
            format!("On that node: pod {names}{more} (the cluster does not tell which pod has which GPU).")
        }
    }
}

/// GPUs of a monitor.
pub(super) struct Serving {
    /// Worst first.
    pub(super) verdicts: Vec<GpuVerdict>,
    /// Age of the oldest sample used.
    pub(super) age: Option<Duration>,
    /// Why a node gave no GPU data: node, words.
    pub(super) problems: Vec<(String, String)>,
}

pub(super) fn serving(input: &Input<'_>, stale_after: Duration) -> Serving {
    let Input {
        spec,
        resolution,
        observations,
        now,
        ..
    } = *input;
    let threshold = &spec.thresholds.throttled_percent;
    let window = super::seconds_of(threshold.for_seconds);
    let mut serving = Serving {
        verdicts: Vec::new(),
        age: None,
        problems: Vec::new(),
    };
    let mut nodes: BTreeSet<&str> = nodes_of(resolution);
    // A url endpoint on the daemon's own machine (standalone mode) shares that machine's GPUs; one elsewhere has none that we see.
    for endpoint in resolution
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.place == Place::Anywhere)
    {
        let local = ["127.", "localhost:", "[::1]"]
            .iter()
            .any(|prefix| endpoint.name.starts_with(prefix));
        if local
            && let Some(target) = &endpoint.target
            && let Some((node, _)) = observations.target(&endpoint.place, &target.id)
        {
            nodes.insert(node);
        }
    }
    for name in nodes {
        let Some(node) = observations.node(name) else { continue };
        if !fresh_gpus(observations, name, stale_after, now) {
            serving.problems.push((name.to_owned(), driver_problem(&node.driver)));
            continue;
        }
        let pods: Vec<_> = resolution
            .endpoints
            .iter()
            .filter(|endpoint| {
                matches!(&endpoint.place, Place::Node(place) if place == name) || endpoint.place == Place::Anywhere
            })
            .collect();
        let told = pods.iter().any(|pod| !pod.devices.is_empty());
        for sample in &node.gpus {
            let owners: Vec<String> = pods
                .iter()
                .filter(|pod| !told || pod.devices.iter().any(|device| names_gpu(device, &sample.uuid)))
                .map(|pod| pod.name.clone())
                .collect();
            if owners.is_empty() {
                continue;
            }
            let duties = node
                .throttle
                .get(&sample.uuid)
                .map(|history| history.duty_over(window))
                .unwrap_or_default();
            let throttled = lost_clocks(sample, &duties)
                .into_iter()
                .filter(|finding| finding.duty * 100.0 > f64::from(threshold.above))
                .max_by(|a, b| b.cause.cmp(&a.cause).then(a.duty.total_cmp(&b.duty)))
                .map(|finding| (finding.cause, finding.duty, over(&duties, finding.cause, window)));
            serving.verdicts.push(GpuVerdict {
                node: name.to_owned(),
                sample: sample.clone(),
                throttled,
                pods: owners,
                by_device: told,
            });
        }
        let age = node.gpus_taken.map(|taken| now.since(taken));
        serving.age = serving.age.max(age);
        if node.gpus.is_empty() {
            serving.problems.push((name.to_owned(), driver_problem(&node.driver)));
        }
    }
    serving.verdicts.sort_by(|a, b| {
        let duty = |gpu: &GpuVerdict| gpu.throttled.map_or(0.0, |(_, duty, _)| duty);
        duty(b)
            .total_cmp(&duty(a))
            .then_with(|| (&a.node, a.sample.index).cmp(&(&b.node, b.sample.index)))
    });
    serving
}

/// Whether a device id of the kubelet names the GPU: `GPU-<uuid>` or a time-slicing replica of it, `GPU-<uuid>::3`.
fn names_gpu(device: &str, uuid: &str) -> bool {
    device.split("::").next() == Some(uuid)
}

fn driver_problem(driver: &DriverState) -> String {
    match driver {
        DriverState::Starting => "the GPU session is starting".into(),
        DriverState::Ready { driver_version } => format!("driver {driver_version} gives no fresh sample"),
        DriverState::Unavailable { message, .. } => message.clone(),
        DriverState::Unresponsive { for_seconds } => format!("a driver call has not returned for {for_seconds} s"),
    }
}

pub(super) fn throttled(input: &Input<'_>, serving: &Serving, settling: bool) -> Finding {
    let kind = ConditionType::Throttled;
    let threshold = &input.spec.thresholds.throttled_percent;
    if let Some(worst) = serving.verdicts.first()
        && let Some((cause, duty, over)) = worst.throttled
    {
        let count = serving.verdicts.iter().filter(|gpu| gpu.throttled.is_some()).count();
        let more = if count > 1 {
            format!(" {} more GPUs are throttled.", count - 1)
        } else {
            String::new()
        };
        let reason = cause_reason(cause);
        return Finding {
            kind,
            outcome: Outcome::True,
            reason,
            message: format!(
                "{} lost clocks to {} for {:.1}% of the last {:.0} s (threshold {}%){}. {}{more} Next: {}. {}",
                worst.label(),
                cause_words(cause),
                duty * 100.0,
                over.as_secs_f64(),
                threshold.above,
                evidence(&worst.sample),
                worst.serves(),
                next_step(cause, &worst.node),
                anchor(reason)
            ),
        };
    }
    if !serving.verdicts.is_empty() {
        let mut message = format!(
            "{} GPUs kept their clocks (threshold {}% of {} s).",
            serving.verdicts.len(),
            threshold.above,
            threshold.for_seconds
        );
        if let Some((node, problem)) = serving.problems.first() {
            message.push_str(&format!(" No GPU data from node {node}: {problem}."));
        }
        return Finding {
            kind,
            outcome: Outcome::False,
            reason: reason::BELOW_THRESHOLD,
            message,
        };
    }
    let (reason, message) = match serving.problems.first() {
        Some((node, problem)) if !settling => (
            reason::NO_GPU_DATA,
            format!(
                "No GPU data from node {node}: {problem}. {}",
                anchor(reason::NO_GPU_DATA)
            ),
        ),
        _ if settling => (
            reason::WAITING_FOR_DATA,
            "Waiting for the first GPU samples.".to_owned(),
        ),
        _ => (
            reason::NO_GPU_DATA,
            format!(
                "No GPU is seen on the nodes of the endpoints. {}",
                anchor(reason::NO_GPU_DATA)
            ),
        ),
    };
    Finding {
        kind,
        outcome: Outcome::Unknown,
        reason,
        message,
    }
}

fn evidence(sample: &GpuSample) -> String {
    let mut parts = Vec::new();
    if let Some(celsius) = sample.temperature_celsius {
        parts.push(match sample.temperature_margin_celsius {
            Some(margin) => format!("{celsius} C, margin {margin} C"),
            None => format!("{celsius} C"),
        });
    }
    if let (Some(power), Some(limit)) = (sample.power_milliwatts, sample.power_limit_milliwatts) {
        parts.push(format!("{} of {} W", power / 1000, limit / 1000));
    }
    if let (Some(clock), Some(max)) = (sample.sm_clock_mhz, sample.sm_clock_max_mhz) {
        parts.push(format!("SM {clock} of {max} MHz"));
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!(": {}", parts.join(", "))
    }
}

fn cause_reason(cause: ThrottleCause) -> &'static str {
    match cause {
        ThrottleCause::HardwareThermal => reason::HARDWARE_THERMAL,
        ThrottleCause::HardwarePowerBrake => reason::HARDWARE_POWER_BRAKE,
        ThrottleCause::SoftwareThermal => reason::SOFTWARE_THERMAL,
        ThrottleCause::PowerCap => reason::POWER_CAP,
        ThrottleCause::BoardLimit => reason::BOARD_LIMIT,
        // Supporting evidence only: `lost_clocks` does not return them.
        ThrottleCause::Reliability | ThrottleCause::SyncBoost | ThrottleCause::BelowBaseClock => reason::RELIABILITY,
    }
}

fn cause_words(cause: ThrottleCause) -> &'static str {
    match cause {
        ThrottleCause::HardwareThermal => "heat (hardware)",
        ThrottleCause::HardwarePowerBrake => "an external power brake",
        ThrottleCause::SoftwareThermal => "heat (driver)",
        ThrottleCause::PowerCap => "a lowered power limit",
        ThrottleCause::BoardLimit => "a board limit",
        ThrottleCause::Reliability | ThrottleCause::SyncBoost | ThrottleCause::BelowBaseClock => "a voltage limit",
    }
}

fn next_step(cause: ThrottleCause, node: &str) -> String {
    match cause {
        ThrottleCause::HardwareThermal | ThrottleCause::SoftwareThermal => format!("check airflow and fans of {node}"),
        ThrottleCause::HardwarePowerBrake => format!("check the power supply and power cables of {node}"),
        ThrottleCause::PowerCap => format!("see who lowered the power limit on {node} (nvidia-smi -q -d POWER)"),
        _ => format!("look at nvidia-smi -q -d PERFORMANCE on {node}"),
    }
}

/// The time over which the share of a cause was taken.
fn over(duties: &[CauseDuty], cause: ThrottleCause, window: Duration) -> Duration {
    duties
        .iter()
        .find(|duty| duty.cause == cause)
        .map_or(window, |duty| duty.over)
}
