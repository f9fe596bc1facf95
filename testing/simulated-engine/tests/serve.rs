//! Simulated servers over real connections, read by the project's own reader.

use std::net::SocketAddr;
use std::time::Duration;

use infmon_engines::{BodyReader, Engine, HttpProblem, explain_http, merge_slots, read_slots};
use infmon_simulated_engine::{Kind, Load, Mode, SimulatedEngine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

async fn connect(address: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("send");
    stream
}

async fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = connect(address, method, path, body).await;
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
        .await
        .expect("in time")
        .expect("read");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a text head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    Answer {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    }
}

async fn get(engine: &SimulatedEngine, path: &str) -> Answer {
    send(engine.address(), "GET", path, "").await
}

fn busy() -> Load {
    let mut load = Load {
        model: "org/model \"x\"".to_owned(),
        running: 3,
        waiting: 7,
        max_concurrency: 4,
        kv_cache_usage: 0.5,
        prompt_tokens_total: 1000,
        prefix_cache_hit_tokens_total: 250,
        generated_tokens_total: 2_345_678,
        preemptions_total: 5,
        requests_succeeded_total: 40,
        requests_aborted_total: 2,
        ..Load::default()
    };
    load.time_to_first_token.observe(0.09, 3);
    load.time_to_first_token.observe(3.0, 1);
    load
}

#[tokio::test]
async fn vllm_says_what_it_was_told() {
    let engine = SimulatedEngine::start(Kind::Vllm, ANY_PORT).await.expect("start");
    engine.set(busy());
    let answer = get(&engine, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("text/plain; version=1.0.0; charset=utf-8"),
        "{}",
        answer.head
    );
    let reading = BodyReader::new(None).read(&answer.body).expect("readable");
    assert_eq!(reading.missing, Vec::<String>::new());
    let sample = reading.sample;
    assert_eq!(sample.engine, Some(Engine::Vllm));
    assert_eq!(sample.models, ["org/model \"x\""]);
    assert_eq!(
        (sample.running, sample.waiting, sample.kv_cache_usage),
        (Some(3.0), Some(7.0), Some(0.5))
    );
    assert_eq!(
        (sample.prompt_tokens_total, sample.prefix_cache_hit_tokens_total),
        (Some(1000.0), Some(250.0))
    );
    assert_eq!(
        (sample.generated_tokens_total, sample.preemptions_total),
        (Some(2_345_678.0), Some(5.0))
    );
    assert_eq!(
        (sample.requests_succeeded_total, sample.requests_failed_total),
        (Some(40.0), Some(2.0))
    );
    let first_token = sample.latency.time_to_first_token.expect("time to first token");
    assert_eq!((first_token.count, first_token.sum_seconds), (4.0, 3.27));
    let at = |bound| {
        first_token
            .buckets
            .iter()
            .find(|bucket| bucket.0 == bound)
            .map(|bucket| bucket.1)
    };
    assert_eq!(
        (at(Some(0.08)), at(Some(0.1)), at(Some(2.5)), at(Some(5.0)), at(None)),
        (Some(0.0), Some(3.0), Some(3.0), Some(4.0), Some(4.0))
    );
    for path in ["/health", "/version", "/v1/models"] {
        assert_eq!(get(&engine, path).await.status, 200, "{path}");
    }
    assert_eq!(get(&engine, "/slots").await.status, 404);
    assert_eq!(engine.requests(), 5);
}

#[tokio::test]
async fn llama_says_what_it_was_told() {
    let engine = SimulatedEngine::start(Kind::LlamaCpp, ANY_PORT).await.expect("start");
    engine.set(busy());
    let mut sample = BodyReader::new(None)
        .read(&get(&engine, "/metrics").await.body)
        .expect("readable")
        .sample;
    let slots = read_slots(&get(&engine, "/slots").await.body).expect("slots");
    merge_slots(&mut sample, &slots);
    assert_eq!(sample.engine, Some(Engine::LlamaCpp));
    assert_eq!((sample.running, sample.waiting), (Some(3.0), Some(7.0)));
    assert_eq!((sample.max_concurrency, sample.kv_cache_usage), (Some(4.0), Some(0.5)));
    assert_eq!(
        (sample.prompt_tokens_total, sample.prefix_cache_hit_tokens_total),
        (Some(1000.0), Some(250.0))
    );
    // Six significant digits, as the real server prints.
    assert_eq!(sample.generated_tokens_total, Some(2_345_680.0));
    assert_eq!(get(&engine, "/health").await.body, b"{\"status\":\"ok\"}");
    let props = get(&engine, "/props").await;
    assert!(String::from_utf8_lossy(&props.body).contains("\"total_slots\":4"));
}

