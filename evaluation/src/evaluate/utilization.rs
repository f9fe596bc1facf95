//! Underutilized: GPUs that idle while requests run on their servers.
//!
//! Only GPUs that are known to serve the monitor by their id or by their processes are judged: on a node where any GPU may serve any pod, the idle one may be
//! somebody else's.

use super::gpus::{Serving, Subject, serves};
use super::{Attribution, Finding, GpuVerdict, Input, Outcome, Part, Sharing, anchor, clears, seconds_of, unknown};
use crate::words::count;
use crate::{EndpointState, Hold, Place, Totals};
use infmon_crds::v1alpha1::{ConditionType, reason};
use std::collections::BTreeMap;
use std::time::Duration;

/// For so long a server must have run requests without memory on its GPUs.
pub(super) const NOT_USED_FOR: Duration = Duration::from_secs(60);
/// A process that computes on a GPU holds more than this for its context alone, before any model.
const LEAST_IN_USE: u64 = 100 << 20;

/// Memory of the two findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) low: Hold,
    pub(super) not_used: Hold,
}

/// Servers on which requests run, by name.
type Active<'a> = BTreeMap<&'a str, f64>;

/// Use of the GPUs of the active servers.
struct Use<'a> {
    mean: f64,
    /// How many GPUs, and how many MIG instances.
    counted: (usize, usize),
    least: Share<'a>,
}

/// Use of a GPU, or of a MIG instance.
#[derive(Clone, Copy)]
struct Share<'a> {
    gpu: &'a GpuVerdict,
    part: Option<&'a Part>,
    percent: u32,
}

/// A server that runs requests while its GPUs are empty.
struct NotUsed<'a> {
    server: &'a str,
    requests: f64,
    gpu: &'a GpuVerdict,
    /// What is in use of it, bytes, where it is empty; else others use it.
    empty: Option<u64>,
}

pub(super) fn judge(
    input: &Input<'_>,
    totals: &Totals<'_>,
    serving: &Serving,
    holds: Holds,
    settling: bool,
) -> (Finding, Holds) {
    let threshold = &input.spec.thresholds.gpu_utilization_percent;
    let kind = ConditionType::Underutilized;
    let finding = |outcome, reason, message: String| Finding {
        kind,
        outcome,
        reason,
        message,
    };
    let running = totals.running.filter(|_| totals.enough());
    let active = running.map(|_| active(totals)).unwrap_or_default();
    let known: Vec<&GpuVerdict> = serving
        .verdicts
        .iter()
        .filter(|gpu| !matches!(gpu.attribution, Attribution::Node { .. }))
        .collect();
    let on_cpu = on_cpu(totals, serving);
    let in_use = in_use(&known, &active);
    let not_used = not_used(&known, &active, serving);
    let idle = running.is_some() && active.is_empty();
    let below = in_use.as_ref().map(|value| value.mean < f64::from(threshold.below));
    let unseen = unseen(totals, &active, serving);
    let empty = match (&on_cpu, running) {
        (OnCpu::Told(_), _) => Some(true),
        (OnCpu::No, None) => Some(false),
        (OnCpu::NotTold, None) => None,
        (_, Some(_)) => (not_used.is_some() || unseen.is_none()).then_some(not_used.is_some()),
    };
    let hold_for = seconds_of(threshold.for_seconds);
    let holds = Holds {
        low: holds
            .low
            .update(if idle { Some(false) } else { below }, input.now, hold_for),
        not_used: holds.not_used.update(empty, input.now, NOT_USED_FOR),
    };
    if let (OnCpu::Told(found), true) = (&on_cpu, holds.not_used.is_raised()) {
        let message = on_cpu_message(found);
        return (finding(Outcome::True, reason::GPU_NOT_USED, message), holds);
    }
    if running.is_none() {
        if holds.not_used.is_raised() && empty.is_some() {
            let message = format!("The models are on GPUs again: {}.", clears(NOT_USED_FOR));
            return (finding(Outcome::True, reason::GPU_NOT_USED, message), holds);
        }
        return (unknown(kind, totals, settling, "the number of running requests"), holds);
    }
    if holds.not_used.is_raised()
        && not_used.is_none()
        && let Some(why) = unseen
    {
        let message = format!("{why} {}", anchor(reason::NO_GPU_DATA));
        return (finding(Outcome::Unknown, reason::NO_GPU_DATA, message), holds);
    }
    if holds.not_used.is_raised() {
        let message = match &not_used {
            Some(found) => not_used_message(found),
            None => format!("No server runs requests beside an empty GPU: {}.", clears(NOT_USED_FOR)),
        };
        let finding = finding(Outcome::True, reason::GPU_NOT_USED, message);
        return (finding, holds);
    }
    let numbers = format!("(threshold {}% for {} s)", threshold.below, threshold.for_seconds);
    let finding = match (&in_use, holds.low.is_raised()) {
        (_, true) if idle => {
            let message = format!("No request runs {numbers}: {}.", clears(hold_for));
            finding(Outcome::True, reason::LOW_UTILIZATION, message)
        }
        _ if idle => finding(
            Outcome::False,
            reason::BELOW_THRESHOLD,
            "No request runs, so GPUs may idle.".to_owned(),
        ),
        (Some(value), true) if below == Some(true) => {
            finding(Outcome::True, reason::LOW_UTILIZATION, low_message(value, &numbers))
        }
        (Some(value), true) => {
            let message = format!("{} {numbers}: {}.", computes(value), clears(hold_for));
            finding(Outcome::True, reason::LOW_UTILIZATION, message)
        }
        (Some(value), false) => {
            let message = format!("{} {numbers}.", computes(value));
            finding(Outcome::False, reason::BELOW_THRESHOLD, message)
        }
        (None, _) if settling && serving.awaited => {
            let message = "Waiting for the first GPU samples.".to_owned();
            finding(Outcome::Unknown, reason::WAITING_FOR_DATA, message)
        }
        (None, _) => {
            let message = format!(
                "{} {}",
                not_known(serving, &known, &active),
                anchor(reason::NO_GPU_DATA)
            );
            finding(Outcome::Unknown, reason::NO_GPU_DATA, message)
        }
    };
    (finding, holds)
}

