//! Wiring: the operator's world and judgement, the node daemon's sampling, the screen and the servers, in one process.

use crate::args::Session;
use crate::counter::Counter;
use crate::monitor_file::{Declared, MonitorFile, Secrets};
use crate::monitors;
use crate::scene::Scene;
use crate::screen::Screen;
use crate::servers;
use crate::summary::{count, summary};
use crate::table::Table;
use crate::terminal::{self, Terminal};
use infmon_crds::v1alpha1::{InferenceMonitor, InferenceMonitorStatus};
use infmon_evaluation::cluster::SecretReading;
use infmon_evaluation::status::Change;
use infmon_node_daemon::{AddressPolicy as DialPolicy, DaemonMetrics, DaemonOptions};
use infmon_operator::clock::Clock;
use infmon_operator::judgement;
use infmon_operator::world::{MonitorKey, SharedWorld, World};
use infmon_runtime::Shutdown;
use infmon_samples::{NodeIdentity, Report};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How often the screen looks whether a row is due.
const SCREEN_PERIOD: Duration = Duration::from_millis(200);
/// How often the file is looked at.
const FILE_PERIOD: Duration = Duration::from_secs(1);
/// All tasks end within it; with the summary and the runtime it stays below two seconds.
const END_WITHIN: Duration = Duration::from_millis(1_200);

/// Watches a scene until its time is over or a signal comes.
pub(crate) async fn play(scene: Scene, session: Session, shutdown: Shutdown) -> anyhow::Result<()> {
    let Scene {
        headline,
        monitors,
        secrets,
        policy,
        gpu,
        kernel_log,
        simulation,
        file,
    } = scene;
    let simulated = simulation.is_some();
    let world = SharedWorld::new(World::new(policy), Clock::start());
    let metrics = DaemonMetrics::default();
    let server = servers::bind(session.listen, &world, &metrics, simulated).await?;
    let address = server.local_address()?;
    let terminal = Terminal::open(shutdown.token())?;
    let table = Table {
        name_width: monitors
            .iter()
            .filter_map(|monitor| Some(monitor.metadata.name.as_ref()?.len()))
            .max()
            .unwrap_or(0)
            .max(8),
        width: terminal::width(),
        colour: terminal::colour(),
        simulated,
    };
    for line in opening(&headline, &address.to_string(), monitors.first()) {
        terminal.line(line);
    }
    shutdown.spawn("servers", server.run(shutdown.token()));
    if let Some(simulation) = simulation {
        shutdown.spawn("simulation", simulation.play(shutdown.token()));
    }

    let start = Instant::now();
    declare(&world, monitors, &secrets);
    let node = node_name();
    let plan = world.connect(NodeIdentity {
        node: node.clone(),
        pod: String::new(),
        version: env!("CARGO_PKG_VERSION").into(),
    });
    let options = DaemonOptions {
        gpu,
        pod_resources: None,
        kernel_log,
        host_memory: None,
        processes: None,
        addresses: DialPolicy::Any,
        metrics,
    };
    let reports = infmon_node_daemon::spawn(options, plan, &shutdown);
    let counter = Arc::new(Mutex::new(Counter::default()));
    shutdown.spawn(
        "reports",
        forward(world.clone(), node, reports, Arc::clone(&counter), shutdown.token()),
    );
    let (seen, judgements) = mpsc::unbounded_channel();
    shutdown.spawn("judgement", judge(world.clone(), seen, shutdown.token()));
    if let Some(file) = file {
        shutdown.spawn("file", follow(file, world.clone(), shutdown.token()));
    }
    if let Some(time) = session.duration {
        let timer = shutdown.clone();
        shutdown.spawn("timer", async move {
            tokio::select! {
                () = tokio::time::sleep(time) => timer.request(),
                () = timer.requested() => {}
            }
        });
    }

    let mut screen = Screen::new(table);
    show(&mut screen, &terminal, judgements, start, &shutdown.token()).await;
    let time = start.elapsed();
    if let Err(error) = shutdown.finish(END_WITHIN).await {
        tracing::warn!(%error, "ended without waiting any longer");
    }
    let samples = counter.lock().unwrap_or_else(PoisonError::into_inner).samples();
    let (table, findings) = screen.into_findings();
    for line in summary(&table, time, samples, &findings) {
        terminal.line(line);
    }
    terminal.close();
    Ok(())
}

