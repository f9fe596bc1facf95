//! Wiring: what is started with what, and in which order it ends. No logic.
//!
//! After SIGTERM: readiness turns false and the writers end; the Lease is released, so that another replica writes within seconds; the
//! metrics API and the link go on for the drain time, since kube-proxy and the API servers still send requests here; then all ends.

use crate::args::Args;
use crate::certificates::{Certificates, Settings};
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon_sets::Reconciler;
use crate::deployment::OwnDeployment;
use crate::exposition::{ReplicaCollector, WorldCollector};
use crate::leadership::{self, Claim, Election, LeaseTimes};
use crate::metric_source::WorldMetrics;
use crate::metrics_api::{self, Access, ApiState, DelegatedAccess, Groups, ServeOptions};
use crate::node_sessions::Sessions;
use crate::watches::{self, ClusterView};
use crate::world::{SharedWorld, World};
use crate::{credentials, judgement, status_writer};
use anyhow::Context;
use infmon_evaluation::status::Change;
use infmon_link::{LinkServer, LinkServerOptions};
use infmon_runtime::{AdminServer, Readiness, Shutdown};
use kube::api::Api;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How long a new replica waits for the daemons to tell it what it serves, before it becomes ready without the rest.
const AWAIT_NODES: Duration = Duration::from_secs(15);
/// How long tasks may take to end after the drain.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration cannot be used, a port is taken, or a task that must run ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = Arc::new(Config::load(&args.config)?);
    let client = client().await?;
    let shutdown = Shutdown::on_signals().context("failed to install signal handlers")?;
    let terminate = shutdown.token();
    // Ends what must go on through the drain.
    let end = CancellationToken::new();
    let writers_stopped = CancellationToken::new();
    let readiness = Readiness::new();
    let world = SharedWorld::new(World::new(config.address_policy()), Clock::start());
    let tasks = Tasks::default();

    // --- watches
    let (listed, monitors_listed) = watch::channel(false);
    let latch = readiness.latch("list of InferenceMonitors");
    tasks.spawn(
        "monitor watch",
        watches::follow_monitors(client.clone(), world.clone(), listed, latch, end.clone()),
    );
    let latch = readiness.latch("list of pods");
    tasks.spawn(
        "pod watches",
        watches::follow_namespaces(
            client.clone(),
            world.clone(),
            monitors_listed.clone(),
            latch,
            end.clone(),
        ),
    );
    tasks.spawn(
        "credentials",
        credentials::run(client.clone(), world.clone(), end.clone()),
    );
    let cluster = ClusterView::default();
    tasks.spawn(
        "node watch",
        watches::follow_nodes(client.clone(), cluster.clone(), world.clone(), end.clone()),
    );
    {
        let (client, cluster, namespace, end) = (client.clone(), cluster.clone(), args.namespace.clone(), end.clone());
        tasks.spawn("daemon set watch", async move {
            watches::follow_daemon_sets(client, &namespace, cluster, end).await;
        });
    }

    // --- leadership and writers
    let (claim, claims) = watch::channel(Claim::default());
    let identity = format!("{}_{:08x}", args.pod_name, rand::random::<u32>());
    {
        let election = Election {
            leases: Api::namespaced(client.clone(), &args.namespace),
            name: config.lease.clone(),
            identity: identity.clone(),
            times: LeaseTimes::default(),
            owner: Some(OwnDeployment::new(client.clone(), &args.namespace, &config.deployment)),
        };
        let (terminate, stopped) = (terminate.clone(), writers_stopped.clone());
        tasks.spawn("leader election", leadership::run(election, claim, terminate, stopped));
    }
    let wake = Arc::new(Notify::new());
    let writers = Tasks::default();
    writers.spawn(
        "status writer",
        status_writer::run(
            client.clone(),
            world.clone(),
            claims.clone(),
            args.pod_name.clone(),
            Arc::clone(&wake),
            terminate.clone(),
        ),
    );
    writers.spawn(
        "daemon set reconciler",
        Reconciler {
            client: client.clone(),
            config: Arc::clone(&config),
            namespace: args.namespace.clone(),
            world: world.clone(),
            cluster,
            monitors_listed: monitors_listed.clone(),
            claim: claims.clone(),
        }
        .run(terminate.clone()),
    );
    tasks.spawn("judgement", {
        let (world, end, wake) = (world.clone(), end.clone(), Arc::clone(&wake));
        async move {
            let seen = |_: &_, judged: &crate::world::Judged| {
                if judged.change == Change::Transition {
                    wake.notify_one();
                }
            };
            judgement::run(world, seen, end).await;
        }
    });

    // --- certificates
    let certificates = Certificates::new(client.clone(), Settings::new(&config, &args.namespace));
    writers.spawn(
        "certificates",
        certificates.clone().run(claims.clone(), terminate.clone()),
    );

    // --- servers
    let link_listener = bind(args.link_listen, "--link-listen").await?;
    let api_listener = bind(args.metrics_api_listen, "--metrics-api-listen").await?;
    let sessions = Sessions::new(
        client.clone(),
        world.clone(),
        &args.namespace,
        &config.node_daemon.service_account,
    );
    let link_tls = certificates.link_tls().context("failed to set up TLS")?;
    let link = LinkServer::new(Arc::new(sessions), link_tls, LinkServerOptions::default());
    let link_counts = link.counts();
    tasks.spawn("link", link.serve(link_listener, end.clone()));

    let access = DelegatedAccess::new(client.clone());
    tasks.spawn("API server trust", Arc::clone(&access).run(client.clone(), end.clone()));
    let ready = {
        let readiness = readiness.clone();
        Arc::new(move || match readiness.pending() {
            pending if pending.is_empty() => Ok(()),
            pending => Err(format!("waiting for {}", pending.join(", "))),
        })
    };
    let source = Arc::new(WorldMetrics::new(world.clone()));
    let state = ApiState::new(source, Access::Delegated(Arc::clone(&access)), Groups::CUSTOM, ready);
    let api_tls = metrics_api::server_config(certificates.resolver()).context("failed to set up TLS")?;
    let options = ServeOptions {
        drain: Duration::from_secs(args.drain_seconds),
        ..ServeOptions::default()
    };
    let serving = tokio::spawn(metrics_api::serve(
        api_listener,
        api_tls,
        state,
        options,
        terminate.clone(),
    ));

    let mut registry = Registry::default();
    infmon_runtime::process::register(&mut registry, "operator", env!("CARGO_PKG_VERSION"));
    registry.register_collector(Box::new(WorldCollector::new(world.clone())));
    registry.register_collector(Box::new(ReplicaCollector::new(claims.clone(), link_counts)));
    let admin = AdminServer::bind(args.admin_listen, readiness.clone(), Arc::new(registry))
        .await
        .with_context(|| format!("failed to listen on {} (--admin-listen)", args.admin_listen))?;
    tasks.spawn("admin server", admin.run(end.clone()));

    tasks.spawn("readiness", {
        let latch = readiness.latch("certificates, API server trust and reports of the node daemons");
        let (world, certificates, readiness, end) =
            (world.clone(), certificates.clone(), readiness.clone(), end.clone());
        async move {
            let told = async {
                become_ready(&world, &certificates, &access, &readiness).await;
                latch.release();
                tracing::info!("ready");
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = end.cancelled() => {}
                () = told => {}
            }
        }
    });
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        identity,
        metrics_api = %args.metrics_api_listen,
        link = %args.link_listen,
        admin = %args.admin_listen,
        "operator started"
    );

    // --- the end
    let failed = tokio::select! {
        // First, since the signal ends the writers too, and their end is then no fault.
        biased;
        () = shutdown.requested() => None,
        name = tasks.ended() => Some(name),
        name = writers.ended() => Some(name),
    };
    readiness.stop();
    terminate.cancel();
    writers.finish(FINISH_WITHIN).await;
    writers_stopped.cancel();
    let served = serving.await.context("the metrics API failed")?;
    end.cancel();
    tasks.finish(FINISH_WITHIN).await;
    served.context("the metrics API failed")?;
    match failed {
        None => Ok(()),
        Some(name) => anyhow::bail!("the task {name:?} ended, which only a fault makes it do"),
    }
}