/// Whether the engines say that they compute on the CPU beside GPUs that serve the monitor.
enum OnCpu<'a> {
    /// This one does.
    Told(CpuServer<'a>),
    /// Every endpoint with fresh data tells, and none does.
    No,
    /// Not every engine tells; most do not.
    NotTold,
}

/// A server whose engine says that no part of its models is on a GPU.
struct CpuServer<'a> {
    server: &'a str,
    engine: &'static str,
    gpu: &'a GpuVerdict,
}

fn on_cpu<'a>(totals: &Totals<'a>, serving: &'a Serving) -> OnCpu<'a> {
    let fresh = || {
        totals.endpoints.iter().filter_map(|(endpoint, state)| match state {
            EndpointState::Fresh { observation, .. } if endpoint.serving => Some((*endpoint, &observation.sample)),
            _ => None,
        })
    };
    let found = fresh().find_map(|(endpoint, sample)| {
        let is_on_cpu = sample.model_gpu_share == Some(0.0);
        let gpu = serving.verdicts.iter().find(|gpu| gpu.pods.contains(&endpoint.name));
        gpu.filter(|_| is_on_cpu).map(|gpu| CpuServer {
            server: &endpoint.name,
            engine: sample.engine.map_or("The engine", infmon_engines::Engine::as_str),
            gpu,
        })
    });
    match found {
        Some(found) => OnCpu::Told(found),
        None if fresh().next().is_some() && fresh().all(|(_, sample)| sample.model_gpu_share.is_some()) => OnCpu::No,
        None => OnCpu::NotTold,
    }
}

fn on_cpu_message(found: &CpuServer<'_>) -> String {
    let CpuServer { server, engine, gpu } = found;
    let given = match gpu.attribution {
        Attribution::Device => format!("and it was given {}", gpu.label()),
        Attribution::Process => format!("and it has a process on {}", gpu.label()),
        Attribution::Node { .. } => format!("and there is {}", gpu.label()),
    };
    format!(
        "{engine} on {server} says that no part of its models is on a GPU, {given}. Next: see in the log of the server why it computes on the CPU (an \
         image or a build without CUDA, a driver that it does not find, too little free GPU memory). {}",
        anchor(reason::GPU_NOT_USED)
    )
}

/// Servers with fresh data on which requests run.
fn active<'a>(totals: &Totals<'a>) -> Active<'a> {
    let running = totals.endpoints.iter().filter_map(|(endpoint, state)| match state {
        EndpointState::Fresh { observation, .. } if endpoint.serving => {
            Some((endpoint.name.as_str(), observation.sample.running?))
        }
        _ => None,
    });
    running
        .filter(|(_, running)| running.is_finite() && *running > 0.0)
        .collect()
}

fn serves_any(gpu: &GpuVerdict, active: &Active<'_>) -> bool {
    gpu.pods.iter().any(|pod| active.contains_key(pod.as_str()))
}

