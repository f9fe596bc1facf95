//! What is on the wire: raw servers that look at requests and answer what no HTTP library would.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::{Core, LOCAL, target};
use infmon_node_daemon::GpuOptions;
use infmon_samples::{FailureKind, Scheme};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const BODY: &str = "# TYPE vllm:num_requests_running gauge\n\
    vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n\
    # TYPE vllm:num_requests_waiting gauge\n\
    vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 1.0\n";

/// A server that writes `answer` to every request head, and notes heads and connections.
struct Raw {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    _task: JoinHandle<()>,
}

impl Raw {
    async fn start(answer: Vec<u8>, close: bool) -> Self {
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let connections = Arc::<Mutex<usize>>::default();
        let (noted, counted) = (Arc::clone(&heads), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *counted.lock().unwrap() += 1;
                tokio::spawn(answer_all(stream, answer.clone(), close, Arc::clone(&noted)));
            }
        });
        Self {
            address,
            heads,
            connections,
            _task: task,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn answer_all(mut stream: TcpStream, answer: Vec<u8>, close: bool, heads: Arc<Mutex<Vec<String>>>) {
    let mut buffer = Vec::new();
    loop {
        while !buffer.windows(4).any(|four| four == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
        heads
            .lock()
            .unwrap()
            .push(String::from_utf8(std::mem::take(&mut buffer)).unwrap());
        if stream.write_all(&answer).await.is_err() || close {
            return;
        }
    }
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{head}\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn nothing_secret_is_sent_and_nothing_encoded_is_asked_for() {
    // Cookies and challenges of earlier answers are not taken up either.
    let head = "Set-Cookie: session=1; Path=/\r\nWWW-Authenticate: Basic\r\n";
    let server = Raw::start(answer(head, BODY), false).await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
    core.good("a").await;
    harness::eventually("some requests", || (server.heads().len() >= 5).then_some(())).await;
    for head in server.heads() {
        let mut lines = head.trim_end().split("\r\n");
        assert_eq!(lines.next(), Some("GET /metrics HTTP/1.1"));
        let mut headers: Vec<String> = lines.map(str::to_ascii_lowercase).collect();
        headers.sort();
        assert_eq!(
            headers,
            [
                "accept-encoding: identity".to_owned(),
                "accept: text/plain;version=0.0.4".to_owned(),
                format!("host: {}", server.address),
                format!("user-agent: infmon-node-daemon/{}", env!("CARGO_PKG_VERSION")),
            ]
        );
    }
    assert_eq!(*server.connections.lock().unwrap(), 1, "the connection is kept");
}

#[tokio::test]
async fn a_server_that_closes_each_connection_is_no_failure() {
    for head in ["Connection: close\r\n", ""] {
        let server = Raw::start(answer(head, BODY), true).await;
        let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
        core.good("a").await;
        let mut reports = 0;
        core.target("a", "10 good reports", |target| {
            assert_eq!(target.failure, None);
            reports += 1;
            (reports > 10).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn broken_answers_have_names() {
    let endless_head = {
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        (0..10_000).for_each(|number| head.extend_from_slice(format!("X-{number}: {number}\r\n").as_bytes()));
        head
    };
    let gzip = answer("Content-Encoding: gzip\r\n", "\u{1f}not really");
    let promise = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nvllm".to_vec();
    let table = [
        (gzip, FailureKind::Malformed, "encoded (gzip)"),
        (promise, FailureKind::BodyTooLarge, "larger than 1048576 bytes"),
        (
            b"vllm:num_requests_running 3\n".to_vec(),
            FailureKind::Malformed,
            "not HTTP/1.1",
        ),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            FailureKind::Malformed,
            "not HTTP/1.1",
        ),
        (endless_head, FailureKind::Malformed, "more than 64 headers"),
        (Vec::new(), FailureKind::Unreachable, "before an answer"),
        (answer("", ""), FailureKind::Malformed, "empty"),
        (answer("", "<html>"), FailureKind::Malformed, "HTML"),
        (answer("", "up 1\n"), FailureKind::UnknownEngine, "no series"),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
            FailureKind::HttpStatus,
            "404",
        ),
    ];
    for (bytes, kind, words) in table {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let server = Raw::start(bytes, true).await;
        let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
        let failure = core.failure("a").await;
        assert!(
            failure.kind == kind && failure.message.contains(words),
            "{shown:?}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn targets_that_cannot_be_asked_say_why() {
    let server = Raw::start(answer("", BODY), false).await;
    let with = |change: fn(&mut infmon_samples::Target)| {
        let mut target = target("a", server.address);
        change(&mut target);
        target
    };
    let table = [
        (
            with(|target| target.address = "no-port".to_owned()),
            "neither ip:port nor host:port",
        ),
        (
            with(|target| target.address = "user:pass@evil\r\nX: y:80".to_owned()),
            "a",
        ),
        (
            with(|target| target.metrics_path = "metrics".to_owned()),
            "correct metricsPath",
        ),
        (
            with(|target| target.address = "no-such-host.invalid:80".to_owned()),
            "cannot resolve",
        ),
    ];
    for (target, words) in table {
        let mut core = Core::start(GpuOptions::Off, vec![target.clone()]);
        let failure = core.failure("a").await;
        assert!(failure.message.contains(words), "{target:?}: {failure:?}");
    }
    let heads = server.heads();
    assert!(heads.iter().all(|head| !head.starts_with("GET")), "{heads:?}");
}

#[tokio::test]
async fn https_to_a_server_of_plain_http_says_so() {
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let mut https = target("a", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    https.scheme = Scheme::Https;
    let mut core = Core::start(GpuOptions::Off, vec![https]);
    let failure = core.failure("a").await;
    assert!(failure.message.contains("does the server speak HTTPS"), "{failure:?}");
}

#[tokio::test]
async fn https_targets_are_read_whatever_their_certificate() {
    infmon_runtime::install_crypto_provider();
    let made = rcgen::generate_simple_self_signed(["somebody-else.test".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let config = infmon_runtime::tls::server_config(chain.as_bytes(), key.as_bytes(), &[]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut head = [0; 1024];
            while matches!(stream.read(&mut head).await, Ok(1..)) {
                stream.write_all(&answer("", BODY)).await.unwrap();
            }
        }
    });
    let mut https = target("a", address);
    https.scheme = Scheme::Https;
    https.deadline = Duration::from_secs(2);
    let mut core = Core::start(GpuOptions::Off, vec![https]);
    assert_eq!(core.good("a").await.sample.running, Some(3.0));
}
