//! The metrics that an HPA can read of a monitor: a small constant list. A value that is not known is an error with words, never a
//! number (promise 3 of the design).

use crate::mapping::unmapped;
use crate::traffic::{self, Counter, RATE_AFTER, Service};
use crate::words::{count, listed, seconds, some_have};
use crate::{Estimate, LatencyKind, Moment, Observations, Resolution, TargetObservation, Totals};
use infmon_crds::v1alpha1::{InferenceMonitorSpec, Quantile, SampleField};
use std::time::Duration;

/// A metric on an `InferenceMonitor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Requests that wait, over all endpoints.
    QueueDepth,
    /// Requests that run, over all endpoints.
    RunningRequests,
    /// Requests that wait or run: what scale-to-zero must look at, since an empty queue does not mean idle servers.
    InFlightRequests,
    /// KV cache use of the fullest endpoint, 0-1.
    KvCacheUsage,
    /// Time in which 19 of 20 requests of the last 30 s had their first token.
    TimeToFirstTokenP95,
    /// Tokens generated per second over the last minute, over all endpoints.
    TokensPerSecond,
    /// GPUs that lose clocks.
    ThrottledGpus,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 7] = [
        Self::QueueDepth,
        Self::RunningRequests,
        Self::InFlightRequests,
        Self::KvCacheUsage,
        Self::TimeToFirstTokenP95,
        Self::TokensPerSecond,
        Self::ThrottledGpus,
    ];

    /// The name in the API, lower case (external metric names arrive in lower case).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueDepth => "queue-depth",
            Self::RunningRequests => "running-requests",
            Self::InFlightRequests => "in-flight-requests",
            Self::KvCacheUsage => "kv-cache-usage",
            Self::TimeToFirstTokenP95 => "time-to-first-token-p95-seconds",
            Self::TokensPerSecond => "tokens-per-second",
            Self::ThrottledGpus => "throttled-gpus",
        }
    }

    /// One line for people.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::QueueDepth => "requests that wait, summed over all endpoints",
            Self::RunningRequests => "requests that run, summed over all endpoints",
            Self::InFlightRequests => "requests that wait or run, summed over all endpoints",
            Self::KvCacheUsage => "KV cache in use on the fullest endpoint, 0 to 1",
            Self::TimeToFirstTokenP95 => {
                "time to first token of the requests of the last 30 s, 95th percentile, seconds"
            }
            Self::TokensPerSecond => "tokens generated per second over the last minute, summed over all endpoints",
            Self::ThrottledGpus => "GPUs of this monitor that lose clocks above the threshold",
        }
    }

    /// The metric of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// A value and how old the oldest sample in it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: f64,
    /// Age of the oldest sample that it is made of.
    pub age: Duration,
    /// The time that it was measured over; `None` for a value of one moment.
    pub window: Option<Duration>,
}

/// The metrics made of server samples. [`Metric::ThrottledGpus`] comes from the last verdict instead and is answered by `throttled`.
///
/// # Errors
/// In words for the user of the HPA, when an endpoint that takes requests has no fresh sample or cannot be measured, when there is no
/// endpoint at all, so that nobody is left who could see a queue, or when an engine does not publish the value.
pub fn read(
    metric: Metric,
    spec: &InferenceMonitorSpec,
    resolution: &Resolution,
    observations: &Observations,
    throttled: Option<Reading>,
    now: Moment,
) -> Result<Reading, String> {
    let unknown = |why: &str| Err(format!("{} is not known: {why}. {LEFT}", metric.name()));
    if metric == Metric::ThrottledGpus {
        return throttled.map_or_else(
            || unknown("the GPUs of the monitor have no fresh data, or not all of them"),
            Ok,
        );
    }
    let stale_after = spec.stale_after();
    let totals = Totals::of(resolution, observations, stale_after, now);
    let problems = || listed(resolution.problems.iter().map(String::as_str), 2);
    if resolution.endpoints.is_empty() {
        return if resolution.problems.is_empty() {
            // No pods run nothing and queue nothing; but requests may wait for them elsewhere, where nobody looks.
            unknown(
                "no pod matches the endpoints, so nobody is left to see a queue; scaling from zero needs an endpoint that holds \
                 requests meanwhile (docs/autoscaling.md#to-zero-and-back)",
            )
        } else {
            unknown(&format!("no endpoint can be measured ({})", problems()))
        };
    }
    if resolution.partial {
        return unknown(&format!("not every endpoint can be measured ({})", problems()));
    }
    if !totals.complete() {
        return if totals.needed == 0 {
            let all = count(totals.endpoints.len(), "endpoint");
            unknown(&format!("none of {all} takes requests, since their pods are not Ready"))
        } else {
            unknown(&format!(
                "{} no sample younger than {} s ({})",
                some_have(totals.missing, totals.needed),
                stale_after.as_secs(),
                totals.lacking()
            ))
        };
    }
    if let Some(why) = not_mapped(metric, spec) {
        return unknown(&why);
    }
    let value = match metric {
        Metric::TimeToFirstTokenP95 | Metric::TokensPerSecond => {
            return match of_the_last_minute(metric, &totals) {
                Ok((value, window)) => Ok(Reading {
                    value,
                    age: totals.age,
                    window: Some(window),
                }),
                Err(why) => unknown(&why),
            };
        }
        Metric::QueueDepth => totals.waiting,
        Metric::RunningRequests => totals.running,
        Metric::InFlightRequests => totals
            .waiting
            .zip(totals.running)
            .map(|(waiting, running)| waiting + running),
        // The fullest of some is not the fullest of all.
        Metric::KvCacheUsage => totals.kv_cache_usage.filter(|_| totals.kv_cache_complete),
        Metric::ThrottledGpus => None,
    };
    match value.filter(|value| value.is_finite()) {
        Some(value) => Ok(Reading {
            value,
            age: totals.age,
            window: None,
        }),
        None => unknown("not every server publishes it as a usable number (see the condition MetricsRecognized)"),
    }
}

