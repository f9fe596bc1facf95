//! Which DaemonSets should exist, and what to do about one: pure.

use crate::config::NodeProfile;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Labels of the nodes of the cluster, by name.
pub type NodeLabels = BTreeMap<String, BTreeMap<String, String>>;

fn matches(profile: &NodeProfile, labels: &BTreeMap<String, String>) -> bool {
    profile
        .node_selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// Profiles whose DaemonSet is needed: a monitor exists and a node matches.
#[must_use]
pub fn needed_profiles<'a>(profiles: &'a [NodeProfile], nodes: &NodeLabels, monitors: usize) -> BTreeSet<&'a str> {
    if monitors == 0 {
        return BTreeSet::new();
    }
    profiles
        .iter()
        .filter(|profile| nodes.values().any(|labels| matches(profile, labels)))
        .map(|profile| profile.name.as_str())
        .collect()
}

/// Nodes that two profiles match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlap {
    /// The two profiles, in the order of the configuration.
    pub profiles: (String, String),
    /// One of the nodes.
    pub node: String,
    /// How many there are.
    pub nodes: usize,
}

/// Profiles that overlap on a node of the cluster. Such a node runs two daemons, and only the one that connected last is heard.
#[must_use]
pub fn overlaps(profiles: &[NodeProfile], nodes: &NodeLabels) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (index, first) in profiles.iter().enumerate() {
        for second in &profiles[index + 1..] {
            let mut both = nodes
                .iter()
                .filter(|(_, labels)| matches(first, labels) && matches(second, labels))
                .map(|(name, _)| name);
            if let Some(node) = both.next() {
                found.push(Overlap {
                    profiles: (first.name.clone(), second.name.clone()),
                    node: node.clone(),
                    nodes: 1 + both.count(),
                });
            }
        }
    }
    found
}

/// What to do about one DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Apply it.
    Apply,
    /// Nothing yet: it is not needed, but the grace time has not passed.
    Wait,
    /// Delete it.
    Delete,
}

/// Decides about one DaemonSet.
///
/// `in_place` says whether the live object is what was applied last: same content wanted, and nobody edited it since (its generation
/// stayed).
#[must_use]
pub fn step(needed: bool, exists: bool, in_place: bool, unneeded_for: Duration, grace: Duration) -> Step {
    match (needed, exists) {
        (true, true) if in_place => Step::Keep,
        (true, _) => Step::Apply,
        (false, false) => Step::Keep,
        (false, true) if unneeded_for < grace => Step::Wait,
        (false, true) => Step::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str, selector: &[(&str, &str)]) -> NodeProfile {
        NodeProfile {
            name: name.into(),
            node_selector: labels(selector),
            ..NodeProfile::default()
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn nodes() -> NodeLabels {
        BTreeMap::from([
            ("a".to_owned(), labels(&[("gpu", "h100")])),
            ("b".to_owned(), labels(&[("gpu", "t4"), ("pool", "x")])),
        ])
    }

    #[test]
    fn a_profile_is_needed_when_a_monitor_exists_and_a_node_matches() {
        let profiles = [profile("h100", &[("gpu", "h100")]), profile("l40s", &[("gpu", "l40s")])];
        assert_eq!(needed_profiles(&profiles, &nodes(), 1), BTreeSet::from(["h100"]));
        assert_eq!(needed_profiles(&profiles, &nodes(), 0), BTreeSet::new());
    }

    #[test]
    fn overlaps_are_found_on_real_nodes_only() {
        let profiles = [
            profile("t4", &[("gpu", "t4")]),
            profile("x", &[("pool", "x")]),
            profile("h100", &[("gpu", "h100")]),
        ];
        let found = overlaps(&profiles, &nodes());
        assert_eq!(
            found,
            [Overlap {
                profiles: ("t4".into(), "x".into()),
                node: "b".into(),
                nodes: 1
            }]
        );
    }

    #[test]
    fn steps() {
        let grace = Duration::from_secs(60);
        let cases = [
            ("needed, not there", true, false, false, 0, Step::Apply),
            ("needed, as applied", true, true, true, 0, Step::Keep),
            ("needed, edited by somebody", true, true, false, 0, Step::Apply),
            ("not needed, not there", false, false, false, 99, Step::Keep),
            ("not needed, in the grace time", false, true, true, 59, Step::Wait),
            ("not needed, grace time over", false, true, true, 60, Step::Delete),
        ];
        for (name, needed, exists, in_place, unneeded, expected) in cases {
            assert_eq!(
                step(needed, exists, in_place, Duration::from_secs(unneeded), grace),
                expected,
                "{name}"
            );
        }
    }
}
