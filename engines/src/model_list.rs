//! `GET /v1/models` of servers with OpenAI's API: the names of the models, where the metrics have none (`trtllm-serve`, whose label is `undefined`:
//! `serve/openai_server.py` (00057725), `get_model`).

use serde::Deserialize;

use crate::sample::EngineSample;

/// Models that one answer may name.
const MODEL_LIMIT: usize = 64;
/// Bytes that the name of one may have.
const MODEL_NAME_BYTES: usize = 512;

#[derive(Deserialize)]
struct List {
    data: Vec<Card>,
}

#[derive(Deserialize)]
struct Card {
    id: String,
}

/// The models of a `/v1/models` body; `None` where it is something else, or names none.
#[must_use]
pub fn read_model_list(body: &[u8]) -> Option<Vec<String>> {
    let list: List = serde_json::from_slice(body).ok()?;
    let mut models: Vec<String> = Vec::new();
    for Card { id } in list.data {
        if !id.is_empty() && id.len() <= MODEL_NAME_BYTES && models.len() < MODEL_LIMIT && !models.contains(&id) {
            models.push(id);
        }
    }
    (!models.is_empty()).then_some(models)
}

/// Adds the models to a sample that names none.
pub fn merge_model_list(sample: &mut EngineSample, models: &[String]) {
    if sample.models.is_empty() {
        sample.models.extend_from_slice(models);
    }
}
