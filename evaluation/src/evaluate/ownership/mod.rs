//! Which GPUs of a node serve which endpoints, and how that is known.
//!
//! The kubelet's own list comes first, then the ids in the status of a pod, then the processes on the GPUs, then the node: see
//! docs/conditions.md#whose-gpu.

mod ids;
mod parts;
mod processes;

pub use parts::Part;
pub use processes::PodProcesses;

use crate::words::{clause, seconds};
use crate::{Moment, NodeObservation, OwnersObservation, ResolvedEndpoint};
use ids::{is_share, listed, names_gpu, short, tells};
use infmon_gpu::GpuSample;
use infmon_samples::GpuOwner;
use processes::Processes;
use std::collections::BTreeMap;

/// How it is known whom a GPU serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// By its id, which the kubelet gave to these pods.
    Device,
    /// By its processes, which are in the control groups of these pods.
    Process,
    /// It is on the node on which these pods run, and may serve any of them.
    Node {
        /// Why nothing better is known, as a part of a sentence.
        why: String,
    },
}

impl Attribution {
    /// The name in the status.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Device => "Device",
            Self::Process => "Process",
            Self::Node { .. } => "Node",
        }
    }
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
    /// It is divided by MIG, and so many pods have parts of it; `None` where nobody tells how many.
    Parts(Option<usize>),
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
    /// What the processes of these pods hold, by the name of the pod; one of which that is not known is left out.
    pub(super) processes: BTreeMap<String, PodProcesses>,
    /// The MIG instances that these pods have, where it is known which.
    pub(super) parts: Vec<Part>,
}

impl Served {
    /// Whom of them something in one GPU instance of MIG concerns: who has it, and who has a part of the GPU of which nobody knows which. The
    /// second is whether it is known of all that are left that they have it.
    pub(super) fn in_instance(&self, gpu_instance: u32) -> (Self, bool) {
        let has = |part: &Part, pod: &String| part.pods.contains(pod);
        let on_it = |pod: &String| {
            let mut parts = self
                .parts
                .iter()
                .filter(|part| part.instance.gpu_instance == gpu_instance);
            parts.any(|part| has(part, pod))
        };
        let placed = |pod: &String| self.parts.iter().any(|part| has(part, pod));
        let mut left = self.clone();
        left.pods.retain(|pod| on_it(pod) || !placed(pod));
        let known = left.pods.iter().all(on_it);
        if known {
            // Others share the GPU, and not this part of it.
            left.sharing = Sharing::NotTold;
        }
        (left, known)
    }
}

/// An endpoint and the ids of its devices.
type Devices<'a> = (&'a ResolvedEndpoint, Vec<&'a str>);

/// The endpoints of a node and its GPUs.
pub(super) struct Ownership<'a> {
    endpoints: Vec<Devices<'a>>,
    /// The kubelet's list, which is complete; without it, nobody knows what other pods have.
    list: Option<&'a [GpuOwner]>,
    /// The processes, where the daemon tells whose they are.
    processes: Option<Processes<'a>>,
    way: Way<'a>,
}

/// What the ids tell.
enum Way<'a> {
    /// Which GPU, of one endpoint at least: then one without ids was given none.
    Ids,
    /// Nothing: a GPU may serve any endpoint of which no process shows where it is, but those that others have for themselves.
    Node { others: Vec<&'a str>, why: String },
    /// The kubelet has given no GPU to any endpoint.
    NoneGiven,
}

