//! From endpoints to what each node daemon is to measure.

use crate::{Place, Resolution};
use infmon_samples::{Plan, Target, TargetId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Targets of one node; more are left out (the endpoint then shows as waiting for data). A node runs 110 pods by default.
const TARGETS_PER_NODE_MAX: usize = 256;
/// Credentials and mappings in the plan of one node: with 256 targets it then fits into a message of the
/// link, which has 4 MiB.
const TEXTS_PER_NODE_MAX_BYTES: usize = 3 << 20;

/// What each connected node daemon is to measure. A server that several monitors select is scraped once, at the shortest period asked.
#[must_use]
pub fn plan<'a>(
    resolutions: impl IntoIterator<Item = &'a Resolution>,
    connected: &BTreeSet<String>,
) -> BTreeMap<String, Vec<Target>> {
    let mut nodes: BTreeMap<&str, BTreeMap<&TargetId, Target>> = BTreeMap::new();
    for node in connected {
        nodes.insert(node, BTreeMap::new());
    }
    for endpoint in resolutions.into_iter().flat_map(|resolution| &resolution.endpoints) {
        let Some(target) = &endpoint.target else { continue };
        let node = match &endpoint.place {
            Place::Node(node) => Some(node.as_str()),
            Place::Anywhere => assign_urls(&target.id, connected),
            Place::Nowhere => None,
        };
        let Some(targets) = node.and_then(|node| nodes.get_mut(node)) else {
            continue;
        };
        match targets.get_mut(&target.id) {
            Some(known) if target.period < known.period => *known = target.clone(),
            Some(_) => {}
            None => {
                targets.insert(&target.id, target.clone());
            }
        }
    }
    nodes
        .into_iter()
        .map(|(node, targets)| (node.to_owned(), bounded(targets.into_values().collect())))
        .collect()
}

/// Keeps the bound of a node. Every server gets its first target before any gets a second one, so that nobody crowds out the servers
/// of others by asking for many ports and paths of one pod.
fn bounded(targets: Vec<Target>) -> Vec<Target> {
    let all: usize = targets.iter().map(text_bytes).sum();
    if targets.len() <= TARGETS_PER_NODE_MAX && all <= TEXTS_PER_NODE_MAX_BYTES {
        return targets;
    }
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, Target)> = targets
        .into_iter()
        .map(|target| {
            let owner = target.id.0.split('/').next().unwrap_or_default();
            let host = target.address.rsplit_once(':').map_or("", |(host, _)| host);
            let share = shares.entry(format!("{owner}/{host}")).or_default();
            *share += 1;
            (*share, target)
        })
        .collect();
    ranked.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
    let mut room = TEXTS_PER_NODE_MAX_BYTES;
    let fitting = ranked.into_iter().filter_map(|(_, target)| {
        room = room.checked_sub(text_bytes(&target))?;
        Some(target)
    });
    let mut targets: Vec<Target> = fitting.take(TARGETS_PER_NODE_MAX).collect();
    targets.sort_by(|a, b| a.id.cmp(&b.id));
    targets
}

/// What a user can make large in a target.
fn text_bytes(target: &Target) -> usize {
    let credentials = target.access.credentials.as_ref();
    target.mapping.bytes() + credentials.map_or(0, |credentials| credentials.bytes())
}

/// The node that measures a url endpoint: rendezvous hashing, so that a node that comes or goes moves only its own share.
#[must_use]
pub fn assign_urls<'a>(id: &TargetId, connected: &'a BTreeSet<String>) -> Option<&'a str> {
    let start = fnv1a(FNV_OFFSET, id.0.as_bytes());
    // A byte that UTF-8 never has keeps `ab` + `c` apart from `a` + `bc`.
    let start = fnv1a(start, &[0xff]);
    connected
        .iter()
        .map(String::as_str)
        .max_by_key(|node| mixed(fnv1a(start, node.as_bytes())))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, written out: every replica must choose alike, which std's hashing does not promise between versions.
fn fnv1a(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// FNV mixes the last bytes badly into the high bits, which a comparison looks at first.
fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

/// Gives each node's plan a revision that rises only when its content changes, also over a time in which the node was away.
#[derive(Debug, Default)]
pub struct PlanRevisions {
    plans: BTreeMap<String, Arc<Plan>>,
    /// The highest revision given out, to any node.
    newest: u64,
}

impl PlanRevisions {
    /// Makes the next revision higher than `stamp`. Replicas number their plans independently, and a daemon follows the highest number
    /// it hears: with the wall clock in milliseconds as stamp, that is the plan that changed last.
    pub fn advance_to(&mut self, stamp: u64) {
        self.newest = self.newest.max(stamp);
    }

    /// Takes the newest targets of all nodes, and the nodes that are to let go of their GPUs; returns the plans that changed.
    pub fn update(
        &mut self,
        targets: BTreeMap<String, Vec<Target>>,
        release_gpus: &BTreeSet<String>,
    ) -> Vec<(String, Arc<Plan>)> {
        self.plans.retain(|node, _| targets.contains_key(node));
        let mut changed = Vec::new();
        for (node, targets) in targets {
            let period = targets
                .iter()
                .map(|target| target.period)
                .min()
                .unwrap_or(Duration::from_secs(1))
                .min(Duration::from_secs(1));
            let release_gpus = release_gpus.contains(&node);
            let same = |plan: &Arc<Plan>| {
                plan.targets == targets && plan.period == period && plan.release_gpus == release_gpus
            };
            if self.plans.get(&node).is_some_and(same) {
                continue;
            }
            self.newest += 1;
            let plan = Arc::new(Plan {
                revision: self.newest,
                period,
                targets,
                release_gpus,
            });
            self.plans.insert(node.clone(), Arc::clone(&plan));
            changed.push((node, plan));
        }
        changed
    }

    /// The plan of a node.
    #[must_use]
    pub fn get(&self, node: &str) -> Option<&Arc<Plan>> {
        self.plans.get(node)
    }
}
