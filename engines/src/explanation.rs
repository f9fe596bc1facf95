//! What an HTTP error of a metrics path means, and what to do next.

use crate::json::error_message;
use crate::sample::Engine;

/// The class of an HTTP problem, as conditions tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpProblem {
    /// The server runs, with its metrics turned off.
    MetricsDisabled,
    /// The server wants credentials.
    Unauthorized,
    /// The server is loading its model: wait.
    Loading,
    /// Any other status that is not a success.
    HttpStatus,
}

/// A problem with the step that solves it. The caller puts the address in front of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The class of the problem.
    pub kind: HttpProblem,
    /// What the server answered and what to do next; one line.
    pub message: String,
}

/// Explains a response that is not a success of a server whose engine is known, because the user named it or it answered before.
#[must_use]
pub fn explain_http_of(engine: Option<Engine>, status: u16, body: &[u8], path: &str) -> Explanation {
    let path_only = path.split('?').next().unwrap_or(path);
    let next = match engine {
        Some(Engine::Sglang) => "start SGLang with --enable-metrics",
        Some(Engine::TensorRtLlm) if path_only.starts_with("/prometheus") => {
            "set return_perf_metrics: true and enable_iter_perf_stats: true, or name /metrics, which gives JSON, as metricsPath"
        }
        Some(Engine::TensorRtLlm) => "set enable_iter_perf_stats: true, or scrape /prometheus/metrics",
        Some(Engine::LmDeploy) => "start LMDeploy without --disable-metrics, before 0.11.0 with --enable-metrics",
        Some(Engine::Nim) => {
            "NIM serves its metrics at /v1/metrics, its model for images at /metrics: correct metricsPath"
        }
        Some(Engine::Ollama) => "Ollama has no metrics; /api/ps lists its models: leave metricsPath out",
        // What other engines mean by a status is not what this server means.
        Some(Engine::Custom) if matches!(status, 404 | 501) => {
            return Explanation {
                kind: HttpProblem::HttpStatus,
                message: format!(
                    "the server answers {status} on {path_only}: correct spec.metricsPath, or check the port"
                ),
            };
        }
        _ => return explain_http(status, body, path),
    };
    if status != 404 {
        return explain_http(status, body, path);
    }
    Explanation {
        kind: HttpProblem::MetricsDisabled,
        message: format!("the server has nothing at {path_only} (404); {next}"),
    }
}

/// Explains a response of `path` that is not a success. `body` is as much of the body as was read.
#[must_use]
pub fn explain_http(status: u16, body: &[u8], path: &str) -> Explanation {
    let said = error_message(body);
    let explain = |kind, message: String| Explanation { kind, message };
    let path_only = path.split('?').next().unwrap_or(path);
    match status {
        // Only llama-server uses this status, for endpoints that a flag turns on.
        501 if path_only.ends_with("/slots") => explain(
            HttpProblem::MetricsDisabled,
            "llama-server answers 501 on /slots; start it with --slots, or without --no-slots".to_owned(),
        ),
        501 => explain(
            HttpProblem::MetricsDisabled,
            format!(
                "llama-server answers 501 on {path_only}; start it with --metrics (or LLAMA_ARG_ENDPOINT_METRICS=1)"
            ),
        ),
        401 | 403 => explain(
            HttpProblem::Unauthorized,
            format!(
                "the server answers {status} on {path_only}; it wants an API key or other credentials there (llama-server --api-key and \
                 LMDeploy --api-keys guard their metrics)"
            ),
        ),
        503 if said
            .as_deref()
            .is_some_and(|message| message.eq_ignore_ascii_case("loading model")) =>
        {
            explain(
                HttpProblem::Loading,
                format!(
                    "the server answers 503 on {path_only} while it loads its model; wait, or raise the startup time"
                ),
            )
        }
        404 => explain(
            HttpProblem::HttpStatus,
            format!(
                "the server has nothing at {path_only} (404); check the port and the metrics path (SGLang wants \
                 --enable-metrics; trtllm-serve has /prometheus/metrics with return_perf_metrics: true, NIM /v1/metrics; Ollama \
                 has none: name it in spec.engine)"
            ),
        ),
        300..=399 => explain(
            HttpProblem::HttpStatus,
            format!(
                "the server answers {status} on {path_only}; redirects are not followed: name the final path and scheme"
            ),
        ),
        _ => {
            let said = said.map(|message| format!(": \"{message}\"")).unwrap_or_default();
            let step = match status {
                // A llama-server router serves several models.
                400 if path_only == path => {
                    "; a llama-server router answers so, and its list of models could not be read"
                }
                429 => "; it limits requests: raise the sample period",
                500..=599 => "; see the server's log",
                _ => "; check the port and the metrics path",
            };
            explain(
                HttpProblem::HttpStatus,
                format!("the server answers {status} on {path_only}{said}{step}"),
            )
        }
    }
}
