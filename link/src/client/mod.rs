//! The daemon's end: one stream to every operator replica.

mod plans;
mod replica;
mod stream;

use infmon_runtime::{BackoffPolicy, deadline};
use infmon_samples::{NodeIdentity, Plan, Report};
use plans::PlanChoice;
use replica::Replica;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Time for one name to resolve.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Where the operator is and who we are.
#[derive(Clone, Debug)]
pub struct LinkClientOptions {
    /// `host:port`, each a replica or a name that resolves to all of them.
    pub operators: Vec<String>,
    /// Name that the certificate of every replica must carry.
    pub server_name: String,
    /// Authorities that may sign that certificate, PEM. Read for every connection, so rotation needs nothing more.
    pub ca_file: PathBuf,
    /// Bearer token. Read for every connection.
    pub token_file: PathBuf,
    /// Who reports.
    pub identity: NodeIdentity,
    /// Time between two looks at the names.
    pub resolve_interval: Duration,
    /// Time for TCP, TLS and HTTP/2 to be up.
    pub connect_deadline: Duration,
    /// Time for the operator to let us in.
    pub admission_deadline: Duration,
    /// Waits between tries.
    pub backoff: BackoffPolicy,
    /// A stream that lived this long was a success: the next try after it does not wait long.
    pub stable_after: Duration,
    /// Time between HTTP/2 pings.
    pub keepalive_interval: Duration,
    /// Time for the answer to a ping.
    pub keepalive_timeout: Duration,
}

impl LinkClientOptions {
    /// Options with the times that suit a cluster.
    #[must_use]
    pub fn new(
        operators: Vec<String>,
        server_name: String,
        ca_file: PathBuf,
        token_file: PathBuf,
        identity: NodeIdentity,
    ) -> Self {
        Self {
            operators,
            server_name,
            ca_file,
            token_file,
            identity,
            resolve_interval: Duration::from_secs(10),
            connect_deadline: Duration::from_secs(5),
            admission_deadline: Duration::from_secs(15),
            backoff: BackoffPolicy::default(),
            stable_after: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        }
    }
}

/// How a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorState {
    /// A connection is being made for the first time.
    Connecting,
    /// The operator let us in.
    Connected,
    /// The last try failed or the stream ended; another try follows.
    Failed {
        /// What happened, where, and what to do.
        message: String,
    },
}

type Links = watch::Sender<BTreeMap<SocketAddr, OperatorState>>;

/// What the streams share.
#[derive(Debug)]
struct Shared {
    options: LinkClientOptions,
    links: Links,
    choice: Mutex<PlanChoice>,
    plan: watch::Sender<Arc<Plan>>,
    reports: watch::Receiver<Arc<Report>>,
}

impl Shared {
    fn set_state(&self, address: SocketAddr, state: OperatorState) {
        self.links.send_if_modified(|links| {
            let changed = links.get(&address) != Some(&state);
            links.insert(address, state);
            changed
        });
    }

    fn choose(&self, change: impl FnOnce(&mut PlanChoice) -> Option<Arc<Plan>>) {
        let mut choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = change(&mut choice) {
            // Under the lock, so that plans come out in the order in which they were chosen.
            self.plan.send_replace(plan);
        }
    }
}

/// The daemon's end of the link.
#[derive(Debug)]
pub struct LinkClient {
    options: LinkClientOptions,
    links: Links,
}

impl LinkClient {
    /// A client that [`LinkClient::run`] starts.
    #[must_use]
    pub fn new(options: LinkClientOptions) -> Self {
        Self {
            options,
            links: watch::Sender::default(),
        }
    }

    /// How the streams are, for metrics and readiness.
    #[must_use]
    pub fn links(&self) -> watch::Receiver<BTreeMap<SocketAddr, OperatorState>> {
        self.links.subscribe()
    }

    /// Keeps a stream to every replica until `shutdown`: plans come out of `plan`, every new report is sent on every stream.
    ///
    /// The last plan stays in force while no replica is connected; after 10 minutes without the targets that are shown a secret.
    pub async fn run(
        self,
        plan: watch::Sender<Arc<Plan>>,
        reports: watch::Receiver<Arc<Report>>,
        shutdown: CancellationToken,
    ) {
        let mut interval = tokio::time::interval(self.options.resolve_interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::new(Shared {
            options: self.options,
            links: self.links,
            choice: Mutex::default(),
            plan,
            reports,
        });
        let mut replicas = Replicas {
            shared,
            streams: JoinSet::new(),
            wanted: BTreeMap::new(),
        };
        let work = async {
            loop {
                interval.tick().await;
                replicas.shared.choose(|choice| choice.let_go(Instant::now()));
                replicas.refresh().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
        replicas.streams.shutdown().await;
    }
}

/// The streams, one per address.
struct Replicas {
    shared: Arc<Shared>,
    streams: JoinSet<SocketAddr>,
    /// Of every address that has a stream, whether it is still one of the operator's.
    wanted: BTreeMap<SocketAddr, Arc<AtomicBool>>,
}

impl Replicas {
    /// Resolves the names; begins streams to new addresses and lets those of vanished ones end.
    async fn refresh(&mut self) {
        while let Some(ended) = self.streams.try_join_next() {
            match ended {
                Ok(address) => drop(self.wanted.remove(&address)),
                Err(error) => tracing::error!(%error, "a stream to the operator broke"),
            }
        }
        let mut resolved = BTreeSet::new();
        let mut complete = true;
        for name in &self.shared.options.operators {
            match deadline("name resolution", RESOLVE_DEADLINE, tokio::net::lookup_host(name)).await {
                Ok(Ok(addresses)) => resolved.extend(addresses),
                Ok(Err(error)) => {
                    complete = false;
                    tracing::warn!(name, %error, "cannot resolve the operator; check --operator and the cluster DNS");
                }
                Err(error) => {
                    complete = false;
                    tracing::warn!(name, %error, "cannot resolve the operator; check the cluster DNS");
                }
            }
        }
        for (address, wanted) in &self.wanted {
            // A failing DNS must not end streams that work.
            wanted.store(!complete || resolved.contains(address), Ordering::Relaxed);
        }
        for address in resolved {
            if self.wanted.contains_key(&address) {
                continue;
            }
            let wanted = Arc::new(AtomicBool::new(true));
            self.wanted.insert(address, Arc::clone(&wanted));
            let replica = Replica {
                address,
                wanted,
                shared: Arc::clone(&self.shared),
            };
            self.streams.spawn(replica.keep());
        }
    }
}
