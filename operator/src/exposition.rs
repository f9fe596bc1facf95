//! The operator's own `/metrics` for Prometheus: read from the world at scrape time, so that what is gone vanishes and what is stale
//! is left out instead of frozen.

mod capacity;
mod traffic;

use crate::leadership::Claim;
use crate::world::{SharedWorld, World};
use capacity::CapacityFamilies;
use infmon_evaluation::{Capacity, Moment, Outcome, Totals};
use infmon_link::LinkServerCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use traffic::TrafficFamilies;

/// GPU samples older than this are left out.
const GPU_STALE_AFTER: Duration = Duration::from_secs(10);

/// Collects the world.
#[derive(Debug)]
pub struct WorldCollector {
    world: SharedWorld,
}

impl WorldCollector {
    /// A collector to be registered once.
    #[must_use]
    pub fn new(world: SharedWorld) -> Self {
        Self { world }
    }
}

type Labels = Vec<(&'static str, String)>;
type Series = Vec<(Labels, f64)>;

/// One family to write.
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    series: Series,
}

impl Family {
    fn gauge(name: &'static str, help: &'static str, unit: Option<Unit>) -> Self {
        Self {
            name,
            help,
            unit,
            kind: MetricType::Gauge,
            series: Series::new(),
        }
    }

    /// Adds a series, unless the value is not known.
    fn add(&mut self, labels: &[(&'static str, String)], value: Option<f64>) {
        if let Some(value) = value {
            self.series.push((labels.to_vec(), value));
        }
    }
}

impl Collector for WorldCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        // Collected under the lock, written without it: a slow reader must not hold up an HPA.
        let families = self.world.read(families);
        for family in families.into_iter().filter(|family| !family.series.is_empty()) {
            let mut writer = encoder.encode_descriptor(family.name, family.help, family.unit.as_ref(), family.kind)?;
            for (labels, value) in &family.series {
                let metric = writer.encode_family(labels)?;
                match family.kind {
                    MetricType::Counter => ConstCounter::new(*value).encode(metric)?,
                    _ => ConstGauge::new(*value).encode(metric)?,
                }
            }
        }
        Ok(())
    }
}

fn families(world: &World, now: Moment) -> Vec<Family> {
    let gauge = Family::gauge;
    let mut waiting = gauge(
        "infmon_monitor_requests_waiting",
        "Requests that wait, over all endpoints",
        None,
    );
    let mut running = gauge(
        "infmon_monitor_requests_running",
        "Requests that run, over all endpoints",
        None,
    );
    let mut kv = gauge(
        "infmon_monitor_kv_cache_usage",
        "KV cache in use on the fullest endpoint, 0-1",
        Some(Unit::Ratios),
    );
    let mut endpoints = gauge("infmon_monitor_endpoints", "Endpoints of the monitor", None);
    let mut fresh = gauge("infmon_monitor_endpoints_fresh", "Endpoints with fresh data", None);
    let mut gpus = gauge("infmon_monitor_gpus", "GPUs that serve the monitor", None);
    let mut throttled = gauge(
        "infmon_monitor_gpus_throttled",
        "GPUs that lose clocks above the threshold",
        None,
    );
    let mut exhaustion = gauge(
        "infmon_monitor_memory_exhaustion",
        "Time until the memory of a GPU or the host memory of a pod is full, where it grows towards that",
        Some(Unit::Seconds),
    );
    let mut traffic = TrafficFamilies::new();
    let mut capacity = CapacityFamilies::new();
    let mut conditions = gauge(
        "infmon_monitor_condition",
        "1 for the status that a condition has: True, False or Unknown",
        None,
    );
    for (key, monitor) in world.monitors() {
        let Some((_, verdict)) = &monitor.verdict else { continue };
        let labels = vec![("namespace", key.namespace.clone()), ("monitor", key.name.clone())];
        waiting.add(&labels, verdict.waiting);
        running.add(&labels, verdict.running);
        kv.add(&labels, verdict.kv_cache_usage);
        endpoints.add(&labels, Some(verdict.endpoints as f64));
        fresh.add(&labels, Some(verdict.fresh as f64));
        gpus.add(&labels, verdict.gpu_age.map(|_| verdict.gpus.len() as f64));
        throttled.add(&labels, verdict.throttled_gpus_of_all().map(|gpus| gpus as f64));
        exhaustion.add(&labels, verdict.memory_exhaustion.map(|time| time.as_secs_f64()));
        traffic.add(&labels, &verdict.traffic);
        let stale_after = monitor.object.spec.stale_after();
        let totals = Totals::of(&monitor.resolution, world.observations(), stale_after, now);
        capacity.add(&labels, &Capacity::of(&totals));
        for finding in &verdict.findings {
            for outcome in [Outcome::True, Outcome::False, Outcome::Unknown] {
                let mut labels = labels.clone();
                labels.push(("type", finding.kind.as_str().to_owned()));
                labels.push(("status", outcome.as_str().to_owned()));
                conditions
                    .series
                    .push((labels, f64::from(u8::from(finding.outcome == outcome))));
            }
        }
    }
    let mut all = vec![
        waiting, running, kv, endpoints, fresh, gpus, throttled, exhaustion, conditions,
    ];
    all.extend(traffic.into_families());
    all.extend(capacity.into_families());
    all.extend(node_families(world, now));
    all
}

