//! The load that a simulated server reports.

use serde::Deserialize;

/// Bounds of vLLM's time-to-first-token histogram, seconds (0.6.6 to 0.33.0).
const FIRST_TOKEN_BOUNDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
/// Bounds of vLLM's inter-token histogram, seconds.
const INTER_TOKEN_BOUNDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
/// Bounds of vLLM's end-to-end and queue-time histograms, seconds.
const REQUEST_BOUNDS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];

/// What a simulated server says of itself. Counters are since its start; the caller keeps them from falling.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The model name; vLLM only.
    pub model: String,
    /// Requests that run.
    pub running: u64,
    /// Requests that wait.
    pub waiting: u64,
    /// Requests that can run at once: the number of slots that the llama.cpp kind lists.
    pub max_concurrency: u64,
    /// KV cache in use, 0-1. The llama.cpp kind shows it in its busy slots, so without running requests it shows 0.
    pub kv_cache_usage: f64,
    /// Prompt tokens, with those found in the prefix cache.
    pub prompt_tokens_total: u64,
    /// Prompt tokens found in the prefix cache.
    pub prefix_cache_hit_tokens_total: u64,
    /// Generated tokens.
    pub generated_tokens_total: u64,
    /// Requests evicted to free KV cache; vLLM only.
    pub preemptions_total: u64,
    /// Requests that ended well; vLLM only.
    pub requests_succeeded_total: u64,
    /// Requests that were aborted; vLLM only.
    pub requests_aborted_total: u64,
    /// The server sleeps; vLLM only.
    pub sleeping: bool,
    /// Time to first token; vLLM only, as are the other latencies.
    pub time_to_first_token: Distribution,
    /// Time between two tokens.
    pub inter_token: Distribution,
    /// Arrival to last token.
    pub end_to_end: Distribution,
    /// Time before a request ran first.
    pub queue_time: Distribution,
}

impl Default for Load {
    /// An idle server that has served nothing yet.
    fn default() -> Self {
        Self {
            model: "simulated-model".to_owned(),
            running: 0,
            waiting: 0,
            max_concurrency: 4,
            kv_cache_usage: 0.0,
            prompt_tokens_total: 0,
            prefix_cache_hit_tokens_total: 0,
            generated_tokens_total: 0,
            preemptions_total: 0,
            requests_succeeded_total: 0,
            requests_aborted_total: 0,
            sleeping: false,
            time_to_first_token: Distribution::new(FIRST_TOKEN_BOUNDS),
            inter_token: Distribution::new(INTER_TOKEN_BOUNDS),
            end_to_end: Distribution::new(REQUEST_BOUNDS),
            queue_time: Distribution::new(REQUEST_BOUNDS),
        }
    }
}

/// Observations of a latency, counted by vLLM's bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    bounds: &'static [f64],
    /// Observations up to each bound and above the one before; the last place is for those above all bounds.
    counts: Vec<u64>,
    sum_seconds: f64,
}

impl Distribution {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum_seconds: 0.0,
        }
    }

    /// Adds `count` observations of `seconds` each.
    pub fn observe(&mut self, seconds: f64, count: u64) {
        let place = self
            .bounds
            .iter()
            .position(|&bound| seconds <= bound)
            .unwrap_or(self.bounds.len());
        if let Some(observations) = self.counts.get_mut(place) {
            *observations += count;
            self.sum_seconds += seconds * count as f64;
        }
    }

    /// All observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the observations, seconds.
    #[must_use]
    pub const fn sum_seconds(&self) -> f64 {
        self.sum_seconds
    }

    /// Observations of at most `bound` seconds, where `bound` is one of the bounds or greater than all.
    pub(crate) fn at_most(&self, bound: f64) -> u64 {
        let below = self.bounds.iter().take_while(|&&own| own <= bound).count();
        let places = if bound.is_infinite() { self.counts.len() } else { below };
        self.counts.iter().take(places).sum()
    }
}

/// A change of a load, as `POST /simulate` takes it: fields that are absent stay as they are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadChange {
    model: Option<String>,
    running: Option<u64>,
    waiting: Option<u64>,
    max_concurrency: Option<u64>,
    kv_cache_usage: Option<f64>,
    prompt_tokens_total: Option<u64>,
    prefix_cache_hit_tokens_total: Option<u64>,
    generated_tokens_total: Option<u64>,
    preemptions_total: Option<u64>,
    requests_succeeded_total: Option<u64>,
    requests_aborted_total: Option<u64>,
    sleeping: Option<bool>,
    observe: Vec<Observation>,
    /// The way the server misbehaves from now on.
    pub(crate) mode: Option<crate::Mode>,
}

/// Latencies to add.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Observation {
    latency: LatencyName,
    seconds: f64,
    #[serde(default = "one")]
    count: u64,
}

const fn one() -> u64 {
    1
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum LatencyName {
    TimeToFirstToken,
    InterToken,
    EndToEnd,
    QueueTime,
}

impl LoadChange {
    /// Makes the change.
    pub fn apply(self, load: &mut Load) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        set(&mut load.model, self.model);
        set(&mut load.running, self.running);
        set(&mut load.waiting, self.waiting);
        set(&mut load.max_concurrency, self.max_concurrency);
        set(&mut load.kv_cache_usage, self.kv_cache_usage);
        set(&mut load.prompt_tokens_total, self.prompt_tokens_total);
        set(
            &mut load.prefix_cache_hit_tokens_total,
            self.prefix_cache_hit_tokens_total,
        );
        set(&mut load.generated_tokens_total, self.generated_tokens_total);
        set(&mut load.preemptions_total, self.preemptions_total);
        set(&mut load.requests_succeeded_total, self.requests_succeeded_total);
        set(&mut load.requests_aborted_total, self.requests_aborted_total);
        set(&mut load.sleeping, self.sleeping);
        for Observation {
            latency,
            seconds,
            count,
        } in self.observe
        {
            let distribution = match latency {
                LatencyName::TimeToFirstToken => &mut load.time_to_first_token,
                LatencyName::InterToken => &mut load.inter_token,
                LatencyName::EndToEnd => &mut load.end_to_end,
                LatencyName::QueueTime => &mut load.queue_time,
            };
            distribution.observe(seconds, count);
        }
    }
}
