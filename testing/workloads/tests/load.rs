//! The load against servers over real HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, Router, http::StatusCode, routing::post};
use infmon_workloads::load::{Settings, run};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

/// What the server saw.
#[derive(Default)]
struct Seen {
    now: AtomicU64,
    most: AtomicU64,
}

/// A server whose answers take 20 ms, and the settings of a load on it.
async fn server(tokens: u64) -> (Settings, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let watched = Arc::clone(&seen);
    let answer = move |Json(question): Json<Value>| {
        let seen = Arc::clone(&watched);
        async move {
            assert_eq!(
                (&question["max_tokens"], &question["ignore_eos"]),
                (&json!(7), &json!(true))
            );
            let now = seen.now.fetch_add(1, Ordering::Relaxed) + 1;
            seen.most.fetch_max(now, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
            seen.now.fetch_sub(1, Ordering::Relaxed);
            Json(json!({"usage": {"completion_tokens": tokens}}))
        }
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/v1/completions", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/completions", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let settings = Settings {
        url: url.parse().unwrap(),
        concurrency: 4,
        max_tokens: 7,
        answer_within: Duration::from_secs(10),
        lasts: Some(Duration::from_millis(500)),
    };
    (settings, seen)
}

#[tokio::test]
async fn so_many_requests_are_under_way_as_asked_for() {
    let (settings, seen) = server(7).await;
    let outcome = run(&settings, CancellationToken::new(), |_| ()).await.unwrap();
    assert_eq!(seen.most.load(Ordering::Relaxed), 4);
    assert_eq!(outcome.failed, 0);
    assert!(outcome.completed > 4, "{}", outcome.line());
    let (median, late) = (outcome.latency(0.5).unwrap(), outcome.latency(0.95).unwrap());
    let line = outcome.line();
    assert!(
        line.starts_with(&format!("completed={} failed=0 p50=", outcome.completed)),
        "{line}"
    );
    assert!((0.02..5.0).contains(&median) && median <= late, "{}", outcome.line());
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let (mut settings, _) = server(7).await;
    settings.lasts = None;
    let stop = CancellationToken::new();
    let soon = stop.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(300)).await;
        soon.cancel();
    });
    let began = Instant::now();
    assert!(run(&settings, stop, |_| ()).await.unwrap().completed > 0);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_load_that_nothing_comes_of_fails_with_the_reason() {
    let (settings, _) = server(6).await;
    let error = run(&settings, CancellationToken::new(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("7 tokens were asked for"), "{error}");

    let mut wrong_path = settings.clone();
    wrong_path.url = settings
        .url
        .to_string()
        .replace("/v1/completions", "/")
        .parse()
        .unwrap();
    let error = run(&wrong_path, CancellationToken::new(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains(StatusCode::NOT_FOUND.as_str()), "{error}");

    for (url, reason) in [
        ("http://127.0.0.1:1/v1/completions", "no connection to 127.0.0.1:1"),
        ("https://127.0.0.1/v1/completions", "begins with http://"),
    ] {
        let mut settings = settings.clone();
        settings.url = url.parse().unwrap();
        let error = run(&settings, CancellationToken::new(), |_| ()).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
