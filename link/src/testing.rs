//! Both ends on loopback: certificates, an operator that writes down what happens, and a running server.

use crate::{
    AuthError, Authenticated, LinkClientOptions, LinkServer, LinkServerCounts, LinkServerOptions, NodeSessions,
};
use infmon_runtime::{BackoffPolicy, ServerTls, install_crypto_provider, tls};
use infmon_samples::{NodeIdentity, Plan, Report};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SERVER_NAME: &str = "infmon-operator.test";
pub(crate) const TOKEN: &str = "good-token";

/// Polls until `condition` gives something; fails with `what` after 10 s.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < give_up, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        install_crypto_provider();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    pub(crate) fn server_config(&self) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        tls::server_config(leaf.pem().as_bytes(), key.serialize_pem().as_bytes(), &[b"h2"]).unwrap()
    }
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Connected(NodeIdentity),
    Report(String, Box<Report>),
    Disconnected(String),
}

/// The operator's part: lets in who brings [`TOKEN`], and writes everything down.
pub(crate) struct Book {
    events: Mutex<Vec<Event>>,
    pub(crate) plans: Mutex<HashMap<String, watch::Sender<Arc<Plan>>>>,
    pub(crate) valid_for: Mutex<Option<Duration>>,
}

impl Book {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn has(&self, event: &Event) -> Option<()> {
        self.events.lock().unwrap().contains(event).then_some(())
    }

    pub(crate) fn connections(&self) -> usize {
        let is_connected = |event: &&Event| matches!(event, Event::Connected(_));
        self.events.lock().unwrap().iter().filter(is_connected).count()
    }

    pub(crate) fn reports(&self, node: &str) -> Vec<Report> {
        let report = |event: &Event| match event {
            Event::Report(from, report) if from == node => Some(Report::clone(report)),
            _ => None,
        };
        self.events.lock().unwrap().iter().filter_map(report).collect()
    }

    pub(crate) fn set_plan(&self, node: &str, plan: Plan) {
        let mut plans = self.plans.lock().unwrap();
        plans.entry(node.to_owned()).or_default().send_replace(Arc::new(plan));
    }

    fn add(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl NodeSessions for Book {
    fn authenticate(
        &self,
        claimed: &NodeIdentity,
        bearer: &str,
    ) -> impl Future<Output = Result<Authenticated, AuthError>> + Send {
        let answer = match bearer {
            TOKEN => Ok(Authenticated {
                valid_until: self.valid_for.lock().unwrap().map(|time| Instant::now() + time),
            }),
            "later" => Err(AuthError::Unavailable("the API server does not answer".to_owned())),
            _ => Err(AuthError::Denied(format!(
                "the token is not one of node {}",
                claimed.node
            ))),
        };
        std::future::ready(answer)
    }

    fn connected(&self, node: &NodeIdentity) -> watch::Receiver<Arc<Plan>> {
        self.add(Event::Connected(node.clone()));
        let mut plans = self.plans.lock().unwrap();
        plans.entry(node.node.clone()).or_default().subscribe()
    }

    fn report(&self, node: &NodeIdentity, report: Report) {
        self.add(Event::Report(node.node.clone(), Box::new(report)));
    }

    fn disconnected(&self, node: &NodeIdentity) {
        self.add(Event::Disconnected(node.node.clone()));
    }
}

/// A running server.
pub(crate) struct Operator {
    pub(crate) address: SocketAddr,
    pub(crate) book: Arc<Book>,
    pub(crate) tls: ServerTls,
    pub(crate) counts: Arc<LinkServerCounts>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Operator {
    pub(crate) async fn start(authority: &Authority, options: LinkServerOptions) -> Self {
        Self::start_at(authority, options, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(authority: &Authority, options: LinkServerOptions, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let book = Arc::new(Book {
            events: Mutex::default(),
            plans: Mutex::default(),
            valid_for: Mutex::default(),
        });
        let tls = ServerTls::new(authority.server_config());
        let server = LinkServer::new(Arc::clone(&book), tls.clone(), options);
        let stop = CancellationToken::new();
        Self {
            address: listener.local_addr().unwrap(),
            book,
            tls,
            counts: server.counts(),
            stop: stop.clone(),
            task: tokio::spawn(server.serve(listener, stop)),
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .expect("the server stops in time")
            .unwrap();
    }
}

/// CA and token files of a daemon.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new(ca: &str, token: &str) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.set_ca(ca);
        files.set_token(token);
        files
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub(crate) fn set_ca(&self, ca: &str) {
        std::fs::write(self.ca(), ca).unwrap();
    }

    pub(crate) fn set_token(&self, token: &str) {
        std::fs::write(self.token(), format!("{token}\n")).unwrap();
    }

    /// Options of a daemon with waits short enough for tests.
    pub(crate) fn options(&self, node: &str, operators: &[SocketAddr]) -> LinkClientOptions {
        let operators = operators.iter().map(ToString::to_string).collect();
        let identity = NodeIdentity {
            node: node.to_owned(),
            pod: format!("daemon-{node}"),
            version: "0.1.0".to_owned(),
        };
        LinkClientOptions {
            backoff: BackoffPolicy {
                first: Duration::from_millis(10),
                max: Duration::from_millis(50),
            },
            resolve_interval: Duration::from_millis(50),
            ..LinkClientOptions::new(operators, SERVER_NAME.to_owned(), self.ca(), self.token(), identity)
        }
    }
}
