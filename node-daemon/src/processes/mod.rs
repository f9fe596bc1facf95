//! Whose the processes on the GPUs are: looked up under `/proc` by their control groups (opt-in, needs the PID namespace of the node).
//!
//! Files of `/proc` can make a reader wait for locks of the kernel, so that a thread of its own reads them, and a report goes without what
//! does not come in time.

mod table;

use crate::metrics::DaemonMetrics;
use infmon_gpu::GpuSample;
use infmon_samples::ProcessLookup;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::{LookError, Owners, ProcessTable};
use tokio::task::JoinHandle;

/// How processes are looked up.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// `/proc`, or what a test puts in its place.
    pub root: PathBuf,
    /// Time after which processes that are still on a GPU are looked up again, since their ids may belong to others.
    pub period: Duration,
    /// Longest that a report waits for a look.
    pub deadline: Duration,
}

impl ProcessOptions {
    /// Options with the times that go with the process lists of the driver, which are read every 8 s.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            period: Duration::from_secs(8),
            deadline: Duration::from_millis(250),
        }
    }
}

type Looked = (ProcessTable, Result<Owners, LookError>);

/// Looks up whose the processes of samples are.
#[derive(Debug)]
pub(crate) struct Processes {
    options: ProcessOptions,
    metrics: DaemonMetrics,
    /// Not here while a look has it.
    table: Option<ProcessTable>,
    /// A look that did not end in time: no other one is begun meanwhile.
    late: Option<JoinHandle<Looked>>,
    /// The last look: when, which processes were asked for, and what came of it.
    last: Option<(Instant, BTreeSet<u32>, Result<Owners, String>)>,
    /// What was logged last.
    told: Option<bool>,
}

impl Processes {
    pub(crate) fn new(options: ProcessOptions, metrics: DaemonMetrics) -> Self {
        Self {
            table: Some(ProcessTable::new(options.root.clone())),
            options,
            metrics,
            late: None,
            last: None,
            told: None,
        }
    }

    /// Looks the processes of these samples up, unless the last look still holds.
    pub(crate) async fn look(&mut self, samples: &[GpuSample]) {
        let processes = samples.iter().flat_map(|sample| sample.processes.iter().flatten());
        let pids: BTreeSet<u32> = processes.map(|process| process.pid).collect();
        let due = self
            .last
            .as_ref()
            .is_none_or(|(at, of, outcome)| *of != pids || at.elapsed() >= self.options.period || outcome.is_err());
        if due {
            let outcome = self.look_up(pids.clone()).await;
            self.metrics.looked_processes_up(outcome.is_ok());
            self.tell(outcome.as_ref().err());
            self.last = Some((Instant::now(), pids, outcome));
        }
    }

    /// Writes the owners into samples that were looked at. Returns what the report says of it.
    pub(crate) fn name_owners(&self, samples: &mut [GpuSample]) -> ProcessLookup {
        let failure = match self.last.as_ref().map(|(_, _, outcome)| outcome) {
            Some(Ok(owners)) => {
                for process in samples
                    .iter_mut()
                    .flat_map(|sample| sample.processes.iter_mut().flatten())
                {
                    process.owner = owners.get(&process.pid).cloned().flatten();
                }
                None
            }
            Some(Err(words)) => Some(words.clone()),
            None => Some("no process was looked up yet".to_owned()),
        };
        ProcessLookup { failure }
    }

    async fn look_up(&mut self, pids: BTreeSet<u32>) -> Result<Owners, String> {
        if let Some(late) = self.late.take() {
            if !late.is_finished() {
                self.late = Some(late);
                return Err(self.too_slow());
            }
            // It was about other processes: only its table is of use.
            self.table = late.await.ok().map(|(table, _)| table);
        }
        let root = self.options.root.clone();
        let mut table = self.table.take().unwrap_or_else(|| ProcessTable::new(root));
        let mut look = tokio::task::spawn_blocking(move || {
            let outcome = table.look(&pids);
            (table, outcome)
        });
        match tokio::time::timeout(self.options.deadline, &mut look).await {
            Ok(Ok((table, outcome))) => {
                self.table = Some(table);
                outcome.map_err(|error| error.to_string())
            }
            Ok(Err(error)) => Err(format!("looking up the processes ended: {error}")),
            Err(_) => {
                self.late = Some(look);
                Err(self.too_slow())
            }
        }
    }

    fn too_slow(&self) -> String {
        let milliseconds = self.options.deadline.as_millis();
        format!("{} was not read within {milliseconds} ms", self.options.root.display())
    }

    /// Logs a line when it begins to work or to fail.
    fn tell(&mut self, failure: Option<&String>) {
        if self.told.replace(failure.is_none()) == Some(failure.is_none()) {
            return;
        }
        match failure {
            None => tracing::info!("looking up whose the processes on the GPUs are"),
            Some(reason) => tracing::warn!(reason, "whose the processes on the GPUs are is not known"),
        }
    }
}
