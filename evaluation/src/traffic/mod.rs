//! What passed through a service of late: latencies, tokens, requests. Made of how much the counters of its servers grew, so
//! that a restart, a hole or a server that counts nothing is known as such.

mod cells;
mod distribution;
mod window;

pub(crate) use cells::Counter;
pub use distribution::Estimate;
pub(crate) use distribution::{Distribution, Part};
pub(crate) use window::{LATENCY_WINDOW, Window};

use crate::{EndpointState, TargetObservation, Totals};
use infmon_crds::v1alpha1::Quantile;
use infmon_engines::{Histogram, Latency, OTHER_REASONS, REASON_LIMIT};
use std::collections::BTreeMap;
use std::time::Duration;

/// Counters must have been followed for so long before a rate is told: shorter, one long answer looks like a flood.
pub(crate) const RATE_AFTER: Duration = Duration::from_secs(10);
/// Slots of the window that the queue time is taken from, beside the newest part: the last 10 to 15 s, since the load is that of now.
const QUEUE_TIME_SLOTS: usize = 2;
/// From so many observations on a mean or a share says something.
pub(crate) const ENOUGH: u64 = 10;

/// A latency whose distribution servers publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LatencyKind {
    /// Arrival to first token.
    TimeToFirstToken,
    /// Between two tokens of one request; where the engine has no such histogram, the mean time per token of each request.
    InterToken,
    /// Arrival to last token.
    EndToEnd,
    /// Arrival to the begin of the computation.
    QueueTime,
}

impl LatencyKind {
    /// Every kind, in the order in which they are told.
    pub const ALL: [Self; 4] = [
        Self::TimeToFirstToken,
        Self::InterToken,
        Self::EndToEnd,
        Self::QueueTime,
    ];

    /// As a label of a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimeToFirstToken => "time_to_first_token",
            Self::InterToken => "inter_token",
            Self::EndToEnd => "end_to_end",
            Self::QueueTime => "queue_time",
        }
    }

    fn of(self, latency: &Latency) -> Option<&Histogram> {
        match self {
            Self::TimeToFirstToken => latency.time_to_first_token.as_ref(),
            Self::InterToken => latency.inter_token.as_ref().or(latency.per_output_token.as_ref()),
            Self::EndToEnd => latency.end_to_end.as_ref(),
            Self::QueueTime => latency.queue_time.as_ref(),
        }
    }
}

/// A quantile as a share, 0-1.
pub(crate) const fn share(quantile: Quantile) -> f64 {
    match quantile {
        Quantile::P50 => 0.5,
        Quantile::P90 => 0.9,
        Quantile::P95 => 0.95,
        Quantile::P99 => 0.99,
    }
}

/// What passed through a service in the last minute, and its latencies of the last 30 s. A number that is not known of every endpoint
/// with fresh data is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Prompt tokens per second.
    pub prompt_tokens_per_second: Option<f64>,
    /// Generated tokens per second.
    pub generated_tokens_per_second: Option<f64>,
    /// Requests per second that ended well.
    pub succeeded_per_second: Option<f64>,
    /// Requests per second that failed or were aborted.
    pub failed_per_second: Option<f64>,
    /// Requests per second that ended, by reason, in the words of the engines; empty where an endpoint does not tell reasons.
    pub outcomes_per_second: BTreeMap<String, f64>,
    /// Evictions of running requests per second.
    pub preemptions_per_second: Option<f64>,
    /// Share of the prompt tokens that were found in the prefix cache, 0-1; `None` when none was looked up.
    pub prefix_cache_hit_ratio: Option<f64>,
    /// Share of the requests that ended which failed, 0-1; `None` when fewer than ten ended.
    pub failed_share: Option<f64>,
    /// Mean time in the queue of the requests that began to run in the last 10 to 15 s; `None` when these were fewer than ten.
    pub queue_time_seconds: Option<f64>,
    /// Quantiles of the latencies that are known.
    pub quantiles: Vec<(LatencyKind, Quantile, Estimate)>,
}

impl Traffic {
    /// Over the endpoints with fresh data that take requests.
    pub(crate) fn of(totals: &Totals<'_>) -> Self {
        let grown = |counter| sum(totals, |target| target.grown(counter));
        let (hits, queries) = (grown(Counter::PrefixHitTokens), grown(Counter::PrefixQueryTokens));
        let (succeeded, failed) = (grown(Counter::Succeeded), grown(Counter::Failed));
        let quantiles = LatencyKind::ALL.into_iter().flat_map(|kind| {
            let all = Service::of(totals, kind).distribution();
            Quantile::ALL
                .into_iter()
                .filter_map(move |quantile| Some((kind, quantile, all.quantile(share(quantile))?)))
        });
        Self {
            prompt_tokens_per_second: rate(totals, Counter::PromptTokens),
            generated_tokens_per_second: rate(totals, Counter::GeneratedTokens),
            succeeded_per_second: rate(totals, Counter::Succeeded),
            failed_per_second: rate(totals, Counter::Failed),
            outcomes_per_second: outcomes(totals).unwrap_or_default(),
            preemptions_per_second: rate(totals, Counter::Preemptions),
            prefix_cache_hit_ratio: hits.zip(queries).and_then(|(hits, queries)| ratio(hits, queries, 1)),
            failed_share: succeeded
                .zip(failed)
                .and_then(|(succeeded, failed)| ratio(failed, succeeded.saturating_add(failed), ENOUGH)),
            queue_time_seconds: queue_time(totals),
            quantiles: quantiles.collect(),
        }
    }
}

