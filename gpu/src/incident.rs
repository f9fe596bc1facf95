//! What happened to GPUs: XIDs and growth of uncorrectable errors, folded and bounded.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::health::{GpuHealth, RecoveryAction};
use crate::kernel_log::XidProcess;
use crate::xid::{self, XidClass};

/// For so long an incident counts after it happened last, where the driver does not say that the GPU still needs help.
pub const INCIDENT_COUNTS_FOR: Duration = Duration::from_secs(600);
/// Longest time for which an incident is remembered after it happened last.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// An XID 45 so soon after another one (or after a 45 that was folded into it) belongs to it.
const CLEANUP_WITHIN: Duration = Duration::from_secs(10);
/// What the driver library and the kernel's log tell of the same XID comes so close together; the library is asked five times a second.
const SAME_WITHIN: Duration = Duration::from_secs(5);
/// Most XIDs of which the other teller has not told yet.
const MOST_UNMATCHED: usize = 256;
/// Most incidents of a node that are remembered; the oldest give way.
const MOST_INCIDENTS: usize = 128;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum IncidentKind {
    /// The driver told of an XID.
    Xid {
        /// Its number in NVIDIA's catalogue.
        number: u32,
    },
    /// The count of uncorrectable ECC errors grew.
    EccUncorrectable,
}

/// What happened to a GPU, once or several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Index of the GPU in enumeration order.
    pub index: u32,
    /// `GPU-<uuid>`.
    pub uuid: String,
    /// What.
    pub kind: IncidentKind,
    /// GPU instance of MIG that the driver named last.
    pub gpu_instance: Option<u32>,
    /// The process that the kernel's log named last; nothing where that is not read.
    pub process: XidProcess,
    /// How often; for ECC the number of errors.
    pub count: u64,
    /// When first.
    pub first: Instant,
    /// When last.
    pub last: Instant,
}

/// Who tells of an XID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Teller {
    Library,
    KernelLog,
}

/// An XID of which one teller told, and the other not yet.
#[derive(Debug)]
struct Unmatched {
    uuid: String,
    number: u32,
    teller: Teller,
    at: Instant,
}

/// Memory of what happened to the GPUs of a node.
#[derive(Debug, Default)]
pub struct IncidentLog {
    incidents: Vec<Incident>,
    /// Until when an XID 45 of a GPU belongs to what came before.
    cleanup_until: BTreeMap<String, Instant>,
    unmatched: VecDeque<Unmatched>,
}

impl IncidentLog {
    /// What is remembered, in the order in which it first happened.
    #[must_use]
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// Takes in an XID that the driver library told. One that cleans up after another is not an incident of its own.
    pub fn xid(&mut self, gpu: (u32, &str), number: u32, gpu_instance: Option<u32>, at: Instant) {
        if !self.is_matched(gpu.1, number, Teller::Library, at) {
            self.tell(gpu, number, gpu_instance, at);
        }
    }

    /// Takes in an XID that the kernel's log told, with the process that it names. It counts once with what the library tells of it.
    pub fn kernel_xid(
        &mut self,
        gpu: (u32, &str),
        number: u32,
        gpu_instance: Option<u32>,
        process: XidProcess,
        at: Instant,
    ) {
        let (_, uuid) = gpu;
        if !self.is_matched(uuid, number, Teller::KernelLog, at) {
            self.tell(gpu, number, gpu_instance, at);
        }
        let kind = IncidentKind::Xid { number };
        let noted = self
            .incidents
            .iter_mut()
            .find(|incident| incident.uuid == uuid && incident.kind == kind);
        if let Some(incident) = noted {
            incident.process = process;
        }
    }

    /// Whether the other teller has told of this one; if not, it is to be told.
    fn is_matched(&mut self, uuid: &str, number: u32, teller: Teller, at: Instant) -> bool {
        let apart = |before: Instant| at.max(before).saturating_duration_since(at.min(before));
        self.unmatched.retain(|told| apart(told.at) <= SAME_WITHIN);
        let same = |told: &Unmatched| (told.uuid.as_str(), told.number) == (uuid, number) && told.teller != teller;
        if let Some(position) = self.unmatched.iter().position(same) {
            self.unmatched.remove(position);
            return true;
        }
        if self.unmatched.len() >= MOST_UNMATCHED {
            self.unmatched.pop_front();
        }
        self.unmatched.push_back(Unmatched {
            uuid: uuid.to_owned(),
            number,
            teller,
            at,
        });
        false
    }

