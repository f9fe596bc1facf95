mod callers;

use std::collections::BTreeMap;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::metrics_api::{
    selector::LabelSelector,
    source::{MetricError, MetricInfo, MetricReading},
};

/// Monitors of the namespace `prod`: `llama` and `qwen` with values, `stale` without, `broken` with a NaN.
struct Monitors {
    metrics: Vec<MetricInfo>,
}

impl Monitors {
    fn new() -> Self {
        let metric = |name: &str| MetricInfo {
            name: name.to_owned(),
            description: String::new(),
        };
        Self {
            metrics: vec![metric("queue-depth"), metric("running-requests")],
        }
    }
}

impl MetricSource for Monitors {
    fn metrics(&self) -> &[MetricInfo] {
        &self.metrics
    }

    fn monitor(&self, namespace: &str, name: &str, metric: &str) -> Result<MetricReading, MetricError> {
        assert_ne!(name, "panics", "scripted");
        if !self.metrics.iter().any(|info| info.name == metric) {
            return Err(MetricError::UnknownMetric);
        }
        let value = match (namespace, name) {
            ("prod", "llama") => 7.0,
            ("prod", "qwen") => 2.5,
            ("prod", "broken") => f64::NAN,
            ("prod", "stale") => {
                let message = "InferenceMonitor prod/stale: no fresh sample for 45s".to_owned();
                return Err(MetricError::NotKnown { message });
            }
            _ => return Err(MetricError::UnknownObject),
        };
        Ok(MetricReading {
            value,
            age: Duration::ZERO,
            window: None,
        })
    }

    fn monitors(
        &self,
        namespace: &str,
        selector: &LabelSelector,
        metric: &str,
    ) -> Result<Vec<(String, MetricReading)>, MetricError> {
        if !self.metrics.iter().any(|info| info.name == metric) {
            return Err(MetricError::UnknownMetric);
        }
        let labels = |name: &str| BTreeMap::from([("app".to_owned(), name.to_owned())]);
        let selected = ["llama", "qwen", "stale"]
            .into_iter()
            .filter(|name| selector.matches(&labels(name)));
        Ok(selected
            .filter_map(|name| Some((name.to_owned(), self.monitor(namespace, name, metric).ok()?)))
            .collect())
    }
}

const CUSTOM: &str = "/apis/custom.metrics.k8s.io/v1beta2";
const MONITORS: &str = "inferencemonitors.inferencemonitor.io";

fn ready() -> Readiness {
    Arc::new(|| Ok(()))
}

fn open() -> ApiState {
    ApiState::new(
        Arc::new(Monitors::new()),
        Access::Open,
        Groups {
            custom: true,
            external: true,
        },
        ready(),
    )
}

async fn send(state: &ApiState, method: &str, path: &str, headers: &[(&str, &str)]) -> (Response<()>, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("request");
    let response = router(state.clone()).oneshot(request).await.expect("response");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("body").to_bytes();
    assert!(!parts.headers.contains_key(header::RETRY_AFTER), "{path}");
    (
        Response::from_parts(parts, ()),
        String::from_utf8(body.into()).expect("text"),
    )
}

async fn get(state: &ApiState, path: &str) -> (u16, Value) {
    let (response, body) = send(state, "GET", path, &[]).await;
    (
        response.status().as_u16(),
        serde_json::from_str(&body).unwrap_or(Value::String(body)),
    )
}