/// Why a value can never be known by a mapping.
fn not_mapped(metric: Metric, spec: &InferenceMonitorSpec) -> Option<String> {
    let needed: &[SampleField] = match metric {
        Metric::QueueDepth => &[SampleField::Waiting],
        Metric::RunningRequests => &[SampleField::Running],
        Metric::InFlightRequests => &[SampleField::Waiting, SampleField::Running],
        Metric::KvCacheUsage => &[SampleField::KvCacheUsage],
        Metric::TimeToFirstTokenP95 => &[SampleField::TimeToFirstToken],
        Metric::TokensPerSecond => &[SampleField::GeneratedTokensTotal],
        Metric::ThrottledGpus => &[],
    };
    needed.iter().find_map(|&field| unmapped(spec, &[field]))
}

const LEFT: &str = "Replicas are left as they are.";

/// A value over the last 30 or 60 s and the time that it is of; or why there is none.
fn of_the_last_minute(metric: Metric, totals: &Totals<'_>) -> Result<(f64, Duration), String> {
    // What is followed for a shorter time has not been asked for long enough to say that nothing came.
    if let Some((name, target)) = traffic::counted(totals).find(|(_, target)| target.covered() < RATE_AFTER) {
        let (followed, needed) = (seconds(target.covered()), RATE_AFTER.as_secs());
        return Err(format!(
            "{name} has been counted for {followed} only, and {needed} s are needed"
        ));
    }
    if metric == Metric::TokensPerSecond {
        let window = traffic::counted(totals).map(|(_, target)| target.covered()).max();
        let window = window.unwrap_or_default();
        let later = |target: &TargetObservation| {
            target.grown(Counter::GeneratedTokens) == Some(0) && target.counts_tokens_later()
        };
        if let Some((name, _)) = traffic::counted(totals).find(|(_, target)| later(target)) {
            return Err(format!(
                "{name} counts tokens when a request ends, and in {} none ended while some run",
                seconds(window)
            ));
        }
        return traffic::rate(totals, Counter::GeneratedTokens)
            .map(|value| (value, window))
            .ok_or_else(|| "not every server counts the tokens that it generates".to_owned());
    }
    let service = Service::of(totals, LatencyKind::TimeToFirstToken);
    if !service.silent.is_empty() {
        let (silent, all) = (service.silent.len(), service.silent.len() + service.parts.len());
        let names = listed(service.silent.iter().copied(), 2);
        return Err(format!("{} no histogram of it ({names})", some_have(silent, all)));
    }
    let (all, window) = (service.distribution(), service.window());
    match (
        all.quantile(traffic::share(Quantile::P95)),
        totals.waiting.zip(totals.running),
    ) {
        (Some(Estimate::About(value)), _) => Ok((value, window)),
        (Some(Estimate::MoreThan(bound)), _) => Err(format!(
            "it is more than {bound} s, where the histogram of the servers ends"
        )),
        (None, _) if all.count() > 0 => Err("the histograms of the servers have no bucket bound in common".to_owned()),
        // Nothing was asked, and nothing is: nobody waited for a first token.
        (None, Some((0.0, 0.0))) => Ok((0.0, window)),
        (None, _) => Err(format!(
            "requests run or wait, and in {} none had its first token",
            seconds(window)
        )),
    }
}