fn in_use<'a>(known: &[&'a GpuVerdict], active: &Active<'_>) -> Option<Use<'a>> {
    let theirs = known.iter().copied().filter(|gpu| serves_any(gpu, active));
    let shares: Vec<Share<'_>> = theirs.flat_map(|gpu| shares(gpu, active)).collect();
    let least = *shares.iter().min_by_key(|share| share.percent)?;
    let sum: f64 = shares.iter().map(|share| f64::from(share.percent)).sum();
    let parts = shares.iter().filter(|share| share.part.is_some()).count();
    Some(Use {
        mean: sum / shares.len() as f64,
        counted: (shares.len() - parts, parts),
        least,
    })
}

/// Use of a GPU, or with MIG of the instances on which the active servers are.
fn shares<'a>(gpu: &'a GpuVerdict, active: &Active<'_>) -> Vec<Share<'a>> {
    if gpu.sample.mig_instances.is_none() {
        let whole = |percent| Share {
            gpu,
            part: None,
            percent,
        };
        return gpu.sample.utilization_percent.map(whole).into_iter().collect();
    }
    let theirs = gpu
        .parts
        .iter()
        .filter(|part| part.pods.iter().any(|pod| active.contains_key(pod.as_str())));
    let part = |part: &'a Part| {
        Some(Share {
            gpu,
            part: Some(part),
            percent: part.instance.utilization_percent?,
        })
    };
    theirs.filter_map(part).collect()
}

/// A server that uses none of the GPUs that it was given: each is empty, so that whose processes can be seen does not matter, or it is known
/// that no process on it is one of the server.
fn not_used<'a>(known: &[&'a GpuVerdict], active: &Active<'a>, serving: &Serving) -> Option<NotUsed<'a>> {
    active.iter().find_map(|(server, requests)| {
        let mine: Vec<&GpuVerdict> = known
            .iter()
            .copied()
            .filter(|gpu| gpu.attribution == Attribution::Device && gpu.pods.iter().any(|pod| pod == server))
            .collect();
        let seen = |gpu: &&GpuVerdict| serving.problems.iter().all(|(node, _)| *node != gpu.node);
        let first = *mine.first()?;
        let unused = |gpu: &&GpuVerdict| empty(gpu, server).is_some() || has_no_process_of(gpu, server);
        (mine.iter().all(unused) && mine.iter().all(seen)).then_some(NotUsed {
            server,
            requests: *requests,
            gpu: first,
            empty: empty(first, server),
        })
    })
}

/// Why nobody can say that the GPUs of the active servers are in use: a sentence.
fn unseen(totals: &Totals<'_>, active: &Active<'_>, serving: &Serving) -> Option<String> {
    let problem = |node: &str| serving.problems.iter().find(|(of, _)| of == node);
    let endpoints = totals.endpoints.iter().map(|(endpoint, _)| endpoint);
    let nodes = endpoints
        .filter(|endpoint| active.contains_key(endpoint.name.as_str()))
        .filter_map(|endpoint| match &endpoint.place {
            Place::Node(node) => Some(node.as_str()),
            Place::Anywhere | Place::Nowhere => None,
        });
    if let Some((node, words)) = nodes.filter_map(problem).next() {
        return Some(format!("No GPU data from node {node}: {words}."));
    }
    let mut theirs = serving.verdicts.iter().filter(|gpu| serves_any(gpu, active));
    theirs.find_map(|gpu| match gpu.attribution {
        Attribution::Node { .. } => Some("Nobody tells which GPU serves which server.".to_owned()),
        Attribution::Process => None,
        Attribution::Device => {
            let mut pods = gpu.pods.iter().filter(|pod| active.contains_key(pod.as_str()));
            let pod = pods.find(|pod| !gpu.processes.contains_key(*pod))?;
            let shared = matches!(gpu.sharing, Sharing::InShares | Sharing::Pods(_));
            if !tells_memory_of(gpu, pod) {
                Some(format!(
                    "The driver does not tell the memory in use of {}.",
                    gpu.label()
                ))
            } else if shared && empty(gpu, pod).is_none() {
                Some(format!(
                    "Nobody tells whose memory is in use on {}, which pods share.",
                    gpu.label()
                ))
            } else {
                None
            }
        }
    })
}

/// The MIG instances that a pod has.
fn parts_of<'a>(gpu: &'a GpuVerdict, pod: &str) -> impl Iterator<Item = &'a Part> {
    gpu.parts
        .iter()
        .filter(move |part| part.pods.iter().any(|name| name == pod))
}

