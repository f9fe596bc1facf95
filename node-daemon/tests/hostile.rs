//! Servers that send without end, by the drop, by half, or far too much: each has a name, costs what it may cost, and holds up nobody else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::{Core, LOCAL, PERIOD, target};
use infmon_node_daemon::GpuOptions;
use infmon_samples::{FailureKind, Target};
use infmon_simulated_engine::{Kind, SimulatedEngine};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server sends after it has been asked: once, then again and again.
#[derive(Clone)]
struct Sends {
    first: Vec<u8>,
    again: Vec<u8>,
    pause: Duration,
    /// Ends the connection after what is sent first.
    ends: bool,
}

impl Sends {
    fn without_end(first: &str, again: &str) -> Self {
        Self {
            first: first.into(),
            again: again.into(),
            pause: Duration::ZERO,
            ends: false,
        }
    }

    fn once(first: impl Into<Vec<u8>>) -> Self {
        Self {
            first: first.into(),
            again: Vec::new(),
            pause: Duration::ZERO,
            ends: true,
        }
    }

    fn then_nothing(first: &str) -> Self {
        Self {
            ends: false,
            ..Self::once(first)
        }
    }

    fn by_the_drop(first: &str, again: &str) -> Self {
        Self {
            pause: Duration::from_millis(20),
            ..Self::without_end(first, again)
        }
    }

    async fn start(self) -> SocketAddr {
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let address = listener.local_addr().unwrap();
        let sends = Arc::new(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(send(stream, Arc::clone(&sends)));
            }
        });
        address
    }
}

async fn send(mut stream: TcpStream, sends: Arc<Sends>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    if stream.write_all(&sends.first).await.is_err() || sends.ends {
        return;
    }
    if sends.again.is_empty() {
        // Until the other side has enough.
        let _ = stream.read_buf(&mut head).await;
        return;
    }
    while stream.write_all(&sends.again).await.is_ok() {
        tokio::time::sleep(sends.pause).await;
    }
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\n";

/// What is sent, and what is to be said of it.
fn table() -> Vec<(&'static str, Sends, FailureKind, &'static str)> {
    let line = "vllm:num_requests_waiting 1\n";
    let chunk = format!("{:x}\r\n{}\r\n", line.len() * 1000, line.repeat(1000));
    let long_chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    let series: String = (0..1_000_000).map(|n| format!("vllm:x{n} 1\n")).collect();
    let labels = format!("vllm:x{{{}}} 1\n", "a=\"b\",".repeat(1_000_000));
    // The head of a gzip stream, with and without the header that names it.
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    let named = [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n".to_vec(),
        gzip.clone(),
    ]
    .concat();
    let unnamed = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_vec(), gzip].concat();
    vec![
        (
            "endless lines",
            Sends::without_end(CHUNKED, &chunk),
            FailureKind::BodyTooLarge,
            "larger than",
        ),
        (
            "a line without end",
            Sends::without_end(CHUNKED, &long_chunk),
            FailureKind::BodyTooLarge,
            "larger than",
        ),
        (
            "no length, and no end",
            Sends::without_end("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &line.repeat(1000)),
            FailureKind::BodyTooLarge,
            "larger than",
        ),
        (
            "a header without end",
            Sends::without_end(HEAD, &format!("X: {}", "a".repeat(4096))),
            FailureKind::Malformed,
            "64 KiB",
        ),
        (
            "headers without end",
            Sends::without_end(HEAD, &"X: a\r\n".repeat(1000)),
            FailureKind::Malformed,
            "64 headers",
        ),
        (
            "a header by the drop",
            Sends::by_the_drop(HEAD, "X"),
            FailureKind::Timeout,
            "no complete answer",
        ),
        (
            "a body by the drop",
            Sends::by_the_drop(CHUNKED, "1\r\na\r\n"),
            FailureKind::Timeout,
            "no complete answer",
        ),
        (
            "an interim answer without end",
            Sends::by_the_drop("", "HTTP/1.1 100 Continue\r\n\r\n"),
            FailureKind::Timeout,
            "no complete answer",
        ),
        (
            "half a body of a known length",
            Sends::once("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nvllm:num_requests_waiting 1\n"),
            FailureKind::Unreachable,
            "broke off within the body",
        ),
        (
            "half a body in chunks",
            Sends::once(format!("{CHUNKED}{chunk}")),
            FailureKind::Unreachable,
            "broke off within the body",
        ),
        (
            "half a body, then nothing",
            Sends::then_nothing("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nvllm:num_requests_waiting 1\n"),
            FailureKind::Timeout,
            "no complete answer",
        ),
        (
            "10^6 series",
            Sends::once(answer(&series)),
            FailureKind::BodyTooLarge,
            "more than 50000 series",
        ),
        (
            "a million labels",
            Sends::once(answer(&labels)),
            FailureKind::Malformed,
            "too many labels",
        ),
        (
            "a bomb with its name",
            Sends::once(named),
            FailureKind::Malformed,
            "encoded (gzip)",
        ),
        (
            "a bomb without it",
            Sends::once(unnamed),
            FailureKind::Malformed,
            "not Prometheus text",
        ),
    ]
}

/// A target with the limits of a real plan, as far as a test can wait.
fn large(id: &str, address: SocketAddr) -> Target {
    Target {
        // More than what ends by itself; large bodies are read one after the other.
        body_limit_bytes: if id.contains("end") { 2 } else { 16 } * 1024 * 1024,
        period: Duration::from_secs(1),
        deadline: Duration::from_secs(3),
        ..target(id, address)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_without_measure_is_told_and_holds_up_nobody() {
    let good = SimulatedEngine::start(Kind::Vllm, LOCAL).await.unwrap();
    let mut targets = vec![target("good", good.address())];
    let table = table();
    for (name, sends, ..) in &table {
        targets.push(large(name, sends.clone().start().await));
    }
    let mut core = Core::start(GpuOptions::Off, targets);
    core.good("good").await;
    let mut ages = Vec::new();
    core.report("the failure of each", |report| {
        ages.push(report.targets[0].last.as_ref().unwrap().age);
        let told = table
            .iter()
            .zip(&report.targets[1..])
            .all(|((_, _, kind, words), target)| {
                let failure = target.failure.as_ref();
                failure.is_some_and(|failure| failure.kind == *kind && failure.message.contains(words))
            });
        (told && ages.len() > 30).then_some(())
    })
    .await;
    ages.sort_unstable();
    // An unoptimised build, compilers and fifteen servers beside it: nearly all of the samples are of the period before, none is old.
    let (usual, worst) = (ages[ages.len() * 9 / 10], ages[ages.len() - 1]);
    println!("age of the good target's sample: 9 of 10 below {usual:.0?}, at most {worst:.0?}");
    assert!(usual < 2 * PERIOD + Duration::from_millis(300), "{usual:?}");
    assert!(worst < 2 * PERIOD + Duration::from_secs(1), "{worst:?}");
}
