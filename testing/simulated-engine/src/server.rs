//! The HTTP server of a simulated engine, well-behaved or not.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::load::{Load, LoadChange};
use crate::{body, homemade};

/// The content type of vLLM's `/metrics` with a recent Prometheus client.
const VLLM_CONTENT_TYPE: &str = "text/plain; version=1.0.0; charset=utf-8";
const PLAIN_CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// A chunk of the body that never ends.
const HUGE_CHUNK_BYTES: usize = 64 * 1024;
/// Time between two bytes of a trickle: the body takes hours.
const TRICKLE_PAUSE: Duration = Duration::from_millis(100);

/// The engine that is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// vLLM 0.32.0: `/metrics`, `/health`, `/version`, `/v1/models`.
    Vllm,
    /// llama-server b11669: `/metrics`, `/slots`, `/health`, `/props`.
    LlamaCpp,
    /// A server of nobody's make: `/metrics` with names, labels and units of its own, and nothing else.
    Homemade,
}

/// How a server answers. All but [`Mode::Normal`] apply to every path except `POST /simulate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Mode {
    /// As a sound server.
    #[default]
    Normal,
    /// 401, as llama-server answers without its API key.
    Unauthorized,
    /// 501, as llama-server answers without `--metrics`; `/health` answers as ever.
    MetricsDisabled,
    /// 503, as llama-server answers on every path while it loads its model.
    Loading,
    /// Takes the request and never answers.
    Hang,
    /// Answers `/health` and nothing else, as llama-server does while a long prompt is in the batch.
    Busy,
    /// Sends the head, then one byte of the body each 100 ms.
    SlowTrickle,
    /// Sends comment lines without end.
    HugeBody,
    /// Sends a metrics body with a line that is none.
    Malformed,
    /// Promises the whole body, sends half of it, and closes the connection.
    HalfBody,
    /// 302 to the same path of another host.
    Redirect,
}

struct Shared {
    kind: Kind,
    load: Mutex<Load>,
    mode: Mutex<Mode>,
    requests: AtomicU64,
}

impl Shared {
    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metrics(&self) -> (&'static str, String) {
        let load = self.load();
        match self.kind {
            Kind::Vllm => (VLLM_CONTENT_TYPE, body::vllm(&load)),
            Kind::LlamaCpp => (PLAIN_CONTENT_TYPE, body::llama(&load)),
            Kind::Homemade => (PLAIN_CONTENT_TYPE, homemade::metrics(&load)),
        }
    }
}

/// A simulated server. It stops with its connections when it is dropped.
pub struct SimulatedEngine {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
    stop: DropGuard,
}

impl std::fmt::Debug for SimulatedEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedEngine")
            .field("kind", &self.shared.kind)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl SimulatedEngine {
    /// Starts an idle server; port 0 takes a free port.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn start(kind: Kind, address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("bind {address}"))?;
        let address = listener.local_addr().context("read the bound address")?;
        let shared = Arc::new(Shared {
            kind,
            load: Mutex::new(Load::default()),
            mode: Mutex::new(Mode::Normal),
            requests: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, routes(&shared), stop.clone()));
        Ok(Self {
            address,
            shared,
            task,
            stop: stop.drop_guard(),
        })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its metrics.
    #[must_use]
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Sets the load that it reports.
    pub fn set(&self, load: Load) {
        *self.shared.load() = load;
    }

    /// Changes the load that it reports.
    pub fn change(&self, change: impl FnOnce(&mut Load)) {
        change(&mut self.shared.load());
    }

    /// The load that it reports.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.load().clone()
    }

    /// Sets how it answers requests that come from now on.
    pub fn misbehave(&self, mode: Mode) {
        *self.shared.mode() = mode;
    }

    /// Requests so far, without those of `POST /simulate`.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Stops listening and cuts every connection.
    pub async fn shutdown(self) {
        drop(self.stop);
        // A task that ended with a panic has stopped too.
        let _ = self.task.await;
    }
}

