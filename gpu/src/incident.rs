//! What happened to GPUs: XIDs and growth of uncorrectable errors, folded and bounded.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::health::{GpuHealth, RecoveryAction};
use crate::kernel_log::XidProcess;
use crate::mig::{MigInstance, MigPlace, may_be};
use crate::xid::{self, XidClass};

/// For so long an incident counts after it happened last, where the driver does not say that the GPU still needs help.
pub const INCIDENT_COUNTS_FOR: Duration = Duration::from_secs(600);
/// Longest time for which an incident is remembered after it happened last.
pub(crate) const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// An XID 45 so soon after another one (or after a 45 that was folded into it) belongs to it.
const CLEANUP_WITHIN: Duration = Duration::from_secs(10);
/// What the driver library and the kernel's log tell of the same XID comes so close together; the library is asked five times a second.
const SAME_WITHIN: Duration = Duration::from_secs(5);
/// Most XIDs of which another teller may still tell.
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
    /// Where on the GPU, as far as the driver named it. Of what concerns the whole GPU it is the place named last.
    pub place: MigPlace,
    /// The process that the kernel's log named last; nothing where that is not read.
    pub process: XidProcess,
    /// How often; for ECC the number of errors.
    pub count: u64,
    /// When first.
    pub first: Instant,
    /// When last.
    pub last: Instant,
    /// Uuids of the MIG devices of its GPU instance, as far as they were seen: numbers of instances are given anew at once.
    devices: Vec<String>,
}

impl Incident {
    /// Whether it is this kind of thing on this GPU, in this place where the place matters.
    fn is(&self, uuid: &str, kind: IncidentKind, place: MigPlace) -> bool {
        self.uuid == uuid && self.kind == kind && (kind.concerns_whole_gpu() || self.place == place)
    }
}

impl IncidentKind {
    /// Whether every program on the GPU is concerned, also where the driver names a MIG instance: see
    /// [`XidClass::stays_in_its_instance`].
    #[must_use]
    pub const fn concerns_whole_gpu(self) -> bool {
        match self {
            Self::Xid { number } => !xid::class(number).stays_in_its_instance(),
            Self::EccUncorrectable => true,
        }
    }
}

/// Who tells of an XID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Teller {
    Library,
    KernelLog,
    /// The line of the kernel's log that says of a GPU, beside or without an XID 79, that it is off the bus.
    BusLine,
}

/// An XID, and who has told of it.
#[derive(Debug)]
struct Unmatched {
    uuid: String,
    number: u32,
    place: MigPlace,
    tellers: Vec<Teller>,
    at: Instant,
}

/// Memory of what happened to the GPUs of a node.
#[derive(Debug, Default)]
pub struct IncidentLog {
    incidents: Vec<Incident>,
    /// Until when an XID 45 belongs to what came before, by GPU and GPU instance; without an instance it is that of the whole GPU.
    cleanup_until: BTreeMap<(String, Option<u32>), Instant>,
    unmatched: VecDeque<Unmatched>,
}

impl IncidentLog {
    /// What is remembered, in the order in which it first happened.
    #[must_use]
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// Takes in an XID that the driver library told. One that cleans up after another is not an incident of its own.
    pub fn xid(&mut self, gpu: (u32, &str), number: u32, place: MigPlace, at: Instant) {
        self.take(gpu, number, place, Teller::Library, at);
    }

    /// Takes in an XID that the kernel's log told, with the process that it names. It counts once with what the library tells of it.
    pub fn kernel_xid(&mut self, gpu: (u32, &str), number: u32, place: MigPlace, process: XidProcess, at: Instant) {
        let place = self.take(gpu, number, place, Teller::KernelLog, at);
        let kind = IncidentKind::Xid { number };
        let noted = self
            .incidents
            .iter_mut()
            .find(|incident| incident.is(gpu.1, kind, place));
        if let Some(incident) = noted {
            incident.process = process;
        }
    }

    /// Takes in that the kernel's log says of a GPU that it is off the bus. That is its XID 79, once: a GPU that is gone cannot go again.
    pub fn off_the_bus(&mut self, gpu: (u32, &str), at: Instant) {
        let number = xid::OFF_THE_BUS;
        let place = MigPlace::default();
        let is = |incident: &Incident| incident.is(gpu.1, IncidentKind::Xid { number }, place);
        if !self.incidents.iter().any(is) {
            self.take(gpu, number, place, Teller::BusLine, at);
        }
    }

    /// Tells it, or adds what the others did not know; returns the place under which it is noted.
    fn take(&mut self, gpu: (u32, &str), number: u32, place: MigPlace, teller: Teller, at: Instant) -> MigPlace {
        let Some(known) = self.told_by_others(gpu.1, number, place, teller, at) else {
            self.tell(gpu, number, place, at);
            return place;
        };
        let place = known.with(place);
        if place != known {
            self.say_where(gpu, IncidentKind::Xid { number }, (known, place), at);
        }
        place
    }

