//! What the daemon tells of itself on `/metrics`. What it measures goes to the operator, not here.

use crate::gpus::{STATE_NAMES, state_name};
use crate::pod_resources::{Freshness, Knowledge};
use infmon_gpu::kernel_log::KernelEvent;
use infmon_gpu::{CallStats, Snapshot};
use infmon_link::OperatorState;
use infmon_samples::FailureKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Same-node scrapes take milliseconds; the last bounds are deadlines.
const DURATION_BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

type PodsByResult = Family<[(&'static str, &'static str); 1], Gauge>;
type ByResult = Family<[(&'static str, &'static str); 1], Counter>;

/// Counts of the daemon. Clones share them; unregistered ones are counted and never shown.
#[derive(Clone, Debug)]
pub struct DaemonMetrics {
    scrapes: ByResult,
    duration: Histogram,
    targets: Gauge,
    reports: Counter,
    gpus: Arc<Mutex<Arc<Snapshot>>>,
    owner_calls: ByResult,
    process_lookups: ByResult,
    owners: Owners,
    kernel_log: KernelLog,
    host_memory: PodsByResult,
}

/// What comes from the kernel's log.
#[derive(Clone, Debug, Default)]
struct KernelLog {
    readable: Gauge,
    events: Family<[(&'static str, &'static str); 1], Counter>,
    overruns: Counter,
}

impl Default for DaemonMetrics {
    fn default() -> Self {
        Self {
            scrapes: Family::default(),
            duration: Histogram::new(DURATION_BOUNDS),
            targets: Gauge::default(),
            reports: Counter::default(),
            gpus: Arc::default(),
            owner_calls: Family::default(),
            process_lookups: Family::default(),
            owners: Owners::default(),
            kernel_log: KernelLog::default(),
            host_memory: Family::default(),
        }
    }
}

