//! Which GPUs of a node serve which endpoints, and how that is known.
//!
//! The kubelet's own list comes first, then the ids in the status of a pod, then the node: see docs/conditions.md#whose-gpu.

use crate::words::{clause, seconds};
use crate::{Moment, NodeObservation, OwnersObservation, ResolvedEndpoint};
use infmon_gpu::GpuSample;
use infmon_samples::{DeviceId, DeviceName, GpuOwner};
use std::collections::BTreeSet;

/// How it is known whom a GPU serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// By its id, which the kubelet gave to these pods.
    Device,
    /// It is on the node on which these pods run, and may serve any of them.
    Node {
        /// Why nothing better is known, as a part of a sentence.
        why: String,
    },
}

/// Whether other pods have the same GPU, so that numbers of the whole device are not those of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nothing says that others have it.
    NotTold,
    /// It was given out in shares, and nobody tells to how many pods.
    InShares,
    /// So many pods have it, those of the monitor among them.
    Pods(usize),
}

/// Whom a GPU serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// Names of the endpoints.
    pub(super) pods: Vec<String>,
    /// How that is known.
    pub(super) attribution: Attribution,
    /// Who else has it.
    pub(super) sharing: Sharing,
}

/// An endpoint and the ids of its devices.
type Devices<'a> = (&'a ResolvedEndpoint, Vec<&'a str>);

/// The endpoints of a node and its GPUs.
pub(super) enum Ownership<'a> {
    /// Ids tell, for every endpoint.
    ByDevice {
        endpoints: Vec<Devices<'a>>,
        /// The kubelet's list, which is complete; without it, nobody knows what other pods have.
        list: Option<&'a [GpuOwner]>,
    },
    /// No id tells: any GPU may serve any endpoint, but those that others have for themselves.
    ByNode {
        endpoints: Vec<Devices<'a>>,
        others: Vec<&'a str>,
        why: String,
    },
    /// The kubelet has given no GPU to any endpoint.
    Nothing,
}

impl<'a> Ownership<'a> {
    pub(super) fn of(
        namespace: &str,
        endpoints: &[&'a ResolvedEndpoint],
        node: &'a NodeObservation,
        now: Moment,
    ) -> Self {
        let list = node.owners.as_ref().and_then(|owners| owners.fresh(now));
        let owners: &[GpuOwner] = list.map_or(&[], |list| &list.owners);
        let is =
            |owner: &GpuOwner, endpoint: &ResolvedEndpoint| owner.namespace == namespace && owner.pod == endpoint.name;
        let ids = |owner: &'a GpuOwner| owner.devices.iter().map(String::as_str);
        let endpoints: Vec<Devices<'a>> = endpoints
            .iter()
            .map(|endpoint| {
                let mine = owners.iter().filter(|owner| is(owner, endpoint));
                let mut devices: Vec<&str> = mine.flat_map(ids).collect();
                // A pod that is younger than the list is not in it.
                if devices.is_empty() {
                    devices.extend(endpoint.devices.iter().map(String::as_str));
                }
                (*endpoint, devices)
            })
            .collect();
        let mut devices = endpoints.iter().flat_map(|(_, devices)| devices);
        if devices.clone().any(|device| tells(device, &node.gpus)) {
            let list = list.map(|list| list.owners.as_slice());
            return Self::ByDevice { endpoints, list };
        }
        match (list, devices.next()) {
            (Some(_), None) => Self::Nothing,
            (Some(_), Some(device)) => Self::ByNode {
                others: owners
                    .iter()
                    .filter(|owner| !endpoints.iter().any(|(endpoint, _)| is(owner, endpoint)))
                    .flat_map(ids)
                    .collect(),
                why: format!("their devices do not name a GPU: {}", clause(device)),
                endpoints,
            },
            (None, _) => Self::ByNode {
                endpoints,
                others: Vec::new(),
                why: format!(
                    "the cluster does not tell which pod has which GPU{}",
                    lacking(node.owners.as_ref(), now)
                ),
            },
        }
    }

    /// The endpoints that may have a GPU.
    pub(super) fn endpoint_names(&self) -> Vec<&'a str> {
        match self {
            Self::ByDevice { endpoints, .. } => endpoints
                .iter()
                .filter(|(_, devices)| !devices.is_empty())
                .map(|(endpoint, _)| endpoint.name.as_str())
                .collect(),
            Self::ByNode { endpoints, .. } => endpoints.iter().map(|(endpoint, _)| endpoint.name.as_str()).collect(),
            Self::Nothing => Vec::new(),
        }
    }

