//! The world from declaration to verdict, without a cluster: everything that happens is a call.

use super::*;
use infmon_engines::{Engine, EngineSample};
use infmon_evaluation::cluster::PodPort;
use infmon_samples::{GpuReport, Observation, Recognition, TargetId, TargetReport};
use serde_json::json;

const NODE: &str = "gpu-a7";

fn monitor(spec: &serde_json::Value) -> InferenceMonitor {
    serde_json::from_value(json!({
        "apiVersion": "inferencemonitor.io/v1alpha1", "kind": "InferenceMonitor",
        "metadata": {"name": "llama", "namespace": "prod", "uid": "m1", "generation": 1},
        "spec": spec,
    }))
    .expect("a valid monitor")
}

fn pods_spec() -> serde_json::Value {
    json!({
        "endpoints": [{"name": "servers", "pods": {"selector": {"matchLabels": {"app": "vllm"}}, "port": "http"}}],
        "thresholds": {"queueDepth": {"perEndpoint": 5, "forSeconds": 0}},
    })
}

fn pod(name: &str, ip: &str) -> Pod {
    Pod {
        name: name.into(),
        uid: format!("uid-{name}"),
        node: Some(NODE.into()),
        ip: Some(ip.parse().expect("an address")),
        labels: [("app".to_owned(), "vllm".to_owned())].into(),
        ports: vec![PodPort {
            name: "http".into(),
            number: 8000,
        }],
        ready: true,
        ..Pod::default()
    }
}

fn identity() -> NodeIdentity {
    NodeIdentity {
        node: NODE.into(),
        pod: "daemon".into(),
        version: "0.1.0".into(),
    }
}

fn report(targets: &[(&TargetId, f64)]) -> Report {
    let target = |(id, waiting): &(&TargetId, f64)| TargetReport {
        id: (*id).clone(),
        last: Some(Observation {
            age: Duration::from_millis(100),
            took: Duration::from_millis(3),
            sample: EngineSample {
                engine: Some(Engine::Vllm),
                generation: "v1-0.12+".into(),
                waiting: Some(*waiting),
                running: Some(3.0),
                kv_cache_usage: Some(0.5),
                ..EngineSample::default()
            },
            recognition: Recognition::default(),
        }),
        failure: None,
        host_memory: None,
    };
    Report {
        plan_revision: 1,
        gpus: GpuReport::default(),
        targets: targets.iter().map(target).collect(),
    }
}

fn key() -> MonitorKey {
    MonitorKey {
        namespace: "prod".into(),
        name: "llama".into(),
    }
}

/// One monitor with two pods on a connected node; the ids of their targets.
fn world() -> (World, Vec<TargetId>) {
    let mut world = World::new(AddressPolicy::default());
    world.apply_pod("prod", pod("vllm-0", "10.0.0.1"));
    world.apply_pod("prod", pod("vllm-1", "10.0.0.2"));
    world.apply_monitor(monitor(&pods_spec()), Moment::from_secs(0));
    world.node_connected(identity());
    let changes = world.take_plan_changes(0);
    let plan = &changes.first().expect("a plan for the node").1;
    let ids = plan.targets.iter().map(|target| target.id.clone()).collect();
    (world, ids)
}

fn judge(world: &mut World, now: Moment) -> Judged {
    world
        .judge(&key(), now, jiff::Timestamp::UNIX_EPOCH)
        .expect("the monitor is there")
}

fn condition(world: &World, kind: &str) -> (String, String) {
    let monitor = world.monitor(&key()).expect("the monitor is there");
    let found = monitor
        .next
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .expect("the condition");
    (found.status.clone(), found.reason.clone())
}

#[test]
fn both_pods_are_planned_on_their_node() {
    let (world, ids) = world();
    assert_eq!(ids.len(), 2);
    let plan = world.plan_of(NODE).expect("a plan");
    assert!(plan.targets.iter().any(|target| target.address == "10.0.0.1:8000"));
}

#[test]
fn a_report_wakes_the_monitor_and_its_queue_is_seen() {
    let (mut world, ids) = world();
    let now = Moment::from_secs(1);
    let _ = world.take_due(now);
    world.node_reported(NODE, report(&[(&ids[0], 9.0), (&ids[1], 3.0)]), now);
    assert_eq!(world.take_due(now), [key()]);
    let judged = judge(&mut world, now);
    assert_eq!(judged.change, Change::Transition);
    assert_eq!(condition(&world, "Ready").0, "True");
    assert_eq!(
        condition(&world, "QueueDepthHigh"),
        ("True".into(), "AboveThreshold".into())
    );
    let reading = world
        .read_metric(&key(), Metric::QueueDepth, now)
        .expect("known")
        .expect("a value");
    assert!((reading.value - 12.0).abs() < f64::EPSILON);
}

