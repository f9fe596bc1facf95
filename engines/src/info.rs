//! TGI `GET /info`: the model, and how many requests the server admits, which its metrics do not have.
//!
//! Fields were checked against `router/src/lib.rs` (`Info`) of 2.x and 3.3.7 (db931fcf). Left out: `max_batch_total_tokens` (2.x) is the budget that
//! requests reserve from, not the size of the KV cache.

use serde::Deserialize;

use crate::sample::EngineSample;

/// Bytes that the name of a model may have.
const MODEL_NAME_BYTES: usize = 512;

/// What a TGI server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// Name of the model, or its folder.
    pub model_id: String,
    /// Requests that the server admits, those that wait included: it answers 429 to all beyond (`--max-concurrent-requests`).
    pub max_concurrent_requests: u64,
    /// Requests in one batch, where a limit is set (`--max-batch-size`; 2.x tells it).
    #[serde(default)]
    pub max_batch_size: Option<u64>,
}

impl Info {
    /// The most requests that can run at once; `None` for an implausible 0.
    #[must_use]
    pub fn max_concurrency(&self) -> Option<u64> {
        let admitted = self.max_concurrent_requests;
        let most = self.max_batch_size.map_or(admitted, |batch| batch.min(admitted));
        (most > 0).then_some(most)
    }
}

/// Reads an `/info` body; `None` where it is something else.
#[must_use]
pub fn read_info(body: &[u8]) -> Option<Info> {
    serde_json::from_slice(body).ok()
}

/// Adds to a sample of `/metrics` what `/info` says.
pub fn merge_info(sample: &mut EngineSample, info: &Info) {
    let most = info.max_concurrency().map(|most| most as f64);
    sample.max_concurrency = sample.max_concurrency.or(most);
    if sample.models.is_empty() && !info.model_id.is_empty() && info.model_id.len() <= MODEL_NAME_BYTES {
        sample.models.push(info.model_id.clone());
    }
}
