//! The GPUs of the node, or the reason why there are none to see.

use infmon_gpu::kernel_log::KernelEvent;
use infmon_gpu::{
    DriverProblem, DriverState, GpuMonitor, Incident, IncidentKind, MonitorOptions, OnXid, Snapshot, Stopped,
    SwitchIncident, xid,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Time for the driver session to end; a hung driver call is left behind after it.
const STOP_DEADLINE: Duration = Duration::from_millis(500);

/// Whether and how GPUs are read.
#[derive(Clone, Debug)]
pub enum GpuOptions {
    /// GPUs are not read.
    Off,
    /// GPUs are read through NVML. A node without GPU or driver says so in its reports.
    Nvml(MonitorOptions),
}

/// The source of GPU samples.
#[derive(Debug)]
pub(crate) struct Gpus {
    monitor: Option<GpuMonitor>,
    /// Kind of the state that was last logged.
    told: Option<std::mem::Discriminant<DriverState>>,
    /// When the newest incident that was logged happened.
    told_incident: Option<Instant>,
    /// The same of switches.
    told_switch_incident: Option<Instant>,
    /// An XID was told.
    xid: Arc<Notify>,
}

impl Gpus {
    pub(crate) fn start(options: GpuOptions) -> Self {
        let xid = Arc::new(Notify::new());
        let monitor = match options {
            GpuOptions::Off => None,
            GpuOptions::Nvml(options) => {
                let told = Arc::clone(&xid);
                let on_xid = Some(OnXid::new(move || told.notify_one()));
                Some(GpuMonitor::start(MonitorOptions { on_xid, ..options }))
            }
        };
        Self {
            monitor,
            told: None,
            told_incident: None,
            told_switch_incident: None,
            xid,
        }
    }

    /// Notified when an XID was told.
    pub(crate) fn xid(&self) -> Arc<Notify> {
        Arc::clone(&self.xid)
    }

    pub(crate) fn set_period(&self, period: Duration) {
        if let Some(monitor) = &self.monitor {
            monitor.set_period(period);
        }
    }

    /// Lets go of the driver while it is upgraded, or takes it up again.
    pub(crate) fn set_released(&self, released: bool) {
        if let Some(monitor) = &self.monitor {
            monitor.set_released(released);
        }
    }

    /// The newest snapshot. Logs one line when the state of the driver has become another one, and one for what has happened to a GPU.
    pub(crate) fn latest(&mut self) -> Arc<Snapshot> {
        let snapshot = match &self.monitor {
            Some(monitor) => monitor.latest(),
            None => Arc::new(Snapshot {
                driver: DriverState::Unavailable {
                    category: DriverProblem::NoDevices,
                    message: "GPUs are not read: the node daemon runs with --no-gpu".to_owned(),
                },
                ..Snapshot::default()
            }),
        };
        let kind = std::mem::discriminant(&snapshot.driver);
        if self.told != Some(kind) {
            self.told = Some(kind);
            tell(&snapshot);
        }
        let before = self.told_incident;
        for incident in snapshot
            .incidents
            .iter()
            .filter(|incident| Some(incident.last) > before)
        {
            self.told_incident = self.told_incident.max(Some(incident.last));
            tell_incident(incident);
        }
        let before = self.told_switch_incident;
        let switches = snapshot.switch_incidents.iter();
        for incident in switches.filter(|incident| Some(incident.last) > before) {
            self.told_switch_incident = self.told_switch_incident.max(Some(incident.last));
            tell_switch_incident(incident);
        }
        snapshot
    }

    /// Takes in what the kernel's log tells.
    pub(crate) fn note_kernel_event(&self, event: KernelEvent) {
        let (pci, number) = match &event {
            KernelEvent::Xid { pci, number, .. } | KernelEvent::SwitchXid { pci, number, .. } => (*pci, *number),
            KernelEvent::OffTheBus { pci } => (*pci, xid::OFF_THE_BUS),
        };
        let monitor = self.monitor.as_ref();
        if !monitor.is_some_and(|monitor| monitor.note_kernel_event(event)) {
            tracing::warn!(%pci, number, "the kernel's log tells an XID or SXid of a device that the driver does not show");
        }
    }

    /// Ends the driver session, within half a second also when the driver hangs.
    pub(crate) async fn stop(self) {
        let Some(monitor) = self.monitor else { return };
        let stopped = tokio::task::spawn_blocking(move || monitor.stop(STOP_DEADLINE)).await;
        if matches!(stopped, Ok(Stopped::Abandoned)) {
            tracing::warn!("a driver call hangs: its thread is left behind");
        }
    }
}

fn tell(snapshot: &Snapshot) {
    match &snapshot.driver {
        DriverState::Starting => {}
        DriverState::Ready { driver_version } => {
            tracing::info!(driver = driver_version, gpus = snapshot.samples.len(), "reading GPUs");
        }
        DriverState::Unavailable { category, message } => {
            tracing::warn!(reason = category.as_str(), message, "no GPU data");
        }
        DriverState::Unresponsive { for_seconds } => {
            tracing::error!(for_seconds, "the GPU driver does not answer: GPU data is stale");
        }
    }
}

fn tell_incident(incident: &Incident) {
    let (gpu, uuid, count) = (incident.index, &incident.uuid, incident.count);
    match incident.kind {
        IncidentKind::Xid { number } => {
            tracing::warn!(gpu, uuid, xid = number, count, "the driver tells of an XID");
        }
        IncidentKind::EccUncorrectable => {
            tracing::warn!(gpu, uuid, errors = count, "uncorrectable memory errors of a GPU");
        }
    }
}

fn tell_switch_incident(incident: &SwitchIncident) {
    let (pci, sxid, fatal, count, text) = (
        incident.pci,
        incident.number,
        incident.fatal,
        incident.count,
        &incident.text,
    );
    tracing::warn!(%pci, sxid, fatal, count, text, "the kernel's log tells an SXid of an NVSwitch");
}

/// Label of a driver state in metrics.
pub(crate) fn state_name(driver: &DriverState) -> &'static str {
    match driver {
        DriverState::Starting => "Starting",
        DriverState::Ready { .. } => "Ready",
        DriverState::Unavailable { .. } => "Unavailable",
        DriverState::Unresponsive { .. } => "Unresponsive",
    }
}

/// Every label of [`state_name`].
pub(crate) const STATE_NAMES: [&str; 4] = ["Starting", "Ready", "Unavailable", "Unresponsive"];
