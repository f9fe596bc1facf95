//! JSON where Prometheus text was expected: what it is, said without repeating what users wrote to the model.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Characters of a server's message that are repeated.
const MESSAGE_LIMIT: usize = 160;

/// The shapes of error bodies: OpenAI's (`error.message`), llama.cpp's (the same), FastAPI's (`detail`), plain `message`.
#[derive(Deserialize)]
struct ErrorBody {
    error: Option<ErrorField>,
    message: Option<String>,
    detail: Option<Detail>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorField {
    Object {
        message: Option<String>,
    },
    Text(String),
    #[allow(dead_code, reason = "read and dropped")]
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Detail {
    Text(String),
    #[allow(dead_code, reason = "read and dropped")]
    Other(IgnoredAny),
}

/// The message of an error object, cleaned and cut.
pub(crate) fn error_message(body: &[u8]) -> Option<String> {
    let body: ErrorBody = serde_json::from_slice(body).ok()?;
    let error = match body.error {
        Some(ErrorField::Object { message }) => message,
        Some(ErrorField::Text(message)) => Some(message),
        Some(ErrorField::Other(_)) | None => None,
    };
    let detail = match body.detail {
        Some(Detail::Text(message)) => Some(message),
        Some(Detail::Other(_)) | None => None,
    };
    let message = error.or(body.message).or(detail)?;
    Some(clean(&message)).filter(|message| !message.is_empty())
}

/// What a JSON body is, and what to do about it.
pub(crate) fn describe(body: &[u8]) -> String {
    if let Some(message) = error_message(body) {
        return format!("the server answered with the error \"{message}\"");
    }
    #[derive(Deserialize)]
    struct Iteration {
        #[allow(dead_code, reason = "only its presence counts")]
        iter: IgnoredAny,
    }
    if serde_json::from_slice::<Vec<Iteration>>(body).is_ok_and(|list| !list.is_empty()) {
        return "TensorRT-LLM's iteration statistics; its Prometheus metrics are at /prometheus/metrics".to_owned();
    }
    if serde_json::from_slice::<Vec<IgnoredAny>>(body).is_ok_and(|list| list.is_empty()) {
        return "an empty list is what a trtllm-serve that does nothing gives at /metrics; if this is one, set spec.engine: TensorRTLLM, \
                and metricsPath: /prometheus/metrics tells more; else check the metrics path"
            .to_owned();
    }
    "check the metrics path".to_owned()
}

/// One line without control characters, at most [`MESSAGE_LIMIT`] characters.
fn clean(message: &str) -> String {
    message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_LIMIT)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// True when the whole body is one JSON value.
pub(crate) fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}