#[test]
fn a_daemon_cannot_speak_for_the_servers_of_another_node() {
    let (mut world, ids) = world();
    let other = NodeIdentity {
        node: "evil".into(),
        ..identity()
    };
    world.node_connected(other);
    let _ = world.take_plan_changes(0);
    let now = Moment::from_secs(1);
    world.node_reported("evil", report(&[(&ids[0], 0.0), (&ids[1], 0.0)]), now);
    assert!(world.observations().node("evil").expect("connected").targets.is_empty());
    assert!(
        world
            .read_metric(&key(), Metric::QueueDepth, now)
            .expect("known")
            .is_err()
    );
}

#[test]
fn a_written_status_is_not_written_again() {
    let (mut world, ids) = world();
    // What is told once: what is still missing when the settling time ends (GPUs here), and a load that lasted.
    for second in 1..80 {
        let now = Moment::from_secs(second);
        world.node_reported(NODE, report(&[(&ids[0], 1.0), (&ids[1], 1.0)]), now);
        let change = judge(&mut world, now).change;
        assert!(second < 20 || change == Change::None, "{change:?} after {second} s");
        let status = world.monitor(&key()).expect("there").next.clone();
        world.status_written(&key(), status, now);
    }
}

#[test]
fn one_silent_endpoint_makes_the_metric_an_error_and_never_a_number() {
    let (mut world, ids) = world();
    world.node_reported(NODE, report(&[(&ids[0], 1.0), (&ids[1], 1.0)]), Moment::from_secs(1));
    let now = Moment::from_secs(20);
    world.node_reported(NODE, report(&[(&ids[0], 1.0)]), now);
    let error = world
        .read_metric(&key(), Metric::QueueDepth, now)
        .expect("known")
        .expect_err("no number");
    assert!(
        error.contains("1 of 2 endpoints") && error.contains("vllm-1"),
        "{error}"
    );
    assert!(
        error.starts_with("InferenceMonitor prod/llama: queue-depth is not known"),
        "{error}"
    );
}

#[test]
fn the_status_of_the_replica_before_stays_until_data_can_have_come() {
    let (mut before, ids) = world();
    before.node_reported(NODE, report(&[(&ids[0], 9.0), (&ids[1], 9.0)]), Moment::from_secs(1));
    judge(&mut before, Moment::from_secs(1));
    let mut object = monitor(&pods_spec());
    object.status = Some(before.monitor(&key()).expect("there").next.clone());

    let mut after = World::new(AddressPolicy::default());
    after.apply_monitor(object, Moment::from_secs(0));
    after.apply_pod("prod", pod("vllm-0", "10.0.0.1"));
    after.apply_pod("prod", pod("vllm-1", "10.0.0.2"));
    assert_eq!(judge(&mut after, Moment::from_secs(1)).change, Change::None);
    // Nobody reported for longer than daemons take to connect again: now it is news.
    assert_eq!(judge(&mut after, Moment::from_secs(31)).change, Change::Transition);
    assert_ne!(condition(&after, "Ready").0, "True");
}

#[test]
fn a_deleted_pod_leaves_plan_and_sums() {
    let (mut world, ids) = world();
    let now = Moment::from_secs(1);
    world.node_reported(NODE, report(&[(&ids[0], 2.0), (&ids[1], 3.0)]), now);
    world.delete_pod("prod", "vllm-1");
    assert_eq!(
        world.take_plan_changes(0).first().expect("a new plan").1.targets.len(),
        1
    );
    let gone_is = world
        .read_metric(&key(), Metric::QueueDepth, now)
        .expect("known")
        .expect("a value");
    assert!((gone_is.value - 2.0).abs() < f64::EPSILON || (gone_is.value - 3.0).abs() < f64::EPSILON);
}

#[test]
fn a_monitor_made_anew_starts_anew() {
    let (mut world, ids) = world();
    world.node_reported(NODE, report(&[(&ids[0], 9.0), (&ids[1], 9.0)]), Moment::from_secs(1));
    judge(&mut world, Moment::from_secs(1));
    let mut object = monitor(&pods_spec());
    object.metadata.uid = Some("m2".into());
    world.apply_monitor(object, Moment::from_secs(2));
    assert!(world.monitor(&key()).expect("there").verdict.is_none());
    assert!(world.monitor(&key()).expect("there").written.conditions.is_empty());
}

#[tokio::test]
async fn a_daemon_that_connects_again_gets_its_plan_again() {
    let (world, _) = world();
    let shared = SharedWorld::new(world, crate::clock::Clock::start());
    shared.disconnect(NODE);
    let plans = shared.connect(identity());
    assert_eq!(plans.borrow().targets.len(), 2);
    shared.change(|world, _| world.delete_pod("prod", "vllm-0"));
    assert_eq!(plans.borrow().targets.len(), 1);
}
