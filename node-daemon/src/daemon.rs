//! The core of the daemon: a plan goes in, a report per period comes out.

use crate::gpus::{GpuOptions, Gpus};
use crate::host_memory::{HostMemoryOptions, HostMemoryReader};
use crate::kernel_log;
use crate::metrics::DaemonMetrics;
use crate::pod_resources::{self, Knowledge, PodResourcesOptions};
use crate::processes::{ProcessOptions, Processes};
use crate::report::assemble;
use crate::scrape::{AddressPolicy, Scrapers};
use infmon_gpu::kernel_log::KernelEvent;
use infmon_runtime::Shutdown;
use infmon_samples::{Plan, Report};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// A report costs a message per operator replica; nothing that reads them reacts faster.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);
/// After the first scrape of a beat, the time given to the others before they are reported together.
const GATHER: Duration = Duration::from_millis(60);
/// Slow servers answer one by one; each is not worth a report of its own.
const LEAST_BETWEEN_REPORTS: Duration = Duration::from_millis(200);
/// A plan without a period, or with an absurd one, must not silence the node.
const LONGEST_PERIOD: Duration = Duration::from_secs(60);

/// What the core does.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// How GPUs are read.
    pub gpu: GpuOptions,
    /// How the kubelet is asked which pods have which GPUs; `None` leaves it alone.
    pub pod_resources: Option<PodResourcesOptions>,
    /// The kernel's log to read XIDs from (`/dev/kmsg`); `None` leaves it alone.
    pub kernel_log: Option<PathBuf>,
    /// How the host memory of the pods is read; `None` leaves it alone.
    pub host_memory: Option<HostMemoryOptions>,
    /// How it is looked up whose the processes on the GPUs are; `None` leaves them alone.
    pub processes: Option<ProcessOptions>,
    /// Which addresses may be scraped.
    pub addresses: AddressPolicy,
    /// Where it counts.
    pub metrics: DaemonMetrics,
}

/// Starts sampling and scraping as the plan says, until the shutdown; a task of `shutdown` does it.
///
/// The receiver gets a report per period of the plan, the first at once, and each right after the scrapes that it carries. Its initial value is an empty report that nobody made.
pub fn spawn(
    options: DaemonOptions,
    plan: watch::Receiver<Arc<Plan>>,
    shutdown: &Shutdown,
) -> watch::Receiver<Arc<Report>> {
    let (sender, receiver) = watch::channel(Arc::new(Report::default()));
    let owners = options.pod_resources.clone().map(|asking| {
        let (sender, receiver) = watch::channel(Arc::new(Knowledge::default()));
        let metrics = options.metrics.clone();
        shutdown.spawn(
            "pod resources",
            pod_resources::follow(asking, sender, metrics, shutdown.token()),
        );
        receiver
    });
    let (told, kernel_events) = mpsc::channel(kernel_log::WAITING_MAX);
    if let Some(path) = options.kernel_log.clone() {
        let metrics = options.metrics.clone();
        shutdown.spawn("kernel log", kernel_log::follow(path, told, metrics, shutdown.token()));
    }
    shutdown.spawn(
        "sampling",
        sample(options, owners, kernel_events, plan, sender, shutdown.token()),
    );
    receiver
}

async fn sample(
    options: DaemonOptions,
    owners: Option<watch::Receiver<Arc<Knowledge>>>,
    mut kernel_events: mpsc::Receiver<KernelEvent>,
    mut plan: watch::Receiver<Arc<Plan>>,
    reports: watch::Sender<Arc<Report>>,
    shutdown: CancellationToken,
) {
    let mut current = Arc::clone(&plan.borrow_and_update());
    let mut gpus = Gpus::start(options.gpu);
    let xid = gpus.xid();
    let host_memory = options
        .host_memory
        .and_then(|reading| HostMemoryReader::start(reading, plan.clone(), options.metrics.clone()));
    let metrics = options.metrics.clone();
    let mut processes = options.processes.map(|looking| Processes::new(looking, metrics));
    let mut scrapers = Scrapers::new(options.addresses, options.metrics.clone());
    gpus.set_period(period(&current));
    gpus.set_released(current.release_gpus);
    scrapers.follow(&current);
    let mut ticks = interval(&current);
    let mut reported = tokio::time::Instant::now();
    // When to report what was scraped; none while nothing new is there.
    let mut due: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            // Without a sender the last plan stays in force.
            Ok(()) = plan.changed() => {
                let next = Arc::clone(&plan.borrow_and_update());
                tracing::info!(revision = next.revision, targets = next.targets.len(), "following a new plan");
                scrapers.follow(&next);
                if period(&next) != period(&current) {
                    gpus.set_period(period(&next));
                    ticks = interval(&next);
                }
                if next.release_gpus != current.release_gpus {
                    tracing::info!(released = next.release_gpus, "the GPU driver is to be let go of, or taken up again");
                    gpus.set_released(next.release_gpus);
                }
                current = next;
                continue;
            }
            // Without a reader of the log there is no sender either.
            Some(event) = kernel_events.recv() => {
                gpus.note_kernel_event(&event);
                continue;
            }
            // An XID does not wait for the next beat.
            () = xid.notified() => {
                let soon = tokio::time::Instant::now().max(reported + LEAST_BETWEEN_REPORTS);
                due = Some(due.map_or(soon, |due| due.min(soon)));
                continue;
            }
            () = scrapers.scraped(), if due.is_none() => {
                let soon = tokio::time::Instant::now() + GATHER;
                due = Some(soon.max(reported + LEAST_BETWEEN_REPORTS));
                continue;
            }
            // Without scrapes the GPUs and the failures still are reported once per period.
            _ = ticks.tick() => {}
            () = tokio::time::sleep_until(due.unwrap_or(reported)), if due.is_some() => {}
        }
        due = None;
        reported = tokio::time::Instant::now();
        ticks.reset();
        let snapshot = gpus.latest();
        if let Some(processes) = &mut processes {
            processes.look(&snapshot.samples).await;
        }
        let now = Instant::now();
        let owners = owners.as_ref().map(|known| known.borrow().report(now));
        let host_memory = host_memory.as_ref().map(HostMemoryReader::latest);
        let of_pod = |uid: &str| host_memory.as_ref()?.report(uid, now);
        let mut report = assemble(now, current.revision, &snapshot, owners, scrapers.states(), of_pod);
        let lookup = |processes: &Processes| processes.name_owners(&mut report.gpus.samples);
        report.gpus.process_lookup = processes.as_ref().map(lookup);
        options.metrics.reported(snapshot);
        reports.send_replace(Arc::new(report));
    }
    drop(scrapers);
    gpus.stop().await;
}

fn period(plan: &Plan) -> Duration {
    plan.period.clamp(SHORTEST_PERIOD, LONGEST_PERIOD)
}

/// Reports that come although nothing was scraped; late enough for the scrapes of the next beat to come first.
fn interval(plan: &Plan) -> Interval {
    let mut interval = tokio::time::interval(period(plan) + 2 * GATHER);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}
