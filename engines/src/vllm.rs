//! vLLM, V0 and V1.
//!
//! Names, units and labels were checked against the releases 0.6.6 to 0.33.0 and against bodies of running 0.32.0 servers.
//! Names are compared without their prefix, so `vllm:x`, `vllm_x`, `ray_vllm:x` and `ray_vllm_x` are one.
//!
//! What is left out, and why:
//!
//! * `cache_config_info{kv_cache_max_concurrency}` is not `max_concurrency`: it says how many requests *of full length* fit
//!   in the cache. A 0.32.0 server that runs 4 of 20 requests says 1024.
//! * V1 0.8 counts prefix cache hits in blocks (`gpu_prefix_cache_*`), not tokens, and gives no ratio: both fields stay absent.
//! * `external_prefix_cache_*` and `mm_cache_*` are other caches.
//! * `num_requests_swapped` (V0) counts requests that neither wait nor run.

use std::collections::BTreeMap;

use crate::collector::{Collector, LabelFacts};
use crate::exposition::{Label, Sample};
use crate::field::{Field, Part};
use crate::label_hash::LabelHash;
use crate::outcomes::{FINISHED_REASON, OutcomeSeries, Outcomes, by_label};
use crate::plan::{AdapterSet, Constant, Findings, Plan, Required};
use crate::repeated::Repeated;
use crate::sample::Engine;
use crate::similar::Unread;

const REQUIRED: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "vllm:num_requests_waiting",
    },
    Required {
        field: Field::Running,
        name: "vllm:num_requests_running",
    },
    Required {
        field: Field::KvCacheUsage,
        name: "vllm:kv_cache_usage_perc",
    },
];

/// Reads the series of one body.
#[derive(Debug, Default)]
pub(crate) struct Mapper {
    collected: Collector,
    outcomes: Outcomes,
    adapters: Vec<AdapterSet>,
    /// Tokens in the KV cache per engine; `None` where the body does not say. Keyed by label hash, for copies in several processes.
    capacity: BTreeMap<u64, Option<f64>>,
    /// The series that says so.
    capacity_name: String,
    seen: Seen,
    unread: Unread,
    repeated: Repeated,
}

/// What tells the generations apart.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent fact of the body")]
struct Seen {
    family: bool,
    sample: bool,
    engine_label: bool,
    triton_labels: bool,
    kv_cache_usage: bool,
    gpu_cache_usage: bool,
    time_per_output_token: bool,
    inter_token_latency: bool,
}

impl Seen {
    fn name(&mut self, key: &[u8]) {
        match key {
            b"kv_cache_usage_perc" => self.kv_cache_usage = true,
            b"gpu_cache_usage_perc" => self.gpu_cache_usage = true,
            b"time_per_output_token_seconds" => self.time_per_output_token = true,
            b"inter_token_latency_seconds" => self.inter_token_latency = true,
            _ => {}
        }
    }

    fn generation(&self) -> &'static str {
        match (self.engine_label, self.kv_cache_usage, self.gpu_cache_usage) {
            _ if self.triton_labels => "triton-backend",
            // Only llm-d-inference-sim has names of V1 without its label.
            (false, ..) if self.sample && (self.kv_cache_usage || self.inter_token_latency) => "simulator",
            (false, false, true) => "v0",
            (true, true, old) if old || self.time_per_output_token => "v1-0.9-0.11",
            (true, true, _) => "v1-0.12+",
            (true, false, true) => "v1-0.8",
            (true, false, false) => "v1",
            (false, ..) => "",
        }
    }

    const fn hint(&self) -> &'static str {
        if !self.family && !self.sample {
            "there are no vllm: series, as when vLLM runs with --disable-log-stats: start it without that flag"
        } else if self.triton_labels {
            "Triton's vLLM backend publishes no queue and cache gauges: run vLLM's own server to have them"
        } else if !self.sample || !self.engine_label {
            "vLLM V0 publishes its gauges only after the first request: send one, or wait for it"
        } else {
            "this version of vLLM does not publish the series, or names it in a way that is not known yet"
        }
    }
}

impl Mapper {
    pub(crate) const fn recognised(&self) -> bool {
        self.seen.family || self.seen.sample
    }

    pub(crate) fn family(&mut self, name: &[u8]) {
        if let Some(key) = key_of(name) {
            self.seen.family = true;
            self.seen.name(key);
        }
    }

