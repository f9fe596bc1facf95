//! The reader against a scripted API server.

use super::*;
use crate::clock::Clock;
use crate::world::World;
use http::{Method, Response, StatusCode};
use infmon_crds::v1alpha1::InferenceMonitor;
use infmon_evaluation::{AddressPolicy, Resolution};
use kube::client::Body;
use serde_json::{Value, json};

type Handle = tower_test::mock::Handle<http::Request<Body>, Response<Body>>;

const CANARY: &str = "canary-5d41402a";
/// `canary-5d41402a`
const ENCODED: &str = "Y2FuYXJ5LTVkNDE0MDJh";

fn monitor(url: &str, secret: &str) -> InferenceMonitor {
    serde_json::from_value(json!({
        "apiVersion": "inferencemonitor.io/v1alpha1", "kind": "InferenceMonitor",
        "metadata": {"namespace": "prod", "name": "llm", "uid": "1", "generation": 1},
        "spec": {"endpoints": [{"name": "out", "url": url, "credentialsSecretRef": {"name": secret}}]},
    }))
    .expect("a monitor")
}

fn secret(label: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "namespace": "prod", "name": "access", "labels": {"inferencemonitor.io/credentials": label},
            "annotations": {"inferencemonitor.io/hosts": "llm.example.com"},
        },
        "data": {"token": ENCODED},
    })
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "scripted", "reason": "Scripted",
           "code": code})
}

/// A world with one monitor, its reader, and the API server that the reader asks.
struct Scene {
    world: SharedWorld,
    handle: Handle,
    stop: CancellationToken,
}

impl Scene {
    fn start(url: &str) -> Self {
        let (service, handle) = tower_test::mock::pair();
        let policy = AddressPolicy {
            allowed_hosts: vec!["llm.example.com".into()],
            ..AddressPolicy::default()
        };
        let world = SharedWorld::new(World::new(policy), Clock::start());
        world.change(|world, now| world.apply_monitor(monitor(url, "access"), now));
        let stop = CancellationToken::new();
        tokio::spawn(run(kube::Client::new(service, "system"), world.clone(), stop.clone()));
        Self { world, handle, stop }
    }

    /// Answers the next request, which must be the GET of the one Secret.
    async fn answer(&mut self, code: u16, body: &Value) {
        let limit = Duration::from_secs(20);
        let next = tokio::time::timeout(limit, self.handle.next_request()).await;
        let (request, send) = next.expect("a request within 20 s").expect("a request");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "/api/v1/namespaces/prod/secrets/access");
        let code = StatusCode::from_u16(code).expect("a code");
        let body = Body::from(body.to_string().into_bytes());
        send.send_response(Response::builder().status(code).body(body).expect("a response"));
    }

    /// Waits until the resolution is as it should be.
    async fn until(&self, what: &str, condition: impl Fn(&Resolution) -> bool) -> Resolution {
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.world.read(|world, _| {
                let monitor = world.monitors().next().map(|(_, monitor)| monitor.resolution.clone());
                monitor.unwrap_or_default()
            });
            if condition(&found) {
                return found;
            }
            assert!(Instant::now() < give_up, "not within 20 s: {what}; now {found:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn problem(&self, words: &str) {
        let found = self
            .until(words, |found| {
                found.problems.iter().any(|problem| problem.contains(words))
            })
            .await;
        assert!(
            found.endpoints.is_empty(),
            "not scraped without its credentials: {found:?}"
        );
        assert!(!format!("{found:?}").contains(CANARY));
    }

    async fn token(&self, token: &str) {
        let bearer = format!("Bearer {token}");
        let shown = |found: &Resolution| {
            let target = found.endpoints.first()?.target.as_ref()?;
            let credentials = target.access.credentials.as_ref()?;
            Some(credentials.authorization.as_ref()?.reveal() == bearer && target.access.verify_certificate)
        };
        let found = self
            .until("the token in the plan", |found| shown(found) == Some(true))
            .await;
        let target = found.endpoints[0].target.as_ref().expect("a target");
        assert!(
            target
                .id
                .0
                .starts_with("prod/access/https://llm.example.com:443/metrics")
        );
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_secret_is_planned_only_while_it_is_in_order() {
    let mut scene = Scene::start("https://llm.example.com");
    let found = scene.until("it waits", |found| !found.endpoints.is_empty()).await;
    assert!(
        found.endpoints[0].target.is_none() && found.problems.is_empty(),
        "{found:?}"
    );
    let mut of_the_cluster = secret("true");
    of_the_cluster["type"] = "kubernetes.io/service-account-token".into();
    for (code, body, words) in [
        (
            404,
            failure(404),
            "does not exist: kubectl create secret generic access -n prod",
        ),
        (403, failure(403), "Helm value credentials.namespaces"),
        (200, secret("no"), "kubectl label secret access -n prod"),
        (200, of_the_cluster, "has the type kubernetes.io/service-account-token"),
        (500, failure(500), "could not be read"),
        (200, json!({"data": {"token": [CANARY]}}), "is no Secret"),
    ] {
        scene.answer(code, &body).await;
        scene.problem(words).await;
        // A change of the monitor is a reason to look again at once.
        touch(&scene.world);
    }
    scene.answer(200, &secret("true")).await;
    scene.token(CANARY).await;

    // Rotated, then the API server is away: the last known stays. Then the Secret is gone: nothing stays.
    let mut rotated = secret("true");
    rotated["data"]["token"] = "bmV3".into();
    touch(&scene.world);
    scene.answer(200, &rotated).await;
    scene.token("new").await;
    touch(&scene.world);
    scene.answer(503, &failure(503)).await;
    touch(&scene.world);
    scene.token("new").await;
    scene.answer(404, &failure(404)).await;
    scene.problem("does not exist").await;
}

/// The user changes the spec.
fn touch(world: &SharedWorld) {
    world.change(|world, now| {
        let known = world.monitors().next().map(|(_, monitor)| monitor.object.clone());
        if let Some(mut object) = known {
            let generation = object.metadata.generation.get_or_insert(0);
            *generation += 1;
            world.apply_monitor(object, now);
        }
    });
}

#[tokio::test]
async fn no_secret_is_read_for_a_server_that_may_not_be_asked() {
    for url in ["https://elsewhere.example.com", "http://llm.example.com", "nonsense"] {
        let mut scene = Scene::start(url);
        let next = tokio::time::timeout(3 * LOOK_EVERY, scene.handle.next_request()).await;
        assert!(next.is_err(), "{url}: a Secret was read");
    }
}
