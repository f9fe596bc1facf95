//! Which GPUs of a node serve which endpoints, and how that is known.
//!
//! The kubelet's own list comes first, then the ids in the status of a pod, then the node: see docs/conditions.md#whose-gpu.

use crate::words::{clause, seconds};
use crate::{Moment, NodeObservation, OwnersObservation, ResolvedEndpoint};
use infmon_samples::GpuOwner;

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

/// An endpoint and the ids of its devices.
type Devices<'a> = (&'a ResolvedEndpoint, Vec<&'a str>);

/// The endpoints of a node and its GPUs.
pub(super) enum Ownership<'a> {
    /// Ids tell, for every endpoint.
    ByDevice(Vec<Devices<'a>>),
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
        if devices
            .clone()
            .any(|device| device.starts_with("GPU-") || node.gpus.iter().any(|gpu| names_gpu(device, &gpu.uuid)))
        {
            return Self::ByDevice(endpoints);
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

    /// Names of the endpoints that a GPU serves, and how that is known.
    pub(super) fn served_by(&self, uuid: &str) -> (Vec<String>, Attribution) {
        match self {
            Self::ByDevice(endpoints) => {
                let mine = endpoints
                    .iter()
                    .filter(|(_, devices)| devices.iter().any(|device| names_gpu(device, uuid)));
                (
                    mine.map(|(endpoint, _)| endpoint.name.clone()).collect(),
                    Attribution::Device,
                )
            }
            Self::ByNode { endpoints, others, why } => {
                let names = if others.iter().any(|device| names_gpu(device, uuid)) {
                    Vec::new()
                } else {
                    endpoints.iter().map(|(endpoint, _)| endpoint.name.clone()).collect()
                };
                (names, Attribution::Node { why: why.clone() })
            }
            Self::Nothing => (Vec::new(), Attribution::Device),
        }
    }

    /// A GPU that an endpoint has and that is not among those that are read, as a part of a sentence.
    pub(super) fn unread(&self, node: &NodeObservation) -> Option<String> {
        let Self::ByDevice(endpoints) = self else { return None };
        endpoints.iter().find_map(|(endpoint, devices)| {
            let unread = devices.iter().find(|device| {
                device.starts_with("GPU-") && !node.gpus.iter().any(|gpu| names_gpu(device, &gpu.uuid))
            })?;
            let short: String = unread.chars().take(12).collect();
            Some(format!(
                "{short} of pod {} is not among the GPUs that are read",
                endpoint.name
            ))
        })
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

/// Whether a device id of the kubelet names the GPU: `GPU-<uuid>` or a time-slicing replica of it, `GPU-<uuid>::3`.
fn names_gpu(device: &str, uuid: &str) -> bool {
    !uuid.is_empty() && device.split("::").next() == Some(uuid)
}
