//! From endpoints to what each node daemon is to measure.

use crate::{Place, Resolution};
use infmon_samples::{Plan, Target, TargetId};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Targets of one node; more are left out (the endpoint then shows as waiting for data).
const TARGETS_PER_NODE_MAX: usize = 256;

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
        let full = targets.len() >= TARGETS_PER_NODE_MAX;
        match targets.get_mut(&target.id) {
            Some(known) if target.period < known.period => *known = target.clone(),
            Some(_) => {}
            None if full => {}
            None => {
                targets.insert(&target.id, target.clone());
            }
        }
    }
    nodes
        .into_iter()
        .map(|(node, targets)| (node.to_owned(), targets.into_values().collect()))
        .collect()
}

/// The node that measures a url endpoint: rendezvous hashing, so that a node that comes or goes moves only its own share.
#[must_use]
pub fn assign_urls<'a>(id: &TargetId, connected: &'a BTreeSet<String>) -> Option<&'a str> {
    connected
        .iter()
        .max_by_key(|node| {
            // FNV-1a: every replica must choose alike, which std's hasher does not promise between versions.
            let mut hasher = Fnv1a(0xcbf2_9ce4_8422_2325);
            (id, node).hash(&mut hasher);
            hasher.finish()
        })
        .map(String::as_str)
}

struct Fnv1a(u64);

impl Hasher for Fnv1a {
    fn finish(&self) -> u64 {
        // FNV mixes the last bytes badly into the high bits, which `max_by_key` compares first.
        let mut value = self.0;
        value ^= value >> 33;
        value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
        value ^ (value >> 33)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Gives each node's plan a revision that rises only when its content changes.
#[derive(Debug, Default)]
pub struct PlanRevisions {
    plans: BTreeMap<String, Arc<Plan>>,
}

impl PlanRevisions {
    /// Takes the newest targets of all nodes; returns the plans that changed.
    pub fn update(&mut self, targets: BTreeMap<String, Vec<Target>>) -> Vec<(String, Arc<Plan>)> {
        self.plans.retain(|node, _| targets.contains_key(node));
        let mut changed = Vec::new();
        for (node, targets) in targets {
            let period = targets
                .iter()
                .map(|target| target.period)
                .min()
                .unwrap_or(Duration::from_secs(1))
                .min(Duration::from_secs(1));
            let known = self.plans.get(&node);
            if known.is_some_and(|plan| plan.targets == targets && plan.period == period) {
                continue;
            }
            let revision = known.map_or(1, |plan| plan.revision + 1);
            let plan = Arc::new(Plan {
                revision,
                period,
                targets,
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
