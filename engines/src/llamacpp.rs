//! llama.cpp `llama-server`, `GET /metrics`.
//!
//! Names were checked against b6700 and b10519 and a body of a running b11669 server. The series have no labels, there are no
//! histograms and no model name, and numbers have six significant digits.
//!
//! `tokens_predicted_seconds_total` is the time from the first generated token to the last, and `tokens_predicted_total` the number of tokens,
//! each added up over the requests that ended (`server_metrics::on_prediction`, `slot.t_token_generation`): their ratio is the mean time per
//! token, over tokens and not over requests.
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
        let whole = |field| (field, Part::Whole);
        let fields: &[(Field, Part)] = match key {
            b"requests_deferred" => &[whole(Field::Waiting)],
            b"requests_processing" => &[whole(Field::Running)],
            b"kv_cache_usage_ratio" => {
                self.kv_cache_usage = true;
                &[whole(Field::KvCacheUsage)]
            }
            // Tokens computed, without those found in the cache: the whole prompt, as vLLM counts it, is the sum of the two.
            b"prompt_tokens_total" => &[whole(Field::PromptTokens), whole(Field::PrefixQueryTokens)],
            // Since about b10519.
            b"prompt_tokens_cached_total" => {
                self.cached_tokens = true;
                &[
                    whole(Field::PromptTokens),
                    whole(Field::PrefixQueryTokens),
                    whole(Field::PrefixHitTokens),
                ]
            }
            // Both move only when a request ends.
            b"tokens_predicted_total" => &[whole(Field::GeneratedTokens), (Field::PerOutputToken, Part::MeanCount)],
            b"tokens_predicted_seconds_total" => &[(Field::PerOutputToken, Part::MeanSum)],
            _ => {
                self.unread.note(sample.name);
                return false;
            }
        };
        let facts = self.collected.labels(sample.labels);
        for &(field, part) in fields {
            self.collected.push(field, 0, part, &facts, value);
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
            &self.collected.terms,
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
