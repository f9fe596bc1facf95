//! LatencyHigh: quantiles of the latencies that the spec has a threshold for.

use super::{Finding, Input, Outcome, anchor, clears, seconds_of, unknown};
use crate::mapping::unmapped;
use crate::traffic::{ENOUGH, LATENCY_WINDOW, Service, share};
use crate::words::{count, listed, seconds};
use crate::{Estimate, Hold, LatencyKind, Moment, Totals};
use infmon_crds::v1alpha1::{ConditionType, InferenceMonitorStatus, Quantile, SampleField, Thresholds, reason};
use std::time::Duration;

/// A window that covers so much and has no request in it makes a service one that is not used.
const SILENT_FOR: Duration = LATENCY_WINDOW.saturating_sub(Duration::from_secs(10));

/// Memory of one latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    hold: Hold,
    /// There were enough requests once, and some ever since: a service around the bound must not turn the condition each minute.
    judged: bool,
}

/// Memory of all latencies, in the order of [`LatencyKind::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memories([Memory; 4]);

impl Memories {
    /// As the status written before a restart tells it.
    pub(super) fn from_status(status: &InferenceMonitorStatus) -> Self {
        let kind = ConditionType::LatencyHigh.as_str();
        let condition = status.conditions.iter().find(|condition| condition.type_ == kind);
        let judged = condition.is_some_and(|condition| condition.status != "Unknown");
        let high = condition.filter(|condition| condition.status == "True");
        Self(LatencyKind::ALL.map(|kind| Memory {
            hold: Hold::standing(high.is_some_and(|condition| condition.reason == reason_of(kind))),
            judged,
        }))
    }

    /// When a hold ends if nothing changes.
    pub(super) fn due(self, thresholds: &Thresholds) -> Option<Moment> {
        let holds = LatencyKind::ALL.into_iter().zip(self.0);
        holds
            .filter_map(|(kind, memory)| memory.hold.due(bound(thresholds, kind)?.hold_for))
            .min()
    }
}

/// A threshold that is on.
#[derive(Clone, Copy)]
struct Bound {
    quantile: Quantile,
    above: Duration,
    hold_for: Duration,
}

impl Bound {
    fn is_exceeded(self, value: Estimate) -> bool {
        let above = self.above.as_secs_f64();
        match value {
            Estimate::About(seconds) => seconds > above,
            Estimate::MoreThan(seconds) => seconds >= above,
        }
    }
}

fn bound(thresholds: &Thresholds, kind: LatencyKind) -> Option<Bound> {
    let given = |threshold: &infmon_crds::v1alpha1::LatencyThreshold| {
        (threshold.quantile, threshold.above, threshold.for_seconds)
    };
    let (quantile, above, for_seconds) = match kind {
        LatencyKind::TimeToFirstToken => {
            let threshold = &thresholds.time_to_first_token_milliseconds;
            (threshold.quantile, threshold.above, threshold.for_seconds)
        }
        LatencyKind::InterToken => thresholds.inter_token_milliseconds.as_ref().map(given)?,
        LatencyKind::EndToEnd => thresholds.end_to_end_milliseconds.as_ref().map(given)?,
        LatencyKind::QueueTime => thresholds.queue_time_milliseconds.as_ref().map(given)?,
    };
    let above = u64::try_from(above).ok().filter(|above| *above > 0)?;
    Some(Bound {
        quantile,
        above: Duration::from_millis(above),
        hold_for: seconds_of(for_seconds),
    })
}

/// What is known of a latency that has a threshold.
enum Known {
    /// Its quantile, and the rest of the evidence.
    Value(Estimate, Evidence),
    /// So many observations in so long, which is too few.
    TooFew(u64, Duration),
    /// No endpoint with fresh data publishes it in a way that can be compared.
    NotPublished,
    /// The servers have bounds that have nothing in common.
    NotComparable,
    /// It is more than so many seconds, where the histogram ends, which is below the threshold.
    Open(f64),
    /// There is no fresh data.
    Stale,
}

/// What a message says beside the value.
struct Evidence {
    observations: u64,
    window: Duration,
    worst: Option<(String, Estimate)>,
    silent: Option<String>,
}

struct Judged {
    kind: LatencyKind,
    /// What to do where `spec.custom` names no series for it.
    unmapped: Option<String>,
    bound: Bound,
    known: Known,
    hold: Hold,
}

