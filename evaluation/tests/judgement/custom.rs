//! `spec.custom`: targets of their own, and words for what a mapping leaves out.

use crate::resolve::{by_label, by_url, cluster, http, pod, with};
use crate::scene::{Server, assert_presentable, finding, scene, server, short};
use infmon_crds::v1alpha1::{
    ConditionType, CustomField, CustomMapping, EngineChoice, InferenceMonitorSpec, LatencyThreshold, Quantile,
    SampleField, SeriesUnit,
};
use infmon_engines::{Engine, Field, Mapping};
use infmon_evaluation::metric::Metric;
use infmon_evaluation::{AddressPolicy, Resolution, plan, resolve};
use infmon_samples::Target;
use std::collections::{BTreeMap, BTreeSet};

fn mapped(fields: &[(SampleField, &str)]) -> CustomMapping {
    let field = |&(field, series): &(SampleField, &str)| CustomField {
        field,
        series: series.to_owned(),
        match_labels: BTreeMap::new(),
        unit: None,
        aggregation: None,
    };
    CustomMapping {
        fields: fields.iter().map(field).collect(),
        model_label: None,
    }
}

fn custom(fields: &[(SampleField, &str)]) -> InferenceMonitorSpec {
    InferenceMonitorSpec {
        engine: EngineChoice::Custom,
        custom: Some(mapped(fields)),
        ..with(vec![by_label(http())])
    }
}

fn resolved(spec: &InferenceMonitorSpec) -> Resolution {
    resolve(spec, &cluster(vec![pod("a", "10.0.0.1")]), &AddressPolicy::default())
}

fn target(spec: &InferenceMonitorSpec) -> Target {
    resolved(spec).endpoints[0].target.clone().unwrap()
}

#[test]
fn a_target_has_the_mapping_and_its_id_is_that_of_the_mapping() {
    let spec = custom(&[(SampleField::Waiting, "queue"), (SampleField::Running, "active")]);
    let found = target(&spec);
    assert_eq!(
        (found.engine, found.metrics_path.as_str()),
        (Some(Engine::Custom), "/metrics")
    );
    assert!(found.mapping.has(Field::Waiting) && found.mapping.has(Field::Running));
    let (before, digest) = found.id.0.split_once("#Custom-").unwrap();
    assert_eq!((before, digest.len()), ("uid-a/http://10.0.0.1:8000/metrics", 32));

    let reordered = custom(&[(SampleField::Running, "active"), (SampleField::Waiting, "queue")]);
    assert_eq!(target(&reordered).id, found.id);
    let mut in_percent = spec.clone();
    in_percent.custom.as_mut().unwrap().model_label = Some("model".into());
    for other in [
        custom(&[(SampleField::Waiting, "queue")]),
        custom(&[(SampleField::Waiting, "active"), (SampleField::Running, "queue")]),
        in_percent,
        with(vec![by_label(http())]),
    ] {
        assert_ne!(target(&other).id, found.id);
    }
    assert_eq!(target(&with(vec![by_label(http())])).mapping, Mapping::default());
}

#[test]
fn monitors_with_different_mappings_of_one_server_have_targets_of_their_own() {
    let url = |series: &str| InferenceMonitorSpec {
        endpoints: vec![by_url("http://box:8000")],
        ..custom(&[(SampleField::Waiting, series)])
    };
    let policy = AddressPolicy {
        allowed_hosts: vec!["box".into()],
        ..AddressPolicy::default()
    };
    let resolve = |spec: &InferenceMonitorSpec| resolve(spec, &cluster(Vec::new()), &policy);
    let monitors = [resolve(&url("queue")), resolve(&url("queue")), resolve(&url("other"))];
    let plans = plan(&monitors, &BTreeSet::from(["n1".to_owned()]));
    let series: BTreeSet<&str> = plans["n1"]
        .iter()
        .map(|target| target.mapping.series()[0].name.as_str())
        .collect();
    assert_eq!((plans["n1"].len(), series), (2, BTreeSet::from(["other", "queue"])));
}

#[test]
fn a_mapping_that_cannot_be_used_is_a_problem_and_no_target() {
    let twice = custom(&[(SampleField::Waiting, "a"), (SampleField::Waiting, "b")]);
    let mut unit = custom(&[(SampleField::Waiting, "a")]);
    unit.custom.as_mut().unwrap().fields[0].unit = Some(SeriesUnit::Percent);
    let mut none = custom(&[]);
    none.custom = None;
    let mut other = custom(&[(SampleField::Waiting, "a")]);
    other.engine = EngineChoice::Vllm;
    for (spec, words) in [
        (twice, "spec.custom maps Waiting twice"),
        (unit, "unit Percent does not fit Waiting"),
        (none, "say in spec.custom"),
        (custom(&[]), "spec.custom maps no field"),
        (other, "set that, or leave spec.custom out"),
    ] {
        let resolution = resolved(&spec);
        assert!(resolution.endpoints.is_empty() && resolution.partial, "{words}");
        assert!(resolution.problems[0].contains(words), "{:?}", resolution.problems);
    }
}

