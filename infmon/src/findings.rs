//! What turned: the findings that appear and go between two statuses, and how long each stood. Pure.

use infmon_crds::v1alpha1::{ConditionType, InferenceMonitorStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::BTreeMap;
use std::time::Duration;

/// Words at the end of a message that lead to the documentation; the terminal has no links.
const ANCHOR: &str = "docs/conditions.md#";
/// What a message says next.
const NEXT: &str = "Next: ";
/// Sentences of messages that say nothing on one machine, by their beginnings.
const OF_A_CLUSTER: [&str; 2] = ["On that node: ", "It serves pod "];

/// A condition that stands at its bad side.
#[derive(Clone, Debug, PartialEq)]
struct Standing {
    since: Duration,
    severity: f64,
    worst: String,
}

/// A finding that came or went.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// `QueueDepthHigh`, or `EndpointsReachable=False` where True is the good side.
    pub finding: String,
    /// What happened.
    pub event: Event,
}

/// What happened to a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It appeared, with this evidence and this next step.
    Raised {
        /// The numbers.
        evidence: String,
        /// What to do.
        next: Option<String>,
    },
    /// It went.
    Cleared {
        /// How long it stood.
        after: Duration,
    },
}

/// One finding over the whole session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// How often it appeared.
    pub times: u32,
    /// How long it stood in all, without what stands still.
    pub stood: Duration,
    /// Evidence at its worst.
    pub worst: String,
    severity: f64,
}

/// Findings of one monitor: those that stand and those that stood.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    standing: BTreeMap<String, Standing>,
    past: BTreeMap<String, History>,
}

impl Findings {
    /// Takes in a newer status; `now` counts from the start of the session.
    pub fn update(&mut self, status: &InferenceMonitorStatus, now: Duration) -> Vec<Turn> {
        let mut turns = Vec::new();
        for condition in &status.conditions {
            let (bad, finding) = side(condition);
            let severity = severity(&condition.type_, status);
            match (bad, self.standing.get_mut(&finding)) {
                // Unknown is neither side: a finding goes on until its good side is known.
                (None, _) | (Some(false), None) => {}
                (Some(true), Some(standing)) => {
                    if severity > standing.severity {
                        standing.severity = severity;
                        standing.worst = evidence(&condition.message);
                    }
                }
                (Some(true), None) => {
                    let evidence = evidence(&condition.message);
                    let standing = Standing {
                        since: now,
                        severity,
                        worst: evidence.clone(),
                    };
                    self.standing.insert(finding.clone(), standing);
                    turns.push(Turn {
                        finding,
                        event: Event::Raised {
                            evidence,
                            next: next_step(&condition.message),
                        },
                    });
                }
                (Some(false), Some(_)) => {
                    if let Some(standing) = self.standing.remove(&finding) {
                        let after = now.saturating_sub(standing.since);
                        self.remember(&finding, standing, now);
                        turns.push(Turn {
                            finding,
                            event: Event::Cleared { after },
                        });
                    }
                }
            }
        }
        turns
    }

    /// What appeared so far, by finding; with whether it still stands.
    #[must_use]
    pub fn history(&self, now: Duration) -> BTreeMap<String, (History, bool)> {
        let mut all = self.clone();
        for (finding, standing) in &self.standing {
            all.remember(finding, standing.clone(), now);
        }
        all.past
            .into_iter()
            .map(|(finding, history)| {
                let stands = self.standing.contains_key(&finding);
                (finding, (history, stands))
            })
            .collect()
    }

    fn remember(&mut self, finding: &str, standing: Standing, now: Duration) {
        let history = self.past.entry(finding.to_owned()).or_default();
        history.times += 1;
        history.stood += now.saturating_sub(standing.since);
        if history.worst.is_empty() || standing.severity > history.severity {
            history.severity = standing.severity;
            history.worst = standing.worst;
        }
    }
}

/// Whether a condition is at its bad side (`None`: not known), and what the bad side is called.
fn side(condition: &Condition) -> (Option<bool>, String) {
    let kind = ConditionType::ALL
        .into_iter()
        .find(|kind| kind.as_str() == condition.type_);
    let true_is_good = kind.is_some_and(ConditionType::true_is_good);
    let finding = if true_is_good {
        format!("{}=False", condition.type_)
    } else {
        condition.type_.clone()
    };
    let bad = match condition.status.as_str() {
        "True" => Some(!true_is_good),
        "False" => Some(true_is_good),
        _ => None,
    };
    (bad, finding)
}

/// A number that is greater the worse a finding is.
fn severity(kind: &str, status: &InferenceMonitorStatus) -> f64 {
    let summary = status.summary.as_ref();
    match kind {
        "QueueDepthHigh" => summary.and_then(|summary| summary.waiting).unwrap_or(0) as f64,
        "OOMRisk" => summary
            .and_then(|summary| leading_percent(summary.kv_cache_usage.as_deref()?))
            .unwrap_or(0.0),
        "Throttled" => status
            .gpus
            .iter()
            .filter_map(|gpu| leading_percent(gpu.throttled.as_deref()?))
            .fold(0.0, f64::max),
        _ => 0.0,
    }
}

