//! What the kernel's log told of NVSwitches: SXids, folded and bounded, and how far they reach.
//!
//! Source: NVIDIA's Fabric Manager user guide, "NVSwitch SXid errors" and its tables of fatal and always fatal SXids,
//! <https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide/>. Systems with B200 and newer do not log SXids any more.

use std::time::{Duration, Instant};

use crate::health::RecoveryAction;
use crate::incident::{INCIDENT_COUNTS_FOR, REMEMBERED_FOR};
use crate::kernel_log::PciAddress;

/// Most SXids of a node that are remembered, by switch and number. The largest systems have twelve switches.
const MOST_INCIDENTS: usize = 64;

/// An SXid of a switch, once or several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchIncident {
    /// Where the switch is.
    pub pci: PciAddress,
    /// Number in NVIDIA's Fabric Manager user guide.
    pub number: u32,
    /// The driver called it fatal.
    pub fatal: bool,
    /// What the driver said of the last one, for example `Link 30 LTSSM Fault Up`.
    pub text: String,
    /// How often.
    pub count: u64,
    /// When first.
    pub first: Instant,
    /// When last.
    pub last: Instant,
}

/// Memory of the SXids of a node.
#[derive(Debug, Default)]
pub struct SwitchLog {
    incidents: Vec<SwitchIncident>,
}

impl SwitchLog {
    /// What is remembered, in the order in which it first happened.
    #[must_use]
    pub fn incidents(&self) -> &[SwitchIncident] {
        &self.incidents
    }

    /// Takes in an SXid.
    pub fn sxid(&mut self, pci: PciAddress, number: u32, fatal: bool, text: &str, at: Instant) {
        let same = |known: &&mut SwitchIncident| (known.pci, known.number, known.fatal) == (pci, number, fatal);
        if let Some(incident) = self.incidents.iter_mut().find(same) {
            // What is over by its rule does not make a new one look old.
            if at.saturating_duration_since(incident.last) > INCIDENT_COUNTS_FOR {
                (incident.count, incident.first) = (0, at);
            }
            incident.count = incident.count.saturating_add(1);
            incident.last = incident.last.max(at);
            text.clone_into(&mut incident.text);
            return;
        }
        if self.incidents.len() >= MOST_INCIDENTS {
            let known = self.incidents.iter().enumerate();
            let least = known.min_by_key(|(_, incident)| (incident.fatal, incident.last));
            if let Some((position, _)) = least {
                self.incidents.remove(position);
            }
        }
        self.incidents.push(SwitchIncident {
            pci,
            number,
            fatal,
            text: text.to_owned(),
            count: 1,
            first: at,
            last: at,
        });
    }

    /// The driver was loaded anew, which resets the switches: what happened before is over.
    pub fn begins_anew(&mut self) {
        self.incidents.clear();
    }

    /// Forgets what is long over.
    pub fn forget(&mut self, now: Instant) {
        self.incidents
            .retain(|incident| now.saturating_duration_since(incident.last) <= REMEMBERED_FOR);
    }
}

/// Whether an SXid that the driver calls fatal is fatal to the whole fabric (the guide's table of always fatal ones, and 10003), and not only
/// to the GPUs at one link.
#[must_use]
pub const fn breaks_the_fabric(number: u32) -> bool {
    matches!(number, 10_003 | 12_020 | 22_003 | 22_011 | 23_001..=23_017)
}

/// Whether a fatal SXid still counts, `ago` after it happened last, with the recovery actions of the node's GPUs.
///
/// One of a link reaches the GPU there, which needs a reset: it counts for 10 min where the drivers of all GPUs say that none needs
/// anything. Without that word, and for those of the whole fabric, it counts for as long as it is remembered.
#[must_use]
pub fn switch_counts(number: u32, ago: Duration, mut actions: impl Iterator<Item = Option<RecoveryAction>>) -> bool {
    let mut known = false;
    let all_well = actions.all(|action| {
        known = true;
        action == Some(RecoveryAction::None)
    });
    ago < INCIDENT_COUNTS_FOR || breaks_the_fabric(number) || !(known && all_well)
}