/// A server of engine Custom that tells what is mapped and nothing else.
fn homemade() -> Server {
    server("home-0").says(|sample| {
        sample.engine = Some(Engine::Custom);
        sample.generation = String::new();
        sample.waiting = None;
        sample.kv_cache_usage = None;
        sample.preemptions_total = None;
    })
}

#[test]
fn what_the_mapping_lacks_is_unknown_and_the_message_names_the_field_to_add() {
    let mut scene = scene([homemade()]).spec(|spec| {
        spec.engine = EngineChoice::Custom;
        spec.custom = Some(mapped(&[(SampleField::Running, "active")]));
        spec.thresholds.inter_token_milliseconds = Some(LatencyThreshold {
            quantile: Quantile::P95,
            above: 100,
            for_seconds: 60,
        });
    });
    let verdict = scene.run(3);
    assert_presentable(&verdict);
    assert_eq!(short(&verdict, ConditionType::MetricsRecognized), "True AllEndpoints");
    for (kind, reason, field) in [
        (ConditionType::QueueDepthHigh, "Unknown SeriesMissing", "Waiting"),
        (ConditionType::OomRisk, "Unknown SeriesMissing", "KVCacheUsage"),
        (ConditionType::LatencyHigh, "Unknown NotPublished", "TimeToFirstToken"),
    ] {
        assert_eq!(short(&verdict, kind), reason);
        let message = &finding(&verdict, kind).message;
        let words = format!("Next: spec.custom maps no series to {field}: add that field.");
        assert!(message.contains(&words), "{message}");
    }
    for (metric, field) in [
        (Metric::QueueDepth, "Waiting"),
        (Metric::InFlightRequests, "Waiting"),
        (Metric::KvCacheUsage, "KVCacheUsage"),
        (Metric::TimeToFirstTokenP95, "TimeToFirstToken"),
        (Metric::TokensPerSecond, "GeneratedTokensTotal"),
    ] {
        let words = scene.metric(metric).unwrap_err();
        assert!(
            words.contains(&format!("maps no series to {field}: add that field")),
            "{words}"
        );
    }
    assert_eq!(
        scene.metric(Metric::RunningRequests).map(|reading| reading.value),
        Ok(2.0)
    );
}

#[test]
fn what_is_mapped_and_missing_is_told_as_of_any_engine() {
    let lacking = homemade().lacks(
        &["queue_depth"],
        "similar names are there: queue_len; correct spec.custom or the server",
    );
    let mut scene = scene([lacking]).spec(|spec| {
        spec.engine = EngineChoice::Custom;
        spec.custom = Some(mapped(&[(SampleField::Waiting, "queue_depth")]));
    });
    let verdict = scene.run(3);
    assert_presentable(&verdict);
    assert_eq!(
        finding(&verdict, ConditionType::MetricsRecognized).message,
        "Custom on home-0 serves no queue_depth. Next: similar names are there: queue_len; correct spec.custom or the server. \
         docs/conditions.md#seriesmissing"
    );
    let queue = &finding(&verdict, ConditionType::QueueDepthHigh).message;
    assert!(
        queue.contains("see MetricsRecognized") && !queue.contains("add that field"),
        "{queue}"
    );
}

#[test]
fn what_an_older_daemon_reads_by_itself_is_not_used() {
    let asked = |mut server: Server| {
        server.endpoint.target.as_mut().unwrap().engine = Some(Engine::Custom);
        server
    };
    let mut scene = scene([asked(server("home-0").waiting(40.0))]);
    let verdict = scene.run(30);
    assert_presentable(&verdict);
    assert_eq!((verdict.waiting, verdict.fresh), (None, 0));
    assert_eq!(short(&verdict, ConditionType::MetricsRecognized), "False UnknownEngine");
    assert_eq!(short(&verdict, ConditionType::Ready), "False StaleData");
    assert_eq!(short(&verdict, ConditionType::EndpointsReachable), "True AllEndpoints");
    let message = &finding(&verdict, ConditionType::MetricsRecognized).message;
    assert!(
        message.contains("home-0: spec.engine is Custom, and its node daemon read it as VLLM")
            && message.contains("update the node daemon"),
        "{message}"
    );
    assert!(
        scene
            .metric(Metric::QueueDepth)
            .unwrap_err()
            .contains("update the node daemon")
    );
    let endpoint = scene.endpoints().remove(0);
    assert_eq!(endpoint.state, "UnknownEngine");
    // A daemon that knows it.
    scene.now += 1;
    scene.server_mut(|server| server.says(|sample| sample.engine = Some(Engine::Custom)));
    assert_eq!(scene.metric(Metric::QueueDepth).map(|reading| reading.value), Ok(40.0));
}
