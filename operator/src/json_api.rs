//! The JSON API, read-only: every monitor as the resource it is, with the status of this moment instead of the one last written.
//!
//! - `GET /api/v1/monitors`: `{"items": [...]}`
//! - `GET /api/v1/monitors/{namespace}/{name}`: one of them
//! - `GET /api/v1/nodes`: nodes, driver state, GPUs with their age in seconds, GPUs that do not answer, what happened to GPUs
//!
//! It has no authentication of its own: the standalone process serves it on loopback.

use crate::world::{Monitor, MonitorKey, SharedWorld};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// The routes.
pub fn router(world: SharedWorld) -> Router {
    Router::new()
        .route("/api/v1/monitors", get(monitors))
        .route("/api/v1/monitors/{namespace}/{name}", get(monitor))
        .route("/api/v1/nodes", get(nodes))
        .with_state(world)
}

async fn monitors(State(world): State<SharedWorld>) -> Json<Value> {
    let items: Vec<Value> = world.read(|world, _| world.monitors().map(|(_, monitor)| object(monitor)).collect());
    Json(json!({"apiVersion": "inferencemonitor.io/v1alpha1", "kind": "InferenceMonitorList", "items": items}))
}

async fn monitor(State(world): State<SharedWorld>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let key = MonitorKey { namespace, name };
    match world.read(|world, _| world.monitor(&key).map(object)) {
        Some(value) => Json(value).into_response(),
        None => {
            let message = format!("there is no InferenceMonitor {key}; GET /api/v1/monitors lists them");
            (StatusCode::NOT_FOUND, Json(json!({"error": message}))).into_response()
        }
    }
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
