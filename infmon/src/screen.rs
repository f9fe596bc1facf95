//! Decides when a row is worth showing: at the start, when a condition turned, when the load is another one, and now and then when
//! numbers moved. No clock and no output inside.

use crate::findings::{Event, Findings, Turn};
use crate::table::Table;
use infmon_crds::v1alpha1::{InferenceMonitorStatus, Load};
use infmon_evaluation::status::Change;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rows after which the column names are repeated.
const LINES_PER_HEADER: usize = 40;
/// Time between two rows of a monitor: when a condition turned, when its load did, when numbers moved.
const AFTER_TURN: Duration = Duration::from_secs(1);
const AFTER_LOAD: Duration = Duration::from_secs(2);
const AFTER_NUMBERS: Duration = Duration::from_secs(8);
/// Evidence that one monitor has just shown is not shown again for the next one: they share the GPU.
const SAME_EVIDENCE: Duration = Duration::from_secs(3);
/// The first row waits for the first data of servers and GPUs, but not for ever.
const FIRST_GPU_DATA: Duration = Duration::from_millis(2_200);
const FIRST_DATA: Duration = Duration::from_secs(4);

/// The rows shown so far, and what is to be shown.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) table: Table,
    monitors: BTreeMap<String, Shown>,
    /// Lines until the next header; 0 prints one.
    until_header: usize,
    /// The evidence shown last, of which monitor, and when.
    evidence: Option<(String, String, Duration)>,
}

#[derive(Debug, Default)]
struct Shown {
    status: InferenceMonitorStatus,
    findings: Findings,
    first_seen: Duration,
    row: Option<Duration>,
    load: Option<Load>,
    moved: bool,
    turns: Vec<Turn>,
}

impl Shown {
    fn is_due(&self, now: Duration) -> bool {
        let Some(row) = self.row else {
            let waited = now.saturating_sub(self.first_seen);
            let summary = self.status.summary.clone().unwrap_or_default();
            return waited >= FIRST_DATA
                || !self.turns.is_empty()
                || (summary.waiting.is_some() && (summary.throttled.is_some() || waited >= FIRST_GPU_DATA));
        };
        let since = now.saturating_sub(row);
        (!self.turns.is_empty() && since >= AFTER_TURN)
            || (self.status.load != self.load && since >= AFTER_LOAD)
            || (self.moved && since >= AFTER_NUMBERS)
    }
}

impl Screen {
    pub(crate) fn new(table: Table) -> Self {
        Self {
            table,
            monitors: BTreeMap::new(),
            until_header: 0,
            evidence: None,
        }
    }

    /// Takes in the newest status of a monitor.
    pub(crate) fn see(&mut self, name: String, status: InferenceMonitorStatus, change: Change, now: Duration) {
        if name.chars().count() > self.table.name_width {
            self.table.name_width = name.chars().count();
            self.until_header = 0;
        }
        let shown = self.monitors.entry(name).or_insert_with(|| Shown {
            first_seen: now,
            ..Shown::default()
        });
        shown.turns.extend(shown.findings.update(&status, now));
        shown.moved |= change > Change::None;
        shown.status = status;
    }

    /// Lines to show now; `time` is what the clock on the wall says.
    pub(crate) fn lines(&mut self, now: Duration, time: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, shown) in &mut self.monitors {
            if !shown.is_due(now) {
                continue;
            }
            if self.until_header == 0 {
                lines.push(self.table.header());
                self.until_header = LINES_PER_HEADER;
            }
            let mut block = vec![self.table.row(time, name, &shown.status)];
            for mut turn in std::mem::take(&mut shown.turns) {
                refer(&mut turn, name, &mut self.evidence, now);
                block.extend(self.table.turn(&turn));
            }
            self.until_header = self.until_header.saturating_sub(block.len());
            lines.extend(block);
            shown.row = Some(now);
            shown.load = shown.status.load;
            shown.moved = false;
        }
        lines
    }

    /// Everything that turned, by monitor.
    pub(crate) fn into_findings(self) -> (Table, BTreeMap<String, Findings>) {
        let findings = self
            .monitors
            .into_iter()
            .map(|(name, shown)| (name, shown.findings))
            .collect();
        (self.table, findings)
    }
}

/// Replaces evidence that was just shown by a reference to it.
fn refer(turn: &mut Turn, name: &str, shown: &mut Option<(String, String, Duration)>, now: Duration) {
    let Event::Raised { evidence, next } = &mut turn.event else {
        return;
    };
    match shown {
        Some((text, of, at)) if text == evidence && now.saturating_sub(*at) <= SAME_EVIDENCE => {
            *evidence = format!("the same as for {of}, above");
            *next = None;
        }
        _ => *shown = Some((evidence.clone(), name.to_owned(), now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_crds::v1alpha1::Summary;

    fn status(waiting: i64, load: Load) -> InferenceMonitorStatus {
        let summary = Summary {
            waiting: Some(waiting),
            throttled: Some("0/1".into()),
            ..Summary::default()
        };
        InferenceMonitorStatus {
            load: Some(load),
            summary: Some(summary),
            ..InferenceMonitorStatus::default()
        }
    }

    #[test]
    fn rows_come_when_something_is_worth_it() {
        let table = Table {
            name_width: 4,
            width: 100,
            colour: false,
            simulated: false,
        };
        let mut screen = Screen::new(table);
        let mut rows = Vec::new();
        for tick in 0..30_u64 {
            let now = Duration::from_millis(tick * 500);
            let (waiting, load) = match tick {
                0..8 => (0, Load::Healthy),
                8..9 => (1, Load::Degraded),
                _ => (i64::try_from(tick).unwrap(), Load::Degraded),
            };
            let change = if tick >= 8 { Change::Summary } else { Change::None };
            screen.see("chat".into(), status(waiting, load), change, now);
            if !screen.lines(now, "18:02:11").is_empty() {
                rows.push(tick);
            }
        }
        assert_eq!(
            rows,
            [0, 8, 24],
            "the first, the load, and every eight seconds while numbers move"
        );
    }

    #[test]
    fn the_same_evidence_is_told_once() {
        let raised = |next: Option<&str>| Turn {
            finding: "Throttled".into(),
            event: Event::Raised {
                evidence: "GPU 1 lost clocks".into(),
                next: next.map(Into::into),
            },
        };
        let mut shown = None;
        let mut turns = Vec::new();
        for (name, second) in [("assistant", 1), ("chat", 2), ("chat", 60)] {
            let mut turn = raised(Some("check the fans"));
            refer(&mut turn, name, &mut shown, Duration::from_secs(second));
            turns.push(turn);
        }
        let mut reference = raised(None);
        reference.event = Event::Raised {
            evidence: "the same as for assistant, above".into(),
            next: None,
        };
        assert_eq!(
            turns,
            [
                raised(Some("check the fans")),
                reference,
                raised(Some("check the fans"))
            ]
        );
    }

    #[test]
    fn the_first_row_waits_for_data() {
        let table = Table {
            name_width: 4,
            width: 100,
            colour: false,
            simulated: false,
        };
        let mut screen = Screen::new(table);
        screen.see(
            "chat".into(),
            InferenceMonitorStatus::default(),
            Change::Summary,
            Duration::ZERO,
        );
        assert!(screen.lines(Duration::from_secs(1), "18:02:11").is_empty());
        let lines = screen.lines(Duration::from_secs(4), "18:02:14");
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
}
