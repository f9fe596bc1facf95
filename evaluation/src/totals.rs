//! Sums over the endpoints of a monitor, and which endpoints they lack.

use crate::{Moment, Observations, Place, Resolution, ResolvedEndpoint, TargetObservation};
use infmon_samples::{Failure, Observation};
use std::time::Duration;

/// What is known of one endpoint now.
#[derive(Clone, Copy, Debug)]
pub enum EndpointState<'a> {
    /// There is a sample young enough to be used.
    Fresh {
        /// Age of the sample.
        age: Duration,
        /// The sample.
        observation: &'a Observation,
        /// History of the server.
        target: &'a TargetObservation,
    },
    /// The newest scrape failed and there is no sample young enough.
    Failing {
        /// Why.
        failure: &'a Failure,
        /// For how long.
        for_time: Duration,
    },
    /// The last sample is too old, and nobody says why.
    Stale {
        /// Age of the last sample.
        age: Duration,
    },
    /// Kubernetes does not send requests to it (yet), and it gives no data.
    NotServing,
    /// No daemon is connected on its node.
    NoDaemon,
    /// The first sample is on its way.
    Waiting,
}

/// The state of one endpoint.
#[must_use]
pub fn endpoint_state<'a>(
    endpoint: &ResolvedEndpoint,
    observations: &'a Observations,
    stale_after: Duration,
    now: Moment,
) -> EndpointState<'a> {
    let known = endpoint
        .target
        .as_ref()
        .and_then(|target| observations.target(&endpoint.place, &target.id));
    if let Some((_, target)) = known
        && let Some((taken, observation)) = &target.last
        && now.since(*taken) <= stale_after
    {
        return EndpointState::Fresh {
            age: now.since(*taken),
            observation,
            target,
        };
    }
    if !endpoint.serving {
        return EndpointState::NotServing;
    }
    let connected = match &endpoint.place {
        Place::Node(node) => observations.node(node).is_some_and(|node| node.connected),
        Place::Anywhere => observations.nodes().any(|(_, node)| node.connected),
        Place::Nowhere => return EndpointState::Waiting,
    };
    if !connected {
        return EndpointState::NoDaemon;
    }
    match known {
        Some((
            _,
            TargetObservation {
                failure: Some((since, failure)),
                ..
            },
        )) => EndpointState::Failing {
            failure,
            for_time: now.since(*since),
        },
        Some((
            _,
            TargetObservation {
                last: Some((taken, _)), ..
            },
        )) => EndpointState::Stale { age: now.since(*taken) },
        _ => EndpointState::Waiting,
    }
}

/// Sums over the endpoints with fresh data.
#[derive(Clone, Debug, Default)]
pub struct Totals<'a> {
    /// Every endpoint and its state, in the order of the resolution.
    pub endpoints: Vec<(&'a ResolvedEndpoint, EndpointState<'a>)>,
    /// Endpoints with fresh data.
    pub fresh: usize,
    /// Endpoints that must have data for a sum to be true: those that take requests.
    pub needed: usize,
    /// Those of `needed` that have none.
    pub missing: usize,
    /// Age of the oldest fresh sample.
    pub age: Duration,
    /// Requests that wait; `None` when an endpoint with fresh data does not tell.
    pub waiting: Option<f64>,
    /// Requests that run; `None` when an endpoint with fresh data does not tell.
    pub running: Option<f64>,
    /// KV cache use of the fullest endpoint, 0-1; `None` when no endpoint tells.
    pub kv_cache_usage: Option<f64>,
    /// Preemptions per second over the last minute; `None` when no endpoint tells.
    pub preemptions_per_second: Option<f64>,
}

impl<'a> Totals<'a> {
    /// Sums up.
    #[must_use]
    pub fn of(resolution: &'a Resolution, observations: &'a Observations, stale_after: Duration, now: Moment) -> Self {
        let mut totals = Self {
            waiting: Some(0.0),
            running: Some(0.0),
            ..Self::default()
        };
        for endpoint in &resolution.endpoints {
            let state = endpoint_state(endpoint, observations, stale_after, now);
            if endpoint.serving {
                totals.needed += 1;
            }
            if let EndpointState::Fresh {
                age,
                observation,
                target,
            } = state
            {
                let sample = &observation.sample;
                totals.fresh += 1;
                totals.age = totals.age.max(age);
                totals.waiting = sum(totals.waiting, sample.waiting);
                totals.running = sum(totals.running, sample.running);
                totals.kv_cache_usage = largest(totals.kv_cache_usage, sample.kv_cache_usage);
                if let Some(rate) = target.preemption_rate() {
                    totals.preemptions_per_second = Some(totals.preemptions_per_second.unwrap_or(0.0) + rate);
                }
            } else if endpoint.serving {
                totals.missing += 1;
            }
            totals.endpoints.push((endpoint, state));
        }
        if totals.fresh == 0 {
            totals.waiting = None;
            totals.running = None;
        }
        totals
    }

    /// Every endpoint that takes requests has fresh data, and there is one at all: a sum over them is true.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.missing == 0 && self.fresh > 0
    }

    /// More than half of the endpoints that take requests have fresh data: enough for a judgement, which says what it lacks.
    #[must_use]
    pub const fn enough(&self) -> bool {
        self.fresh > 0 && self.missing * 2 < self.needed.saturating_add(1)
    }

    /// Names the endpoints that lack data and why, two at most: `vllm-x2x1l: connect timeout for 47 s; ...`.
    #[must_use]
    pub fn lacking(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for (endpoint, state) in self.endpoints.iter().filter(|(endpoint, _)| endpoint.serving) {
            let why = match state {
                EndpointState::Fresh { .. } | EndpointState::NotServing => continue,
                EndpointState::Failing { failure, for_time } => {
                    format!("{} for {}", failure.message, seconds(*for_time))
                }
                EndpointState::Stale { age } => format!("last sample {} ago", seconds(*age)),
                EndpointState::NoDaemon => match &endpoint.place {
                    Place::Node(node) => format!("no node daemon connected on node {node}"),
                    Place::Anywhere | Place::Nowhere => "no node daemon connected".into(),
                },
                EndpointState::Waiting => "no sample yet".into(),
            };
            if texts.len() < 2 {
                texts.push(format!("{}: {why}", endpoint.name));
            }
        }
        if self.missing > texts.len() {
            texts.push(format!("and {} more", self.missing - texts.len()));
        }
        texts.join("; ")
    }
}

fn sum(total: Option<f64>, value: Option<f64>) -> Option<f64> {
    Some(total? + value?)
}

fn largest(known: Option<f64>, value: Option<f64>) -> Option<f64> {
    match (known, value) {
        (Some(known), Some(value)) => Some(known.max(value)),
        (known, value) => known.or(value),
    }
}

/// A duration for people: `0.4 s`, `47 s`, `12 min`, `3 h`.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 if seconds == 0.0 => "0 s".into(),
        0..10 if seconds.fract() >= 0.05 && seconds.fract() < 0.95 => format!("{seconds:.1} s"),
        0..120 => format!("{seconds:.0} s"),
        120..7200 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}