    pub(crate) fn sample(&mut self, sample: &Sample<'_>, value: u32) -> bool {
        if let Some(feeds) = self.repeated.again(sample, value, &mut self.collected.terms) {
            return feeds;
        }
        let Some(key) = key_of(sample.name) else {
            self.repeated.ignore(sample);
            return false;
        };
        self.seen.sample = true;
        let (field, rank, part) = match key {
            b"lora_requests_info" => return self.adapter_set(sample, value),
            b"cache_config_info" => {
                self.cache_config(sample);
                return false;
            }
            _ => match scalar(key) {
                Some((field, rank)) => (field, rank, Part::Whole),
                None => {
                    let found = split_histogram(key).and_then(|(base, part)| Some((base, part, histogram(base)?)));
                    let Some((base, part, (field, rank))) = found else {
                        self.unread.note(sample.name);
                        self.repeated.ignore(sample);
                        return false;
                    };
                    self.seen.name(base);
                    (field, rank, part)
                }
            },
        };
        self.seen.name(key);
        let facts = self.collected.labels(sample.labels);
        self.outcome(field, rank, sample, &facts, value);
        self.seen.engine_label |= facts.has_engine;
        self.seen.triton_labels |= facts.has_version && !facts.has_engine;
        let field = match field {
            // vLLM counts every end of a request as success; the reason tells the failures. An unknown reason counts as the engine counts it.
            Field::RequestsSucceeded if matches!(facts.finished_reason.as_deref(), Some("abort" | "error")) => {
                Field::RequestsFailed
            }
            Field::Awake if facts.sleep_state.as_deref() != Some("awake") => return false,
            field => field,
        };
        let part = match (part, facts.bound) {
            (Part::Bucket(_), Some(bound)) => Part::Bucket(bound),
            // A bucket without a bound says nothing.
            (Part::Bucket(_), None) => return false,
            (part, _) => part,
        };
        self.collected.push(field, rank, part, &facts, value);
        if let (Part::Bucket(_), Some(term)) = (part, self.collected.terms.last()) {
            self.repeated.bucket(sample, term);
        }
        true
    }

    fn outcome(&mut self, field: Field, age: u8, sample: &Sample<'_>, facts: &LabelFacts<'_>, value: u32) {
        let series = match field {
            Field::RequestsSucceeded => ENDS,
            Field::RequestsFailed => REJECTIONS,
            _ => return,
        };
        self.outcomes.push(&series.older(age), sample.labels, facts, value);
    }

    fn adapter_set(&mut self, sample: &Sample<'_>, value: u32) -> bool {
        let list = |name| sample.labels.get(name).unwrap_or_default().into_owned();
        self.adapters.push(AdapterSet {
            value,
            running: list("running_lora_adapters"),
            waiting: list("waiting_lora_adapters"),
        });
        true
    }

    fn cache_config(&mut self, sample: &Sample<'_>) {
        // It has up to 39 labels: they are gone through once. Of two labels with one name the first counts.
        let mut hash = LabelHash::new();
        let [mut size, mut blocks, mut of_block] = [None; 3];
        for label in sample.labels {
            match label.name {
                b"kv_cache_size_tokens" => _ = size.get_or_insert(label),
                b"num_gpu_blocks" => _ = blocks.get_or_insert(label),
                b"block_size" => _ = of_block.get_or_insert(label),
                b"pid" => continue,
                _ => {}
            }
            hash.label(label);
        }
        let number = |label: Option<Label<'_>>| {
            let number = label?.value().parse::<f64>().ok();
            number.filter(|number| number.is_finite() && *number > 0.0)
        };
        // Since 0.26 vLLM says the tokens itself, which is exact for hybrid models too.
        let tokens = number(size).or_else(|| Some(number(blocks)? * number(of_block)?));
        self.capacity_name = String::from_utf8_lossy(sample.name).into_owned();
        self.capacity.insert(hash.finish(), tokens);
    }

    pub(crate) fn finish(self) -> Plan {
        // One engine that does not say how much it holds makes the whole unknown.
        let capacity = self
            .capacity
            .values()
            .copied()
            .sum::<Option<f64>>()
            .filter(|_| !self.capacity.is_empty());
        Plan::new(
            &self.collected.terms,
            Findings {
                engine: Engine::Vllm,
                generation: self.seen.generation().to_owned(),
                models: self.collected.models,
                constants: capacity
                    .map(|value| Constant {
                        field: Field::KvCapacity,
                        value,
                        name: self.capacity_name,
                    })
                    .into_iter()
                    .collect(),
                outcomes: self.outcomes,
                adapters: self.adapters,
                required: REQUIRED,
                hint: self.seen.hint().to_owned(),
                unread: self.unread,
            },
        )
    }
}

