//! One monitor in the world.

use super::memory_of;
use infmon_crds::v1alpha1::{InferenceMonitor, InferenceMonitorStatus};
use infmon_evaluation::status::{Change, Transition};
use infmon_evaluation::{Memory, Moment, Resolution, Verdict};
use std::fmt;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl MonitorKey {
    /// The key of an object; `None` when it has no name or namespace, which the API server does not let happen.
    #[must_use]
    pub fn of(object: &InferenceMonitor) -> Option<Self> {
        Some(Self {
            namespace: object.metadata.namespace.clone()?,
            name: object.metadata.name.clone()?,
        })
    }
}

impl fmt::Display for MonitorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One monitor: what is declared, found, judged and written.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// The object as the user declared it; its status is in `written`.
    pub object: InferenceMonitor,
    /// Endpoints found.
    pub resolution: Resolution,
    /// The newest judgement and when it was made.
    pub verdict: Option<(Moment, Verdict)>,
    /// The status of that judgement.
    pub next: InferenceMonitorStatus,
    /// How much `next` differs from `written`.
    pub change: Change,
    /// The status that the API server has, as far as this process knows.
    pub written: InferenceMonitorStatus,
    /// When this process wrote it last.
    pub written_at: Option<Moment>,
    /// The status was written before this process watched the monitor, and has not been judged on full data since.
    pub(super) inherited: bool,
    pub(super) memory: Memory,
    pub(super) watched_since: Moment,
    pub(super) due: Option<Moment>,
}

impl Monitor {
    pub(super) fn new(object: InferenceMonitor, now: Moment) -> Self {
        Self {
            memory: memory_of(&object),
            inherited: object
                .status
                .as_ref()
                .is_some_and(|status| !status.conditions.is_empty()),
            written: object.status.clone().unwrap_or_default(),
            object,
            resolution: Resolution::default(),
            verdict: None,
            next: InferenceMonitorStatus::default(),
            change: Change::None,
            written_at: None,
            watched_since: now,
            due: None,
        }
    }

    pub(super) fn replace(&mut self, object: InferenceMonitor) {
        // The watch brings back what we or the leader wrote; our own newer write is repeated by it a moment later at worst.
        self.written = object.status.clone().unwrap_or_default();
        self.object = object;
    }

    pub(super) fn uid(&self) -> Option<String> {
        self.object.metadata.uid.clone()
    }
}

/// What a judgement led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// How much the new status differs from the written one.
    pub change: Change,
    /// Conditions that turned, compared with the written status.
    pub transitions: Vec<Transition>,
}
