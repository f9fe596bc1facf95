//! Where a server has its metrics, when the user does not say.

use super::body::is_json;
use super::http;
use super::note;
use super::source::BODY_LIMIT_BYTES;
use super::url::Url;
use infmon_engines::{BodyReader, Engine};

/// SGLang without `--enable-metrics` has nothing at `/metrics`, and this.
const LOADS_PATH: &str = "/v1/loads";

/// The metrics of a server, and where they were.
///
/// # Errors
/// When it gives none, with what to do about it.
pub(super) async fn metrics(url: &Url, engine: Option<Engine>) -> Result<(Url, Vec<u8>), String> {
    let url = match engine {
        Some(engine) if url.path_guessed => url.at(engine.metrics_path()),
        _ => url.clone(),
    };
    let answer = http::ask(&url, BODY_LIMIT_BYTES).await?;
    let success = answer.status.is_success();
    // JSON at /metrics is trtllm-serve's list, which gives each entry once: what it has elsewhere is better.
    if url.path_guessed && (answer.status == 404 || success && is_json(&answer.body)) {
        for path in other_paths() {
            let other = url.at(path);
            if let Ok(body) = http::get(&other, BODY_LIMIT_BYTES).await
                && BodyReader::new(engine).read(&body).is_ok()
            {
                let found = if success { "JSON" } else { "nothing" };
                note(&format!("{url} has {found}: read {path}"));
                return Ok((other, body));
            }
        }
    }
    if success {
        Ok((url, answer.body))
    } else {
        Err(http::refusal(&url, &answer))
    }
}

/// Where engines have their metrics that have them elsewhere than most.
fn other_paths() -> impl Iterator<Item = &'static str> {
    let own = Engine::ALL.into_iter().map(Engine::metrics_path);
    own.filter(|path| *path != "/metrics").chain([LOADS_PATH])
}