#[tokio::test]
async fn the_load_changes_by_request() {
    let engine = SimulatedEngine::start(Kind::Vllm, ANY_PORT).await.expect("start");
    let change = r#"{"running":2,"waiting":9,"kvCacheUsage":0.25,"observe":[{"latency":"timeToFirstToken","seconds":1.5,"count":2}]}"#;
    assert_eq!(send(engine.address(), "POST", "/simulate", change).await.status, 204);
    let load = engine.load();
    assert_eq!((load.running, load.waiting, load.kv_cache_usage), (2, 9, 0.25));
    assert_eq!(load.time_to_first_token.count(), 2);
    assert_eq!(
        send(engine.address(), "POST", "/simulate", r#"{"wating":9}"#)
            .await
            .status,
        422
    );
    assert_eq!(
        send(engine.address(), "POST", "/simulate", r#"{"mode":"Loading"}"#)
            .await
            .status,
        204
    );
    assert_eq!(get(&engine, "/metrics").await.status, 503);
    assert_eq!(
        send(engine.address(), "POST", "/simulate", r#"{"mode":"Normal"}"#)
            .await
            .status,
        204
    );
    assert_eq!(get(&engine, "/metrics").await.status, 200);
}

#[tokio::test]
async fn refusals_are_those_of_real_servers() {
    let engine = SimulatedEngine::start(Kind::LlamaCpp, ANY_PORT).await.expect("start");
    for (mode, status, kind) in [
        (Mode::Unauthorized, 401, HttpProblem::Unauthorized),
        (Mode::MetricsDisabled, 501, HttpProblem::MetricsDisabled),
        (Mode::Loading, 503, HttpProblem::Loading),
        (Mode::Redirect, 302, HttpProblem::HttpStatus),
    ] {
        engine.misbehave(mode);
        let answer = get(&engine, "/metrics").await;
        assert_eq!(answer.status, status);
        assert_eq!(explain_http(status, &answer.body, "/metrics").kind, kind);
    }
    engine.misbehave(Mode::MetricsDisabled);
    assert_eq!(get(&engine, "/health").await.status, 200);
}

#[tokio::test]
async fn bodies_can_be_broken_short_slow_endless_or_never_come() {
    let engine = SimulatedEngine::start(Kind::Vllm, ANY_PORT).await.expect("start");

    engine.misbehave(Mode::Malformed);
    let body = get(&engine, "/metrics").await.body;
    assert!(BodyReader::new(None).read(&body).is_err());

    engine.misbehave(Mode::HalfBody);
    let answer = get(&engine, "/metrics").await;
    let promised: usize = answer
        .head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .expect("a length");
    assert_eq!(answer.body.len(), promised / 2);

    engine.misbehave(Mode::SlowTrickle);
    let mut stream = connect(engine.address(), "GET", "/metrics", "").await;
    let mut bytes = Vec::new();
    assert!(
        timeout(Duration::from_millis(400), stream.read_to_end(&mut bytes))
            .await
            .is_err()
    );
    assert!((1..1000).contains(&bytes.len()), "{}", bytes.len());

    engine.misbehave(Mode::HugeBody);
    let mut stream = connect(engine.address(), "GET", "/metrics", "").await;
    let mut bytes = vec![0; 8 * 1024 * 1024];
    timeout(Duration::from_secs(20), stream.read_exact(&mut bytes))
        .await
        .expect("in time")
        .expect("8 MiB");
    drop(stream);

    engine.misbehave(Mode::Hang);
    let mut stream = connect(engine.address(), "GET", "/metrics", "").await;
    assert!(timeout(Duration::from_millis(200), stream.read_u8()).await.is_err());

    // The end of the server cuts the connection that hangs, and frees the port.
    let address = engine.address();
    engine.shutdown().await;
    let ended = timeout(Duration::from_secs(5), stream.read_u8())
        .await
        .expect("in time");
    assert!(ended.is_err());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let engine = SimulatedEngine::start(Kind::LlamaCpp, ANY_PORT).await.expect("start");
    let mut stream = TcpStream::connect(engine.address()).await.expect("connect");
    for _ in 0..3 {
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("send");
        let mut bytes = [0; 1024];
        let length = timeout(Duration::from_secs(5), stream.read(&mut bytes))
            .await
            .expect("in time")
            .expect("read");
        assert!(bytes[..length].starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(engine.requests(), 3);
}
