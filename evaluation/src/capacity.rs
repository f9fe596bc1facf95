//! What the servers of a monitor hold and serve, beside what they do.

use crate::{EndpointState, Totals};
use std::collections::BTreeSet;

/// Names of one kind that are told of one monitor: each becomes a series.
pub const NAMES_MAX: usize = 64;

/// What the servers of a monitor hold and serve. A number is absent where not every endpoint that takes requests tells it, now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capacity<'a> {
    /// Requests that can run at once, summed.
    pub max_concurrency: Option<f64>,
    /// Tokens that the KV caches hold, summed.
    pub kv_cache_capacity_tokens: Option<f64>,
    /// Host or offload cache in use on the fullest endpoint, 0-1.
    pub host_cache_usage: Option<f64>,
    /// Endpoints that released their memory until the next request.
    pub sleeping: Option<usize>,
    /// Models that are served; at most [`NAMES_MAX`], the first by name.
    pub models: BTreeSet<&'a str>,
    /// LoRA adapters that run or wait; at most [`NAMES_MAX`], the first by name.
    pub lora_adapters: BTreeSet<&'a str>,
}

impl<'a> Capacity<'a> {
    /// Sums up what `totals` has of the endpoints.
    #[must_use]
    pub fn of(totals: &Totals<'a>) -> Self {
        let samples: Vec<_> = totals
            .endpoints
            .iter()
            .filter(|(endpoint, _)| endpoint.serving || totals.needed == 0)
            .filter_map(|(_, state)| match state {
                EndpointState::Fresh { observation, .. } => Some(&observation.sample),
                _ => None,
            })
            .collect();
        let all = |of: fn(&infmon_engines::EngineSample) -> Option<f64>| -> Option<Vec<f64>> {
            let values: Option<Vec<f64>> = samples.iter().map(|sample| of(sample)).collect();
            values.filter(|values| totals.complete() && !values.is_empty())
        };
        let sum = |values: Vec<f64>| values.into_iter().sum();
        let asleep: Option<Vec<bool>> = samples.iter().map(|sample| sample.sleeping).collect();
        Self {
            max_concurrency: all(|sample| sample.max_concurrency).map(sum),
            kv_cache_capacity_tokens: all(|sample| sample.kv_cache_capacity_tokens).map(sum),
            host_cache_usage: all(|sample| sample.host_cache_usage)
                .and_then(|shares| shares.into_iter().max_by(f64::total_cmp)),
            sleeping: asleep
                .filter(|asleep| totals.complete() && !asleep.is_empty())
                .map(|asleep| asleep.into_iter().filter(|asleep| *asleep).count()),
            models: first(samples.iter().flat_map(|sample| &sample.models)),
            lora_adapters: first(samples.iter().flat_map(|sample| &sample.lora_adapters)),
        }
    }
}

fn first<'a>(names: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    let mut names: BTreeSet<&str> = names.map(String::as_str).collect();
    while names.len() > NAMES_MAX {
        names.pop_last();
    }
    names
}
