//! GPUsHealthy: faults of the GPUs that serve the monitor, and of their drivers.

mod fault;
mod switches;

use super::gpus::{Serving, Subject, label, serves};
use super::ownership::{Ownership, Served};
use super::{Finding, GpuVerdict, Input, Outcome, anchor};
use crate::words::{clause, clause_or, count, seconds};
use crate::{Moment, NodeObservation};
use fault::{Rank, Words};
use infmon_crds::v1alpha1::{ConditionType, reason};
use infmon_gpu::{DriverProblem, DriverState, GpuFailure, GpuHealth, GpuSample, counts};
use infmon_samples::{GpuIncident, GpuOutage};
use std::collections::BTreeMap;
use std::time::Duration;

/// The other faults of the same GPU that a message names.
const MOST_BESIDE: usize = 2;

/// What was seen of the faults of a monitor's GPUs.
#[derive(Debug, Default)]
pub(super) struct Seen {
    faults: Vec<Fault>,
    /// GPUs of which the driver tells anything.
    judged: usize,
    /// Those of `judged` of which it does not tell the XIDs.
    unheard: usize,
    /// Why a GPU cannot be read, where that is no fault: a sentence.
    unreadable: Option<String>,
    /// Age of the oldest report used.
    pub(super) age: Option<Duration>,
    /// When a fault is over if nothing new happens.
    pub(super) over_at: Option<Moment>,
}

/// One fault of one GPU or of one driver.
#[derive(Debug)]
pub(super) struct Fault {
    /// `GPU 3 (GPU-5f2c91e0) on node gpu-a7`, `The driver of node gpu-a7`.
    subject: String,
    words: Words,
    /// The sentence that says whom it serves.
    serves: String,
    node: String,
}

/// A GPU that is hotter than the user allows.
pub(super) fn temperature_high(gpu: &GpuVerdict, what: String, next: String) -> Fault {
    Fault {
        subject: gpu.label(),
        words: Words {
            rank: Rank::TemperatureHigh,
            reason: reason::TEMPERATURE_HIGH,
            what,
            next,
        },
        serves: gpu.serves(),
        node: gpu.node.clone(),
    }
}