/// Every end of a request, whatever its name says.
const ENDS: OutcomeSeries = by_label("request_success", FINISHED_REASON, "success");
/// Requests refused before they reached the queue.
const REJECTIONS: OutcomeSeries = by_label("admission_rejections", "reason", "rejected").counter(1);

/// The name without `ray_` and without `vllm:` or `vllm_`.
fn key_of(name: &[u8]) -> Option<&[u8]> {
    let name = name.strip_prefix(b"ray_").unwrap_or(name).strip_prefix(b"vllm")?;
    match name.split_first()? {
        (b':' | b'_', key) => Some(key),
        _ => None,
    }
}

/// Gauges and counters, with the age of the name: 0 is the newest. On the wire counters end in `_total`; the names without it are those
/// of vLLM's own documents, which Ray exports as they are.
fn scalar(key: &[u8]) -> Option<(Field, u8)> {
    let found = match key {
        b"num_requests_waiting" => (Field::Waiting, 0),
        b"num_requests_running" => (Field::Running, 0),
        // 0.9 and later; a fraction in spite of its name, as is the older one.
        b"kv_cache_usage_perc" => (Field::KvCacheUsage, 0),
        // V0 to V1 0.10; hidden in 0.11, removed in 0.12.
        b"gpu_cache_usage_perc" => (Field::KvCacheUsage, 1),
        // 0.26 and later, with a KV connector.
        b"kv_offload_cpu_cache_usage_perc" => (Field::HostCacheUsage, 0),
        // V0.
        b"cpu_cache_usage_perc" => (Field::HostCacheUsage, 1),
        // Includes the tokens found in the prefix cache.
        b"prompt_tokens_total" => (Field::PromptTokens, 0),
        b"prompt_tokens" => (Field::PromptTokens, 1),
        b"generation_tokens_total" => (Field::GeneratedTokens, 0),
        b"generation_tokens" => (Field::GeneratedTokens, 1),
        b"num_preemptions_total" => (Field::Preemptions, 0),
        b"num_preemptions" => (Field::Preemptions, 1),
        b"prefix_cache_hits_total" => (Field::PrefixHitTokens, 0),
        b"prefix_cache_hits" => (Field::PrefixHitTokens, 1),
        b"prefix_cache_queries_total" => (Field::PrefixQueryTokens, 0),
        b"prefix_cache_queries" => (Field::PrefixQueryTokens, 1),
        // V0; -1 when prefix caching is off.
        b"gpu_prefix_cache_hit_rate" => (Field::PrefixHitRatio, 0),
        b"request_success_total" => (Field::RequestsSucceeded, 0),
        b"request_success" => (Field::RequestsSucceeded, 1),
        // 0.33: refused before they reached the queue.
        b"admission_rejections_total" => (Field::RequestsFailed, 0),
        b"admission_rejections" => (Field::RequestsFailed, 1),
        // 0.12 and later.
        b"engine_sleep_state" => (Field::Awake, 0),
        _ => return None,
    };
    Some(found)
}

/// Histograms in seconds, with the age of the name.
fn histogram(base: &[u8]) -> Option<(Field, u8)> {
    let found = match base {
        b"time_to_first_token_seconds" => (Field::TimeToFirstToken, 0),
        b"inter_token_latency_seconds" => (Field::InterToken, 0),
        // Up to 0.11: one observation per token, so this is inter-token latency in spite of its name.
        b"time_per_output_token_seconds" => (Field::InterToken, 1),
        b"request_time_per_output_token_seconds" => (Field::PerOutputToken, 0),
        b"e2e_request_latency_seconds" => (Field::EndToEnd, 0),
        b"request_queue_time_seconds" => (Field::QueueTime, 0),
        // V0, beside the name above.
        b"time_in_queue_requests" => (Field::QueueTime, 1),
        _ => return None,
    };
    Some(found)
}

fn split_histogram(key: &[u8]) -> Option<(&[u8], Part)> {
    // The bound stands in a label and is filled in later.
    let parts: [(&[u8], Part); 3] = [
        (b"_bucket", Part::Bucket(f64::INFINITY)),
        (b"_sum", Part::Sum),
        (b"_count", Part::Count),
    ];
    parts
        .into_iter()
        .find_map(|(suffix, part)| Some((key.strip_suffix(suffix)?, part)))
}