pub(super) fn judge(input: &Input<'_>, totals: &Totals<'_>, memories: Memories, settling: bool) -> (Finding, Memories) {
    let mut next = Memories::default();
    let mut all = Vec::new();
    for ((kind, before), after) in LatencyKind::ALL.into_iter().zip(memories.0).zip(&mut next.0) {
        let Some(bound) = bound(&input.spec.thresholds, kind) else {
            continue;
        };
        let known = if totals.enough() {
            known(totals, kind, bound, before.judged)
        } else {
            Known::Stale
        };
        let beyond = match &known {
            Known::Value(value, _) => Some(bound.is_exceeded(*value)),
            _ => None,
        };
        after.hold = before.hold.update(beyond, input.now, bound.hold_for);
        after.judged = match known {
            Known::Value(..) | Known::Open(_) => true,
            Known::TooFew(0, window) if window >= SILENT_FOR => false,
            _ => before.judged,
        };
        all.push(Judged {
            kind,
            unmapped: unmapped(input.spec, fields(kind)),
            bound,
            known,
            hold: after.hold,
        });
    }
    (finding(totals, &all, settling), next)
}

fn known(totals: &Totals<'_>, kind: LatencyKind, bound: Bound, judged: bool) -> Known {
    let service = Service::of(totals, kind);
    if service.parts.is_empty() {
        return Known::NotPublished;
    }
    let all = service.distribution();
    let observations = all.count();
    if observations < if judged { 1 } else { ENOUGH } {
        return Known::TooFew(observations, service.window());
    }
    let value = match all.quantile(share(bound.quantile)) {
        None => return Known::NotComparable,
        Some(Estimate::MoreThan(end)) if end < bound.above.as_secs_f64() => return Known::Open(end),
        Some(value) => value,
    };
    let worst = service.worst(bound.quantile).filter(|_| totals.judged() > 1);
    let silent = format!("{} of {}", service.parts.len(), count(totals.needed, "endpoint"));
    let evidence = Evidence {
        observations,
        window: service.window(),
        worst: worst.map(|(name, value)| (name.to_owned(), value)),
        silent: (service.parts.len() < totals.needed).then_some(silent),
    };
    Known::Value(value, evidence)
}

fn finding(totals: &Totals<'_>, all: &[Judged], settling: bool) -> Finding {
    let kind = ConditionType::LatencyHigh;
    let of = |outcome, reason, message| Finding {
        kind,
        outcome,
        reason,
        message,
    };
    if all.is_empty() {
        let message = "No latency is judged: timeToFirstTokenMilliseconds.above is 0, and no other threshold is given.";
        return of(
            Outcome::Unknown,
            reason::NOT_JUDGED,
            format!("{message} {}", anchor(reason::NOT_JUDGED)),
        );
    }
    if !totals.enough() {
        return unknown(kind, totals, settling, "the latency");
    }
    let raised = |judged: &&Judged| judged.hold.is_raised();
    let high: Vec<(&Judged, Estimate, &Evidence)> = all
        .iter()
        .filter(raised)
        .filter_map(|judged| match &judged.known {
            Known::Value(value, evidence) => Some((judged, *value, evidence)),
            _ => None,
        })
        .collect();
    if let Some(((first, value, evidence), others)) = high.split_first() {
        let reason = reason_of(first.kind);
        let others: Vec<String> = others
            .iter()
            .map(|(judged, value, _)| numbers(judged, *value))
            .collect();
        let also = if others.is_empty() {
            String::new()
        } else {
            format!(" Also {}.", listed(others.iter().map(String::as_str), others.len()))
        };
        let message = high_message(first, *value, evidence);
        return of(Outcome::True, reason, format!("{message}{also} {}", anchor(reason)));
    }
    let mut told = Vec::new();
    let mut partly = None;
    for judged in all {
        if let Known::Value(value, evidence) = &judged.known {
            told.push(capital(&numbers(judged, *value)));
            partly = partly.or(evidence.silent.as_ref());
        }
    }
    // What stood and is not known now may still stand.
    let lost = all.iter().find(raised);
    if let Some(judged) = lost.or_else(|| all.first().filter(|_| told.is_empty())) {
        let (reason, message) = not_known(judged);
        return of(Outcome::Unknown, reason, format!("{message} {}", anchor(reason)));
    }
    let missing: Vec<String> = all.iter().filter_map(lacking).collect();
    told.extend(missing.iter().map(|missing| capital(missing)));
    let partly = partly.map_or_else(String::new, |partly| format!(" Counted: {partly}."));
    let message = format!("{}.{partly}", listed(told.iter().map(String::as_str), told.len()));
    of(Outcome::False, reason::BELOW_THRESHOLD, message)
}

/// `time to first token P95 2400 ms (threshold 2000 ms for 60 s)`.
fn numbers(judged: &Judged, value: Estimate) -> String {
    format!(
        "{} {} {} (threshold {} for {} s)",
        name(judged.kind),
        judged.bound.quantile.as_str(),
        shown(value),
        milliseconds(judged.bound.above.as_secs_f64()),
        judged.bound.hold_for.as_secs()
    )
}

