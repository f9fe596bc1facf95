//! llama.cpp `GET /props`: the model's name, how many requests can run at once, and whether the server sleeps.
//!
//! With `--sleep-idle-seconds` a server lets go of its memory until the next request. `/slots` wakes it, `/props` does not (b7492 and later), so
//! this is asked first. `/metrics` before about b10519 keeps it awake (issue 20227): such a server never sleeps while it is watched.
//!
//! The body carries the chat template; only what is named here is read.

use serde::Deserialize;

use crate::sample::EngineSample;

/// Bytes that the name of a model may have.
const MODEL_NAME_BYTES: usize = 512;

/// What a llama-server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Props {
    /// Requests that can run at once; absent on a router.
    pub total_slots: Option<u64>,
    /// True while the server sleeps; absent before b7492.
    pub is_sleeping: Option<bool>,
    /// Name of the model, as `--alias` or the file gives it.
    pub model_alias: Option<String>,
    /// `router`, on a server that starts others.
    pub role: Option<String>,
}

impl Props {
    /// True for a server that only passes requests on to the servers of its models.
    #[must_use]
    pub fn is_router(&self) -> bool {
        self.role.as_deref() == Some("router")
    }
}

/// Reads a `/props` body; `None` where it is something else.
#[must_use]
pub fn read_props(body: &[u8]) -> Option<Props> {
    let props: Props = serde_json::from_slice(body).ok()?;
    (props != Props::default()).then_some(props)
}

/// Adds to a sample of `/metrics` what `/props` says.
pub fn merge_props(sample: &mut EngineSample, props: &Props) {
    sample.sleeping = sample.sleeping.or(props.is_sleeping);
    let slots = props.total_slots.filter(|slots| *slots > 0);
    sample.max_concurrency = sample.max_concurrency.or(slots.map(|slots| slots as f64));
    if sample.models.is_empty()
        && let Some(model) = &props.model_alias
        && !model.is_empty()
        && model.len() <= MODEL_NAME_BYTES
    {
        sample.models.push(model.clone());
    }
}
