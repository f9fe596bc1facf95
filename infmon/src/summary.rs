//! The last words of a session: what turned, how often, for how long, and how bad it was. Pure.

use crate::findings::Findings;
use crate::table::{Table, Tone, span, wrapped};
use std::collections::BTreeMap;
use std::time::Duration;

/// Samples taken in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Metrics bodies read.
    pub bodies: u64,
    /// Servers that gave them.
    pub servers: usize,
    /// Samples of a GPU.
    pub gpu: u64,
    /// GPUs that gave them.
    pub gpus: usize,
}

impl Samples {
    fn words(&self) -> String {
        let mut words = format!(
            "{} of {}",
            count(self.bodies, "sample"),
            count(self.servers as u64, "server")
        );
        if self.gpu > 0 {
            words.push_str(&format!(
                ", {} of {}",
                count(self.gpu, "sample"),
                count(self.gpus as u64, "GPU")
            ));
        }
        words
    }
}

/// The summary: a heading, and per monitor each finding that appeared.
#[must_use]
pub fn summary(table: &Table, time: Duration, samples: Samples, monitors: &BTreeMap<String, Findings>) -> Vec<String> {
    let simulated = if table.simulated { "   SIMULATED" } else { "" };
    let heading = format!("SUMMARY of {}: {}{simulated}", span(time), samples.words());
    let mut lines = vec![String::new(), table.paint(&heading, 0, Tone::Strong)];
    let names = monitors
        .keys()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .max("MONITOR".len());
    let histories: Vec<_> = monitors
        .iter()
        .map(|(name, findings)| (name, findings.history(time)))
        .collect();
    let finding_width = histories
        .iter()
        .flat_map(|(_, history)| history.keys().map(|finding| finding.chars().count()))
        .max()
        .unwrap_or(0)
        .max("CONDITION".len());
    if histories.iter().any(|(_, history)| !history.is_empty()) {
        let header = format!(
            "{:<names$}  {:<finding_width$}  {:<5}  {:<10}  WORST",
            "MONITOR", "CONDITION", "TIMES", "STOOD"
        );
        lines.push(table.paint(&header, 0, Tone::Strong));
    }
    for (name, history) in histories {
        if history.is_empty() {
            lines.push(format!("{name:<names$}  nothing turned"));
        }
        for (finding, (past, stands)) in history {
            // What still stands is not over: its time is a lower bound.
            let stood = format!("{}{}", if stands { "> " } else { "" }, span(past.stood));
            let lead = format!(
                "{name:<names$}  {finding:<finding_width$}  {:<5}  {stood:<10}  ",
                past.times
            );
            let room = table.width.saturating_sub(lead.chars().count()).max(30);
            for (index, line) in wrapped(&past.worst, room).into_iter().enumerate() {
                let lead = if index == 0 {
                    lead.clone()
                } else {
                    " ".repeat(lead.chars().count())
                };
                lines.push(format!("{lead}{line}").trim_end().to_owned());
            }
        }
    }
    lines
}

/// `1 sample`, `3 samples`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_crds::v1alpha1::InferenceMonitorStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    fn status(queue: &str, message: &str) -> InferenceMonitorStatus {
        let condition = Condition {
            type_: "QueueDepthHigh".into(),
            status: queue.into(),
            reason: String::new(),
            message: message.into(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        };
        InferenceMonitorStatus {
            conditions: vec![condition],
            ..InferenceMonitorStatus::default()
        }
    }

    #[test]
    fn tells_what_turned() {
        let second = Duration::from_secs;
        let mut chat = Findings::default();
        chat.update(&status("True", "31 requests wait. Next: add replicas."), second(10));
        chat.update(&status("False", "0 requests wait."), second(32));
        let mut llama = Findings::default();
        llama.update(
            &status("True", "7 requests wait, 7.0 per endpoint (threshold 5 for 2 s)."),
            second(50),
        );
        let monitors = BTreeMap::from([
            ("assistant".to_owned(), Findings::default()),
            ("chat".to_owned(), chat),
            ("llama".to_owned(), llama),
        ]);
        let samples = Samples {
            bodies: 174,
            servers: 3,
            gpu: 1,
            gpus: 1,
        };
        let table = Table {
            name_width: 9,
            width: 90,
            colour: false,
            simulated: true,
        };
        let expected = "
SUMMARY of 1 min: 174 samples of 3 servers, 1 sample of 1 GPU   SIMULATED
MONITOR    CONDITION       TIMES  STOOD       WORST
assistant  nothing turned
chat       QueueDepthHigh  1      22 s        31 requests wait
llama      QueueDepthHigh  1      > 10 s      7 requests wait, 7.0 per endpoint (threshold
                                              5 for 2 s)";
        assert_eq!(summary(&table, second(60), samples, &monitors).join("\n"), expected);
    }

    #[test]
    fn a_quiet_session_is_short() {
        let monitors = BTreeMap::from([("chat".to_owned(), Findings::default())]);
        let samples = Samples {
            bodies: 5,
            servers: 1,
            ..Samples::default()
        };
        let table = Table {
            name_width: 9,
            width: 90,
            colour: false,
            simulated: false,
        };
        let text = summary(&table, Duration::from_secs(5), samples, &monitors).join("\n");
        assert_eq!(text, "\nSUMMARY of 5 s: 5 samples of 1 server\nchat     nothing turned");
    }
}
