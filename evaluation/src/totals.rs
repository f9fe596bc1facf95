//! Sums over the endpoints of a monitor, and which endpoints they lack.

use crate::words::{clause_or, listed, seconds};
use crate::{Moment, Observations, Place, Resolution, ResolvedEndpoint, TargetObservation};
use infmon_engines::Engine;
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
    /// There is a young sample, and it is that of another engine than the spec names: what a node daemon that does not know the engine
    /// takes the server for.
    Misread {
        /// The engine that the spec names.
        asked: Engine,
        /// That of the sample.
        found: Option<Engine>,
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
        let asked = endpoint.target.as_ref().and_then(|target| target.engine);
        if let Some(asked) = asked
            && observation.sample.engine != Some(asked)
        {
            let found = observation.sample.engine;
            return EndpointState::Misread { asked, found };
        }
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
///
/// Endpoints that take requests are judged. Others neither block a sum nor turn a condition; but what they still hold counts in the
/// sums: the queue of an overloaded server must not vanish from the metric when its readiness probe times out.
#[derive(Clone, Debug, Default)]
pub struct Totals<'a> {
    /// Every endpoint and its state, in the order of the resolution.
    pub endpoints: Vec<(&'a ResolvedEndpoint, EndpointState<'a>)>,
    /// Endpoints with fresh data, whether they take requests or not.
    pub fresh: usize,
    /// Endpoints that must have data for a sum to be true: those that take requests.
    pub needed: usize,
    /// Those of `needed` that have none.
    pub missing: usize,
    /// Age of the oldest fresh sample.
    pub age: Duration,
    /// Requests that wait; `None` when an endpoint with fresh data that counts does not tell.
    pub waiting: Option<f64>,
    /// Requests that run; `None` when an endpoint with fresh data that counts does not tell.
    pub running: Option<f64>,
    /// Requests that wait at the endpoints that take requests: what a judgement per endpoint is made of.
    pub queued: Option<f64>,
    /// KV cache use of the fullest endpoint, 0-1; `None` when no endpoint tells.
    pub kv_cache_usage: Option<f64>,
    /// Every endpoint with fresh data that counts tells its KV cache use, so that the fullest one is known.
    pub kv_cache_complete: bool,
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
            queued: Some(0.0),
            kv_cache_complete: true,
            needed: resolution.endpoints.iter().filter(|endpoint| endpoint.serving).count(),
            ..Self::default()
        };
        for endpoint in &resolution.endpoints {
            let state = endpoint_state(endpoint, observations, stale_after, now);
            // Where no endpoint takes requests, all are looked at alike.
            let counts = endpoint.serving || totals.needed == 0;
            if let EndpointState::Fresh {
                age,
                observation,
                target,
            } = state
            {
                totals.add(counts, age, observation, target);
            } else if endpoint.serving {
                totals.missing += 1;
            }
            totals.endpoints.push((endpoint, state));
        }
        if totals.fresh == 0 {
            totals.waiting = None;
            totals.running = None;
            totals.queued = None;
            totals.kv_cache_complete = false;
        }
        totals
    }

    fn add(&mut self, counts: bool, age: Duration, observation: &Observation, target: &TargetObservation) {
        let sample = &observation.sample;
        let (waiting, running) = (usable(sample.waiting), usable(sample.running));
        self.fresh += 1;
        self.age = self.age.max(age);
        if counts {
            self.waiting = sum(self.waiting, waiting);
            self.running = sum(self.running, running);
            self.queued = sum(self.queued, waiting);
            let usage = usable(sample.kv_cache_usage);
            self.kv_cache_complete &= usage.is_some();
            self.kv_cache_usage = largest(self.kv_cache_usage, usage);
            if let Some(rate) = target.preemption_rate() {
                self.preemptions_per_second = Some(self.preemptions_per_second.unwrap_or(0.0) + rate);
            }
        } else {
            self.waiting = sum(self.waiting, Some(waiting.unwrap_or(0.0)));
            self.running = sum(self.running, Some(running.unwrap_or(0.0)));
        }
    }

    /// Every endpoint that takes requests has fresh data, and there is one at all: a sum over them is true. Where none takes requests,
    /// every endpoint must have fresh data.
    #[must_use]
    pub const fn complete(&self) -> bool {
        if self.needed == 0 {
            self.fresh > 0 && self.fresh == self.endpoints.len()
        } else {
            self.missing == 0
        }
    }

    /// At least half of the endpoints that take requests have fresh data: enough for a judgement, which says what it lacks.
    #[must_use]
    pub const fn enough(&self) -> bool {
        self.judged() > 0 && self.missing <= self.judged()
    }

    /// Endpoints that take requests and have fresh data.
    #[must_use]
    pub const fn judged(&self) -> usize {
        self.needed - self.missing
    }

    /// Names the endpoints that lack data and why, two at most: `vllm-x2x1l: connect timeout for 47 s; ...`.
    #[must_use]
    pub fn lacking(&self) -> String {
        let texts: Vec<String> = self
            .endpoints
            .iter()
            .filter(|(endpoint, _)| endpoint.serving)
            .filter_map(|(endpoint, state)| Some(format!("{}: {}", endpoint.name, why(endpoint, state)?)))
            .collect();
        listed(texts.iter().map(String::as_str), 2)
    }
}

/// Why an endpoint gives no data; `None` when it does or need not.
fn why(endpoint: &ResolvedEndpoint, state: &EndpointState<'_>) -> Option<String> {
    Some(match state {
        EndpointState::Fresh { .. } | EndpointState::NotServing => return None,
        EndpointState::Failing { failure, for_time } => {
            format!(
                "{} for {}",
                clause_or(&failure.message, failure.kind.as_str()),
                seconds(*for_time)
            )
        }
        EndpointState::Misread { asked, found } => misread(*asked, *found),
        EndpointState::Stale { age } => format!("last sample {} ago", seconds(*age)),
        EndpointState::NoDaemon => match &endpoint.place {
            Place::Node(node) => format!("no node daemon connected on node {node}"),
            Place::Anywhere | Place::Nowhere => "no node daemon connected".into(),
        },
        EndpointState::Waiting => "no sample yet".into(),
    })
}

/// What a daemon made of a server that it does not know how to read.
pub(crate) fn misread(asked: Engine, found: Option<Engine>) -> String {
    format!(
        "spec.engine is {}, and its node daemon read it as {}, as one does that is older than the operator: update the node daemon",
        asked.as_str(),
        found.map_or("another engine", Engine::as_str)
    )
}

/// A number that can be one of requests or a share; a server may claim anything.
fn usable(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}

fn sum(total: Option<f64>, value: Option<f64>) -> Option<f64> {
    usable(Some(total? + value?))
}

fn largest(known: Option<f64>, value: Option<f64>) -> Option<f64> {
    match (known, value) {
        (Some(known), Some(value)) => Some(known.max(value)),
        (known, value) => known.or(value),
    }
}