    fn tell(&mut self, gpu: (u32, &str), number: u32, gpu_instance: Option<u32>, at: Instant) {
        let (_, uuid) = gpu;
        let cleans_up = self.cleanup_until.get(uuid).is_some_and(|until| at <= *until);
        if number == xid::CLEANUP {
            if cleans_up {
                self.cleanup_until.insert(uuid.to_owned(), at + CLEANUP_WITHIN);
                return;
            }
        } else {
            self.cleanup_until.insert(uuid.to_owned(), at + CLEANUP_WITHIN);
            // Its cause may be told after it.
            let alone = IncidentKind::Xid { number: xid::CLEANUP };
            self.incidents.retain(|incident| {
                !(incident.uuid == uuid && incident.kind == alone && at <= incident.last + CLEANUP_WITHIN)
            });
        }
        self.note(gpu, IncidentKind::Xid { number }, gpu_instance, 1, at);
    }

    /// Takes in that so many uncorrectable errors were added.
    pub fn ecc(&mut self, gpu: (u32, &str), errors: u64, at: Instant) {
        if errors > 0 {
            self.note(gpu, IncidentKind::EccUncorrectable, None, errors, at);
        }
    }

    /// A GPU begins anew: it came back after it was lost, or the driver was loaded again. What happened before is over.
    pub fn begins_anew(&mut self, uuid: &str) {
        self.incidents.retain(|incident| incident.uuid != uuid);
        self.cleanup_until.remove(uuid);
    }

    /// Forgets what is long over.
    pub fn forget(&mut self, now: Instant) {
        self.incidents
            .retain(|incident| now.saturating_duration_since(incident.last) <= REMEMBERED_FOR);
        self.cleanup_until.retain(|_, until| now <= *until);
    }

    fn note(&mut self, (index, uuid): (u32, &str), kind: IncidentKind, instance: Option<u32>, count: u64, at: Instant) {
        let known = self
            .incidents
            .iter_mut()
            .find(|incident| incident.uuid == uuid && incident.kind == kind);
        if let Some(incident) = known {
            // What is over by its rule does not make a new one look old.
            if at.saturating_duration_since(incident.last) > INCIDENT_COUNTS_FOR {
                (incident.count, incident.first) = (0, at);
            }
            incident.count = incident.count.saturating_add(count);
            incident.last = incident.last.max(at);
            incident.gpu_instance = instance;
            incident.process = XidProcess::default();
            return;
        }
        if self.incidents.len() >= MOST_INCIDENTS {
            let oldest = self
                .incidents
                .iter()
                .enumerate()
                .min_by_key(|(_, incident)| incident.last);
            if let Some((position, _)) = oldest {
                self.incidents.remove(position);
            }
        }
        self.incidents.push(Incident {
            index,
            uuid: uuid.to_owned(),
            kind,
            gpu_instance: instance,
            process: XidProcess::default(),
            count,
            first: at,
            last: at,
        });
    }
}

/// Whether an incident still counts, `ago` after it happened last.
///
/// What ended only a program counts for [`INCIDENT_COUNTS_FOR`]; so does what impairs the GPU, where the driver says that no recovery is
/// needed. Without that word it counts for as long as it is remembered.
#[must_use]
pub fn counts(kind: IncidentKind, ago: Duration, health: Option<&GpuHealth>) -> bool {
    let recent = ago < INCIDENT_COUNTS_FOR;
    let action = health.and_then(|health| health.recovery_action);
    match kind {
        IncidentKind::EccUncorrectable => recent,
        IncidentKind::Xid { number } => match xid::class(number) {
            XidClass::Ignore => false,
            // The action itself tells, where it can be read.
            XidClass::FollowRecoveryAction => recent && action.is_none(),
            class if class.lasts() => recent || action != Some(RecoveryAction::None),
            _ => recent,
        },
    }
}
