//! Ready, EndpointsReachable, MetricsRecognized: is there data, and is it understood.

use super::{Finding, Input, Outcome, anchor, unknown};
use crate::totals::seconds;
use crate::{EndpointState, Totals};
use infmon_crds::v1alpha1::{ConditionType, reason};
use infmon_samples::FailureKind;

pub(super) fn ready(input: &Input<'_>, totals: &Totals<'_>, settling: bool) -> Finding {
    let kind = ConditionType::Ready;
    let finding = |outcome, reason, message| Finding {
        kind,
        outcome,
        reason,
        message,
    };
    let problems = &input.resolution.problems;
    let all = totals.endpoints.len();
    if all == 0 {
        if !problems.is_empty() {
            let message = format!("{}. {}", problems.join("; "), anchor(reason::INVALID_SPEC));
            return finding(Outcome::False, reason::INVALID_SPEC, message);
        }
        let message = format!(
            "No pod matches the endpoints of the spec: compare the selectors with kubectl get pods --show-labels. {}",
            anchor(reason::NO_ENDPOINTS)
        );
        return finding(Outcome::False, reason::NO_ENDPOINTS, message);
    }
    let enough = totals.enough();
    if enough {
        let mut message = format!("Data is fresh from {} of {all} endpoints.", totals.fresh);
        if totals.missing > 0 {
            message.push_str(&format!(" Missing: {}.", totals.lacking()));
        }
        if !problems.is_empty() {
            message.push_str(&format!(" {}.", problems.join("; ")));
        }
        return finding(Outcome::True, reason::MONITORING, message);
    }
    if totals.needed == 0 {
        let message = format!("None of {all} endpoints takes requests yet (their pods are not Ready).");
        return finding(Outcome::False, reason::NO_ENDPOINTS, message);
    }
    let no_daemon = totals
        .endpoints
        .iter()
        .filter(|(_, state)| matches!(state, EndpointState::NoDaemon))
        .count();
    let waiting = totals
        .endpoints
        .iter()
        .filter(|(_, state)| matches!(state, EndpointState::Waiting))
        .count();
    if settling {
        let message = format!(
            "Waiting for the first samples: {} of {all} endpoints so far.",
            totals.fresh
        );
        return finding(Outcome::Unknown, reason::WAITING_FOR_DATA, message);
    }
    if no_daemon > 0 && no_daemon * 2 >= totals.missing {
        let message = format!(
            "No node daemon is connected for {no_daemon} of {} endpoints: {}. Next: kubectl get pods -l app.kubernetes.io/component=node-daemon -A -o wide; a node that matches no node profile gets no daemon. {}",
            totals.needed,
            totals.lacking(),
            anchor(reason::NO_NODE_DAEMON)
        );
        return finding(Outcome::False, reason::NO_NODE_DAEMON, message);
    }
    if waiting == totals.missing {
        let message = format!("Waiting for the first samples: {}.", totals.lacking());
        return finding(Outcome::Unknown, reason::WAITING_FOR_DATA, message);
    }
    let message = format!(
        "{} of {} endpoints have no sample younger than {} s: {}. {}",
        totals.missing,
        totals.needed,
        input.spec.stale_after_seconds,
        totals.lacking(),
        anchor(reason::STALE_DATA)
    );
    finding(Outcome::False, reason::STALE_DATA, message)
}

pub(super) fn reachable(totals: &Totals<'_>, settling: bool) -> Finding {
    let kind = ConditionType::EndpointsReachable;
    // The newest scrape counts here, not the age of the last sample: a server that stopped answering is a finding before its data
    // turns stale.
    let mut failing: Vec<(FailureKind, String)> = totals
        .endpoints
        .iter()
        .filter(|(endpoint, _)| endpoint.serving)
        .filter_map(|(endpoint, state)| {
            let (failure, text) = match state {
                EndpointState::Failing { failure, for_time } => (*failure, seconds(*for_time)),
                EndpointState::Fresh { target, .. } => {
                    let (_, failure) = target.failure.as_ref()?;
                    // One lost scrape is no finding; what fails for less than two periods may be one.
                    if failure.since.as_secs() < 3 {
                        return None;
                    }
                    (failure, seconds(failure.since))
                }
                _ => return None,
            };
            (!failure.kind.is_recognition()).then(|| {
                (
                    failure.kind,
                    format!("{}: {} (for {text})", endpoint.name, failure.message),
                )
            })
        })
        .collect();
    failing.sort();
    if let Some((worst, first)) = failing.first() {
        let reason = reason_of(*worst);
        let more = if failing.len() > 1 {
            format!(" And {} more.", failing.len() - 1)
        } else {
            String::new()
        };
        return Finding {
            kind,
            outcome: Outcome::False,
            reason,
            message: format!(
                "{} of {} endpoints do not answer. {first}.{more} {}",
                failing.len(),
                totals.needed,
                anchor(reason)
            ),
        };
    }
    let answering = totals.endpoints.iter().filter(|(_, state)| answers(state)).count();
    if totals.needed > 0 && answering >= totals.needed {
        return Finding {
            kind,
            outcome: Outcome::True,
            reason: reason::ALL_ENDPOINTS,
            message: format!("All {answering} endpoints answer."),
        };
    }
    unknown(kind, totals, settling, "whether every endpoint answers")
}

fn answers(state: &EndpointState<'_>) -> bool {
    match state {
        EndpointState::Fresh { .. } => true,
        EndpointState::Failing { failure, .. } => failure.kind.is_recognition(),
        _ => false,
    }
}

pub(super) fn recognized(totals: &Totals<'_>, settling: bool) -> Finding {
    let kind = ConditionType::MetricsRecognized;
    let mut recognised = 0;
    for (endpoint, state) in &totals.endpoints {
        let (reason, message) = match state {
            EndpointState::Failing { failure, .. } if failure.kind.is_recognition() => (
                reason_of(failure.kind),
                format!("{}: {}", endpoint.name, failure.message),
            ),
            EndpointState::Fresh { observation, .. } if !observation.recognition.missing.is_empty() => {
                let engine = observation.sample.engine.map_or("The server", |engine| engine.as_str());
                let hint = &observation.recognition.hint;
                let next = if hint.is_empty() {
                    String::new()
                } else {
                    format!(" Next: {hint}.")
                };
                let message = format!(
                    "{engine} on {} serves no {}.{next}",
                    endpoint.name,
                    observation.recognition.missing.join(", ")
                );
                (reason::SERIES_MISSING, message)
            }
            EndpointState::Fresh { .. } => {
                recognised += 1;
                continue;
            }
            _ => continue,
        };
        return Finding {
            kind,
            outcome: Outcome::False,
            reason,
            message: format!("{message} {}", anchor(reason)),
        };
    }
    if recognised > 0 && recognised == totals.fresh {
        let (engine, generation) = super::engines(totals);
        return Finding {
            kind,
            outcome: Outcome::True,
            reason: reason::ALL_ENDPOINTS,
            message: format!(
                "{} {} recognised on {recognised} endpoints.",
                engine.unwrap_or_default(),
                generation.unwrap_or_default()
            ),
        };
    }
    unknown(kind, totals, settling, "which engine serves")
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