    /// Where another teller has said that this one was; if none has told of it, it is to be told.
    fn told_by_others(
        &mut self,
        uuid: &str,
        number: u32,
        place: MigPlace,
        teller: Teller,
        at: Instant,
    ) -> Option<MigPlace> {
        let apart = |before: Instant| at.max(before).saturating_duration_since(at.min(before));
        self.unmatched.retain(|told| apart(told.at) <= SAME_WITHIN);
        let same = |told: &&mut Unmatched| {
            (told.uuid.as_str(), told.number) == (uuid, number)
                && !told.tellers.contains(&teller)
                && told.place.may_be(place)
        };
        if let Some(told) = self.unmatched.iter_mut().find(same) {
            told.tellers.push(teller);
            let known = told.place;
            told.place = known.with(place);
            return Some(known);
        }
        if self.unmatched.len() >= MOST_UNMATCHED {
            self.unmatched.pop_front();
        }
        self.unmatched.push_back(Unmatched {
            uuid: uuid.to_owned(),
            number,
            place,
            tellers: vec![teller],
            at,
        });
        None
    }

    fn tell(&mut self, gpu: (u32, &str), number: u32, place: MigPlace, at: Instant) {
        let (_, uuid) = gpu;
        let kind = IncidentKind::Xid { number };
        let until = at + CLEANUP_WITHIN;
        if number == xid::CLEANUP {
            let mut cleans_up = false;
            for ((of, instance), ends) in &mut self.cleanup_until {
                if of == uuid && at <= *ends && may_be(*instance, place.gpu_instance) {
                    (cleans_up, *ends) = (true, until);
                }
            }
            if cleans_up {
                return;
            }
        } else {
            let instance = place.gpu_instance.filter(|_| !kind.concerns_whole_gpu());
            self.cleanup_until.insert((uuid.to_owned(), instance), until);
            // Its cause may be told after it.
            let alone = IncidentKind::Xid { number: xid::CLEANUP };
            self.incidents.retain(|incident| {
                !(incident.uuid == uuid
                    && incident.kind == alone
                    && at <= incident.last + CLEANUP_WITHIN
                    && may_be(instance, incident.place.gpu_instance))
            });
        }
        self.note(gpu, kind, place, 1, at);
    }

    /// Puts one that was noted without its place where it belongs.
    fn say_where(&mut self, gpu: (u32, &str), kind: IncidentKind, (from, to): (MigPlace, MigPlace), at: Instant) {
        let known = |place| move |incident: &Incident| incident.is(gpu.1, kind, place);
        let Some(position) = self.incidents.iter().position(known(from)) else {
            return;
        };
        let joins = !kind.concerns_whole_gpu() && self.incidents.iter().any(known(to));
        let Some(incident) = self.incidents.get_mut(position) else {
            return;
        };
        if kind.concerns_whole_gpu() || (incident.count == 1 && !joins) {
            incident.place = to;
            return;
        }
        incident.count -= 1;
        if incident.count == 0 {
            self.incidents.remove(position);
        }
        self.note(gpu, kind, to, 1, at);
    }

    /// Takes in which MIG instances a GPU has now. What happened in an instance that was destroyed since is over: its number may be that of
    /// another one by now.
    pub fn instances(&mut self, uuid: &str, instances: &[MigInstance]) {
        self.incidents.retain_mut(|incident| {
            let of_incident = |instance: &&MigInstance| {
                Some(instance.gpu_instance) == incident.place.gpu_instance && incident.uuid == uuid
            };
            let Some(instance) = instances
                .iter()
                .find(of_incident)
                .filter(|_| !incident.kind.concerns_whole_gpu())
            else {
                return true;
            };
            let now = || instance.devices.iter().map(|device| device.uuid.clone());
            if incident.devices.is_empty() {
                incident.devices.extend(now());
                return true;
            }
            instance.devices.is_empty() || now().any(|device| incident.devices.contains(&device))
        });
    }

    /// Takes in that so many uncorrectable errors were added.
    pub fn ecc(&mut self, gpu: (u32, &str), errors: u64, at: Instant) {
        if errors > 0 {
            self.note(gpu, IncidentKind::EccUncorrectable, MigPlace::default(), errors, at);
        }
    }

    /// A GPU begins anew: it came back after it was lost, or the driver was loaded again. What happened before is over.
    pub fn begins_anew(&mut self, uuid: &str) {
        self.incidents.retain(|incident| incident.uuid != uuid);
        self.cleanup_until.retain(|(of, _), _| of != uuid);
    }

    /// Forgets what is long over.
    pub fn forget(&mut self, now: Instant) {
        self.incidents
            .retain(|incident| now.saturating_duration_since(incident.last) <= REMEMBERED_FOR);
        self.cleanup_until.retain(|_, until| now <= *until);
    }

    fn note(&mut self, (index, uuid): (u32, &str), kind: IncidentKind, place: MigPlace, count: u64, at: Instant) {
        let known = self
            .incidents
            .iter_mut()
            .find(|incident| incident.is(uuid, kind, place));
        if let Some(incident) = known {
            // What is over by its rule does not make a new one look old.
            if at.saturating_duration_since(incident.last) > INCIDENT_COUNTS_FOR {
                (incident.count, incident.first) = (0, at);
            }
            incident.count = incident.count.saturating_add(count);
            incident.last = incident.last.max(at);
            incident.place = place;
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
            place,
            process: XidProcess::default(),
            count,
            first: at,
            last: at,
            devices: Vec::new(),
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
