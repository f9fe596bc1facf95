//! Who measures what.

use crate::scene::target;
use infmon_evaluation::{Place, PlanRevisions, Resolution, ResolvedEndpoint, assign_urls, plan};
use infmon_samples::{Target, TargetId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn nodes(names: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    names.into_iter().map(|number| format!("node-{number}")).collect()
}

fn monitor(endpoints: Vec<(Place, Target)>) -> Resolution {
    let endpoints = endpoints.into_iter().map(|(place, target)| ResolvedEndpoint {
        group: "g".into(),
        name: target.id.0.clone(),
        place,
        serving: true,
        labels: std::collections::BTreeMap::new(),
        devices: Vec::new(),
        pod_uid: String::new(),
        target: Some(target),
    });
    Resolution {
        endpoints: endpoints.collect(),
        ..Resolution::default()
    }
}

fn at(node: &str) -> Place {
    Place::Node(node.into())
}

fn every(millis: u64, target: Target) -> Target {
    Target {
        period: Duration::from_millis(millis),
        ..target
    }
}

#[test]
fn pods_are_measured_on_their_node_and_urls_on_one() {
    let monitors = [monitor(vec![
        (at("node-1"), target("a", "10.0.0.1:1")),
        (at("node-9"), target("b", "10.0.0.2:1")),
        (Place::Nowhere, target("c", "10.0.0.3:1")),
        (Place::Anywhere, target("d", "box:1")),
    ])];
    let plans = plan(&monitors, &nodes([1, 2]));
    assert_eq!(
        plans.keys().collect::<Vec<_>>(),
        ["node-1", "node-2"],
        "every connected node has a plan, if an empty one"
    );
    let mut ids: Vec<&str> = plans.values().flatten().map(|target| target.id.0.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "d"]);
    assert!(plans["node-1"].iter().any(|target| target.id.0 == "a"));
    assert!(plan(&monitors, &BTreeSet::new()).is_empty());
}

#[test]
fn the_shortest_period_wins_in_any_order() {
    let slow = || monitor(vec![(at("node-1"), every(5000, target("a", "10.0.0.1:1")))]);
    let fast = || monitor(vec![(at("node-1"), every(250, target("a", "10.0.0.1:1")))]);
    for monitors in [[slow(), fast()], [fast(), slow()]] {
        let plans = plan(&monitors, &nodes([1]));
        assert_eq!(plans["node-1"].len(), 1);
        assert_eq!(plans["node-1"][0].period, Duration::from_millis(250));
    }
}

#[test]
fn one_pod_does_not_crowd_out_the_others() {
    let greedy = (0..2000).map(|n| {
        (
            at("node-1"),
            target(&format!("aaa/http://10.0.0.1:{n}/m"), &format!("10.0.0.1:{n}")),
        )
    });
    let others = (0..100).map(|n| {
        (
            at("node-1"),
            target(&format!("p{n}/http://10.0.1.{n}:80/m"), &format!("10.0.1.{n}:80")),
        )
    });
    let monitors = [monitor(greedy.collect()), monitor(others.collect())];
    let plans = plan(&monitors, &nodes([1]));
    assert_eq!(plans["node-1"].len(), 256);
    assert_eq!(
        plans["node-1"]
            .iter()
            .filter(|target| target.id.0.starts_with('p'))
            .count(),
        100
    );
}

#[test]
fn revisions_rise_only_with_a_change() {
    let mut revisions = PlanRevisions::default();
    let none = BTreeSet::new();
    let of = |targets: &[&str]| {
        let targets = targets.iter().map(|id| target(id, "10.0.0.1:1")).collect();
        BTreeMap::from([("node-1".to_owned(), targets)])
    };
    let mut update = |targets: &[&str]| {
        revisions
            .update(of(targets), &none)
            .first()
            .map(|(_, plan)| plan.revision)
    };
    assert_eq!(update(&["a"]), Some(1));
    assert_eq!(update(&["a"]), None);
    assert_eq!(update(&["a", "b"]), Some(2));
    assert_eq!(update(&["a"]), Some(3));
    assert_eq!(revisions.get("node-1").map(|plan| plan.revision), Some(3));
    assert!(revisions.update(BTreeMap::new(), &none).is_empty());
    assert!(revisions.get("node-1").is_none());
    let back = revisions.update(of(&["a"]), &none);
    assert!(back[0].1.revision > 3, "a node that comes back gets no old number");
}

