//! A monitor that reads a stand-in, with short pauses, and waits with a deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infmon_gpu::{DriverProblem, DriverState, GpuMonitor, MonitorOptions, Snapshot};
use infmon_nvml_stand_in::{Scenario, StandIn};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Played {
    pub(crate) folder: TempDir,
    pub(crate) stand_in: StandIn,
    pub(crate) monitor: GpuMonitor,
}

impl Played {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stand_in = StandIn::install(folder.path(), scenario).unwrap();
        let monitor = GpuMonitor::start(options(&stand_in));
        Self {
            folder,
            stand_in,
            monitor,
        }
    }

    pub(crate) fn play(&self, scenario: &Scenario) {
        self.stand_in.write(scenario).unwrap();
    }

    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        until(&self.monitor, what, condition)
    }

    /// Whether this process has the library mapped.
    pub(crate) fn is_loaded(&self) -> bool {
        // A library that was replaced on disk shows up with its old path and `(deleted)`.
        self.mappings().next().is_some()
    }

    pub(crate) fn mappings(&self) -> impl Iterator<Item = String> {
        let path = self.stand_in.library_path().display().to_string();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let lines: Vec<_> = maps
            .lines()
            .filter(|line| line.contains(&path))
            .map(str::to_owned)
            .collect();
        lines.into_iter()
    }
}

pub(crate) fn options(stand_in: &StandIn) -> MonitorOptions {
    MonitorOptions {
        library_path: Some(stand_in.library_path()),
        period: Duration::from_millis(100),
        process_period: Duration::from_millis(200),
        unresponsive_after: Duration::from_millis(300),
        retry_first: Duration::from_millis(20),
        retry_longest: Duration::from_millis(200),
        ..MonitorOptions::default()
    }
}

pub(crate) fn until(monitor: &GpuMonitor, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let snapshot = monitor.latest();
        if condition(&snapshot) {
            return snapshot;
        }
        assert!(Instant::now() < deadline, "no {what} after {PATIENCE:?}: {snapshot:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn is_ready(snapshot: &Snapshot) -> bool {
    matches!(snapshot.driver, DriverState::Ready { .. })
}

pub(crate) fn problem(snapshot: &Snapshot) -> Option<(DriverProblem, &str)> {
    match &snapshot.driver {
        DriverState::Unavailable { category, message } => Some((*category, message)),
        _ => None,
    }
}
