//! The bodies of a server: where its metrics are when the user does not say, and what lies beside them.

use super::http;
use super::note;
use super::source::BODY_LIMIT_BYTES;
use super::url::Url;
use infmon_engines::{BodyReader, Engine, Slots, read_slots};

/// Where servers have their metrics that have nothing, or only JSON, at `/metrics`: NIM, trtllm-serve, Ollama.
const OTHER_PATHS: [&str; 3] = ["/v1/metrics", "/prometheus/metrics", "/api/ps"];
/// `/slots` of a server with many slots and long prompts in older builds.
const SLOTS_LIMIT_BYTES: usize = 1 << 20;

/// The metrics of a server, and where they were.
///
/// # Errors
/// When it gives none, with what to do about it.
pub(super) async fn metrics(url: &Url, engine: Option<Engine>) -> Result<(Url, Vec<u8>), String> {
    let answer = http::ask(url, BODY_LIMIT_BYTES).await?;
    let success = answer.status.is_success();
    let is_it = |body: &[u8]| BodyReader::new(engine).read(body).is_ok();
    if url.path_guessed && (answer.status == 404 || success && is_json(&answer.body) && !is_it(&answer.body)) {
        for path in OTHER_PATHS {
            let other = url.at(path);
            if let Ok(body) = http::get(&other, BODY_LIMIT_BYTES).await
                && is_it(&body)
            {
                note(&format!("{url} has no metrics: read {path}"));
                return Ok((other, body));
            }
        }
    }
    if success {
        Ok((url.clone(), answer.body))
    } else {
        Err(http::refusal(url, &answer))
    }
}

fn is_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// The slots of a llama-server, which lie beside its metrics.
///
/// # Errors
/// When there are none, with what to do about it.
pub(super) async fn slots(metrics: &Url) -> Result<Slots, String> {
    let url = metrics
        .beside_metrics("slots")
        .ok_or("name the slots with --slots: they are looked for beside a path that ends with /metrics")?;
    let body = http::get(&url, SLOTS_LIMIT_BYTES).await?;
    read_slots(&body).map_err(|error| format!("{url}: {error}"))
}
