//! Ready, EndpointsReachable, MetricsRecognized: is there data, and is it understood.

use super::{Finding, Input, Outcome, anchor, unknown};
use crate::totals::misread;
use crate::words::{clause, clause_or, count, listed, seconds, some_have};
use crate::{EndpointState, ResolvedEndpoint, Totals};
use infmon_crds::v1alpha1::{ConditionType, reason};
use infmon_samples::FailureKind;
use std::time::Duration;

/// Scrapes must fail for so long, and for two periods, before that is a finding: one lost scrape is none.
const FAILING_FOR: Duration = Duration::from_secs(3);

pub(super) fn ready(input: &Input<'_>, totals: &Totals<'_>, settling: bool) -> Finding {
    let finding = |outcome, reason, message: String| Finding {
        kind: ConditionType::Ready,
        outcome,
        reason,
        message,
    };
    let problems = listed(input.resolution.problems.iter().map(String::as_str), 3);
    let all = count(totals.endpoints.len(), "endpoint");
    if totals.enough() {
        return finding(Outcome::True, reason::MONITORING, monitoring(totals, &problems));
    }
    if settling {
        let mut message = format!("Waiting for the first samples: {} of {all} so far.", totals.fresh);
        if !problems.is_empty() {
            message.push_str(&format!(" Problems: {problems}."));
        }
        return finding(Outcome::Unknown, reason::WAITING_FOR_DATA, message);
    }
    if totals.endpoints.is_empty() {
        return if problems.is_empty() {
            let message = format!(
                "No pod matches the endpoints of the spec. Next: compare the selectors with kubectl get pods --show-labels. {}",
                anchor(reason::NO_ENDPOINTS)
            );
            finding(Outcome::False, reason::NO_ENDPOINTS, message)
        } else {
            let message = format!(
                "No endpoint can be monitored: {problems}. {}",
                anchor(reason::INVALID_SPEC)
            );
            finding(Outcome::False, reason::INVALID_SPEC, message)
        };
    }
    if totals.needed == 0 {
        let message = format!(
            "None of {all} takes requests: their pods are not Ready. {}",
            anchor(reason::NO_ENDPOINTS)
        );
        return finding(Outcome::False, reason::NO_ENDPOINTS, message);
    }
    let of_state = |wanted: fn(&EndpointState<'_>) -> bool| {
        let serving = totals.endpoints.iter().filter(|(endpoint, _)| endpoint.serving);
        serving.filter(|(_, state)| wanted(state)).count()
    };
    let no_daemon = of_state(|state| matches!(state, EndpointState::NoDaemon));
    if no_daemon > 0 && no_daemon * 2 >= totals.missing {
        let message = format!(
            "{} no node daemon: {}. Next: kubectl get pods -A -l app.kubernetes.io/component=node-daemon -o wide; a node that matches no node profile gets no daemon. {}",
            some_have(no_daemon, totals.needed),
            totals.lacking(),
            anchor(reason::NO_NODE_DAEMON)
        );
        return finding(Outcome::False, reason::NO_NODE_DAEMON, message);
    }
    if of_state(|state| matches!(state, EndpointState::Waiting)) == totals.missing {
        let message = format!("Waiting for the first samples: {}.", totals.lacking());
        return finding(Outcome::Unknown, reason::WAITING_FOR_DATA, message);
    }
    let message = format!(
        "{} no sample younger than {} s: {}. {}",
        some_have(totals.missing, totals.needed),
        input.spec.stale_after_seconds,
        totals.lacking(),
        anchor(reason::STALE_DATA)
    );
    finding(Outcome::False, reason::STALE_DATA, message)
}

fn monitoring(totals: &Totals<'_>, problems: &str) -> String {
    let mut message = format!(
        "Data is fresh from {} of {}.",
        totals.judged(),
        count(totals.needed, "endpoint")
    );
    if totals.missing > 0 {
        message.push_str(&format!(" Missing: {}.", totals.lacking()));
    }
    match totals.endpoints.len() - totals.needed {
        0 => {}
        1 => message.push_str(" 1 more takes no requests (its pod is not Ready)."),
        idle => message.push_str(&format!(" {idle} more take no requests (their pods are not Ready).")),
    }
    if !problems.is_empty() {
        message.push_str(&format!(" Problems: {problems}."));
    }
    message
}

pub(super) fn reachable(input: &Input<'_>, totals: &Totals<'_>, settling: bool) -> Finding {
    let kind = ConditionType::EndpointsReachable;
    let period = Duration::from_millis(u64::try_from(input.spec.sample_period_milliseconds).unwrap_or(1000));
    let failing_for = FAILING_FOR.max(period * 2);
    // The newest scrape counts here, not the age of the last sample: a server that stopped answering is a finding before its data
    // turns stale.
    let failing: Vec<(FailureKind, String)> = {
        let serving = totals.endpoints.iter().filter(|(endpoint, _)| endpoint.serving);
        let mut failing: Vec<_> = serving
            .filter_map(|(endpoint, state)| {
                let (failure, for_time) = match state {
                    EndpointState::Failing { failure, for_time } => (*failure, *for_time),
                    EndpointState::Fresh { target, .. } => {
                        let (since, failure) = target.failure.as_ref()?;
                        (failure, input.now.since(*since))
                    }
                    _ => return None,
                };
                (!failure.kind.is_recognition() && for_time >= failing_for).then(|| {
                    let message = clause_or(&failure.message, failure.kind.as_str());
                    (
                        failure.kind,
                        format!("{}: {message} (for {})", endpoint.name, seconds(for_time)),
                    )
                })
            })
            .collect();
        failing.sort();
        failing
    };
    if let Some((worst, _)) = failing.first() {
        let reason = reason_of(*worst);
        let some = failing.len();
        let message = format!(
            "{some} of {} {} no metrics. {}. {}",
            count(totals.needed, "endpoint"),
            if some == 1 { "gives" } else { "give" },
            listed(failing.iter().map(|(_, words)| words.as_str()), 2),
            anchor(reason)
        );
        return Finding {
            kind,
            outcome: Outcome::False,
            reason,
            message,
        };
    }
    let mut serving = totals.endpoints.iter().filter(|(endpoint, _)| endpoint.serving);
    if totals.needed > 0 && serving.all(|(_, state)| answers(state)) {
        return Finding {
            kind,
            outcome: Outcome::True,
            reason: reason::ALL_ENDPOINTS,
            message: match totals.needed {
                1 => "The endpoint answers.".into(),
                all => format!("All {all} endpoints answer."),
            },
        };
    }
    if totals.enough() {
        return Finding {
            kind,
            outcome: Outcome::Unknown,
            reason: reason::WAITING_FOR_DATA,
            message: format!(
                "{} not answered yet: {}.",
                some_have(totals.missing, totals.needed),
                totals.lacking()
            ),
        };
    }
    unknown(kind, totals, settling, "whether every endpoint answers")
}

