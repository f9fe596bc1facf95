//! The gateway against servers that come, go, and are not ready, over real HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
    routing::post,
};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use infmon_engines::{BodyReader, EngineSample};
use infmon_workloads::gateway::{Settings, serve};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// No step of a test takes longer.
const LIMIT: Duration = Duration::from_secs(20);

struct Gateway {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Gateway {
    async fn start(backend: SocketAddr, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            backend: format!("localhost:{}", backend.port()),
            hold_at_most: 100,
            hold_for: LIMIT,
            answer_within: LIMIT,
        };
        change(&mut settings);
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(settings, listener, stop.clone()));
        Self {
            address,
            _stop: stop.drop_guard(),
        }
    }

    async fn ask(&self, path: &str) -> (StatusCode, String) {
        fetch(self.address, path, "question").await
    }

    /// A request that runs beside the test.
    fn begin(&self) -> JoinHandle<(StatusCode, String)> {
        tokio::spawn(fetch(self.address, "/v1/completions", "question"))
    }

    /// As the node daemon would read it.
    async fn sample(&self) -> EngineSample {
        let (status, body) = fetch(self.address, "/metrics", "").await;
        assert_eq!(status, StatusCode::OK);
        let reading = BodyReader::new(None).read(body.as_bytes()).unwrap();
        assert_eq!(reading.missing, Vec::<String>::new());
        reading.sample
    }

    async fn until_waiting(&self, number: u64) {
        let began = Instant::now();
        loop {
            let sample = self.sample().await;
            assert_eq!(sample.running, Some(0.0), "what runs is counted by its server");
            if sample.waiting == Some(number as f64) {
                return;
            }
            assert!(
                began.elapsed() < LIMIT,
                "{:?} wait, {number} were expected",
                sample.waiting
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// A socket that keeps its address and refuses connections until it listens. A free port would not do: another test might get it.
fn not_listening(address: Option<SocketAddr>) -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
        .bind(address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()))
        .unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn fetch(address: SocketAddr, path: &str, body: &'static str) -> (StatusCode, String) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder()
        .method(if body.is_empty() { "GET" } else { "POST" })
        .uri(format!("http://{address}{path}"))
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap();
    let answer = timeout(LIMIT, client.request(request)).await.unwrap().unwrap();
    let status = answer.status();
    let body = timeout(LIMIT, answer.into_body().collect()).await.unwrap().unwrap();
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// Answers what it is asked, after a moment.
async fn backend(listener: TcpListener) -> JoinHandle<()> {
    let echo = |request: Request| async move {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        let path = request.uri().to_string();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        sleep(Duration::from_millis(50)).await;
        format!("{host} {path} {}", String::from_utf8_lossy(&body))
    };
    let router = Router::new().route("/v1/{*path}", post(echo));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

#[tokio::test]
async fn requests_wait_while_there_is_no_server_and_are_all_answered_by_the_first() {
    let (socket, address) = not_listening(None);
    let gateway = Gateway::start(address, |_| ()).await;
    gateway.until_waiting(0).await;
    let asked: Vec<_> = (0..12).map(|_| gateway.begin()).collect();
    gateway.until_waiting(12).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(gateway.sample().await.waiting, Some(12.0));

    let _backend = backend(socket.listen(100).unwrap()).await;
    for answer in asked {
        let (status, body) = answer.await.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body, format!("localhost:{} /v1/completions question", address.port()));
    }
    gateway.until_waiting(0).await;
}

#[tokio::test]
async fn only_the_api_is_forwarded_with_its_query() {
    let listener = listener().await;
    let gateway = Gateway::start(listener.local_addr().unwrap(), |_| ()).await;
    let _backend = backend(listener).await;
    let (_, body) = gateway.ask("/v1/chat/completions?a=b").await;
    assert!(body.ends_with("/v1/chat/completions?a=b question"), "{body}");
    for path in ["/slots", "/props", "/"] {
        assert_eq!(gateway.ask(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, _) = fetch(gateway.address, "/health", "").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn no_more_are_held_than_may() {
    let (_socket, address) = not_listening(None);
    let gateway = Gateway::start(address, |settings| settings.hold_at_most = 2).await;
    let held: Vec<_> = (0..2).map(|_| gateway.begin()).collect();
    gateway.until_waiting(2).await;
    let (status, body) = gateway.ask("/v1/completions").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("2 requests wait for a server already"), "{body}");
    gateway.until_waiting(2).await;
    for held in held {
        held.abort();
    }
    // Whose client is gone does not wait any more.
    gateway.until_waiting(0).await;
}

#[tokio::test]
async fn nothing_is_held_for_ever() {
    let (_socket, address) = not_listening(None);
    let gateway = Gateway::start(address, |settings| settings.hold_for = Duration::from_millis(300)).await;
    let (status, body) = gateway.ask("/v1/completions").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("within 0.3 s") && body.contains("refused"), "{body}");
    gateway.until_waiting(0).await;
}

#[tokio::test]
async fn a_server_that_loads_its_model_gets_the_request_again() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let answer = move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            if number < 2 {
                return (StatusCode::SERVICE_UNAVAILABLE, "Loading model");
            }
            (StatusCode::OK, "done")
        }
    };
    let listener = listener().await;
    let gateway = Gateway::start(listener.local_addr().unwrap(), |_| ()).await;
    let router = Router::new().route("/v1/completions", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    assert_eq!(
        gateway.ask("/v1/completions").await,
        (StatusCode::OK, "done".to_owned())
    );
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    let (_, metrics) = fetch(gateway.address, "/metrics", "").await;
    assert!(metrics.contains("\ngateway_requests_repeated_total 2\n"), "{metrics}");
    assert!(metrics.contains("\ngateway_requests_answered_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_request_outlives_the_server_that_had_it() {
    let (first, address) = not_listening(None);
    let (second, _) = not_listening(Some(address));
    let first = first.listen(1).unwrap();
    let gateway = Gateway::start(address, |_| ()).await;
    let asked = gateway.begin();
    let (mut connection, _) = timeout(LIMIT, first.accept()).await.unwrap().unwrap();
    let mut some = [0; 64];
    assert!(connection.read(&mut some).await.unwrap() > 0);
    gateway.until_waiting(0).await;
    drop(first);
    drop(connection);
    gateway.until_waiting(1).await;

    let _backend = backend(second.listen(1).unwrap()).await;
    assert_eq!(asked.await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn a_server_learns_that_the_client_has_gone() {
    let listener = listener().await;
    let gateway = Gateway::start(listener.local_addr().unwrap(), |_| ()).await;
    let asked = gateway.begin();
    let (mut connection, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let mut rest = Vec::new();
    assert!(connection.read_buf(&mut rest).await.unwrap() > 0);
    asked.abort();
    timeout(LIMIT, connection.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    gateway.until_waiting(0).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_the_request_only() {
    let listener = listener().await;
    let gateway = Gateway::start(listener.local_addr().unwrap(), |settings| {
        settings.answer_within = Duration::from_millis(200);
    })
    .await;
    let silent = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
        }
    });
    let (status, body) = gateway.ask("/v1/completions").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert!(body.contains("within 0.2 s"), "{body}");
    silent.abort();
}

#[tokio::test]
async fn answers_come_through_as_they_are_made() {
    let listener = listener().await;
    let gateway = Gateway::start(listener.local_addr().unwrap(), |_| ()).await;
    let router = Router::new().route(
        "/v1/completions",
        post(|| async {
            let rest = futures::stream::pending::<Result<Bytes, std::io::Error>>();
            let first = futures::stream::once(async { Ok(Bytes::from_static(b"data: 1\n\n")) });
            Body::from_stream(futures::StreamExt::chain(first, rest))
        }),
    );
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("http://{}/v1/completions", gateway.address))
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap();
    let mut answer = timeout(LIMIT, client.request(request)).await.unwrap().unwrap();
    let frame = timeout(LIMIT, answer.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
    let at_servers = async || {
        let (_, metrics) = fetch(gateway.address, "/metrics", "").await;
        metrics.contains("\ngateway_requests_at_servers 1\n")
    };
    assert!(at_servers().await);
    drop(answer);
    drop(client);
    let began = Instant::now();
    while at_servers().await {
        assert!(began.elapsed() < LIMIT);
        sleep(Duration::from_millis(20)).await;
    }
}