fn opening(headline: &str, address: &str, first: Option<&InferenceMonitor>) -> Vec<String> {
    let metadata = first.map(|monitor| &monitor.metadata);
    let name = metadata
        .and_then(|metadata| metadata.name.as_deref())
        .unwrap_or_default();
    let namespace = metadata
        .and_then(|metadata| metadata.namespace.as_deref())
        .unwrap_or(monitors::NAMESPACE);
    vec![
        format!("inference-monitor {}   {headline}", env!("CARGO_PKG_VERSION")),
        format!("metrics http://{address}/metrics   JSON http://{address}/api/v1/monitors   stop with Ctrl-C"),
        format!(
            "for an HPA http://{address}{}",
            servers::queue_depth_path(namespace, name)
        ),
        String::new(),
    ]
}

/// Makes the world hold these monitors and no others.
fn declare(world: &SharedWorld, monitors: Vec<InferenceMonitor>, secrets: &Secrets) {
    world.change(|world, now| {
        for ((namespace, name), named) in secrets.iter() {
            world.apply_secret(namespace, name, SecretReading::Usable(Arc::clone(named)));
        }
        let mut present = BTreeSet::new();
        for mut monitor in monitors {
            let Some(key) = MonitorKey::of(&monitor) else { continue };
            if let Some(known) = world.monitor(&key) {
                // What an API server does: a generation per change of the spec, and the status stays.
                let generation = known.object.metadata.generation.unwrap_or(1);
                let changed = known.object.spec != monitor.spec;
                monitor.metadata.generation = Some(generation + i64::from(changed));
                monitor.metadata.creation_timestamp = known.object.metadata.creation_timestamp.clone();
                monitor.status = Some(known.written.clone());
            }
            present.insert(key);
            world.apply_monitor(monitor, now);
        }
        world.retain_monitors(&present);
    });
}

/// Takes reports to the world, in place of the link.
async fn forward(
    world: SharedWorld,
    node: String,
    mut reports: watch::Receiver<Arc<Report>>,
    counter: Arc<Mutex<Counter>>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = reports.changed() => if changed.is_err() { return },
        }
        let report = Arc::clone(&reports.borrow_and_update());
        counter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(&report, Instant::now());
        world.report(&node, Report::clone(&report));
    }
}

/// A judgement for the screen.
struct Seen {
    name: String,
    status: InferenceMonitorStatus,
    change: Change,
}

async fn judge(world: SharedWorld, seen: mpsc::UnboundedSender<Seen>, shutdown: CancellationToken) {
    let view = world.clone();
    let tell = move |key: &MonitorKey, judged: &infmon_operator::world::Judged| {
        // The screen is what the API server is in a cluster: a status is written once it differs.
        let next = view.note(|world, now| {
            let next = world.monitor(key)?.next.clone();
            if judged.change > Change::None {
                world.status_written(key, next.clone(), now);
            }
            Some(next)
        });
        if let Some(status) = next {
            let name = if key.namespace == monitors::NAMESPACE {
                key.name.clone()
            } else {
                key.to_string()
            };
            let _ = seen.send(Seen {
                name,
                status,
                change: judged.change,
            });
        }
    };
    judgement::run(world, tell, shutdown).await;
}

/// Shows what is worth it until the end.
async fn show(
    screen: &mut Screen,
    terminal: &Terminal,
    mut judgements: mpsc::UnboundedReceiver<Seen>,
    start: Instant,
    shutdown: &CancellationToken,
) {
    let mut ticks = tokio::time::interval(SCREEN_PERIOD);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(seen) = judgements.recv() => screen.see(seen.name, seen.status, seen.change, start.elapsed()),
            _ = ticks.tick() => {
                let time = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
                for line in screen.lines(start.elapsed(), &time) {
                    terminal.line(line);
                }
            }
        }
    }
}

/// Follows changes of the file. A file that cannot be used changes nothing.
async fn follow(mut file: MonitorFile, world: SharedWorld, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(FILE_PERIOD);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if !file.has_changed() {
            continue;
        }
        match file.read() {
            Ok(Declared {
                monitors,
                secrets,
                warnings,
            }) => {
                warnings.iter().for_each(|words| eprintln!("infmon: {words}"));
                eprintln!(
                    "infmon: the file changed: {} from now on",
                    count(monitors.len() as u64, "monitor")
                );
                declare(&world, monitors, &secrets);
            }
            Err(error) => {
                eprintln!("{error}\ninfmon: the file changed and cannot be used: the monitors of before stay");
            }
        }
    }
}

fn node_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "localhost".into()
    } else {
        name.to_owned()
    }
}
