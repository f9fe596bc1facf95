//! Throttled: which GPUs serve the monitor, and do they lose clocks.

use super::health::Seen;
use super::ownership::{Ownership, Served};
use super::{Attribution, Finding, Input, Outcome, Part, PodProcesses, Sharing, anchor};
use crate::words::{clause, clause_or, count};
use crate::{Place, ResolvedEndpoint};
use infmon_crds::v1alpha1::{ConditionType, reason};
use infmon_gpu::lost_clocks;
use infmon_gpu::{CauseDuty, DriverState, GpuSample, ThrottleCause};
use std::collections::BTreeMap;
use std::time::Duration;

/// A GPU counts as judged once its counters cover so much of the window: one second with a hiccup says nothing about a minute.
const COVERED_FOR: Duration = Duration::from_secs(5);

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
    /// How that is known.
    pub attribution: Attribution,
    /// Who else has it.
    pub sharing: Sharing,
    /// What the processes of these pods hold, by the name of the pod; one of which that is not known is left out.
    pub processes: BTreeMap<String, PodProcesses>,
    /// The MIG instances that these pods have, where it is known which; none of a GPU that is not divided.
    pub parts: Vec<Part>,
}

impl GpuVerdict {
    /// `GPU 3 (GPU-5f2c91e0) on node gpu-a7`.
    pub(crate) fn label(&self) -> String {
        label(&self.sample, &self.node)
    }

    /// `MIG instance 3 (MIG-7f0a1c22) of GPU 3 (GPU-5f2c91e0) on node gpu-a7`.
    pub(crate) fn part_label(&self, part: &Part) -> String {
        let uuid = part.instance.devices.first().map(|device| device.uuid.as_str());
        let short: String = uuid.unwrap_or_default().chars().take(12).collect();
        format!(
            "MIG instance {} ({short}) of {}",
            part.instance.gpu_instance,
            self.label()
        )
    }

    /// The sentence that says whom it serves.
    pub(crate) fn serves(&self) -> String {
        serves(Subject::Gpu, &self.pods, &self.attribution, self.sharing)
    }
}

/// `GPU 3 (GPU-5f2c91e0) on node gpu-a7`; without a uuid where none is known.
pub(super) fn label(gpu: &GpuSample, node: &str) -> String {
    let short: String = gpu.uuid.chars().take(12).collect();
    if short.is_empty() {
        format!("GPU {} on node {node}", gpu.index)
    } else {
        format!("GPU {} ({short}) on node {node}", gpu.index)
    }
}

/// What serves pods, in the words of the sentence that says whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The GPU, or the part of one, that was named before.
    Gpu,
    /// The GPU instance of MIG that was named before, and not the GPU.
    Instance,
    /// GPUs behind the switch that was named before.
    BehindSwitch,
}

/// The sentence that says whom a GPU serves.
pub(super) fn serves(subject: Subject, pods: &[String], attribution: &Attribution, sharing: Sharing) -> String {
    let names = pods.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if pods.len() > 3 {
        format!(" and {} more", pods.len() - 3)
    } else {
        String::new()
    };
    let (serves, it) = match subject {
        Subject::Gpu => ("It serves", "it"),
        Subject::Instance => ("That instance serves", "it"),
        Subject::BehindSwitch => ("GPUs behind it serve", "GPUs behind it"),
    };
    match attribution {
        Attribution::Device => format!("{serves} pod {names}{more}{}.", shared(sharing)),
        Attribution::Process => format!("Processes of pod {names}{more} were seen on {it}{}.", shared(sharing)),
        Attribution::Node { why } => format!("On that node: pod {names}{more} ({why})."),
    }
}

/// GPUs of a monitor.
pub(super) struct Serving {
    /// Worst first.
    pub(super) verdicts: Vec<GpuVerdict>,
    /// Those of them whose counters tell whether clocks were lost.
    pub(super) judged: usize,
    /// Age of the oldest sample used.
    pub(super) age: Option<Duration>,
    /// Age of the oldest list of owners used.
    pub(super) list_age: Option<Duration>,
    /// Why a node gave no GPU data: node, words.
    pub(super) problems: Vec<(String, String)>,
    /// Why no GPU of a node serves the endpoints, where that is known: sentences.
    without: Vec<String>,
    /// A node has not told yet whether it has GPUs.
    pub(super) awaited: bool,
    /// Faults of these GPUs.
    pub(super) health: Seen,
}

