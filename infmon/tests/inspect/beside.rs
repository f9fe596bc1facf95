//! What is told beside the metrics, and what no server of its kind can tell.

use super::{bodies, inspect, inspect_url, serve};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use std::fs;

#[test]
fn what_no_server_of_its_kind_can_tell_is_no_step_to_take() {
    for (body, limits) in [
        (
            "ollama-api-ps.json",
            "\nLimits: Ollama tells which models are loaded, and how much of them is on GPUs, and nothing else",
        ),
        ("triton-plain.txt", "\nLimits: Triton itself tells which requests wait"),
    ] {
        let (code, out, errors) = inspect(&[body], b"");
        assert_eq!((code, errors.as_str()), (0, ""));
        assert!(
            out.contains(limits) && !out.contains("Next: ") && !out.contains("Missing: "),
            "{out}"
        );
    }
}

#[tokio::test]
async fn the_model_of_tgi_and_of_trtllm_serve_is_asked_for() {
    const INFO: &str = r#"{"model_id":"a/b","max_concurrent_requests":128}"#;
    const MODELS: &str = r#"{"object":"list","data":[{"id":"llama"}]}"#;
    let file = |name: &str| fs::read(bodies().join(name)).unwrap();
    let (tgi, trtllm) = (file("tgi-3.3.7.txt"), file("trtllm-2026.txt"));
    let routes = Router::new()
        .route("/metrics", get(move || async move { tgi }))
        .route("/info", get(move || async move { INFO }));
    let (code, out, errors) = inspect_url(serve(routes).await).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let sample: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&sample["models"], &sample["maxConcurrency"]),
        (&json!(["a/b"]), &json!(128))
    );

    let routes = Router::new()
        .route("/prometheus/metrics", get(move || async move { trtllm }))
        .route("/v1/models", get(move || async move { MODELS }));
    let (code, out, _) = inspect_url(serve(routes).await).await;
    assert_eq!(code, 0);
    let sample: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(sample["models"], json!(["llama"]));
}

#[tokio::test]
async fn the_models_of_a_router_are_added_up() {
    use axum::extract::RawQuery;
    let body = fs::read(bodies().join("llamacpp.txt")).unwrap();
    let models = r#"{"data":[{"id":"a/b","status":{"value":"loaded"}},{"id":"c","status":{"value":"unloaded"}},
        {"id":"d","status":{"value":"loaded"}}]}"#;
    let metrics = |RawQuery(query): RawQuery| async move {
        match query.as_deref() {
            Some("model=a%2Fb&autoload=false" | "model=d&autoload=false") => (StatusCode::OK, body),
            _ => (StatusCode::BAD_REQUEST, Vec::new()),
        }
    };
    let slots = |RawQuery(query): RawQuery| async move {
        match query.as_deref() {
            Some("model=a%2Fb&autoload=false" | "model=d&autoload=false") => {
                (StatusCode::OK, r#"[{"id":0,"n_ctx":100,"is_processing":false}]"#)
            }
            _ => (StatusCode::BAD_REQUEST, ""),
        }
    };
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/slots", get(slots))
        .route("/models", get(move || async move { models }));
    let (code, out, errors) = inspect_url(serve(routes).await).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let sample: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&sample["models"], &sample["waiting"], &sample["maxConcurrency"]),
        (&json!(["a/b", "d"]), &json!(4), &json!(2))
    );
}

#[tokio::test]
async fn a_server_that_sleeps_is_not_woken() {
    let body = fs::read(bodies().join("llamacpp-idle.txt")).unwrap();
    let props = r#"{"total_slots":4,"is_sleeping":true,"model_alias":"tiny"}"#;
    let routes = Router::new()
        .route("/metrics", get(move || async move { body }))
        .route("/props", get(move || async move { props }));
    let (code, out, errors) = inspect_url(serve(routes).await).await;
    assert_eq!(code, 0, "{errors}");
    let sample: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&sample["sleeping"], &sample["maxConcurrency"]),
        (&json!(true), &json!(4))
    );
    assert!(errors.contains("would wake it"), "{errors}");
}

#[tokio::test]
async fn slots_that_are_turned_off_are_no_failure() {
    let body = fs::read(bodies().join("llamacpp.txt")).unwrap();
    let routes = Router::new()
        .route("/llama/metrics", get(move || async move { body }))
        .route("/llama/slots", get(|| async { StatusCode::NOT_IMPLEMENTED }));
    let (code, out, errors) = inspect_url(serve(routes).await + "/llama/metrics").await;
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("\"waiting\": 2"), "{out}");
    assert!(
        errors.contains("/llama/slots: ") && errors.contains("start it with --slots"),
        "{errors}"
    );
}
