//! The fields of a sample, by the names of its JSON form.

use infmon_engines::EngineSample;
use serde_json::{Map, Value};

/// The fields that tell of the state of a server, in the order in which they are shown.
pub(crate) const NAMES: [&str; 22] = [
    "waiting",
    "running",
    "maxConcurrency",
    "kvCacheUsage",
    "kvCacheCapacityTokens",
    "hostCacheUsage",
    "promptTokensTotal",
    "generatedTokensTotal",
    "preemptionsTotal",
    "prefixCacheHitTokensTotal",
    "prefixCacheQueryTokensTotal",
    "prefixCacheHitRatio",
    "requestsSucceededTotal",
    "requestsFailedTotal",
    "requestOutcomes",
    "loraAdapters",
    "sleeping",
    "latency.timeToFirstToken",
    "latency.interToken",
    "latency.perOutputToken",
    "latency.endToEnd",
    "latency.queueTime",
];

/// A sample whose fields can be asked for by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn of(sample: &EngineSample) -> Self {
        match serde_json::to_value(sample) {
            Ok(Value::Object(fields)) => Self(fields),
            // A sample is an object, always.
            Ok(_) | Err(_) => Self::default(),
        }
    }

    /// The value of a field of [`NAMES`]; `None` where the body does not tell it.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        match name.split_once('.') {
            None => self.0.get(name),
            Some((object, name)) => self.0.get(object)?.get(name),
        }
    }

    /// True where nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        NAMES.iter().all(|name| self.get(name).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_engines::{Engine, Histogram, Latency};

    /// A field that is added to the sample must be shown as well.
    #[test]
    fn every_field_of_a_sample_has_a_name_here() {
        let one = || Some(1.0);
        let times = || Some(Histogram::default());
        let sample = EngineSample {
            engine: Some(Engine::Vllm),
            generation: "v1".into(),
            models: vec!["m".into()],
            waiting: one(),
            running: one(),
            max_concurrency: one(),
            kv_cache_usage: one(),
            kv_cache_capacity_tokens: one(),
            host_cache_usage: one(),
            prompt_tokens_total: one(),
            generated_tokens_total: one(),
            preemptions_total: one(),
            prefix_cache_hit_tokens_total: one(),
            prefix_cache_query_tokens_total: one(),
            prefix_cache_hit_ratio: one(),
            requests_succeeded_total: one(),
            requests_failed_total: one(),
            request_outcomes: [("stop".to_owned(), 1.0)].into(),
            lora_adapters: vec!["l".into()],
            sleeping: Some(false),
            model_gpu_share: None,
            latency: Latency {
                time_to_first_token: times(),
                inter_token: times(),
                per_output_token: times(),
                end_to_end: times(),
                queue_time: times(),
            },
        };
        let fields = Fields::of(&sample);
        assert_eq!(
            NAMES.iter().filter(|name| fields.get(name).is_some()).count(),
            NAMES.len()
        );
        // Beside them: engine, generation, models, which are the heading.
        let latencies = NAMES.iter().filter(|name| name.contains('.')).count();
        assert_eq!(fields.0.len(), NAMES.len() - latencies + 1 + 3);
    }
}