/// The tables of custom-metrics-apiserver `pkg/apiserver/installer/apiserver_test.go`, as far as they apply, and our own.
#[tokio::test]
async fn values_are_found_or_the_reason_is_said() {
    let state = open();
    let own = format!("namespaces/prod/{MONITORS}");
    let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue-depth";
    for (path, code, items_or_message) in [
        (format!("{CUSTOM}/{own}/llama/queue-depth"), 200, "1"),
        (format!("{CUSTOM}/{own}/qwen/running-requests/"), 200, "1"),
        (format!("{CUSTOM}/{own}/*/queue-depth"), 200, "2"),
        (
            format!("{CUSTOM}/{own}/%2A/queue-depth?labelSelector=app%3Dllama"),
            200,
            "1",
        ),
        (
            format!("{CUSTOM}/{own}/*/queue-depth?labelSelector=app+in+(llama,qwen),app%21%3Dllama"),
            200,
            "1",
        ),
        (
            format!("{CUSTOM}/{own}/*/queue-depth?labelSelector=app%3Dnone"),
            200,
            "0",
        ),
        (
            format!("{CUSTOM}/{own}/llama/queue-depth?metricLabelSelector=%21canary"),
            200,
            "1",
        ),
        (
            format!("{CUSTOM}/{own}/llama/queue-depth?metricLabelSelector=canary"),
            404,
            "have no labels",
        ),
        (
            format!("{CUSTOM}/{own}/*/queue-depth?labelSelector=app%3D%3Da%3D%3Db"),
            400,
            "unable to parse labelSelector",
        ),
        (
            format!("{CUSTOM}/{own}/llama/queue-depth?metricLabelSelector=in+("),
            400,
            "metricLabelSelector",
        ),
        (
            format!("{CUSTOM}/{own}/llama/queue-depth?labelSelector=%FF"),
            400,
            "unable to parse labelSelector",
        ),
        (
            format!("{CUSTOM}/{own}/llama/none"),
            404,
            "could not find the metric none for inferencemonitors",
        ),
        (
            format!("{CUSTOM}/{own}/none/queue-depth"),
            404,
            "no InferenceMonitor prod/none exists",
        ),
        (
            format!("{CUSTOM}/{own}/stale/queue-depth"),
            404,
            "no fresh sample for 45s",
        ),
        (format!("{CUSTOM}/{own}/broken/queue-depth"), 500, "not a finite number"),
        (format!("{CUSTOM}/{own}/panics/queue-depth"), 500, "fault of the server"),
        (
            format!("{CUSTOM}/namespaces/prod/pods/llama/queue-depth"),
            404,
            "for pods llama",
        ),
        (
            format!("{CUSTOM}/{MONITORS}/llama/queue-depth"),
            404,
            "could not find the metric",
        ),
        (
            format!("{CUSTOM}/namespaces/prod/metrics/queue-depth"),
            404,
            "for namespaces prod",
        ),
        (format!("{CUSTOM}/nodes/foo"), 404, "requested resource"),
        (format!("{external}?labelSelector=monitor%3Dllama"), 200, "1"),
        (format!("{external}?labelSelector=monitor+in+(llama,qwen)"), 200, "2"),
        (
            format!("{external}?labelSelector=monitor+in+(llama,stale)"),
            404,
            "no fresh sample for 45s",
        ),
        (
            format!("{external}?labelSelector=monitor%21%3Dllama"),
            400,
            "must name the monitors",
        ),
        (external.to_owned(), 400, "must name the monitors"),
    ] {
        let (status, body) = get(&state, &path).await;
        assert_eq!(status, code, "{path}: {body}");
        match body["items"].as_array() {
            Some(items) => assert_eq!(items.len().to_string(), items_or_message, "{path}"),
            None => {
                assert_eq!(
                    (&body["kind"], &body["apiVersion"], &body["code"]),
                    (&json!("Status"), &json!("v1"), &json!(code))
                );
                let message = body["message"].as_str().expect("message");
                assert!(message.contains(items_or_message), "{path}: {message}");
            }
        }
    }
}

#[tokio::test]
async fn both_versions_describe_the_object() {
    let state = open();
    for (version, name, window) in [
        ("v1beta2", "/metric/name", "/windowSeconds"),
        ("v1beta1", "/metricName", "/window"),
    ] {
        let path = format!("/apis/custom.metrics.k8s.io/{version}/namespaces/prod/{MONITORS}/qwen/queue-depth");
        let (_, list) = get(&state, &path).await;
        assert_eq!(list["kind"], "MetricValueList");
        assert_eq!(list["apiVersion"], format!("custom.metrics.k8s.io/{version}"));
        let item = &list["items"][0];
        assert_eq!(item["describedObject"]["name"], "qwen");
        assert_eq!(item["value"], "2500m");
        assert_eq!(item.pointer(name), Some(&json!("queue-depth")));
        assert_eq!(item.pointer(window), None);
    }
}

