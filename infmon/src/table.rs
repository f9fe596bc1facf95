//! The table that is shown while it runs, like `kubectl get inferencemonitors -w`. Pure: values in, text out.

use crate::findings::{Event, Turn};
use infmon_crds::v1alpha1::{InferenceMonitorStatus, Load, OomRisk};
use std::time::Duration;

/// Where the lines below a row begin.
const INDENT: usize = 10;
/// Widest of the findings that are common: `QueueDepthHigh`.
const FINDING_WIDTH: usize = 16;
/// Text is not wrapped narrower than this, whatever the terminal says.
const NARROWEST: usize = 60;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing to say.
    Plain,
    /// As it should be.
    Good,
    /// To be looked at.
    Warning,
    /// To be acted on.
    Bad,
    /// In the background.
    Dim,
    /// A heading.
    Strong,
}

/// How the table is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Width of the column of names.
    pub name_width: usize,
    /// Width of the terminal.
    pub width: usize,
    /// Colours are wanted.
    pub colour: bool,
    /// What is shown is a simulation.
    pub simulated: bool,
}

impl Table {
    /// Text in a tone, padded before it is coloured.
    #[must_use]
    pub fn paint(&self, text: &str, width: usize, tone: Tone) -> String {
        let padded = format!("{text:<width$}");
        let code = match tone {
            Tone::Plain => return padded,
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        if self.colour {
            format!("\u{1b}[{code}m{padded}\u{1b}[0m")
        } else {
            padded
        }
    }

    /// The line of column names.
    #[must_use]
    pub fn header(&self) -> String {
        let name = self.name_width;
        let simulated = if self.simulated { "  SIMULATED" } else { "" };
        let header = format!(
            "{:<8}  {:<name$}  {:<7}  {:<8}  {:<9}  {:<7}  {:<7}  {:<4}  {:<10}  {:<9}  {:<7}{simulated}",
            "TIME", "NAME", "READY", "ENGINE", "ENDPOINTS", "WAITING", "RUNNING", "KV", "LOAD", "THROTTLED", "OOMRISK"
        );
        self.paint(header.trim_end(), 0, Tone::Strong)
    }

    /// The row of a monitor. What nobody knows is blank or `Unknown`, never 0.
    #[must_use]
    pub fn row(&self, time: &str, name: &str, status: &InferenceMonitorStatus) -> String {
        let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
        let summary = status.summary.clone().unwrap_or_default();
        let ready = ready(status);
        let load = status.load.unwrap_or_default();
        let throttled = summary.throttled.unwrap_or_default();
        let cells = [
            self.paint(time, 8, Tone::Dim),
            self.paint(name, self.name_width, Tone::Plain),
            self.paint(ready, 7, if ready == "False" { Tone::Bad } else { Tone::Plain }),
            self.paint(&status.engine.clone().unwrap_or_default(), 8, Tone::Plain),
            self.paint(&summary.endpoints, 9, Tone::Plain),
            self.paint(&number(summary.waiting), 7, Tone::Plain),
            self.paint(&number(summary.running), 7, Tone::Plain),
            self.paint(&summary.kv_cache_usage.unwrap_or_default(), 4, Tone::Plain),
            self.paint(load.as_str(), 10, load_tone(load)),
            self.paint(
                &throttled,
                9,
                if summary.throttled_gpus > Some(0) {
                    Tone::Warning
                } else {
                    Tone::Plain
                },
            ),
            self.paint(summary.oom_risk.as_str(), 0, risk_tone(summary.oom_risk)),
        ];
        cells.join("  ").trim_end().to_owned()
    }

    /// The lines of a finding that came or went.
    #[must_use]
    pub fn turn(&self, turn: &Turn) -> Vec<String> {
        let finding = format!("{:<FINDING_WIDTH$}", turn.finding);
        let hanging = INDENT + 2 + finding.chars().count() + 2;
        let room = self.width.max(NARROWEST).saturating_sub(hanging).max(NARROWEST / 2);
        match &turn.event {
            Event::Cleared { after } => {
                let mark = self.paint(&format!("- {finding}"), 0, Tone::Good);
                vec![format!("{:INDENT$}{mark}  cleared after {}", "", span(*after))]
            }
            Event::Raised { evidence, next } => {
                let mark = self.paint(&format!("+ {finding}"), 0, Tone::Bad);
                let mut lines = Vec::new();
                for line in wrapped(evidence, room) {
                    let lead = if lines.is_empty() {
                        format!("{:INDENT$}{mark}  ", "")
                    } else {
                        " ".repeat(hanging)
                    };
                    lines.push(format!("{lead}{line}"));
                }
                let next = next.iter().flat_map(|next| wrapped(&format!("Next: {next}"), room));
                lines.extend(next.map(|line| format!("{:hanging$}{}", "", self.paint(&line, 0, Tone::Dim))));
                lines
            }
        }
    }
}

fn ready(status: &InferenceMonitorStatus) -> &str {
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    ready.map_or("Unknown", |condition| condition.status.as_str())
}

fn load_tone(load: Load) -> Tone {
    match load {
        Load::Healthy => Tone::Good,
        Load::Degraded => Tone::Warning,
        Load::Overloaded => Tone::Bad,
        Load::Idle => Tone::Plain,
        Load::Unknown => Tone::Dim,
    }
}

fn risk_tone(risk: OomRisk) -> Tone {
    match risk {
        OomRisk::High => Tone::Bad,
        OomRisk::Medium => Tone::Warning,
        OomRisk::Low => Tone::Plain,
        OomRisk::Unknown => Tone::Dim,
    }
}

/// Text in lines of at most `room` characters, broken at spaces.
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A time for people: `0.8 s`, `22 s`, `1 min 5 s`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0 => format!("{:.1} s", time.as_secs_f64()),
        1..60 => format!("{seconds} s"),
        60..3600 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests;
