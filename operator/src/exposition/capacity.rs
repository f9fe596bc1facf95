//! What the servers of the monitors hold and serve.

use super::{Family, Labels};
use infmon_evaluation::Capacity;
use prometheus_client::registry::Unit;

/// Families with a series per monitor that is known.
pub(super) struct CapacityFamilies {
    max_concurrency: Family,
    kv_cache: Family,
    host_cache: Family,
    sleeping: Family,
    models: Family,
    adapters: Family,
}

impl CapacityFamilies {
    pub(super) fn new() -> Self {
        let gauge = Family::gauge;
        Self {
            max_concurrency: gauge(
                "infmon_monitor_max_concurrency",
                "Requests that can run at once, over all endpoints",
                None,
            ),
            kv_cache: gauge(
                "infmon_monitor_kv_cache_capacity_tokens",
                "Tokens that the KV caches hold, over all endpoints",
                None,
            ),
            host_cache: gauge(
                "infmon_monitor_host_cache_usage",
                "Host or offload cache in use on the fullest endpoint, 0-1",
                Some(Unit::Ratios),
            ),
            sleeping: gauge(
                "infmon_monitor_endpoints_sleeping",
                "Endpoints that released their memory until the next request",
                None,
            ),
            models: gauge("infmon_monitor_model", "1 for each model that is served", None),
            adapters: gauge(
                "infmon_monitor_lora_adapter",
                "1 for each LoRA adapter with requests that run or wait",
                None,
            ),
        }
    }

    /// Adds what is known of one monitor.
    pub(super) fn add(&mut self, labels: &Labels, capacity: &Capacity<'_>) {
        self.max_concurrency.add(labels, capacity.max_concurrency);
        self.kv_cache.add(labels, capacity.kv_cache_capacity_tokens);
        self.host_cache.add(labels, capacity.host_cache_usage);
        self.sleeping.add(labels, capacity.sleeping.map(|count| count as f64));
        for (family, label, names) in [
            (&mut self.models, "model", &capacity.models),
            (&mut self.adapters, "lora_adapter", &capacity.lora_adapters),
        ] {
            for name in names {
                let mut labels = labels.clone();
                labels.push((label, (*name).to_owned()));
                family.add(&labels, Some(1.0));
            }
        }
    }

    pub(super) fn into_families(self) -> [Family; 6] {
        [
            self.max_concurrency,
            self.kv_cache,
            self.host_cache,
            self.sleeping,
            self.models,
            self.adapters,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let mut families = CapacityFamilies::new();
        let labels = vec![("monitor", "chat".to_owned())];
        families.add(&labels, &Capacity::default());
        let capacity = Capacity {
            max_concurrency: Some(512.0),
            sleeping: Some(0),
            models: ["llama", "qwen"].into(),
            ..Capacity::default()
        };
        families.add(&labels, &capacity);
        let told: Vec<(&str, Vec<String>, f64)> = families
            .into_families()
            .into_iter()
            .flat_map(|family| {
                let name = family.name;
                let series = family.series.into_iter();
                series.map(move |(labels, value)| (name, labels.into_iter().map(|label| label.1).collect(), value))
            })
            .collect();
        let chat = |more: &[&str]| ["chat"].iter().chain(more).map(|&label| label.to_owned()).collect();
        let expected: [(&str, Vec<String>, f64); 4] = [
            ("infmon_monitor_max_concurrency", chat(&[]), 512.0),
            ("infmon_monitor_endpoints_sleeping", chat(&[]), 0.0),
            ("infmon_monitor_model", chat(&["llama"]), 1.0),
            ("infmon_monitor_model", chat(&["qwen"]), 1.0),
        ];
        assert_eq!(told, expected);
    }
}