/// Waits until this replica can answer reads as well as any other: certificates are there, callers can be told apart, and the daemons
/// have reported, or had time enough to.
async fn become_ready(
    world: &SharedWorld,
    certificates: &Certificates,
    access: &DelegatedAccess,
    readiness: &Readiness,
) {
    certificates.wait_until_loaded().await;
    let mut look = tokio::time::interval(Duration::from_millis(100));
    // All but this one: which nodes are to be waited for is known only when the monitors and their pods are.
    while readiness.pending().len() > 1 {
        look.tick().await;
    }
    let start = Instant::now();
    loop {
        look.tick().await;
        let awaited = world.read(|world, _| world.nodes_awaited());
        if access.is_ready() && (awaited.is_empty() || start.elapsed() >= AWAIT_NODES) {
            if !awaited.is_empty() {
                tracing::warn!(nodes = ?awaited, "ready without reports of some nodes");
            }
            return;
        }
    }
}

async fn client() -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer()
        .await
        .context("found no way to reach the Kubernetes API")?;
    // Every call has a deadline of its own; retries inside a call would use it up without a word (kube retries 503 for minutes).
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    kube::Client::try_from(config).context("failed to make a Kubernetes client")
}

async fn bind(address: std::net::SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address} ({flag})"))
}

/// Tasks that must run until they are told to end.
#[derive(Default)]
struct Tasks {
    set: std::sync::Mutex<tokio::task::JoinSet<&'static str>>,
}

impl Tasks {
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.lock().spawn(async move {
            task.await;
            name
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, tokio::task::JoinSet<&'static str>> {
        self.set.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The name of the first task that ended.
    async fn ended(&self) -> &'static str {
        std::future::poll_fn(|context| match self.lock().poll_join_next(context) {
            std::task::Poll::Ready(Some(Ok(name))) => std::task::Poll::Ready(name),
            std::task::Poll::Ready(Some(Err(error))) => {
                tracing::error!(%error, "a task panicked");
                std::task::Poll::Ready("of the panic above")
            }
            _ => std::task::Poll::Pending,
        })
        .await
    }

    /// Waits for all, but no longer than `within`.
    async fn finish(&self, within: Duration) {
        let all = std::future::poll_fn(|context| {
            let mut set = self.lock();
            loop {
                match set.poll_join_next(context) {
                    std::task::Poll::Ready(Some(_)) => {}
                    std::task::Poll::Ready(None) => return std::task::Poll::Ready(()),
                    std::task::Poll::Pending => return std::task::Poll::Pending,
                }
            }
        });
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!(left = self.lock().len(), "tasks did not end in time");
        }
    }
}
