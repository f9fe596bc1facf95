//! llama.cpp `llama-server`, `GET /metrics`.
//!
//! Names were checked against b6700 and b10519 and a body of a running b11669 server. The series have no labels, there are no
//! histograms and no model name, and numbers have six significant digits.
//!
//! The KV cache gauges went away in May 2025 (PR 13660, about b5450): what replaces them comes from `GET /slots`, see
//! [`read_slots`](crate::read_slots). So KV cache use is not among the series that must be there.
//!
//! Never read: `prompt_tokens_seconds` and `predicted_tokens_seconds`, which every scrape resets, so that two scrapers
//! falsify each other.

use crate::collector::Collector;
use crate::exposition::Sample;
use crate::field::{Field, Part};
use crate::outcomes::Outcomes;
use crate::plan::{Findings, Plan, Required};
use crate::sample::Engine;
use crate::similar::Unread;

const REQUIRED: &[Required] = &[
    Required {
        field: Field::Waiting,
        name: "llamacpp:requests_deferred",
    },
    Required {
        field: Field::Running,
        name: "llamacpp:requests_processing",
    },
];

/// Reads the series of one body.
#[derive(Debug, Default)]
pub(crate) struct Mapper {
    collected: Collector,
    seen: bool,
    kv_cache_usage: bool,
    cached_tokens: bool,
    unread: Unread,
}

impl Mapper {
    pub(crate) const fn recognised(&self) -> bool {
        self.seen
    }

    pub(crate) fn family(&mut self, name: &[u8]) {
        self.seen |= key_of(name).is_some();
    }

    pub(crate) fn sample(&mut self, sample: &Sample<'_>, value: u32) -> bool {
        let Some(key) = key_of(sample.name) else { return false };
        self.seen = true;
        let fields: &[Field] = match key {
            b"requests_deferred" => &[Field::Waiting],
            b"requests_processing" => &[Field::Running],
            b"kv_cache_usage_ratio" => {
                self.kv_cache_usage = true;
                &[Field::KvCacheUsage]
            }
            // Tokens computed, without those found in the cache: the whole prompt, as vLLM counts it, is the sum of the two.
            b"prompt_tokens_total" => &[Field::PromptTokens, Field::PrefixQueryTokens],
            // Since about b10519.
            b"prompt_tokens_cached_total" => {
                self.cached_tokens = true;
                &[Field::PromptTokens, Field::PrefixQueryTokens, Field::PrefixHitTokens]
            }
            // Moves only when a request ends.
            b"tokens_predicted_total" => &[Field::GeneratedTokens],
            _ => {
                self.unread.note(sample.name);
                return false;
            }
        };
        let facts = self.collected.labels(sample.labels);
        for &field in fields {
            self.collected.push(field, 0, Part::Whole, &facts, value);
        }
        true
    }

    pub(crate) fn finish(mut self) -> Plan {
        if !self.cached_tokens {
            // Without the hits, the lookups are not known either: `prompt_tokens_total` counts the misses.
            self.collected
                .terms
                .retain(|term| term.field != Field::PrefixQueryTokens);
        }
        Plan::new(
            self.collected.terms,
            Findings {
                engine: Engine::LlamaCpp,
                generation: match (self.kv_cache_usage, self.cached_tokens) {
                    (true, _) => "before-b5450",
                    (false, true) => "b10519+",
                    (false, false) if self.seen => "b5450-b10518",
                    (false, false) => "",
                }
                .to_owned(),
                models: self.collected.models,
                constants: Vec::new(),
                outcomes: Outcomes::default(),
                adapters: Vec::new(),
                required: REQUIRED,
                hint: if self.seen {
                    "this version of llama-server does not publish the series, or names it in a way that is not known yet"
                } else {
                    "there are no llamacpp: series: check the port, and start llama-server with --metrics"
                }
                .to_owned(),
                unread: self.unread,
            },
        )
    }
}

/// The name without `llamacpp:` or `llamacpp_`.
fn key_of(name: &[u8]) -> Option<&[u8]> {
    match name.strip_prefix(b"llamacpp")?.split_first()? {
        (b':' | b'_', key) => Some(key),
        _ => None,
    }
}