fn ratio(part: u64, all: u64, enough: u64) -> Option<f64> {
    (all >= enough).then(|| (part as f64 / all as f64).min(1.0))
}

/// The sum of a rate over the endpoints that take requests; `None` when one with fresh data does not tell.
pub(crate) fn rate(totals: &Totals<'_>, counter: Counter) -> Option<f64> {
    sum(totals, |target| target.rate(counter, RATE_AFTER))
}

/// Ends per second by reason, summed over the endpoints; `None` when one with fresh data does not tell. A reason that one of them does not
/// name has ended nothing there.
fn outcomes(totals: &Totals<'_>) -> Option<BTreeMap<String, f64>> {
    let mut all = BTreeMap::<String, f64>::new();
    for (_, target) in counted(totals) {
        for (reason, rate) in target.outcome_rates(RATE_AFTER)? {
            // Servers of several engines may have more between them than one may name.
            let known = all.contains_key(reason) || all.len() + 1 < REASON_LIMIT;
            *all.entry(if known { reason } else { OTHER_REASONS }.to_owned())
                .or_default() += rate;
        }
    }
    Some(all)
}

fn sum<T: Copy + std::iter::Sum<T>>(totals: &Totals<'_>, of: impl Fn(&TargetObservation) -> Option<T>) -> Option<T> {
    if totals.judged() == 0 {
        return None;
    }
    counted(totals).map(|(_, target)| of(target)).sum()
}

/// Names and histories of the endpoints with fresh data that are judged: those that take requests, or all where none does.
pub(crate) fn counted<'a>(totals: &'a Totals<'_>) -> impl Iterator<Item = (&'a str, &'a TargetObservation)> {
    totals.endpoints.iter().filter_map(|(endpoint, state)| match state {
        EndpointState::Fresh { target, .. } if endpoint.serving || totals.needed == 0 => {
            Some((endpoint.name.as_str(), *target))
        }
        _ => None,
    })
}

/// The mean time in the queue of late, over the endpoints that publish it; of some it would be that of all, so all must.
fn queue_time(totals: &Totals<'_>) -> Option<f64> {
    let (mut count, mut seconds) = (0_u64, 0.0);
    for (_, target) in counted(totals) {
        let (own, own_seconds) = target.newest_latency(LatencyKind::QueueTime, QUEUE_TIME_SLOTS)?;
        count = count.saturating_add(own);
        seconds += own_seconds;
    }
    (count >= ENOUGH).then(|| seconds / count as f64)
}

/// A latency of a service: the endpoints with fresh data, and what each of them says.
pub(crate) struct Service<'a> {
    /// Name, window and observations of those that publish it.
    pub(crate) parts: Vec<(&'a str, Duration, Part<'a>)>,
    /// Those that do not.
    pub(crate) silent: Vec<&'a str>,
}

impl<'a> Service<'a> {
    pub(crate) fn of(totals: &'a Totals<'_>, kind: LatencyKind) -> Self {
        let mut service = Self {
            parts: Vec::new(),
            silent: Vec::new(),
        };
        for (name, target) in counted(totals) {
            match target.latency(kind) {
                Some(part) => service.parts.push((name, target.latencies_covered(), part)),
                None => service.silent.push(name),
            }
        }
        service
    }

    /// The longest of the windows.
    pub(crate) fn window(&self) -> Duration {
        self.parts
            .iter()
            .map(|(_, window, _)| *window)
            .max()
            .unwrap_or_default()
    }

    pub(crate) fn distribution(&self) -> Distribution {
        let parts: Vec<Part<'_>> = self.parts.iter().map(|(_, _, part)| *part).collect();
        Distribution::of(&parts)
    }

    /// The endpoint with the largest quantile, of those with enough observations to tell.
    pub(crate) fn worst(&self, quantile: Quantile) -> Option<(&'a str, Estimate)> {
        self.parts
            .iter()
            .filter(|(_, _, part)| part.count() >= ENOUGH)
            .filter_map(|(name, _, part)| Some((*name, Distribution::of(&[*part]).quantile(share(quantile))?)))
            .max_by(|a, b| a.1.seconds().total_cmp(&b.1.seconds()))
    }
}
