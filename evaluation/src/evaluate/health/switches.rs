//! Faults of NVSwitches: whom they concern, since a switch serves no pod by itself.

use super::{Fault, Seen, fault};
use crate::evaluate::Attribution;
use crate::evaluate::gpus::{Subject, serves};
use crate::evaluate::ownership::{Ownership, Sharing};
use crate::words::clause_or;
use crate::{Moment, NodeObservation};
use infmon_gpu::{GpuSample, breaks_the_fabric, switch_counts};
use std::collections::BTreeMap;
use std::time::Duration;

/// The pods of a node that may talk over NVLink, each with the number of whole GPUs that it has or may have.
struct Linked {
    gpus: BTreeMap<String, usize>,
    attribution: Attribution,
}

impl Linked {
    /// GPUs under MIG do not count: they use no NVLink.
    fn of(node: &NodeObservation, ownership: &Ownership<'_>) -> Self {
        let mut linked = Self {
            gpus: BTreeMap::new(),
            attribution: Attribution::Device,
        };
        let lost = node.outages.iter().map(|outage| GpuSample {
            index: outage.index,
            uuid: outage.uuid.clone().unwrap_or_default(),
            minor_number: outage.minor_number,
            ..GpuSample::default()
        });
        let lost: Vec<GpuSample> = lost
            .filter(|lost| !node.gpus.iter().any(|gpu| gpu.uuid == lost.uuid))
            .collect();
        for gpu in node.gpus.iter().chain(&lost).filter(|gpu| gpu.mig_instances.is_none()) {
            let served = ownership.served_by(gpu);
            if served.pods.is_empty() {
                continue;
            }
            if !matches!(linked.attribution, Attribution::Node { .. }) {
                linked.attribution = served.attribution;
            }
            for pod in served.pods {
                *linked.gpus.entry(pod).or_default() += 1;
            }
        }
        linked
    }

    /// Whom an SXid concerns: what breaks the fabric everybody, since no program can start then; what breaks a link those that may have GPUs
    /// at both of its ends. A program on the one GPU of a broken link is told by the XID 74 of that GPU.
    fn concerned(&self, number: u32) -> Vec<String> {
        let least = if breaks_the_fabric(number) { 1 } else { 2 };
        let pods = self.gpus.iter().filter(|(_, gpus)| **gpus >= least);
        pods.map(|(pod, _)| pod.clone()).collect()
    }
}

/// Looks at the fatal SXids of a node; what is not fatal is history.
pub(super) fn look(
    seen: &mut Seen,
    name: &str,
    node: &NodeObservation,
    ownership: &Ownership<'_>,
    (now, on_the_way): (Moment, Duration),
) {
    let mut fatal = node
        .switch_incidents
        .iter()
        .filter(|incident| incident.fatal)
        .peekable();
    if fatal.peek().is_none() {
        return;
    }
    let linked = Linked::of(node, ownership);
    for incident in fatal {
        let ago = incident.last.saturating_add(on_the_way);
        let actions = node.gpus.iter().map(|gpu| gpu.health.recovery_action);
        let pods = linked.concerned(incident.number);
        if pods.is_empty() || !switch_counts(incident.number, ago, actions) {
            continue;
        }
        seen.may_be_over(now, ago);
        seen.note(Fault {
            subject: format!(
                "NVSwitch {} on node {name}",
                clause_or(&incident.pci, "without an address")
            ),
            words: fault::switch(incident, on_the_way, name),
            serves: serves(Subject::BehindSwitch, &pods, &linked.attribution, Sharing::NotTold),
            node: name.to_owned(),
        });
    }
}
