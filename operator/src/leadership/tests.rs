//! The election against an API server of one object: what counts is who holds a claim when.

use super::{Claim, Election, LeaseTimes, run};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TIMES: LeaseTimes = LeaseTimes {
    duration: Duration::from_secs(1),
    renew_deadline: Duration::from_millis(600),
    retry: Duration::from_millis(50),
};

/// One Lease with the rules of the API server that the election relies on: create fails when it is there, replace when the
/// resourceVersion is not the newest.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    /// Calls hang while set.
    stalled: Arc<AtomicBool>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "system")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        if self.stalled.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let method = request.method().clone();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let mut lease = self.lease.lock().expect("no panic before");
        let (status, answer) = match (method, lease.as_ref()) {
            (Method::GET, Some(found)) => (StatusCode::OK, found.clone()),
            (Method::GET, None) => (StatusCode::NOT_FOUND, failure("NotFound", 404)),
            (Method::POST, Some(_)) => (StatusCode::CONFLICT, failure("AlreadyExists", 409)),
            (Method::POST, None) => (StatusCode::CREATED, store(&mut lease, &body, 1)),
            (Method::PUT, Some(found)) => {
                let new: Value = serde_json::from_slice(&body).expect("JSON");
                if new["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"] {
                    let next = found["metadata"]["resourceVersion"]
                        .as_str()
                        .and_then(|text| text.parse::<u64>().ok())
                        .unwrap_or(0)
                        + 1;
                    (StatusCode::OK, store(&mut lease, &body, next))
                } else {
                    (StatusCode::CONFLICT, failure("Conflict", 409))
                }
            }
            (other, _) => (StatusCode::METHOD_NOT_ALLOWED, failure(other.as_str(), 405)),
        };
        Response::builder()
            .status(status)
            .body(Body::from(answer.to_string().into_bytes()))
            .expect("a response")
    }

    fn holder(&self) -> String {
        let lease = self.lease.lock().expect("no panic before");
        lease
            .as_ref()
            .and_then(|lease| lease["spec"]["holderIdentity"].as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

fn store(lease: &mut Option<Value>, body: &[u8], version: u64) -> Value {
    let mut new: Value = serde_json::from_slice(body).expect("JSON");
    new["metadata"]["resourceVersion"] = json!(version.to_string());
    *lease = Some(new.clone());
    new
}

fn failure(reason: &str, code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason})
}

/// One contender.
struct Replica {
    claim: watch::Receiver<Claim>,
    shutdown: CancellationToken,
    stopped: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(server: &Server, name: &'static str) -> Self {
        let leases: Api<Lease> = Api::namespaced(server.client(), "system");
        let (sender, claim) = watch::channel(Claim::default());
        let (shutdown, stopped) = (CancellationToken::new(), CancellationToken::new());
        let tokens = (shutdown.clone(), stopped.clone());
        let election = Election {
            leases,
            name: "lease".to_owned(),
            identity: name.to_owned(),
            times: TIMES,
            owner: None,
        };
        let task = tokio::spawn(run(election, sender, tokens.0, tokens.1));
        Self {
            claim,
            shutdown,
            stopped,
            task,
        }
    }

    fn leads(&self) -> bool {
        self.claim.borrow().is_current(Instant::now())
    }
}

/// Polls until `condition` holds; returns how long it took.
async fn wait_for(what: &str, within: Duration, condition: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn one_of_two_leads_and_the_other_takes_over_when_it_dies() {
    let server = Server::default();
    let (first, second) = (Replica::start(&server, "first"), Replica::start(&server, "second"));
    wait_for("a leader", SOON, || first.leads() || second.leads()).await;
    let watched = Instant::now();
    while watched.elapsed() < TIMES.duration * 2 {
        assert!(!(first.leads() && second.leads()), "two leaders");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (leader, other) = if first.leads() {
        (first, second)
    } else {
        (second, first)
    };
    leader.task.abort();
    wait_for("the other", SOON, || other.leads()).await;
    assert!(!leader.leads(), "its claim ended before another began");
}

#[tokio::test]
async fn a_released_lease_is_taken_at_once_but_only_after_the_writes_stopped() {
    let server = Server::default();
    let first = Replica::start(&server, "first");
    wait_for("a leader", SOON, || first.leads()).await;
    let second = Replica::start(&server, "second");
    first.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(server.holder(), "first", "its writers have not stopped yet");
    first.stopped.cancel();
    first.task.await.expect("it ends");
    assert!(!first.claim.borrow().is_current(Instant::now()));
    wait_for("the second", TIMES.duration / 2, || second.leads()).await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_before_others_may_start() {
    let server = Server::default();
    let replica = Replica::start(&server, "first");
    wait_for("a leader", SOON, || replica.leads()).await;
    server.stalled.store(true, Ordering::SeqCst);
    let took = wait_for("the end of its claim", SOON, || !replica.leads()).await;
    assert!(
        took < TIMES.duration,
        "others may take over after {:?}, it led for {took:?}",
        TIMES.duration
    );
    server.stalled.store(false, Ordering::SeqCst);
    wait_for("its own lease again", SOON, || replica.leads()).await;
}