#[tokio::test]
async fn methods_and_media_types_are_negotiated() {
    let state = open();
    let path = format!("{CUSTOM}/namespaces/prod/{MONITORS}/llama/queue-depth");
    for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
        let (response, _) = send(&state, method, &path, &[]).await;
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.headers()[header::ALLOW], "GET");
    }
    for (accept, code) in [
        ("application/vnd.kubernetes.protobuf, */*", 200),
        ("application/json", 200),
        ("application/cbor", 406),
        (media_type::AGGREGATED_DISCOVERY, 406),
    ] {
        let (response, body) = send(&state, "GET", &path, &[("accept", accept)]).await;
        assert_eq!(response.status(), code, "{accept}: {body}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }
}

#[tokio::test]
async fn discovery_is_served_in_both_forms_and_not_sent_twice() {
    let state = open();
    let (response, body) = send(&state, "GET", "/apis", &[("accept", media_type::AGGREGATED_DISCOVERY)]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        media_type::AGGREGATED_DISCOVERY
    );
    assert!(body.contains("APIGroupDiscoveryList"));
    let etag = response.headers()[header::ETAG].to_str().expect("etag").to_owned();
    let again = [
        ("accept", media_type::AGGREGATED_DISCOVERY),
        ("if-none-match", etag.as_str()),
    ];
    let (response, body) = send(&state, "GET", "/apis", &again).await;
    assert_eq!((response.status().as_u16(), body.as_str()), (304, ""));
    let (response, _) = send(
        &state,
        "GET",
        "/apis",
        &[("accept", "application/json"), ("if-none-match", &etag)],
    )
    .await;
    assert_eq!(response.status(), 200);

    for (path, code, kind) in [
        ("/apis", 200, "APIGroupList"),
        ("/apis/custom.metrics.k8s.io", 200, "APIGroup"),
        ("/apis/custom.metrics.k8s.io/v1beta1", 200, "APIResourceList"),
        ("/apis/external.metrics.k8s.io/v1beta1", 200, "APIResourceList"),
        ("/apis/apps/v1", 404, "Status"),
        ("/openapi/v2", 404, "Status"),
        ("/openapi/v3", 404, "Status"),
    ] {
        let (status, body) = get(&state, path).await;
        assert_eq!((status, &body["kind"]), (code, &json!(kind)), "{path}");
    }
    assert_eq!(get(&state, "/version").await.0, 200);
}

#[tokio::test]
async fn readiness_follows_its_source_and_the_shutdown() {
    let readiness: Readiness = Arc::new(|| Err("no watch".into()));
    let state = ApiState::new(Arc::new(Monitors::new()), Access::Open, Groups::CUSTOM, readiness);
    assert_eq!(get(&state, "/readyz").await, (503, json!("no watch")));
    assert_eq!(get(&state, "/livez").await, (200, json!("ok")));
    let state = open();
    assert_eq!(get(&state, "/readyz").await, (200, json!("ok")));
    state.begin_draining();
    assert_eq!(get(&state, "/readyz").await, (503, json!("shutting down")));
    assert_eq!(get(&state, "/healthz").await.0, 200);
    assert_eq!(get(&state, "/apis").await.0, 200);
}

/// What is reviewed for each shape of path (apiserver `pkg/endpoints/request/requestinfo.go`).
#[test]
fn paths_become_attributes() {
    for (path, verb, resource, subresource, name, namespace) in [
        (
            "custom.metrics.k8s.io/v1beta2/namespaces/prod/r.g/llama/m",
            "get",
            "r.g",
            "m",
            "llama",
            "prod",
        ),
        (
            "custom.metrics.k8s.io/v1beta1/namespaces/prod/r.g/*/m",
            "get",
            "r.g",
            "m",
            "*",
            "prod",
        ),
        (
            "custom.metrics.k8s.io/v1beta2/nodes/n1/m",
            "get",
            "nodes",
            "m",
            "n1",
            "",
        ),
        (
            "custom.metrics.k8s.io/v1beta2/namespaces/prod/metrics/m",
            "get",
            "metrics",
            "",
            "m",
            "prod",
        ),
        (
            "external.metrics.k8s.io/v1beta1/namespaces/prod/m",
            "list",
            "m",
            "",
            "",
            "prod",
        ),
    ] {
        let groups = Groups {
            custom: true,
            external: true,
        };
        let Route::Values(version, target) = route::parse(&format!("/apis/{path}"), groups) else {
            panic!("{path}")
        };
        let found = reader::attributes(version, &target);
        assert_eq!(
            (
                found.verb,
                &*found.resource,
                &*found.subresource,
                &*found.name,
                &*found.namespace
            ),
            (verb, resource, subresource, name, namespace),
            "{path}"
        );
        assert!(path.starts_with(&format!("{}/{}", found.group, found.version)));
    }
}