/// Whether the memory in use is told, of a GPU, or of the MIG instances of a pod.
fn tells_memory_of(gpu: &GpuVerdict, pod: &str) -> bool {
    if gpu.sample.mig_instances.is_none() {
        return gpu.sample.memory_used_bytes.is_some();
    }
    let mut parts = parts_of(gpu, pod).peekable();
    parts.peek().is_some() && parts.all(|part| part.instance.memory_used_bytes.is_some())
}

/// What is in use, bytes, of a GPU that nobody computes on, or of MIG instances of this pod of which that is so; `None` for all others.
fn empty(gpu: &GpuVerdict, pod: &str) -> Option<u64> {
    let sample = &gpu.sample;
    if sample.mig_instances.is_some() {
        let mut parts = parts_of(gpu, pod).peekable();
        let first = parts.peek()?.instance.memory_used_bytes;
        let idle = |part: &Part| {
            part.instance.memory_used_bytes.is_some_and(|used| used < LEAST_IN_USE)
                && part.instance.utilization_percent.is_none_or(|share| share == 0)
                && part.processes.is_none_or(|processes| processes == 0)
        };
        return first.filter(|_| parts.all(idle));
    }
    let idle = sample.utilization_percent.is_none_or(|share| share == 0)
        && sample.processes.as_ref().is_none_or(Vec::is_empty);
    sample.memory_used_bytes.filter(|used| idle && *used < LEAST_IN_USE)
}

/// Whether it is known that no process on a GPU is one of this server.
fn has_no_process_of(gpu: &GpuVerdict, server: &str) -> bool {
    gpu.processes.get(server).is_some_and(|processes| processes.count == 0)
}

fn not_used_message(found: &NotUsed<'_>) -> String {
    let running = if found.requests.round() == 1.0 {
        "1 request runs".to_owned()
    } else {
        format!("{:.0} requests run", found.requests)
    };
    let label = match parts_of(found.gpu, found.server).next() {
        Some(part) => found.gpu.part_label(part),
        None => found.gpu.label(),
    };
    let unused = match (found.empty, found.gpu.sharing) {
        (Some(used), _) => format!(
            "its GPU is empty: {label} has {} MiB in use and computes nothing",
            used >> 20
        ),
        (None, Sharing::Pods(pods)) => format!("no process of it holds memory on {label}, which {pods} pods share"),
        (None, Sharing::InShares) => format!("no process of it holds memory on {label}, of which it was given a share"),
        (None, Sharing::NotTold | Sharing::Parts(_)) => {
            format!("no process of it holds memory on {label}, which it was given")
        }
    };
    format!(
        "{running} on pod {}, and {unused}. Next: see in the log of the server why it computes on the CPU (an image without CUDA; \
         llama-server: --n-gpu-layers). {}",
        found.server,
        anchor(reason::GPU_NOT_USED)
    )
}

fn computes(value: &Use<'_>) -> String {
    let (gpus, parts) = value.counted;
    let counted = match (gpus, parts) {
        (gpus, 0) => count(gpus, "GPU"),
        (0, parts) => count(parts, "MIG instance"),
        (gpus, parts) => format!("{} and {}", count(gpus, "GPU"), count(parts, "MIG instance")),
    };
    let verb = if gpus + parts == 1 { "computes" } else { "compute" };
    format!("{counted} {verb} {:.0}% of the time while requests run", value.mean)
}

fn low_message(value: &Use<'_>, numbers: &str) -> String {
    let Share { gpu, part, percent } = value.least;
    let (label, serves) = match part {
        Some(part) => (
            gpu.part_label(part),
            serves(Subject::Gpu, &part.pods, &Attribution::Device, Sharing::NotTold),
        ),
        None => (gpu.label(), gpu.serves()),
    };
    format!(
        "{} {numbers}, least {label} with {percent}%. {serves} Next: fewer replicas for the same requests, or see what the servers wait for (CPU, \
         network, tokenizer). {}",
        computes(value),
        anchor(reason::LOW_UTILIZATION)
    )
}

/// Why the use of the GPUs is not known: a sentence.
fn not_known(serving: &Serving, known: &[&GpuVerdict], active: &Active<'_>) -> String {
    if let Some(gpu) = known.iter().find(|gpu| serves_any(gpu, active)) {
        return format!("The driver does not tell the use of {} (as with MIG).", gpu.label());
    }
    if !serving.verdicts.is_empty() {
        return "Nobody tells which GPU serves which server, so idle ones may be those of others.".to_owned();
    }
    match serving.problems.first() {
        Some((node, words)) => format!("No GPU data from node {node}: {words}."),
        None => serving.nothing_seen(),
    }
}