impl Serving {
    pub(super) fn complete(&self) -> bool {
        self.problems.is_empty() && !self.verdicts.is_empty() && self.judged == self.verdicts.len()
    }

    /// Why there is no GPU, where no node has a problem: a sentence.
    pub(super) fn nothing_seen(&self) -> String {
        match self.without.first() {
            Some(why) => format!("No GPU serves this monitor: {why}"),
            None => "No GPU is seen where the endpoints run.".to_owned(),
        }
    }
}

pub(super) fn serving(input: &Input<'_>, stale_after: Duration) -> Serving {
    let nodes = endpoints_by_node(input);
    let mut serving = Serving {
        verdicts: Vec::new(),
        judged: 0,
        age: None,
        list_age: None,
        problems: Vec::new(),
        without: Vec::new(),
        awaited: nodes.is_empty(),
        health: Seen::default(),
    };
    for (name, endpoints) in nodes {
        let node = input.observations.node(name);
        let taken = node
            .and_then(|node| node.gpus_taken)
            .filter(|taken| input.now.since(*taken) <= stale_after);
        let ownership = node.map(|node| Ownership::of(input.namespace, &endpoints, node, input.now));
        let list = node.and_then(|node| node.owners.as_ref()?.fresh(input.now));
        serving.list_age = serving.list_age.max(list.map(|list| list.age(input.now)));
        serving.age = serving.age.max(taken.map(|taken| input.now.since(taken)));
        let nothing = node.zip(ownership.as_ref());
        if let Some(why) = nothing.and_then(|(node, ownership)| ownership.nothing(name, node, taken.is_some())) {
            serving.without.push(why);
            continue;
        }
        if let (Some(node), Some(ownership)) = (node, &ownership) {
            serving.health.look(name, node, ownership, input);
        }
        let (Some(node), Some(ownership), Some(_)) = (node, ownership, taken) else {
            let words = match node {
                Some(node) if node.connected => driver_problem(&node.driver),
                _ => "no node daemon connected".into(),
            };
            serving.problems.push((name.to_owned(), words));
            serving.awaited |= node.is_none_or(|node| node.reported.is_none() || node.driver == DriverState::Starting);
            continue;
        };
        if node.gpus.is_empty() {
            serving.problems.push((name.to_owned(), driver_problem(&node.driver)));
        } else if let Some(words) = ownership.unread(node) {
            serving.problems.push((name.to_owned(), words));
        }
        for sample in &node.gpus {
            let Served {
                pods,
                attribution,
                sharing,
                processes,
                parts,
            } = ownership.served_by(sample);
            if pods.is_empty() {
                continue;
            }
            let window = super::seconds_of(input.spec.thresholds.throttled_percent.for_seconds);
            let duties = node
                .throttle
                .get(&sample.uuid)
                .map(|history| history.duty_over(window))
                .unwrap_or_default();
            let known = duties.iter().any(|duty| duty.over >= window.min(COVERED_FOR));
            serving.judged += usize::from(known);
            serving.verdicts.push(GpuVerdict {
                node: name.to_owned(),
                sample: sample.clone(),
                throttled: lost(input, sample, &duties, window),
                pods,
                attribution,
                sharing,
                processes,
                parts,
            });
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

/// The most severe cause whose share of the window is above the threshold, with its duty and the time that was covered.
///
/// While less than the window is covered, what was lost is compared with the whole window: an early finding is a sure one.
fn lost(
    input: &Input<'_>,
    sample: &GpuSample,
    duties: &[CauseDuty],
    window: Duration,
) -> Option<(ThrottleCause, f64, Duration)> {
    let above = f64::from(input.spec.thresholds.throttled_percent.above);
    let over = |cause| duties.iter().find(|duty| duty.cause == cause).map(|duty| duty.over);
    lost_clocks(sample, duties).into_iter().find_map(|finding| {
        let over = over(finding.cause)?;
        let share = finding.duty * (over.as_secs_f64() / window.as_secs_f64()).min(1.0);
        (share * 100.0 > above).then_some((finding.cause, finding.duty, over))
    })
}

/// The endpoints that matter by the node they run on: those that take requests, or all where none does. A url endpoint on the daemon's
/// own machine (standalone mode) shares that machine's GPUs; one elsewhere has none that we see.
fn endpoints_by_node<'a>(input: &Input<'a>) -> BTreeMap<&'a str, Vec<&'a ResolvedEndpoint>> {
    let endpoints = &input.resolution.endpoints;
    let none_serves = !endpoints.iter().any(|endpoint| endpoint.serving);
    let mut nodes: BTreeMap<&str, Vec<&ResolvedEndpoint>> = BTreeMap::new();
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.serving || none_serves) {
        let node = match &endpoint.place {
            Place::Node(node) => Some(node.as_str()),
            Place::Anywhere if is_loopback(&endpoint.name) => endpoint
                .target
                .as_ref()
                .and_then(|target| input.observations.target(&endpoint.place, &target.id))
                .map(|(node, _)| node),
            Place::Anywhere | Place::Nowhere => None,
        };
        if let Some(node) = node {
            nodes.entry(node).or_default().push(endpoint);
        }
    }
    nodes
}

/// Says that the numbers of a GPU are not those of one pod.
fn shared(sharing: Sharing) -> String {
    match sharing {
        Sharing::NotTold => String::new(),
        Sharing::InShares => " (a share of it; others may have it too)".into(),
        Sharing::Pods(pods) => format!(" (shared by {pods} pods)"),
        Sharing::Parts(Some(pods)) if pods > 1 => format!(" (by MIG, which divides it among {pods} pods)"),
        Sharing::Parts(_) => " (by MIG, a part of it; others may have others)".into(),
    }
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("localhost:")
        || address
            .parse::<std::net::SocketAddr>()
            .is_ok_and(|address| address.ip().to_canonical().is_loopback())
}

fn driver_problem(driver: &DriverState) -> String {
    match driver {
        DriverState::Starting => "the GPU session is starting".into(),
        DriverState::Ready { driver_version } => format!("driver {} gives no fresh sample", clause(driver_version)),
        DriverState::Unavailable { message, category } => clause_or(message, category.as_str()),
        DriverState::Unresponsive { for_seconds } => format!("a driver call has not returned for {for_seconds} s"),
    }
}

pub(super) fn throttled(input: &Input<'_>, serving: &Serving, settling: bool) -> Finding {
    let threshold = &input.spec.thresholds.throttled_percent;
    let finding = |outcome, reason, message: String| Finding {
        kind: ConditionType::Throttled,
        outcome,
        reason,
        message,
    };
    let unseen = serving.problems.first().map_or_else(String::new, |(node, words)| {
        format!(" No GPU data from node {node}: {words}.")
    });
    if let Some(worst) = serving.verdicts.first()
        && let Some((cause, duty, over)) = worst.throttled
    {
        let more = match serving.verdicts.iter().filter(|gpu| gpu.throttled.is_some()).count() - 1 {
            0 => String::new(),
            1 => " 1 more GPU is throttled.".into(),
            more => format!(" {more} more GPUs are throttled."),
        };
        let reason = cause_reason(cause);
        let message = format!(
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
        );
        return finding(Outcome::True, reason, message);
    }
    if serving.judged > 0 {
        let message = format!(
            "{} kept {} clocks (threshold {}% of {} s).{unseen}",
            count(serving.judged, "GPU"),
            if serving.judged == 1 { "its" } else { "their" },
            threshold.above,
            threshold.for_seconds
        );
        return finding(Outcome::False, reason::BELOW_THRESHOLD, message);
    }
    let counts = serving.verdicts.iter().any(|gpu| !gpu.sample.throttle.is_empty());
    if counts || (settling && serving.awaited) {
        let message = "Waiting for enough GPU samples to compare.".to_owned();
        return finding(Outcome::Unknown, reason::WAITING_FOR_DATA, message);
    }
    let message = match serving.verdicts.first() {
        Some(gpu) => format!("The driver does not count lost clocks of {}.", gpu.label()),
        None if unseen.is_empty() => serving.nothing_seen(),
        None => unseen.trim_start().to_owned(),
    };
    finding(
        Outcome::Unknown,
        reason::NO_GPU_DATA,
        format!("{message} {}", anchor(reason::NO_GPU_DATA)),
    )
}

/// What a GPU shows of heat, power and clocks, after a colon.
pub(super) fn evidence(sample: &GpuSample) -> String {
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