fn node_families(world: &World, now: Moment) -> Vec<Family> {
    let gauge = Family::gauge;
    let mut connected = gauge(
        "infmon_node_daemon_connected",
        "1 while the node's daemon is connected",
        None,
    );
    let mut age = gauge(
        "infmon_node_report_age",
        "Age of the newest report of the node",
        Some(Unit::Seconds),
    );
    let mut utilization = gauge(
        "infmon_gpu_utilization",
        "Share of time in which a kernel ran, 0-1",
        Some(Unit::Ratios),
    );
    let mut used = gauge(
        "infmon_gpu_memory_used",
        "Device memory that is not free",
        Some(Unit::Bytes),
    );
    let mut total = gauge("infmon_gpu_memory_total", "Device memory", Some(Unit::Bytes));
    let mut temperature = gauge("infmon_gpu_temperature", "Core temperature", Some(Unit::Celsius));
    let mut margin = gauge(
        "infmon_gpu_temperature_margin",
        "Degrees left before the hardware slows the GPU down",
        Some(Unit::Celsius),
    );
    let mut power = gauge("infmon_gpu_power", "Power draw", Some(Unit::Other("watts".into())));
    let mut clock = gauge("infmon_gpu_sm_clock", "SM clock", Some(Unit::Other("hertz".into())));
    let mut throttle = Family {
        name: "infmon_gpu_throttled",
        help: "Time in which the GPU lost clocks since the driver loaded, by cause",
        unit: Some(Unit::Seconds),
        kind: MetricType::Counter,
        series: Series::new(),
    };
    for (name, node) in world.observations().nodes() {
        let node_label = || ("node", name.clone());
        connected
            .series
            .push((vec![node_label()], f64::from(u8::from(node.connected))));
        if let Some(reported) = node.reported {
            age.series.push((vec![node_label()], now.since(reported).as_secs_f64()));
        }
        if node.gpus_taken.is_none_or(|taken| now.since(taken) > GPU_STALE_AFTER) {
            continue;
        }
        for gpu in &node.gpus {
            let labels = vec![node_label(), ("gpu", gpu.index.to_string()), ("uuid", gpu.uuid.clone())];
            utilization.add(
                &labels,
                gpu.utilization_percent.map(|percent| f64::from(percent) / 100.0),
            );
            let occupied = gpu
                .memory_total_bytes
                .zip(gpu.memory_free_bytes)
                .map(|(total, free)| total.saturating_sub(free));
            used.add(&labels, occupied.map(|bytes| bytes as f64));
            total.add(&labels, gpu.memory_total_bytes.map(|bytes| bytes as f64));
            temperature.add(&labels, gpu.temperature_celsius.map(f64::from));
            margin.add(&labels, gpu.temperature_margin_celsius.map(f64::from));
            power.add(
                &labels,
                gpu.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0),
            );
            clock.add(&labels, gpu.sm_clock_mhz.map(|mhz| f64::from(mhz) * 1e6));
            for counter in &gpu.throttle {
                let mut labels = labels.clone();
                labels.push(("cause", counter.cause.as_str().to_owned()));
                throttle.series.push((labels, counter.nanoseconds as f64 / 1e9));
            }
        }
    }
    vec![
        connected,
        age,
        utilization,
        used,
        total,
        temperature,
        margin,
        power,
        clock,
        throttle,
    ]
}

/// Collects what concerns this replica rather than the world: leadership and the link.
#[derive(Debug)]
pub struct ReplicaCollector {
    claim: watch::Receiver<Claim>,
    link: Arc<LinkServerCounts>,
}

impl ReplicaCollector {
    /// A collector to be registered once.
    #[must_use]
    pub fn new(claim: watch::Receiver<Claim>, link: Arc<LinkServerCounts>) -> Self {
        Self { claim, link }
    }
}

impl Collector for ReplicaCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let leads = i64::from(self.claim.borrow().is_current(Instant::now()));
        let writer =
            encoder.encode_descriptor("infmon_leader", "1 on the replica that writes", None, MetricType::Gauge)?;
        ConstGauge::new(leads).encode(writer)?;
        let link = &self.link;
        for (name, help, counter) in [
            (
                "infmon_link_connections",
                "Connections of node daemons accepted",
                &link.connections,
            ),
            (
                "infmon_link_connections_overflowed",
                "Connections closed because there were too many",
                &link.overflowed,
            ),
            (
                "infmon_link_handshakes_failed",
                "TLS handshakes that failed or took too long",
                &link.failed_handshakes,
            ),
            (
                "infmon_link_streams_refused",
                "Streams refused: token, protocol version, no Hello in time",
                &link.refused,
            ),
            ("infmon_link_sessions", "Streams let in", &link.sessions),
            ("infmon_link_reports", "Reports received", &link.reports),
        ] {
            let writer = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(counter.load(Ordering::Relaxed)).encode(writer)?;
        }
        Ok(())
    }
}