    /// Whom a GPU serves.
    pub(super) fn served_by(&self, gpu: &GpuSample) -> Served {
        match self {
            Self::ByDevice { endpoints, list } => {
                let ids = |devices: &Vec<&'a str>| devices.iter().copied().find(|device| names_gpu(device, gpu));
                let mine: Vec<(&str, &str)> = endpoints
                    .iter()
                    .filter_map(|(endpoint, devices)| Some((endpoint.name.as_str(), ids(devices)?)))
                    .collect();
                Served {
                    sharing: sharing(gpu, &mine, *list),
                    pods: mine.into_iter().map(|(name, _)| name.to_owned()).collect(),
                    attribution: Attribution::Device,
                }
            }
            Self::ByNode { endpoints, others, why } => Served {
                pods: if others.iter().any(|device| names_gpu(device, gpu)) {
                    Vec::new()
                } else {
                    endpoints.iter().map(|(endpoint, _)| endpoint.name.clone()).collect()
                },
                attribution: Attribution::Node { why: why.clone() },
                sharing: Sharing::NotTold,
            },
            Self::Nothing => Served {
                pods: Vec::new(),
                attribution: Attribution::Device,
                sharing: Sharing::NotTold,
            },
        }
    }

    /// A GPU that an endpoint has and that is not among those that are read, as a part of a sentence.
    pub(super) fn unread(&self, node: &NodeObservation) -> Option<String> {
        let Self::ByDevice { endpoints, .. } = self else {
            return None;
        };
        endpoints.iter().find_map(|(endpoint, devices)| {
            let unread = devices
                .iter()
                .find(|device| tells(device, &node.gpus) && !node.gpus.iter().any(|gpu| names_gpu(device, gpu)))?;
            Some(format!(
                "{} of pod {} is not among the GPUs that are read",
                short(unread),
                endpoint.name
            ))
        })
    }
}

/// Who has a GPU beside the endpoints `mine`, each with the id by which it has it.
fn sharing(gpu: &GpuSample, mine: &[(&str, &str)], list: Option<&[GpuOwner]>) -> Sharing {
    let in_shares = mine
        .iter()
        .any(|(_, id)| DeviceId::parse(id).is_some_and(|id| id.shared));
    let Some(list) = list else {
        return match (mine.len(), in_shares) {
            (_, true) => Sharing::InShares,
            (0 | 1, false) => Sharing::NotTold,
            (pods, false) => Sharing::Pods(pods),
        };
    };
    let listed: BTreeSet<(&str, &str)> = list
        .iter()
        .filter(|owner| owner.devices.iter().any(|device| names_gpu(device, gpu)))
        .map(|owner| (owner.namespace.as_str(), owner.pod.as_str()))
        .collect();
    match listed.len().max(mine.len()) {
        0 | 1 => Sharing::NotTold,
        pods => Sharing::Pods(pods),
    }
}

/// Why a kubelet that is asked does not tell; empty where none is asked.
fn lacking(owners: Option<&OwnersObservation>, now: Moment) -> String {
    let Some(owners) = owners else { return String::new() };
    match (&owners.failure, &owners.list) {
        (Some((since, words)), _) => {
            format!(
                "; for {} the kubelet has not told it: {}",
                seconds(now.since(*since)),
                clause(words)
            )
        }
        (None, Some(list)) => format!("; the kubelet's last list is {} old", seconds(list.age(now))),
        (None, None) => "; the kubelet has not answered yet".into(),
    }
}

/// An id for people.
fn short(device: &str) -> String {
    match DeviceId::parse(device).map(|id| id.name) {
        Some(DeviceName::Minor(minor)) => format!("/dev/nvidia{minor}"),
        Some(DeviceName::Gpu(uuid)) => uuid.chars().take(12).collect(),
        _ => device.chars().take(12).collect(),
    }
}

/// Whether an id tells which of the GPUs it names, or that it is none of them.
fn tells(device: &str, gpus: &[GpuSample]) -> bool {
    match DeviceId::parse(device).map(|id| id.name) {
        Some(DeviceName::Gpu(_)) => true,
        Some(DeviceName::Minor(_)) => !gpus.is_empty() && gpus.iter().all(|gpu| gpu.minor_number.is_some()),
        Some(DeviceName::Mig(_)) | None => false,
    }
}

/// Whether an id names this GPU or a part of it.
fn names_gpu(device: &str, gpu: &GpuSample) -> bool {
    match DeviceId::parse(device).map(|id| id.name) {
        Some(DeviceName::Gpu(uuid)) => uuid == gpu.uuid,
        Some(DeviceName::Minor(minor)) => gpu.minor_number == Some(minor),
        Some(DeviceName::Mig(_)) | None => false,
    }
}
