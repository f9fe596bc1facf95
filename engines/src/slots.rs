//! llama.cpp `GET /slots`: how many requests can run at once, and how full the KV cache is.
//!
//! `/slots` carries what users wrote to the model (`params`, `prompt`, `generated`). Only the numbers named here are read; the rest
//! is skipped by the decoder, and no error repeats a part of the body.

use std::fmt;

use serde::Deserialize;

use crate::sample::EngineSample;
use crate::scalar::ratio;

/// Slots that one body may list; servers have 1 to some tens.
const SLOT_LIMIT: usize = 4096;

/// The slots of a llama-server.
///
/// Used tokens are those of slots that are *processing*. A slot keeps its tokens after the request for the next prompt that
/// begins alike, and gives them up as soon as another request needs the place: they are cache, as vLLM's free blocks are, and an idle
/// server must not look like a full one.
///
/// With a KV cache split between the slots (`--parallel N`) `used / context` is the share of the cache in use. With a
/// unified cache (`--kv-unified`, the default without `--parallel` since about b7000) each slot shows the size of the
/// whole, which `/slots` does not tell apart: there the share is too low, by at most the number of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// Slots: requests that can run at once.
    pub total: u64,
    /// Slots that process a request.
    pub busy: u64,
    /// Tokens that the slots have room for, summed over all slots.
    pub context_tokens: u64,
    /// Tokens held by the slots that process a request: prompt and generated so far. `None` where the build does not say (before
    /// about b10519) and a slot is busy.
    pub used_tokens: Option<u64>,
}

/// Why a `/slots` body could not be read. It never repeats a part of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotsError {
    /// Not a JSON array of slots.
    NotSlots {
        /// Line of the first problem, from 1.
        line: usize,
        /// Column of the first problem.
        column: usize,
    },
    /// An empty list, or more slots than any server has.
    Count(usize),
    /// A slot without a word on whether it is busy.
    NoState,
}

impl fmt::Display for SlotsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSlots { line, column } => {
                write!(
                    f,
                    "the /slots body is not a list of slots: line {line}, column {column}"
                )
            }
            Self::Count(count) => write!(f, "the /slots body lists {count} slots, expected 1 to {SLOT_LIMIT}"),
            Self::NoState => f.write_str("the /slots body does not say which slots are busy"),
        }
    }
}

impl std::error::Error for SlotsError {}

#[derive(Deserialize)]
struct Slot {
    #[serde(default)]
    n_ctx: u64,
    /// Since b4027.
    is_processing: Option<bool>,
    /// Before b4027: 0 is idle.
    state: Option<i64>,
    /// In spite of its name the whole sequence: processed, cached and generated tokens (seen on b11669: 76 + 20 + 751 = 847). Adding
    /// `n_decoded` would count the generated ones twice.
    n_prompt_tokens: Option<u64>,
}

impl Slot {
    fn is_busy(&self) -> bool {
        self.is_processing
            .unwrap_or_else(|| self.state.is_some_and(|state| state != 0))
    }
}

/// Reads a `/slots` body of any build.
///
/// # Errors
///
/// When the body is not a list of slots, or an implausible one.
pub fn read_slots(body: &[u8]) -> Result<Slots, SlotsError> {
    let list: Vec<Slot> = serde_json::from_slice(body).map_err(|error| SlotsError::NotSlots {
        line: error.line(),
        column: error.column(),
    })?;
    if list.is_empty() || list.len() > SLOT_LIMIT {
        return Err(SlotsError::Count(list.len()));
    }
    if list
        .iter()
        .any(|slot| slot.is_processing.is_none() && slot.state.is_none())
    {
        return Err(SlotsError::NoState);
    }
    let busy = || list.iter().filter(|slot| slot.is_busy());
    Ok(Slots {
        total: list.len() as u64,
        busy: busy().count() as u64,
        context_tokens: list.iter().fold(0, |sum, slot| slot.n_ctx.saturating_add(sum)),
        used_tokens: busy().try_fold(0_u64, |sum, slot| Some(slot.n_prompt_tokens?.saturating_add(sum))),
    })
}

/// Adds to a sample of `/metrics` what `/slots` says: `max_concurrency`, and `kv_cache_usage` where the metrics do not have it.
///
/// `running` and `waiting` stay those of the metrics, which are of one moment.
pub fn merge_slots(sample: &mut EngineSample, slots: &Slots) {
    sample.max_concurrency = Some(slots.total as f64);
    if let (None, Some(used), 1..) = (sample.kv_cache_usage, slots.used_tokens, slots.context_tokens) {
        sample.kv_cache_usage = ratio(used as f64 / slots.context_tokens as f64);
    }
}