/// Accepts connections until it is stopped; the end of the set cuts those that are left, answered or not.
async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of file descriptors, most likely: try again when some are back.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let service = TowerToHyperService::new(routes.clone());
                connections.spawn(async move {
                    // A client that goes away is no event.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

fn routes(shared: &Arc<Shared>) -> Router {
    let engine = match shared.kind {
        Kind::Vllm => Router::new()
            .route("/health", get(|| async { StatusCode::OK }))
            .route("/version", get(|| async { Json(json!({"version": "0.32.0"})) }))
            .route("/v1/models", get(models)),
        Kind::LlamaCpp => Router::new()
            .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
            .route(
                "/slots",
                get(|State(shared): State<Arc<Shared>>| async move { Json(body::slots(&shared.load())) }),
            )
            .route(
                "/props",
                get(|State(shared): State<Arc<Shared>>| async move { Json(body::props(&shared.load())) }),
            ),
        Kind::Homemade => Router::new(),
    };
    engine
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(Arc::clone(shared), misbehaving))
        .route("/simulate", post(simulate))
        .with_state(Arc::clone(shared))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let (content_type, body) = shared.metrics();
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let id = shared.load().model.clone();
    Json(json!({"object": "list", "data": [{"id": id, "object": "model", "owned_by": "vllm"}]}))
}

/// Changes the load and the mode at run time, for tests that run the server as a process.
async fn simulate(State(shared): State<Arc<Shared>>, Json(change): Json<LoadChange>) -> StatusCode {
    if let Some(mode) = change.mode {
        *shared.mode() = mode;
    }
    change.apply(&mut shared.load());
    StatusCode::NO_CONTENT
}

async fn misbehaving(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let mode = *shared.mode();
    let path = request.uri().path();
    match mode {
        Mode::Normal => next.run(request).await,
        Mode::MetricsDisabled | Mode::Busy if path == "/health" => next.run(request).await,
        Mode::Unauthorized => error(StatusCode::UNAUTHORIZED, "authentication_error", "Invalid API Key"),
        Mode::MetricsDisabled => error(
            StatusCode::NOT_IMPLEMENTED,
            "not_supported_error",
            "This server does not support metrics endpoint. Start it with `--metrics`",
        ),
        Mode::Loading => error(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", "Loading model"),
        Mode::Hang | Mode::Busy => std::future::pending().await,
        Mode::SlowTrickle => {
            let bytes = stream::unfold((shared.metrics().1.into_bytes(), 0), |(body, at)| async move {
                tokio::time::sleep(TRICKLE_PAUSE).await;
                let byte = Bytes::copy_from_slice(body.get(at..=at)?);
                Some((Ok::<_, Infallible>(byte), (body, at + 1)))
            });
            Body::from_stream(bytes).into_response()
        }
        Mode::HugeBody => {
            let chunk = Bytes::from("# HELP nothing to see here\n".repeat(HUGE_CHUNK_BYTES / 27));
            Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone()))).into_response()
        }
        Mode::Malformed => {
            let (content_type, body) = shared.metrics();
            (
                [(header::CONTENT_TYPE, content_type)],
                body + "this is { not = a sample\n",
            )
                .into_response()
        }
        Mode::HalfBody => {
            let body = shared.metrics().1;
            let length = body.len();
            let half = Bytes::copy_from_slice(body.as_bytes().get(..length / 2).unwrap_or_default());
            let stream = stream::unfold(Some(half), |half| async move {
                if half.is_none() {
                    // hyper drops what it has not sent yet when a body ends before its promised length: let it send first.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Some((Ok::<_, Infallible>(half?), None))
            });
            ([(header::CONTENT_LENGTH, length)], Body::from_stream(stream)).into_response()
        }
        Mode::Redirect => (
            StatusCode::FOUND,
            [(header::LOCATION, format!("http://redirected.invalid{path}"))],
        )
            .into_response(),
    }
}

/// An error as llama-server words it.
fn error(status: StatusCode, kind: &str, message: &str) -> Response {
    (
        status,
        Json(json!({"error": {"message": message, "type": kind, "code": status.as_u16()}})),
    )
        .into_response()
}