impl DaemonMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let scrapes = "Scrapes by result: ok, or the kind of the failure";
        registry.register("infmon_scrapes", scrapes, self.scrapes.clone());
        let duration = "Time from request to sample, failures included";
        registry.register("infmon_scrape_duration_seconds", duration, self.duration.clone());
        registry.register("infmon_targets", "Targets of the plan", self.targets.clone());
        registry.register("infmon_reports", "Reports made", self.reports.clone());
        registry.register_collector(Box::new(DriverCollector(Arc::clone(&self.gpus))));
        let calls = "Calls to the kubelet for the owners of GPUs, by result: ok or failed";
        registry.register("infmon_pod_resources_calls", calls, self.owner_calls.clone());
        registry.register_collector(Box::new(OwnersCollector(Arc::clone(&self.owners))));
        let lookups = "Looks at whose the processes on the GPUs are, by result: ok or failed";
        registry.register("infmon_process_lookups", lookups, self.process_lookups.clone());
        let pods =
            "Monitored pods by whether their host memory was found: found or missing; no series where it is not read";
        registry.register("infmon_host_memory_pods", pods, self.host_memory.clone());
        let log = &self.kernel_log;
        let readable = "1 while XIDs are read from the kernel's log; 0 also where that is off";
        registry.register("infmon_kernel_log_readable", readable, log.readable.clone());
        let events = "Lines of the kernel's log that were read, by kind: xid (GPU) or sxid (NVSwitch)";
        registry.register("infmon_kernel_log_events", events, log.events.clone());
        let overruns = "Times that lines of the kernel's log were lost before they were read";
        registry.register("infmon_kernel_log_overruns", overruns, log.overruns.clone());
    }

    pub(crate) fn kernel_log_readable(&self, readable: bool) {
        self.kernel_log.readable.set(i64::from(readable));
    }

    pub(crate) fn kernel_log_told(&self, event: &KernelEvent) {
        let kind = match event {
            KernelEvent::Xid { .. } | KernelEvent::OffTheBus { .. } => "xid",
            KernelEvent::SwitchXid { .. } => "sxid",
        };
        self.kernel_log.events.get_or_create_owned(&[("kind", kind)]).inc();
    }

    pub(crate) fn kernel_log_overrun(&self) {
        self.kernel_log.overruns.inc();
    }

    pub(crate) fn scraped(&self, failure: Option<FailureKind>, took: Duration) {
        let result = failure.map_or("ok", FailureKind::as_str);
        self.scrapes.get_or_create_owned(&[("result", result)]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn set_targets(&self, count: usize) {
        self.targets.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn reported(&self, snapshot: Arc<Snapshot>) {
        self.reports.inc();
        *self.gpus.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    pub(crate) fn asked_for_owners(&self, answered: bool) {
        let result = if answered { "ok" } else { "failed" };
        self.owner_calls.get_or_create_owned(&[("result", result)]).inc();
    }

    pub(crate) fn read_host_memory(&self, found: usize, wanted: usize) {
        for (result, pods) in [("found", found), ("missing", wanted.saturating_sub(found))] {
            let gauge = self.host_memory.get_or_create_owned(&[("result", result)]);
            gauge.set(i64::try_from(pods).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn looked_processes_up(&self, done: bool) {
        let result = if done { "ok" } else { "failed" };
        self.process_lookups.get_or_create_owned(&[("result", result)]).inc();
    }

    pub(crate) fn learned_owners(&self, known: Arc<Knowledge>) {
        *self.owners.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }
}

/// What is known of the owners of GPUs; `None` while the kubelet is not asked.
type Owners = Arc<Mutex<Option<Arc<Knowledge>>>>;

/// Whether the kubelet is asked for the owners of GPUs, and how old its answer is.
#[derive(Debug)]
struct OwnersCollector(Owners);

impl Collector for OwnersCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Instant::now();
        let state = known.as_ref().map_or(Freshness::Off, |known| known.freshness(now));
        let help = "What is known from the kubelet of the owners of GPUs: 1 for the state it is in";
        let mut states = encoder.encode_descriptor("infmon_pod_resources_state", help, None, MetricType::Gauge)?;
        for of in Freshness::ALL {
            let value = ConstGauge::new(u64::from(of == state));
            value.encode(states.encode_family(&[("state", of.as_str())])?)?;
        }
        let Some((known, age)) = known.and_then(|known| known.age(now).map(|age| (known, age))) else {
            return Ok(());
        };
        let help = "Age of the kubelet's last list of GPU owners";
        let seconds = ConstGauge::new(age.as_secs_f64());
        seconds.encode(encoder.encode_descriptor(
            "infmon_pod_resources_age_seconds",
            help,
            None,
            MetricType::Gauge,
        )?)?;
        let help = "GPUs and parts of them in the kubelet's last list";
        let devices = ConstGauge::new(known.devices() as u64);
        devices.encode(encoder.encode_descriptor("infmon_pod_resources_devices", help, None, MetricType::Gauge)?)
    }
}

/// The driver session as of the last report.
#[derive(Debug)]
struct DriverCollector(Arc<Mutex<Arc<Snapshot>>>);

impl Collector for DriverCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshot = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let help = "State of the GPU driver session: 1 for the one it is in";
        let mut states = encoder.encode_descriptor("infmon_gpu_driver_state", help, None, MetricType::Gauge)?;
        for name in STATE_NAMES {
            let value = ConstGauge::new(u64::from(name == state_name(&snapshot.driver)));
            value.encode(states.encode_family(&[("state", name)])?)?;
        }
        let gpus = ConstGauge::new(snapshot.samples.len() as u64);
        gpus.encode(encoder.encode_descriptor("infmon_gpus", "GPUs read", None, MetricType::Gauge)?)?;
        let seconds = |call: &CallStats| Duration::from_micros(call.total_microseconds).as_secs_f64();
        let help = "Driver calls by class";
        let mut calls = encoder.encode_descriptor("infmon_gpu_driver_calls", help, None, MetricType::Counter)?;
        for call in &snapshot.calls {
            ConstCounter::new(call.count).encode(calls.encode_family(&[("class", call.class.as_str())])?)?;
        }
        let help = "Time spent in driver calls by class";
        let mut times = encoder.encode_descriptor("infmon_gpu_driver_call_seconds", help, None, MetricType::Counter)?;
        for call in &snapshot.calls {
            ConstCounter::new(seconds(call)).encode(times.encode_family(&[("class", call.class.as_str())])?)?;
        }
        let help =
            "Time that the driver itself says its answers took, by class of calls; no series where it says nothing";
        let name = "infmon_gpu_driver_call_reported_seconds";
        let mut times = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for call in &snapshot.calls {
            if let Some(told) = call.driver_microseconds {
                let seconds = Duration::from_micros(told).as_secs_f64();
                ConstCounter::new(seconds).encode(times.encode_family(&[("class", call.class.as_str())])?)?;
            }
        }
        Ok(())
    }
}

type Links = watch::Receiver<BTreeMap<SocketAddr, OperatorState>>;

/// The streams to the operator's replicas.
#[derive(Debug)]
pub(crate) struct LinkCollector(pub(crate) Links);

impl Collector for LinkCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "1 while the stream to this operator replica is up";
        let mut family = encoder.encode_descriptor("infmon_operator_connected", help, None, MetricType::Gauge)?;
        for (address, state) in self.0.borrow().iter() {
            let connected = ConstGauge::new(u64::from(*state == OperatorState::Connected));
            connected.encode(family.encode_family(&[("operator", address.to_string())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_gpu::{CallClass, DriverState};

    #[test]
    fn tells_of_itself() {
        let metrics = DaemonMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let operator = SocketAddr::from(([10, 0, 0, 1], 9443));
        let (_sender, links) = watch::channel(BTreeMap::from([(operator, OperatorState::Connected)]));
        registry.register_collector(Box::new(LinkCollector(links)));
        metrics.scraped(None, Duration::from_millis(3));
        metrics.scraped(Some(FailureKind::Timeout), Duration::from_secs(1));
        metrics.set_targets(2);
        metrics.reported(Arc::new(Snapshot {
            driver: DriverState::Unresponsive { for_seconds: 12 },
            calls: vec![CallStats {
                class: CallClass::Memory,
                count: 3,
                total_microseconds: 1500,
                max_microseconds: 900,
                driver_microseconds: Some(1200),
            }],
            ..Snapshot::default()
        }));
        let encoded = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        assert!(encoded().contains("infmon_pod_resources_state{state=\"Off\"} 1"));
        assert!(!encoded().contains("infmon_pod_resources_age_seconds "));
        assert!(!encoded().contains("infmon_host_memory_pods{"));
        metrics.read_host_memory(2, 3);
        metrics.asked_for_owners(true);
        metrics.looked_processes_up(false);
        let mut known = Knowledge::default();
        known.succeeded(Instant::now(), Vec::new());
        metrics.learned_owners(Arc::new(known));
        let text = encoded();
        let lines = [
            "infmon_scrapes_total{result=\"ok\"} 1",
            "infmon_scrapes_total{result=\"Timeout\"} 1",
            "infmon_scrape_duration_seconds_count 2",
            "infmon_targets 2",
            "infmon_reports_total 1",
            "infmon_gpu_driver_state{state=\"Unresponsive\"} 1",
            "infmon_gpu_driver_state{state=\"Ready\"} 0",
            "infmon_gpu_driver_calls_total{class=\"memory\"} 3",
            "infmon_gpu_driver_call_reported_seconds_total{class=\"memory\"} 0.0012",
            "infmon_gpu_driver_call_seconds_total{class=\"memory\"} 0.0015",
            "infmon_operator_connected{operator=\"10.0.0.1:9443\"} 1",
            "infmon_pod_resources_state{state=\"Off\"} 0",
            "infmon_pod_resources_state{state=\"Fresh\"} 1",
            "infmon_pod_resources_devices 0",
            "infmon_pod_resources_calls_total{result=\"ok\"} 1",
            "infmon_host_memory_pods{result=\"found\"} 2",
            "infmon_host_memory_pods{result=\"missing\"} 1",
            "infmon_process_lookups_total{result=\"failed\"} 1",
        ];
        for line in lines {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