#[test]
fn a_node_lets_go_of_its_gpus_while_its_driver_is_upgraded() {
    let mut revisions = PlanRevisions::default();
    let targets = || BTreeMap::from([("n1".to_owned(), Vec::new()), ("n2".to_owned(), Vec::new())]);
    let mut update = |upgraded: &[&str]| {
        let upgraded = upgraded.iter().map(|node| (*node).to_owned()).collect();
        let changed = revisions.update(targets(), &upgraded);
        changed
            .into_iter()
            .map(|(node, plan)| (node, plan.release_gpus))
            .collect::<Vec<_>>()
    };
    let plan = |node: &str, release| (node.to_owned(), release);
    assert_eq!(update(&[]), [plan("n1", false), plan("n2", false)]);
    assert_eq!(update(&["n2", "n3"]), [plan("n2", true)]);
    assert_eq!(update(&["n2"]), []);
    assert_eq!(update(&[]), [plan("n2", false)]);
}

#[test]
fn the_period_of_a_node_is_its_fastest_target() {
    let mut revisions = PlanRevisions::default();
    for (periods, expected) in [(vec![], 1000), (vec![60_000], 1000), (vec![5000, 250], 250)] {
        let targets = periods
            .iter()
            .map(|millis| every(*millis, target("a", "h:1")))
            .collect();
        let node = format!("node-{expected}-{}", periods.len());
        let changed = revisions.update(BTreeMap::from([(node, targets)]), &BTreeSet::new());
        assert_eq!(changed[0].1.period.as_millis(), expected);
    }
}

#[test]
fn urls_spread_evenly() {
    let nodes = nodes(0..10);
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..10_000 {
        let node = assign_urls(&TargetId(format!("/http://box-{number}:80/metrics#Auto")), &nodes).unwrap();
        *shares.entry(node).or_default() += 1;
    }
    assert!(
        shares.len() == 10 && shares.values().all(|share| (850..1150).contains(share)),
        "{shares:?}"
    );
}

proptest! {
    #[test]
    fn a_node_that_comes_or_goes_moves_only_its_share(
        count in 1_usize..40,
        gone in 0_usize..40,
        urls in proptest::collection::vec("[a-z]{1,12}", 1..40),
    ) {
        let all = nodes(0..count);
        let without = nodes((0..count).filter(|number| *number != gone));
        for url in urls {
            let id = TargetId(url);
            let before = assign_urls(&id, &all).map(str::to_owned);
            let after = assign_urls(&id, &without).map(str::to_owned);
            if before != Some(format!("node-{gone}")) {
                prop_assert_eq!(before, after);
            } else {
                prop_assert_ne!(before, after);
            }
        }
    }

    #[test]
    fn plans_keep_their_bounds_and_do_not_depend_on_order(
        targets in proptest::collection::vec((0_usize..4, 0_u8..40, 250_u64..3000), 0..600),
    ) {
        let endpoints: Vec<_> = targets
            .iter()
            .map(|(node, id, period)| {
                let id = format!("{id}/http://10.0.0.{id}:{period}/m");
                (at(&format!("node-{node}")), every(*period, target(&id, "10.0.0.1:1")))
            })
            .collect();
        let backwards = monitor(endpoints.iter().cloned().rev().collect());
        let plans = plan([&monitor(endpoints)], &nodes(0..3));
        prop_assert!(plans.values().all(|targets| targets.len() <= 256));
        prop_assert!(plans.values().all(|targets| targets.is_sorted_by(|a, b| a.id < b.id)));
        prop_assert_eq!(plans, plan([&backwards], &nodes(0..3)));
    }
}
