//! The way of one request: to a server that takes it, or into the queue until one does.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts},
    response::IntoResponse,
};
use http_body_util::Full;
use infmon_runtime::{Backoff, BackoffPolicy};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{Gateway, counts::Counted};
use crate::exchange::Connection;

/// The longest prompt that is taken.
const BODY_LIMIT: usize = 4 << 20;
/// How long a client may take to send its request.
const RECEIVE: Duration = Duration::from_secs(30);
/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Often enough that a server that is ready gets its requests within a second, and no storm when hundreds wait.
const RETRY: BackoffPolicy = BackoffPolicy {
    first: Duration::from_millis(100),
    max: Duration::from_secs(1),
};
/// Headers that speak of one connection, not of the request or the answer.
const OF_THE_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How an attempt ended.
enum Attempt {
    /// The server answered, or took too long.
    Answer(Response<Body>),
    /// The server has done nothing for the client, and the reason.
    NotTaken(String),
}

pub(super) async fn forward(State(gateway): State<Arc<Gateway>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = match timeout(RECEIVE, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return refusal(StatusCode::PAYLOAD_TOO_LARGE, &error),
        Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT, &"the request did not come in time"),
    };
    gateway.hand_on(&parts, &body).await
}

impl Gateway {
    /// Tries until a server answers or the time is over.
    async fn hand_on(&self, parts: &Parts, body: &Bytes) -> Response<Body> {
        let deadline = Instant::now() + self.settings.hold_for;
        let mut pauses = Backoff::new(RETRY);
        let mut waiting = self.counts.wait(self.settings.hold_at_most);
        if waiting.is_none() {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            let message = format!("{} requests wait for a server already", self.settings.hold_at_most);
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
        loop {
            let reason = match self.attempt(parts, body, &mut waiting).await {
                Attempt::Answer(answer) => return answer,
                Attempt::NotTaken(reason) => reason,
            };
            // It was let in once: the limit is for those that come.
            waiting = waiting.or_else(|| self.counts.wait(u64::MAX));
            if pauses.failures() == 0 {
                tracing::info!(path = parts.uri.path(), reason, "holding a request");
            }
            let pause = pauses.next_delay();
            if Instant::now() + pause >= deadline {
                self.counts.expired.fetch_add(1, Ordering::Relaxed);
                let seconds = self.settings.hold_for.as_secs_f64();
                let message = format!("no server took the request within {seconds} s: {reason}");
                return refusal(StatusCode::SERVICE_UNAVAILABLE, &message);
            }
            sleep(pause).await;
        }
    }

    /// One attempt. The request counts as waiting until a server takes the connection, so that pauses between attempts are no
    /// gaps in the queue.
    async fn attempt(&self, parts: &Parts, body: &Bytes, waiting: &mut Option<Counted>) -> Attempt {
        let connection = match Connection::open(&self.settings.backend, CONNECT).await {
            Ok(connection) => connection,
            Err(error) => return Attempt::NotTaken(error.to_string()),
        };
        let request = match self.request(parts, body.clone()) {
            Ok(request) => request,
            Err(error) => return Attempt::Answer(refusal(StatusCode::BAD_REQUEST, &error)),
        };
        drop(waiting.take());
        let forwarded = self.counts.forward();
        let not_taken = match timeout(self.settings.answer_within, connection.send(request)).await {
            // What llama-server answers while it loads its model, and a proxy that has no server.
            Ok(Ok(answer)) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
                "the server answers 503: it is not ready".to_owned()
            }
            Ok(Ok(answer)) => {
                self.counts.answered.fetch_add(1, Ordering::Relaxed);
                return Attempt::Answer(hand_back(answer, forwarded));
            }
            Ok(Err(error)) => format!("the server ended the connection without an answer: {error}"),
            Err(_) => {
                let seconds = self.settings.answer_within.as_secs_f64();
                let message = format!("the server did not answer within {seconds} s");
                return Attempt::Answer(refusal(StatusCode::GATEWAY_TIMEOUT, &message));
            }
        };
        self.counts.repeated.fetch_add(1, Ordering::Relaxed);
        Attempt::NotTaken(not_taken)
    }

    fn request(&self, parts: &Parts, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(parts.method.clone())
            .uri(path)
            .body(Full::new(body))?;
        *request.headers_mut() = passed_on(&parts.headers);
        // Its length is that of the body; the name is that under which the server is called.
        request.headers_mut().remove(header::CONTENT_LENGTH);
        let host = HeaderValue::from_str(&self.settings.backend)?;
        request.headers_mut().insert(header::HOST, host);
        Ok(request)
    }
}

/// The server's answer for the client. It counts as being at a server until the last byte is through.
fn hand_back(answer: Response<Body>, forwarded: Counted) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    parts.headers = passed_on(&parts.headers);
    let body = http_body_util::BodyExt::map_frame(body, move |frame| {
        let _counted = &forwarded;
        frame
    });
    Response::from_parts(parts, Body::new(body))
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    headers
}

/// An error in the form that clients of these servers know.
fn refusal(status: StatusCode, message: &dyn fmt::Display) -> Response<Body> {
    let error = json!({"error": {"message": message.to_string(), "type": "gateway_error", "code": status.as_u16()}});
    (status, Json(error)).into_response()
}
