//! The GPUs of the node, or the reason why there are none to see.

use infmon_gpu::kernel_log::KernelEvent;
use infmon_gpu::{
    DriverProblem, DriverState, GpuMonitor, GpuReader, Incident, IncidentKind, MonitorOptions, OnXid, Snapshot,
    Stopped, SwitchIncident, merged, xid,
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
    /// One for each vendor whose GPUs are read.
    readers: Vec<Box<dyn GpuReader>>,
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
        let readers: Vec<Box<dyn GpuReader>> = match options {
            GpuOptions::Off => Vec::new(),
            GpuOptions::Nvml(options) => {
                let told = Arc::clone(&xid);
                let on_xid = Some(OnXid::new(move || told.notify_one()));
                vec![Box::new(GpuMonitor::start(MonitorOptions { on_xid, ..options }))]
            }
        };
        Self::of(readers, xid)
    }

    fn of(readers: Vec<Box<dyn GpuReader>>, xid: Arc<Notify>) -> Self {
        Self {
            readers,
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
        for reader in &self.readers {
            reader.set_period(period);
        }
    }

    /// Lets go of the driver while it is upgraded, or takes it up again.
    pub(crate) fn set_released(&self, released: bool) {
        for reader in &self.readers {
            reader.set_released(released);
        }
    }

    /// The newest snapshot. Logs one line when the state of the driver has become another one, and one for what has happened to a GPU.
    pub(crate) fn latest(&mut self) -> Arc<Snapshot> {
        let snapshots: Vec<Arc<Snapshot>> = self.readers.iter().map(|reader| reader.latest()).collect();
        let snapshot = merged(&snapshots).unwrap_or_else(|| {
            Arc::new(Snapshot {
                driver: DriverState::Unavailable {
                    category: DriverProblem::NoDevices,
                    message: "GPUs are not read: the node daemon runs with --no-gpu".to_owned(),
                },
                ..Snapshot::default()
            })
        });
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
    pub(crate) fn note_kernel_event(&self, event: &KernelEvent) {
        if self.readers.iter().any(|reader| reader.note_kernel_event(event)) {
            return;
        }
        let (pci, number) = match event {
            KernelEvent::Xid { pci, number, .. } | KernelEvent::SwitchXid { pci, number, .. } => (pci, *number),
            KernelEvent::OffTheBus { pci } => (pci, xid::OFF_THE_BUS),
        };
        tracing::warn!(%pci, number, "the kernel's log tells an XID or SXid of a device that the driver does not show");
    }

    /// Ends the driver sessions, within half a second also when a driver hangs.
    pub(crate) async fn stop(self) {
        let stop = |reader: Box<dyn GpuReader>| tokio::task::spawn_blocking(move || reader.stop(STOP_DEADLINE));
        let stopping: Vec<_> = self.readers.into_iter().map(stop).collect();
        for stopped in stopping {
            if matches!(stopped.await, Ok(Stopped::Abandoned)) {
                tracing::warn!("a driver call hangs: its thread is left behind");
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_gpu::GpuSample;
    use infmon_gpu::kernel_log::PciAddress;
    use std::sync::Mutex;

    /// A reader of another vendor: one GPU, on one bus.
    #[derive(Debug)]
    struct Played {
        bus: u8,
        heard: Arc<Mutex<Vec<String>>>,
    }

    impl Played {
        fn hear(&self, what: &str) {
            self.heard.lock().unwrap().push(format!("{} {what}", self.bus));
        }
    }

    impl GpuReader for Played {
        fn latest(&self) -> Arc<Snapshot> {
            Arc::new(Snapshot {
                samples: vec![GpuSample {
                    uuid: format!("GPU-{}", self.bus),
                    ..GpuSample::default()
                }],
                ..Snapshot::default()
            })
        }

        fn set_period(&self, period: Duration) {
            self.hear(&format!("every {} ms", period.as_millis()));
        }

        fn set_released(&self, released: bool) {
            self.hear(&format!("released: {released}"));
        }

        fn note_kernel_event(&self, event: &KernelEvent) -> bool {
            let mine = matches!(event, KernelEvent::OffTheBus { pci } if pci.bus == self.bus);
            if mine {
                self.hear("off the bus");
            }
            mine
        }

        fn stop(self: Box<Self>, _within: Duration) -> Stopped {
            self.hear("stopped");
            Stopped::Cleanly
        }
    }

    #[tokio::test]
    async fn several_readers_are_one_source() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let reader = |bus| -> Box<dyn GpuReader> {
            Box::new(Played {
                bus,
                heard: Arc::clone(&heard),
            })
        };
        let mut gpus = Gpus::of(vec![reader(1), reader(2)], Arc::default());
        let snapshot = gpus.latest();
        let uuids: Vec<&str> = snapshot.samples.iter().map(|sample| sample.uuid.as_str()).collect();
        assert_eq!(uuids, ["GPU-1", "GPU-2"]);
        gpus.set_period(Duration::from_millis(500));
        gpus.set_released(true);
        let pci = |bus| PciAddress {
            domain: 0,
            bus,
            device: 0,
        };
        gpus.note_kernel_event(&KernelEvent::OffTheBus { pci: pci(2) });
        gpus.note_kernel_event(&KernelEvent::OffTheBus { pci: pci(3) });
        gpus.stop().await;
        let mut heard = heard.lock().unwrap().clone();
        heard.sort();
        let expected = [
            "1 every 500 ms",
            "1 released: true",
            "1 stopped",
            "2 every 500 ms",
            "2 off the bus",
            "2 released: true",
            "2 stopped",
        ];
        assert_eq!(heard, expected);
    }
}