impl Seen {
    /// Takes in a fault that was found elsewhere.
    pub(super) fn note(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Looks at one node.
    pub(super) fn look(&mut self, name: &str, node: &NodeObservation, ownership: &Ownership<'_>, input: &Input<'_>) {
        let stale_after = input.spec.stale_after();
        let Some(reported) = node.reported.filter(|at| input.now.since(*at) <= stale_after) else {
            return;
        };
        let names = ownership.endpoint_names();
        if names.is_empty() {
            return;
        }
        let on_the_way = input.now.since(reported);
        let before = (self.faults.len(), self.judged);
        if let Some(words) = of_driver(&node.driver, name) {
            self.faults.push(Fault {
                subject: format!("The driver of node {name}"),
                words,
                serves: format!("On that node: pod {}.", some(&names)),
                node: name.to_owned(),
            });
        }
        switches::look(self, name, node, ownership, (input.now, on_the_way));
        let fresh = node
            .gpus_taken
            .is_some_and(|taken| input.now.since(taken) <= stale_after);
        let samples: &[GpuSample] = if fresh { &node.gpus } else { &[] };
        for sample in samples {
            let served = ownership.served_by(sample);
            if served.pods.is_empty() {
                continue;
            }
            let health = &sample.health;
            self.judged += usize::from(health.is_known());
            self.unheard += usize::from(health.is_known() && health.xid_events != Some(true));
            for standing in health.standing() {
                let since = node.standing_since.get(&(sample.uuid.clone(), standing));
                let since = since.map(|since| input.now.since(*since));
                self.add(
                    name,
                    sample,
                    (Subject::Gpu, &served),
                    fault::standing(standing, health, since, sample.index, name),
                );
            }
            self.look_at_incidents(name, node, sample, Some(health), &served, (input.now, on_the_way));
        }
        for outage in &node.outages {
            let gpu = GpuSample {
                index: outage.index,
                uuid: outage.uuid.clone().unwrap_or_default(),
                minor_number: outage.minor_number,
                ..GpuSample::default()
            };
            let served = ownership.served_by(&gpu);
            if served.pods.is_empty() {
                continue;
            }
            if outage.failure == GpuFailure::Refused {
                let why = clause_or(&outage.message, "the driver refuses");
                self.unreadable = Some(format!(" {} cannot be read: {why}.", label(&gpu, name)));
            } else {
                let since = outage.since.saturating_add(on_the_way);
                self.add(name, &gpu, (Subject::Gpu, &served), fault::outage(outage, since, name));
            }
            self.look_at_incidents(name, node, &gpu, None, &served, (input.now, on_the_way));
        }
        self.look_at_unread(name, node, samples, ownership, (input.now, on_the_way));
        if before != (self.faults.len(), self.judged) {
            self.age = self.age.max(Some(on_the_way));
        }
    }

    /// Looks at what happened to GPUs that are neither read nor said to fail, as when the session has ended.
    fn look_at_unread(
        &mut self,
        name: &str,
        node: &NodeObservation,
        read: &[GpuSample],
        ownership: &Ownership<'_>,
        times: (Moment, Duration),
    ) {
        let told = |uuid: &str| {
            let fails = |outage: &GpuOutage| outage.uuid.as_deref() == Some(uuid);
            read.iter().any(|gpu| gpu.uuid == uuid) || node.outages.iter().any(fails)
        };
        let unread: BTreeMap<&str, u32> = node
            .incidents
            .iter()
            .filter(|incident| !told(&incident.uuid))
            .map(|incident| (incident.uuid.as_str(), incident.index))
            .collect();
        for (uuid, index) in unread {
            let last = node.gpus.iter().find(|gpu| gpu.uuid == uuid);
            let gpu = last.cloned().unwrap_or_else(|| GpuSample {
                index,
                uuid: uuid.to_owned(),
                ..GpuSample::default()
            });
            let served = ownership.served_by(&gpu);
            if !served.pods.is_empty() {
                self.look_at_incidents(name, node, &gpu, last.map(|gpu| &gpu.health), &served, times);
            }
        }
    }

    fn look_at_incidents(
        &mut self,
        name: &str,
        node: &NodeObservation,
        gpu: &GpuSample,
        health: Option<&GpuHealth>,
        served: &Served,
        (now, on_the_way): (Moment, Duration),
    ) {
        let of_gpu = |incident: &&GpuIncident| !gpu.uuid.is_empty() && incident.uuid == gpu.uuid;
        for incident in node.incidents.iter().filter(of_gpu) {
            let ago = incident.last.saturating_add(on_the_way);
            if !counts(incident.kind, ago, health) {
                continue;
            }
            let instance = incident.gpu_instance.filter(|_| !incident.kind.concerns_whole_gpu());
            let in_instance = instance.map(|instance| served.in_instance(instance));
            let (served, placed) = in_instance
                .as_ref()
                .map_or((served, false), |(served, placed)| (served, *placed));
            if served.pods.is_empty() {
                continue;
            }
            self.may_be_over(now, ago);
            let subject = if placed { Subject::Instance } else { Subject::Gpu };
            self.add(
                name,
                gpu,
                (subject, served),
                fault::incident(incident, on_the_way, name),
            );
        }
    }

    /// Something happened so long ago, and may be over by its rule.
    fn may_be_over(&mut self, now: Moment, ago: Duration) {
        let over = now.after(infmon_gpu::INCIDENT_COUNTS_FOR.saturating_sub(ago));
        if over > now {
            self.over_at = Some(self.over_at.map_or(over, |earlier| earlier.min(over)));
        }
    }

    fn add(&mut self, node: &str, gpu: &GpuSample, (subject, served): (Subject, &Served), words: Words) {
        self.faults.push(Fault {
            subject: label(gpu, node),
            words,
            serves: serves(subject, &served.pods, &served.attribution, served.sharing),
            node: node.to_owned(),
        });
    }
}

/// What a state of the driver says of the GPUs by itself.
fn of_driver(driver: &DriverState, node: &str) -> Option<Words> {
    match driver {
        DriverState::Unresponsive { for_seconds } => Some(fault::unresponsive(*for_seconds, node)),
        DriverState::Unavailable {
            category: DriverProblem::DriverVersionMismatch,
            message,
        } => Some(fault::version_mismatch(message, node)),
        _ => None,
    }
}

/// Up to three names, and how many more there are.
fn some(names: &[&str]) -> String {
    let more = names.len().saturating_sub(3);
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown} and {more} more")
    }
}

