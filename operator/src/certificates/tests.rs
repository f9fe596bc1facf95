//! The whole, against an API server that lists, writes, and has no news.

use std::sync::Mutex;

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::certificates::plan::ServiceName;

/// Objects by path; and what was written, in order.
#[derive(Clone, Default)]
struct ApiServer {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    writes: Arc<Mutex<Vec<String>>>,
}

const NAMESPACE: &str = "/api/v1/namespaces/monitoring";
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

impl ApiServer {
    fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
        };
        Client::new(tower::service_fn(answer), "monitoring")
    }

    fn put(&self, path: &str, object: Value) {
        self.objects.lock().expect("lock").insert(path.to_owned(), object);
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.objects.lock().expect("lock").get(path).cloned()
    }

    fn writes(&self) -> Vec<String> {
        self.writes.lock().expect("lock").clone()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("watch=true") {
            // No news.
            std::future::pending::<()>().await;
        }
        let (code, reply) = if parts.method != Method::GET {
            let object: Value = serde_json::from_slice(&body.collect_bytes().await.expect("body")).expect("json");
            let name = object["metadata"]["name"].as_str().expect("name").to_owned();
            let path = if parts.method == Method::POST {
                format!("{path}/{name}")
            } else {
                path
            };
            self.writes
                .lock()
                .expect("lock")
                .push(format!("{} {name}", parts.method));
            let mut stored = self.get(&path).unwrap_or_else(|| json!({}));
            merge(&mut stored, &object);
            self.put(&path, stored.clone());
            (200, stored)
        } else if let Some(name) = query.split("fieldSelector=metadata.name%3D").nth(1) {
            let name = name.split('&').next().unwrap_or_default();
            let items: Vec<_> = self.get(&format!("{path}/{name}")).into_iter().collect();
            (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}))
        } else {
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": 404, "reason": "NotFound"});
            self.get(&path).map_or((404, status), |object| (200, object))
        };
        let mut response = Response::new(Body::from(reply.to_string().into_bytes()));
        *response.status_mut() = StatusCode::from_u16(code).expect("code");
        response
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn certificates(server: &ApiServer) -> Certificates {
    let settings = Settings {
        namespace: "monitoring".into(),
        deployment: "inference-monitor-operator".into(),
        secret: "certificates".into(),
        service: ServiceName {
            namespace: "monitoring".into(),
            name: "inference-monitor".into(),
        },
        api_services: [
            "v1beta1.custom.metrics.k8s.io",
            "v1beta2.custom.metrics.k8s.io",
            "v1beta1.external.metrics.k8s.io",
        ]
        .map(str::to_owned)
        .into(),
        dns_names: vec!["inference-monitor.monitoring.svc".into()],
    };
    Certificates::new(server.client(), settings)
}

fn api_service(name: &str, namespace: &str, service: &str) -> (String, Value) {
    let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name, "resourceVersion": "7"},
        "spec": {"service": {"namespace": namespace, "name": service}, "groupPriorityMinimum": 100, "versionPriority": 100}});
    (format!("{API_SERVICES}/{name}"), object)
}

/// Lets a replica work until nothing more happens.
async fn settle(certificates: &Certificates, claim: Claim) {
    let (_keep, claims) = watch::channel(claim);
    let shutdown = CancellationToken::new();
    let run = certificates.clone().run(claims, shutdown.clone());
    tokio::join!(run, async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        shutdown.cancel();
    });
}

fn leader() -> Claim {
    Claim::until(Instant::now() + Duration::from_secs(3600))
}

#[tokio::test(start_paused = true)]
async fn the_leader_makes_and_publishes_and_leaves_others_alone() {
    let server = ApiServer::default();
    let ours = api_service("v1beta2.custom.metrics.k8s.io", "monitoring", "inference-monitor");
    let foreign = api_service(
        "v1beta1.external.metrics.k8s.io",
        "keda",
        "keda-operator-metrics-apiserver",
    );
    for (path, object) in [&ours, &foreign] {
        server.put(path, object.clone());
    }

    let first = certificates(&server);
    settle(&first, leader()).await;
    assert_eq!(
        server.writes(),
        [
            "POST certificates",
            "PATCH certificates-ca",
            "PATCH v1beta2.custom.metrics.k8s.io"
        ]
    );
    let map = server
        .get(&format!("{NAMESPACE}/configmaps/certificates-ca"))
        .expect("config map");
    assert!(
        map["data"]["ca.crt"]
            .as_str()
            .expect("ca")
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    assert_eq!(server.get(&foreign.0), Some(foreign.1));
    assert_eq!(server.get(&ours.0).expect("ours")["spec"]["groupPriorityMinimum"], 100);
    assert_eq!(
        first.api_services().into_values().collect::<Vec<_>>(),
        [
            Ownership::Absent,
            Ownership::Other("Service keda/keda-operator-metrics-apiserver".into()),
            Ownership::Ours
        ]
    );

    // Another leader finds all as it should be; a follower reads.
    let second = certificates(&server);
    settle(&second, leader()).await;
    let third = certificates(&server);
    settle(&third, Claim::default()).await;
    assert_eq!(server.writes().len(), 3);
    third.wait_until_loaded().await;
    assert_eq!(*second.serving().borrow(), *third.serving().borrow());
    assert!(third.link_tls().is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_nothing() {
    let server = ApiServer::default();
    let follower = certificates(&server);
    settle(&follower, Claim::default()).await;
    assert_eq!(server.writes(), Vec::<String>::new());
    assert!(follower.serving().borrow().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_gone_or_broken_leaves_the_last_certificate_in_use() {
    let server = ApiServer::default();
    let certificates = certificates(&server);
    settle(&certificates, leader()).await;
    let presented = certificates.serving().borrow().clone();
    assert!(presented.is_some());
    certificates.present(&Known::Absent);
    certificates.present(&Known::Present(Secret::default()));
    assert_eq!(*certificates.serving().borrow(), presented);
}