/// The number before the percent sign: `HardwareThermal 38%` gives 38.
fn leading_percent(text: &str) -> Option<f64> {
    text.strip_suffix('%')?.rsplit(' ').next()?.parse().ok()
}

/// The part of a message that says what is.
#[must_use]
pub fn evidence(message: &str) -> String {
    let message = message.split(ANCHOR).next().unwrap_or_default();
    let before = message.split(NEXT).next().unwrap_or_default();
    let kept: Vec<&str> = sentences(before)
        .into_iter()
        .filter(|text| !OF_A_CLUSTER.iter().any(|start| text.starts_with(start)))
        .collect();
    kept.join(" ").trim_end_matches(['.', ' ']).to_owned()
}

/// The part of a message that says what to do.
#[must_use]
pub fn next_step(message: &str) -> Option<String> {
    let message = message.split(ANCHOR).next().unwrap_or_default();
    let (_, next) = message.split_once(NEXT)?;
    Some(next.trim().trim_end_matches('.').to_owned())
}

/// Sentences end with a period, a space and a capital letter.
fn sentences(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(". ") {
        if text[at + 2..].starts_with(|letter: char| letter.is_uppercase()) {
            parts.push(&text[start..=at]);
            start = at + 2;
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_crds::v1alpha1::Summary;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn status(conditions: &[(&str, &str, &str)], waiting: i64) -> InferenceMonitorStatus {
        let conditions = conditions
            .iter()
            .map(|(kind, status, message)| Condition {
                type_: (*kind).into(),
                status: (*status).into(),
                reason: "Reason".into(),
                message: (*message).into(),
                observed_generation: None,
                last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            })
            .collect();
        let summary = Some(Summary {
            waiting: Some(waiting),
            ..Summary::default()
        });
        InferenceMonitorStatus {
            conditions,
            summary,
            ..InferenceMonitorStatus::default()
        }
    }

    const QUEUE: &str = "QueueDepthHigh";

    #[test]
    fn a_finding_comes_and_goes() {
        let mut findings = Findings::default();
        let second = Duration::from_secs;
        assert_eq!(findings.update(&status(&[(QUEUE, "Unknown", "")], 0), second(0)), []);
        assert_eq!(
            findings.update(&status(&[(QUEUE, "False", "0 wait.")], 0), second(1)),
            []
        );
        let raised = findings.update(
            &status(
                &[(QUEUE, "True", "12 wait. Next: add replicas. docs/conditions.md#x")],
                12,
            ),
            second(2),
        );
        let event = Event::Raised {
            evidence: "12 wait".into(),
            next: Some("add replicas".into()),
        };
        assert_eq!(
            raised,
            [Turn {
                finding: QUEUE.into(),
                event
            }]
        );
        assert_eq!(
            findings.update(&status(&[(QUEUE, "True", "40 wait.")], 40), second(3)),
            []
        );
        assert_eq!(findings.update(&status(&[(QUEUE, "Unknown", "?")], 0), second(4)), []);
        assert_eq!(
            findings.update(&status(&[(QUEUE, "True", "9 wait.")], 9), second(5)),
            []
        );
        let cleared = findings.update(&status(&[(QUEUE, "False", "0 wait.")], 0), second(24));
        assert_eq!(
            cleared,
            [Turn {
                finding: QUEUE.into(),
                event: Event::Cleared { after: second(22) }
            }]
        );
        findings.update(&status(&[(QUEUE, "True", "20 wait.")], 20), second(30));
        let (history, stands) = findings.history(second(33)).remove(QUEUE).unwrap();
        assert_eq!(
            (history.times, history.stood, history.worst.as_str(), stands),
            (2, second(25), "40 wait", true)
        );
    }

    #[test]
    fn the_bad_side_of_a_good_condition_is_false() {
        let mut findings = Findings::default();
        let turns = findings.update(
            &status(&[("EndpointsReachable", "False", "no answer.")], 0),
            Duration::ZERO,
        );
        assert_eq!(turns[0].finding, "EndpointsReachable=False");
        assert_eq!(
            findings
                .update(
                    &status(&[("EndpointsReachable", "True", "")], 0),
                    Duration::from_secs(4)
                )
                .len(),
            1
        );
    }

    #[test]
    fn messages_are_taken_apart() {
        for (message, is, next) in [
            (
                "GPU 1 (GPU-5d7a1f00) on node gpu-a7 lost clocks to heat (hardware) for 38.1% of the last 5 s (threshold 1%): 89 C, margin -2 C. On that node: pod 127.0.0.1:8000 (the cluster does not tell which pod has which GPU). Next: check airflow and fans of gpu-a7. docs/conditions.md#hardwarethermal",
                "GPU 1 (GPU-5d7a1f00) on node gpu-a7 lost clocks to heat (hardware) for 38.1% of the last 5 s (threshold 1%): 89 C, margin -2 C",
                Some("check airflow and fans of gpu-a7"),
            ),
            (
                "1 of 2 endpoints do not answer. 127.0.0.1:8080: connection refused (for 3 s). docs/conditions.md#unreachable",
                "1 of 2 endpoints do not answer. 127.0.0.1:8080: connection refused (for 3 s)",
                None,
            ),
            ("", "", None),
        ] {
            assert_eq!(evidence(message), is);
            assert_eq!(next_step(message).as_deref(), next);
        }
    }
}
