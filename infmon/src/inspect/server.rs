//! Where a server has its metrics, when the user does not say.

use super::body::is_json;
use super::http::Client;
use super::note;
use super::source::BODY_LIMIT_BYTES;
use super::url::Url;
use super::way::Way;
use infmon_engines::{Engine, read_router_models, router_query};

/// SGLang without `--enable-metrics` has nothing at `/metrics`, and this.
const LOADS_PATH: &str = "/v1/loads";

/// What a server has.
pub(super) enum Metrics {
    /// One body, and where it was.
    Body(Url, Vec<u8>),
    /// The models that a llama-server router has loaded.
    Models(Url, Vec<RouterModel>),
}

/// What a llama-server router gives of one model.
pub(super) struct RouterModel {
    pub(super) name: String,
    /// Its metrics.
    pub(super) body: Vec<u8>,
    /// Its slots, where it tells them.
    pub(super) slots: Option<Vec<u8>>,
}

/// The metrics of a server.
///
/// # Errors
/// When it gives none, with what to do about it.
pub(super) async fn metrics(client: &Client, url: &Url, way: &Way) -> Result<Metrics, String> {
    let engine = way.engine();
    let url = match engine {
        Some(engine) if url.path_guessed => url.at(engine.metrics_path()),
        _ => url.clone(),
    };
    let answer = client.ask(&url, BODY_LIMIT_BYTES).await?;
    let success = answer.status.is_success();
    // JSON at /metrics is trtllm-serve's list, which gives each entry once: what it has elsewhere is better.
    if url.path_guessed && (answer.status == 404 || success && is_json(&answer.body)) {
        for path in other_paths() {
            let other = url.at(path);
            if let Ok(body) = client.get(&other, BODY_LIMIT_BYTES).await
                && way.inspect(&body).is_ok()
            {
                let found = if success { "JSON" } else { "nothing" };
                note(&format!("{url} has {found}: read {path}"));
                return Ok(Metrics::Body(other, body));
            }
        }
    }
    if answer.status == 400
        && matches!(engine, None | Some(Engine::LlamaCpp))
        && let Some(models) = models(client, &url).await
    {
        return Ok(Metrics::Models(url, models?));
    }
    if success {
        Ok(Metrics::Body(url, answer.body))
    } else {
        Err(client.refusal(&url, &answer, engine))
    }
}

/// The metrics of the models of a router, which refuses to give metrics without a model; `None` where it is none.
async fn models(client: &Client, metrics: &Url) -> Option<Result<Vec<RouterModel>, String>> {
    if metrics.path.query().is_some() {
        return None;
    }
    let list = client
        .get(&metrics.beside_metrics("/models")?, BODY_LIMIT_BYTES)
        .await
        .ok()?;
    let models = match read_router_models(&list)? {
        Ok(models) => models,
        Err(too_many) => return Some(Err(format!("{metrics}: {too_many}"))),
    };
    let mut found = Vec::new();
    for name in models {
        let url = metrics.with_query(&router_query(&name))?;
        let body = client.get(&url, BODY_LIMIT_BYTES).await.ok()?;
        let slots = client.get(&url.beside_metrics("/slots")?, BODY_LIMIT_BYTES).await.ok();
        found.push(RouterModel { name, body, slots });
    }
    Some(Ok(found))
}

/// Where engines have their metrics that have them elsewhere than most.
fn other_paths() -> impl Iterator<Item = &'static str> {
    let own = Engine::ALL.into_iter().map(Engine::metrics_path);
    own.filter(|path| *path != "/metrics").chain([LOADS_PATH])
}