impl<'a> Ownership<'a> {
    pub(super) fn of(
        namespace: &str,
        endpoints: &[&'a ResolvedEndpoint],
        node: &'a NodeObservation,
        now: Moment,
    ) -> Self {
        let list = node.owners.as_ref().and_then(|owners| owners.fresh(now));
        let list: Option<&[GpuOwner]> = list.map(|list| list.owners.as_slice());
        let owners = list.unwrap_or_default();
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
        let way = if devices.clone().any(|device| tells(device, &node.gpus)) {
            Way::Ids
        } else {
            match (list, devices.next()) {
                (Some(_), None) => Way::NoneGiven,
                (Some(_), Some(device)) => Way::Node {
                    others: owners
                        .iter()
                        .filter(|owner| !endpoints.iter().any(|(endpoint, _)| is(owner, endpoint)))
                        .flat_map(ids)
                        .collect(),
                    why: format!("their devices do not name a GPU: {}", clause(device)),
                },
                (None, _) => Way::Node {
                    others: Vec::new(),
                    why: format!(
                        "the cluster does not tell which pod has which GPU{}{}",
                        lacking(node.owners.as_ref(), now),
                        blind(node)
                    ),
                },
            }
        };
        Self {
            endpoints,
            list,
            processes: Processes::of(node),
            way,
        }
    }

    /// Why no GPU of this node serves the endpoints, as a sentence; `None` where one may.
    ///
    /// `fresh` is whether the samples of the node are young enough to conclude anything from them.
    pub(super) fn nothing(&self, name: &str, node: &NodeObservation, fresh: bool) -> Option<String> {
        if self.processes.is_some_and(|processes| self.any_on(processes)) {
            return None;
        }
        match self.way {
            Way::Ids => None,
            Way::NoneGiven => Some(format!("the kubelet of node {name} has given none to its pods.")),
            Way::Node { .. } => {
                let complete = fresh
                    && self.processes.is_some()
                    && !node.gpus.is_empty()
                    && node.outages.is_empty()
                    && node.gpus.iter().all(processes::is_complete);
                complete.then(|| format!("no process of its pods is on a GPU of node {name}."))
            }
        }
    }

    fn any_on(&self, processes: Processes<'_>) -> bool {
        self.endpoints
            .iter()
            .any(|(endpoint, _)| processes.are_on_any(endpoint))
    }

    /// The endpoints that may have a GPU.
    pub(super) fn endpoint_names(&self) -> Vec<&'a str> {
        let on_any =
            |endpoint: &ResolvedEndpoint| self.processes.is_some_and(|processes| processes.are_on_any(endpoint));
        self.endpoints
            .iter()
            .filter(|(endpoint, devices)| {
                let may = match self.way {
                    Way::Ids => !devices.is_empty(),
                    Way::Node { .. } => true,
                    Way::NoneGiven => false,
                };
                may || on_any(endpoint)
            })
            .map(|(endpoint, _)| endpoint.name.as_str())
            .collect()
    }

    /// Whom a GPU serves.
    pub(super) fn served_by(&self, gpu: &GpuSample) -> Served {
        let by_id: Vec<(&ResolvedEndpoint, &str)> = match self.way {
            Way::Ids => self
                .endpoints
                .iter()
                .filter_map(|(endpoint, devices)| {
                    Some((
                        *endpoint,
                        devices.iter().copied().find(|device| names_gpu(device, gpu))?,
                    ))
                })
                .collect(),
            Way::Node { .. } | Way::NoneGiven => Vec::new(),
        };
        let by_process: Vec<&ResolvedEndpoint> = self
            .endpoints
            .iter()
            .filter(|(_, devices)| !matches!(self.way, Way::Ids) || devices.is_empty())
            .map(|(endpoint, _)| *endpoint)
            .filter(|endpoint| self.processes.is_some_and(|processes| processes.are_on(endpoint, gpu)))
            .collect();
        if by_id.is_empty() && by_process.is_empty() {
            return self.served_by_node(gpu);
        }
        let attribution = if by_id.is_empty() {
            Attribution::Process
        } else {
            Attribution::Device
        };
        let sharing = self.sharing(gpu, &by_id, by_process.len());
        let served = by_id.into_iter().map(|(endpoint, _)| endpoint).chain(by_process);
        self.served(served, gpu, attribution, sharing)
    }