fn high_message(judged: &Judged, value: Estimate, evidence: &Evidence) -> String {
    let numbers = capital(&numbers(judged, value));
    let seen = format!(
        "{} in {}",
        count(
            usize::try_from(evidence.observations).unwrap_or(usize::MAX),
            noun(judged.kind)
        ),
        seconds(evidence.window)
    );
    let partly = evidence
        .silent
        .as_ref()
        .map_or_else(String::new, |partly| format!(" Counted: {partly}."));
    if !judged.bound.is_exceeded(value) {
        return format!("{numbers}, {seen}: {}.{partly}", clears(judged.bound.hold_for));
    }
    let worst = evidence.worst.as_ref().map_or_else(String::new, |(name, value)| {
        format!(", worst {name} with {}", shown(*value))
    });
    format!("{numbers}, {seen}{worst}.{partly} Next: {}.", next_step(judged.kind))
}

/// Why a latency is not known, as a finding.
fn not_known(judged: &Judged) -> (&'static str, String) {
    let name = name(judged.kind);
    match &judged.known {
        Known::TooFew(0, window) => {
            let message = format!(
                "Nothing to judge by: in {} no {} was counted.",
                seconds(*window),
                noun(judged.kind)
            );
            (reason::TOO_FEW_REQUESTS, message)
        }
        Known::TooFew(seen, window) => {
            let seen = count(usize::try_from(*seen).unwrap_or(usize::MAX), noun(judged.kind));
            let message = format!(
                "Too few to judge {name} by: {seen} in {}, {ENOUGH} are needed.",
                seconds(*window)
            );
            (reason::TOO_FEW_REQUESTS, message)
        }
        Known::NotComparable => {
            let message = format!("The histograms of {name} have no bucket bound in common.");
            (reason::NOT_PUBLISHED, message)
        }
        Known::Open(end) => {
            let (quantile, above) = (judged.bound.quantile.as_str(), judged.bound.above.as_secs_f64());
            let (end, above) = (milliseconds(*end), milliseconds(above));
            let message = format!(
                "{} {quantile} is more than {end}, where the histogram ends: nobody can say whether it is above {above}.",
                capital(name)
            );
            (reason::NOT_PUBLISHED, message)
        }
        Known::NotPublished | Known::Stale | Known::Value(..) => {
            let next = judged.unmapped.as_ref();
            let next = next.map_or_else(String::new, |next| format!(" Next: {next}."));
            let message = format!("No server publishes a histogram of {name}.{next}");
            (reason::NOT_PUBLISHED, message)
        }
    }
}

/// The same beside others that are known.
fn lacking(judged: &Judged) -> Option<String> {
    let name = name(judged.kind);
    match &judged.known {
        Known::Value(..) => None,
        Known::TooFew(..) => Some(format!("too few {}s for {name}", noun(judged.kind))),
        Known::NotComparable | Known::Open(_) | Known::NotPublished | Known::Stale => {
            Some(format!("{name} is not published"))
        }
    }
}

/// The fields that tell a latency.
const fn fields(kind: LatencyKind) -> &'static [SampleField] {
    match kind {
        LatencyKind::TimeToFirstToken => &[SampleField::TimeToFirstToken],
        LatencyKind::InterToken => &[SampleField::InterToken, SampleField::PerOutputToken],
        LatencyKind::EndToEnd => &[SampleField::EndToEnd],
        LatencyKind::QueueTime => &[SampleField::QueueTime],
    }
}

const fn reason_of(kind: LatencyKind) -> &'static str {
    match kind {
        LatencyKind::TimeToFirstToken => reason::TIME_TO_FIRST_TOKEN,
        LatencyKind::InterToken => reason::INTER_TOKEN_LATENCY,
        LatencyKind::EndToEnd => reason::END_TO_END,
        LatencyKind::QueueTime => reason::QUEUE_TIME,
    }
}

const fn name(kind: LatencyKind) -> &'static str {
    match kind {
        LatencyKind::TimeToFirstToken => "time to first token",
        LatencyKind::InterToken => "time between tokens",
        LatencyKind::EndToEnd => "time to last token",
        LatencyKind::QueueTime => "time in the queue",
    }
}

const fn noun(kind: LatencyKind) -> &'static str {
    match kind {
        LatencyKind::InterToken => "token",
        _ => "request",
    }
}

const fn next_step(kind: LatencyKind) -> &'static str {
    match kind {
        LatencyKind::TimeToFirstToken => "add replicas if requests wait, else look at the length of the prompts",
        LatencyKind::InterToken => {
            "run fewer requests at once per server (vLLM: --max-num-seqs) or add replicas; see Throttled"
        }
        LatencyKind::EndToEnd => "look at the length of the answers, and at the other latencies",
        LatencyKind::QueueTime => "add replicas",
    }
}

/// `2400 ms`, `12.4 s`.
fn milliseconds(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

fn shown(value: Estimate) -> String {
    match value {
        Estimate::About(seconds) => milliseconds(seconds),
        Estimate::MoreThan(seconds) => format!("more than {}", milliseconds(seconds)),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
