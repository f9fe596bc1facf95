//! Failures as `metav1.Status` documents (apimachinery `pkg/apis/meta/v1/types.go`).
//!
//! The message reaches people word for word, in the conditions and Events of an HPA. No failure carries `Retry-After`:
//! client-go would sleep on it inside the HPA's worker (`rest/with_retry.go`).

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde::Serialize;

use super::media_type;

/// A request that is not answered with what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusDocument<'a> {
    kind: &'a str,
    api_version: &'a str,
    metadata: serde_json::Map<String, serde_json::Value>,
    status: &'a str,
    message: &'a str,
    reason: &'a str,
    code: u16,
}

impl Failure {
    /// 400: the request itself is wrong.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401: credentials were presented and are not valid.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 403: the caller is known, and may not.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 404: there is no such thing, or nothing is known of it now.
    ///
    /// A value that is stale or missing is a 404 too and not a 503: every adapter answers so, the HPA treats both alike,
    /// some clients retry a 503 for minutes, and 5xx answers count against the error budget of the API server.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// 405: everything here is read only.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "only GET is supported on the requested resource",
        )
    }

    /// 406: only JSON is served.
    pub(super) fn not_acceptable() -> Self {
        let message = format!("only the following media types are accepted: {}", media_type::JSON);
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// 500: our fault, or that of the API server we asked.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// 504: the request took longer than is useful.
    pub(super) fn timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            "the request did not complete within its deadline",
        )
    }

    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    /// The answer.
    pub(super) fn into_response(self) -> Response<Body> {
        let document = StatusDocument {
            kind: "Status",
            api_version: "v1",
            metadata: serde_json::Map::new(),
            status: "Failure",
            message: &self.message,
            reason: self.reason,
            code: self.code.as_u16(),
        };
        let mut response = json(self.code, &document);
        if self.code == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// A JSON answer.
pub(super) fn json(code: StatusCode, document: &impl Serialize) -> Response<Body> {
    let (code, body) = match serde_json::to_vec(document) {
        Ok(body) => (code, body),
        // Only a map with keys that are not strings can fail, and no document has one.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
    response
}