fn answers(state: &EndpointState<'_>) -> bool {
    match state {
        EndpointState::Fresh { .. } | EndpointState::Misread { .. } => true,
        EndpointState::Failing { failure, .. } => failure.kind.is_recognition(),
        _ => false,
    }
}

pub(super) fn recognized(totals: &Totals<'_>, settling: bool) -> Finding {
    let kind = ConditionType::MetricsRecognized;
    let serving = || totals.endpoints.iter().filter(|(endpoint, _)| endpoint.serving);
    let faults: Vec<(&'static str, String)> = serving()
        .filter_map(|(endpoint, state)| not_recognized(endpoint, state))
        .collect();
    if let Some((reason, words)) = faults.first() {
        let more = match faults.len() - 1 {
            0 => String::new(),
            more => format!(" {more} more of {} likewise.", count(totals.needed, "endpoint")),
        };
        return Finding {
            kind,
            outcome: Outcome::False,
            reason,
            message: format!("{words}.{more} {}", anchor(reason)),
        };
    }
    if totals.judged() > 0 {
        let (engine, generation) = super::engines(totals);
        let names: Vec<String> = [engine, generation].into_iter().flatten().collect();
        return Finding {
            kind,
            outcome: Outcome::True,
            reason: reason::ALL_ENDPOINTS,
            message: format!(
                "{} recognised on {} of {}.{}",
                if names.is_empty() {
                    "All series".to_owned()
                } else {
                    clause(&names.join(" "))
                },
                totals.judged(),
                count(totals.needed, "endpoint"),
                limits(totals)
            ),
        };
    }
    unknown(kind, totals, settling, "which engine serves")
}

/// Sentences on what the servers can never tell, of servers that were understood, each once.
fn limits(totals: &Totals<'_>) -> String {
    let mut limits: Vec<String> = Vec::new();
    for (endpoint, state) in &totals.endpoints {
        if let EndpointState::Fresh { observation, .. } = state
            && endpoint.serving
        {
            let limit = clause(&observation.recognition.hint);
            if !limit.is_empty() && !limits.contains(&limit) && limits.len() < LIMITS_TOLD {
                limits.push(limit);
            }
        }
    }
    limits.iter().map(|limit| format!(" {limit}.")).collect()
}

/// Kinds of servers behind one monitor whose limits are told.
const LIMITS_TOLD: usize = 2;

/// Reason and words of what was not understood; `None` where all was, or where nothing was read.
fn not_recognized(endpoint: &ResolvedEndpoint, state: &EndpointState<'_>) -> Option<(&'static str, String)> {
    match state {
        EndpointState::Failing { failure, .. } if failure.kind.is_recognition() || asks_for_a_step(failure.kind) => {
            Some((
                reason_of(failure.kind),
                format!(
                    "{}: {}",
                    endpoint.name,
                    clause_or(&failure.message, failure.kind.as_str())
                ),
            ))
        }
        EndpointState::Misread { asked, found } => {
            let words = misread(*asked, *found);
            Some((reason::UNKNOWN_ENGINE, format!("{}: {words}", endpoint.name)))
        }
        EndpointState::Fresh { observation, .. } if !observation.recognition.missing.is_empty() => {
            let engine = observation.sample.engine.map_or("The server", |engine| engine.as_str());
            let missing = clause_or(&observation.recognition.missing.join(", "), "series that are needed");
            let next = match clause(&observation.recognition.hint) {
                hint if hint.is_empty() => String::new(),
                hint => format!(". Next: {hint}"),
            };
            Some((
                reason::SERIES_MISSING,
                format!("{engine} on {} serves no {missing}{next}", endpoint.name),
            ))
        }
        _ => None,
    }
}

/// The server answers, and says what its metrics need before anyone can read them: a flag, or credentials.
const fn asks_for_a_step(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::MetricsDisabled | FailureKind::Unauthorized)
}

fn reason_of(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Unreachable => reason::UNREACHABLE,
        FailureKind::Timeout => reason::TIMEOUT,
        FailureKind::Unauthorized => reason::UNAUTHORIZED,
        FailureKind::MetricsDisabled => reason::METRICS_DISABLED,
        FailureKind::Loading => reason::LOADING,
        FailureKind::HttpStatus => reason::HTTP_STATUS,
        FailureKind::BodyTooLarge => reason::BODY_TOO_LARGE,
        FailureKind::Malformed => reason::MALFORMED,
        FailureKind::UnknownEngine => reason::UNKNOWN_ENGINE,
    }
}