/// The condition. While a fault stands from before, what cannot be seen may be what has it: the rest then does not tell that all is well.
pub(super) fn gpus_healthy(serving: &Serving, settling: bool, stood: bool) -> Finding {
    let seen = &serving.health;
    let finding = |outcome, reason, message: String| Finding {
        kind: ConditionType::GpusHealthy,
        outcome,
        reason,
        message,
    };
    if let Some(worst) = seen.faults.iter().min_by_key(|fault| fault.words.rank) {
        return finding(Outcome::False, worst.words.reason, message(worst, &seen.faults));
    }
    let unseen = serving.problems.first().map_or_else(String::new, |(node, words)| {
        format!(" No GPU data from node {node}: {words}.")
    });
    let unreadable = seen.unreadable.as_deref().unwrap_or_default();
    if seen.judged > 0 {
        let unheard = match seen.unheard {
            0 => String::new(),
            unheard if unheard == seen.judged => " The driver does not tell of XIDs.".to_owned(),
            unheard => format!(" Of {unheard} the driver does not tell the XIDs."),
        };
        let message = format!(
            "{} {} no fault.{unheard}{unreadable}{unseen}",
            count(seen.judged, "GPU"),
            if seen.judged == 1 { "shows" } else { "show" }
        );
        if stood && !(unreadable.is_empty() && unseen.is_empty()) {
            let message = format!("{message} {}", anchor(reason::NO_GPU_DATA));
            return finding(Outcome::Unknown, reason::NO_GPU_DATA, message);
        }
        return finding(Outcome::True, reason::NO_FAULTS, message);
    }
    if settling && serving.awaited {
        let message = "Waiting for the first GPU samples.".to_owned();
        return finding(Outcome::Unknown, reason::WAITING_FOR_DATA, message);
    }
    let message = match (serving.verdicts.first(), unreadable) {
        (_, words) if !words.is_empty() => words.trim_start().to_owned(),
        (Some(gpu), _) => format!("The driver tells nothing of the health of {}.", gpu.label()),
        (None, _) if unseen.is_empty() => serving.nothing_seen(),
        (None, _) => unseen.trim_start().to_owned(),
    };
    let message = format!("{message} {}", anchor(reason::NO_GPU_DATA));
    finding(Outcome::Unknown, reason::NO_GPU_DATA, message)
}

fn message(worst: &Fault, faults: &[Fault]) -> String {
    let same = |fault: &&Fault| fault.subject == worst.subject && fault.node == worst.node;
    let mut beside: Vec<&Fault> = faults
        .iter()
        .filter(same)
        .filter(|fault| !std::ptr::eq(*fault, worst))
        .collect();
    beside.sort_by_key(|fault| fault.words.rank);
    let told: Vec<&str> = beside
        .iter()
        .take(MOST_BESIDE)
        .map(|fault| fault.words.what.as_str())
        .collect();
    let also = if told.is_empty() {
        String::new()
    } else {
        format!(" Also: {}.", told.join("; "))
    };
    let mut others: Vec<&str> = faults
        .iter()
        .filter(|fault| !same(fault))
        .map(|fault| fault.subject.as_str())
        .collect();
    others.sort_unstable();
    others.dedup();
    let others = match others.as_slice() {
        [] => String::new(),
        [one] => format!(" Also faulty: {one}."),
        [one, more @ ..] => format!(" Also faulty: {one} and {} more.", more.len()),
    };
    format!(
        "{}: {}.{also} {}{others} Next: {}. {}",
        worst.subject,
        worst.words.what,
        worst.serves,
        worst.words.next,
        anchor(worst.words.reason)
    )
}

/// `for 47 s`, of what has stood for so long.
fn standing_for(since: Option<Duration>) -> String {
    since.map_or_else(String::new, |since| format!(", for {}", seconds(since)))
}

/// Text of the driver after a colon; nothing where it said nothing.
fn quoted(message: &str) -> String {
    let words = clause(message);
    if words.is_empty() { words } else { format!(": {words}") }
}