    /// What is left where neither id nor process tells: any endpoint that is on no other GPU, unless it is known whose all processes are.
    fn served_by_node(&self, gpu: &GpuSample) -> Served {
        let (endpoints, why): (Vec<&ResolvedEndpoint>, &str) = match &self.way {
            // Of a GPU that is divided others have only parts.
            Way::Node { others, why }
                if gpu.mig_instances.is_some() || !others.iter().any(|device| names_gpu(device, gpu)) =>
            {
                let elsewhere = |endpoint: &ResolvedEndpoint| match self.processes {
                    Some(processes) => processes::is_complete(gpu) || processes.are_on_any(endpoint),
                    None => false,
                };
                let endpoints = self.endpoints.iter().map(|(endpoint, _)| *endpoint);
                (
                    endpoints.filter(|endpoint| !elsewhere(endpoint)).collect(),
                    why.as_str(),
                )
            }
            _ => (Vec::new(), ""),
        };
        let attribution = if endpoints.is_empty() {
            Attribution::Device
        } else {
            let unseen = match self.processes {
                Some(_) if gpu.processes.is_none() => "; the processes on it are not known",
                Some(_) => "; of a process on it nobody can say whose it is",
                None => "",
            };
            Attribution::Node {
                why: format!("{why}{unseen}"),
            }
        };
        self.served(endpoints.into_iter(), gpu, attribution, Sharing::NotTold)
    }

    fn served<'b>(
        &self,
        endpoints: impl Iterator<Item = &'b ResolvedEndpoint>,
        gpu: &GpuSample,
        attribution: Attribution,
        sharing: Sharing,
    ) -> Served {
        let mut served = Served {
            pods: Vec::new(),
            attribution,
            sharing,
            processes: BTreeMap::new(),
            parts: Vec::new(),
        };
        for endpoint in endpoints {
            served.pods.push(endpoint.name.clone());
            if self.processes.is_some()
                && let Some(processes) = processes::of_pod(gpu, endpoint)
            {
                served.processes.insert(endpoint.name.clone(), processes);
            }
        }
        if !matches!(served.attribution, Attribution::Node { .. }) {
            let all = self.endpoints.iter().map(|(endpoint, ids)| (*endpoint, ids.as_slice()));
            let mine: Vec<_> = all
                .filter(|(endpoint, _)| served.pods.contains(&endpoint.name))
                .collect();
            served.parts = parts::parts(gpu, &mine, self.processes.is_some());
        }
        served
    }

    /// A GPU that an endpoint has and that is not among those that are read, as a part of a sentence.
    pub(super) fn unread(&self, node: &NodeObservation) -> Option<String> {
        if !matches!(self.way, Way::Ids) {
            return None;
        }
        self.endpoints.iter().find_map(|(endpoint, devices)| {
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

    /// Who has a GPU beside the endpoints `by_id`, each with the id by which it has it, and `by_process`.
    fn sharing(&self, gpu: &GpuSample, by_id: &[(&ResolvedEndpoint, &str)], by_process: usize) -> Sharing {
        let listed = self.list.map(|list| listed(gpu, list));
        let seen = self.processes.map_or(0, |_| processes::pods_on(gpu));
        let pods = listed.unwrap_or(0).max(seen).max(by_id.len() + by_process);
        let in_shares = by_id.iter().any(|(_, id)| is_share(id));
        if gpu.mig_instances.is_some() {
            let told = listed.is_some() || self.processes.is_some();
            return Sharing::Parts(told.then_some(pods));
        }
        match pods {
            _ if in_shares && listed.is_none() && seen < 2 => Sharing::InShares,
            0 | 1 => Sharing::NotTold,
            pods => Sharing::Pods(pods),
        }
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

/// Why a daemon that looks up whose the processes are cannot; empty where none looks.
fn blind(node: &NodeObservation) -> String {
    let failure = node
        .process_lookup
        .as_ref()
        .and_then(|lookup| lookup.failure.as_deref());
    failure.map_or_else(String::new, |words| {
        format!("; nor do the processes on it: {}", clause(words))
    })
}
