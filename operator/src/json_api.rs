//! The JSON API, read-only: every monitor as the resource it is, with the status of this moment instead of the one last written.
//!
//! - `GET /api/v1/monitors`: `{"items": [...]}`
//! - `GET /api/v1/monitors/{namespace}/{name}`: one of them
//! - `GET /api/v1/monitors/{namespace}/{name}/endpoints`: its endpoints, each with its newest sample if it is young enough: the fields of
//!   `infmon inspect --json`, absent ones left out
//! - `GET /api/v1/nodes`: nodes, driver state, GPUs with their age in seconds, GPUs that do not answer, what happened to GPUs
//!
//! It has no authentication of its own: the standalone process serves it on loopback.

use crate::world::{Monitor, MonitorKey, SharedWorld};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use infmon_evaluation::{EndpointState, Moment, Observations, Place, ResolvedEndpoint, Totals};
use serde_json::{Value, json};

/// The routes.
pub fn router(world: SharedWorld) -> Router {
    Router::new()
        .route("/api/v1/monitors", get(monitors))
        .route("/api/v1/monitors/{namespace}/{name}", get(monitor))
        .route("/api/v1/monitors/{namespace}/{name}/endpoints", get(endpoints))
        .route("/api/v1/nodes", get(nodes))
        .with_state(world)
}

async fn monitors(State(world): State<SharedWorld>) -> Json<Value> {
    let items: Vec<Value> = world.read(|world, _| world.monitors().map(|(_, monitor)| object(monitor)).collect());
    Json(json!({"apiVersion": "inferencemonitor.io/v1alpha1", "kind": "InferenceMonitorList", "items": items}))
}

async fn monitor(State(world): State<SharedWorld>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let key = MonitorKey { namespace, name };
    let found = world.read(|world, _| world.monitor(&key).map(object));
    found.map_or_else(|| no_monitor(&key), |object| Json(object).into_response())
}

async fn endpoints(State(world): State<SharedWorld>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let key = MonitorKey { namespace, name };
    let found = world.read(|world, now| {
        let monitor = world.monitor(&key)?;
        Some(endpoints_of(monitor, world.observations(), now))
    });
    found.map_or_else(
        || no_monitor(&key),
        |items| Json(json!({"items": items})).into_response(),
    )
}

fn no_monitor(key: &MonitorKey) -> Response {
    let message = format!("there is no InferenceMonitor {key}; GET /api/v1/monitors lists them");
    (StatusCode::NOT_FOUND, Json(json!({"error": message}))).into_response()
}

/// What is known of each endpoint. A sample that is too old to be used is left out: its age and its state in the status say why.
fn endpoints_of(monitor: &Monitor, observations: &Observations, now: Moment) -> Vec<Value> {
    let totals = Totals::of(
        &monitor.resolution,
        observations,
        monitor.object.spec.stale_after(),
        now,
    );
    let of_endpoint = |(endpoint, state): &(&ResolvedEndpoint, EndpointState<'_>)| {
        let node = match &endpoint.place {
            Place::Node(node) => Some(node),
            Place::Anywhere | Place::Nowhere => None,
        };
        let (age, sample) = match state {
            EndpointState::Fresh { age, observation, .. } => (Some(age.as_secs_f64()), Some(&observation.sample)),
            EndpointState::Stale { age } => (Some(age.as_secs_f64()), None),
            _ => (None, None),
        };
        json!({
            "group": endpoint.group,
            "name": endpoint.name,
            "node": node,
            "serving": endpoint.serving,
            "labels": endpoint.labels,
            "sampleAgeSeconds": age,
            "sample": sample,
        })
    };
    totals.endpoints.iter().map(of_endpoint).collect()
}

async fn nodes(State(world): State<SharedWorld>) -> Json<Value> {
    let items: Vec<Value> = world.read(|world, now| {
        world
            .observations()
            .nodes()
            .map(|(name, node)| {
                json!({
                    "node": name,
                    "connected": node.connected,
                    "daemonVersion": node.identity.version,
                    "reportAgeSeconds": node.reported.map(|at| now.since(at).as_secs_f64()),
                    "driver": node.driver,
                    "gpuSampleAgeSeconds": node.gpus_taken.map(|at| now.since(at).as_secs_f64()),
                    "gpus": node.gpus,
                    "gpuOutages": node.outages,
                    "gpuIncidents": node.incidents,
                    "switchIncidents": node.switch_incidents,
                })
            })
            .collect()
    });
    Json(json!({"items": items}))
}

fn object(monitor: &Monitor) -> Value {
    let mut object = monitor.object.clone();
    object.status = Some(monitor.next.clone());
    object.metadata.managed_fields = None;
    json!(object)
}
