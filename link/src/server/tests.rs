//! Peers that do not keep to the rules.

use super::LinkServerOptions;
use crate::codec::encode_report;
use crate::codec::tests::full_report;
use crate::testing::{Authority, Event, Operator, SERVER_NAME, TOKEN, eventually};
use crate::wire::node_link_client::NodeLinkClient;
use crate::wire::{FromNode, Hello, ToNode, from_node, to_node};
use crate::{MESSAGE_LIMIT_BYTES, PROTOCOL_VERSION};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use infmon_runtime::tls;
use infmon_samples::{Plan, Report, Target, TargetId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

type Sender = http2::SendRequest<tonic::body::Body>;

async fn tls_stream(operator: &Operator, authority: &Authority) -> TlsStream<TcpStream> {
    let config = tls::client_config(authority.pem.as_bytes(), &[b"h2"]).unwrap();
    let stream = TcpStream::connect(operator.address).await.unwrap();
    let name = SERVER_NAME.try_into().unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

async fn http2(operator: &Operator, authority: &Authority) -> Sender {
    let stream = tls_stream(operator, authority).await;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// A stream whose messages the test writes itself.
struct Peer {
    outbound: mpsc::Sender<FromNode>,
    inbound: Result<Streaming<ToNode>, Status>,
}

impl Peer {
    async fn open(sender: Sender, token: Option<&str>, first: Option<FromNode>) -> Self {
        let (outbound, messages) = mpsc::channel(64);
        if let Some(first) = first {
            outbound.send(first).await.unwrap();
        }
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let service = tower::service_fn(move |request| sender.clone().send_request(request));
        let origin = format!("https://{SERVER_NAME}").parse().unwrap();
        let mut client = NodeLinkClient::with_origin(service, origin);
        let inbound = client.connect(request).await.map(tonic::Response::into_inner);
        Self { outbound, inbound }
    }

    /// A peer that was let in.
    async fn admitted(operator: &Operator, authority: &Authority, node: &str) -> Self {
        let peer = Self::open(http2(operator, authority).await, Some(TOKEN), Some(hello(node))).await;
        assert!(peer.inbound.is_ok(), "{:?}", peer.inbound);
        peer
    }

    async fn send(&self, message: FromNode) {
        // Fails when the operator has ended the stream, which is what such tests are about.
        let _ = self.outbound.send(message).await;
    }

    /// Reads up to the end of the stream, which must come with a reason.
    async fn end(self) -> Status {
        let mut inbound = match self.inbound {
            Ok(inbound) => inbound,
            Err(status) => return status,
        };
        let end = async {
            loop {
                if let Err(status) = inbound.message().await.map(|message| message.expect("a reason")) {
                    return status;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), end)
            .await
            .expect("the stream ends")
    }
}

fn hello(node: &str) -> FromNode {
    FromNode {
        message: Some(from_node::Message::Hello(Hello {
            protocol_version: PROTOCOL_VERSION,
            node: node.to_owned(),
            pod: "daemon".to_owned(),
            daemon_version: "0.1.0".to_owned(),
        })),
    }
}

fn report(report: &Report) -> FromNode {
    FromNode {
        message: Some(from_node::Message::Report(encode_report(report, Duration::ZERO))),
    }
}

fn quick() -> LinkServerOptions {
    LinkServerOptions {
        handshake_deadline: Duration::from_millis(200),
        first_message_deadline: Duration::from_millis(200),
        authentication_deadline: Duration::from_millis(200),
        ..LinkServerOptions::default()
    }
}

async fn refusal(token: Option<&str>, first: Option<FromNode>) -> (Code, String) {
    let authority = Authority::new();
    let operator = Operator::start(&authority, quick()).await;
    let peer = Peer::open(http2(&operator, &authority).await, token, first).await;
    let status = peer.end().await;
    assert_eq!(
        operator.book.events(),
        [],
        "nothing is kept for a peer that was refused"
    );
    operator.stop().await;
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn refusals_say_why() {
    let other_version = FromNode {
        message: Some(from_node::Message::Hello(Hello {
            protocol_version: 2,
            node: "node-1".to_owned(),
            ..Hello::default()
        })),
    };
    let words = "the node daemon speaks link protocol 2, this operator 1: run both from the same release";
    assert_eq!(
        refusal(Some(TOKEN), Some(other_version)).await,
        (Code::FailedPrecondition, words.to_owned())
    );
    let table = [
        (None, Some(hello("n")), Code::Unauthenticated, "no bearer token"),
        (
            Some("stolen"),
            Some(hello("n")),
            Code::Unauthenticated,
            "not one of node n",
        ),
        (Some("later"), Some(hello("n")), Code::Unavailable, "API server"),
        (Some(TOKEN), Some(hello("")), Code::InvalidArgument, "node name"),
        (
            Some(TOKEN),
            Some(report(&Report::default())),
            Code::InvalidArgument,
            "must be a Hello",
        ),
        (Some(TOKEN), None, Code::DeadlineExceeded, "first message"),
    ];
    for (token, first, code, words) in table {
        let (got, message) = refusal(token, first).await;
        assert!(
            got == code && message.contains(words),
            "{got:?} {message} instead of {code:?} {words}"
        );
    }
}

#[tokio::test]
async fn little_is_read_before_the_authentication() {
    let (_, message) = refusal(Some(TOKEN), Some(hello(&"n".repeat(100_000)))).await;
    assert!(!message.contains("node name"), "the whole name was read: {message}");
}

#[tokio::test]
async fn an_oversized_message_ends_the_stream() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    let peer = Peer::admitted(&operator, &authority, "node-1").await;
    let mut large = Report::default();
    large.gpus.samples.push(infmon_gpu::GpuSample {
        name: "x".repeat(MESSAGE_LIMIT_BYTES + 1),
        ..infmon_gpu::GpuSample::default()
    });
    peer.send(report(&large)).await;
    let status = peer.end().await;
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let gone = Event::Disconnected("node-1".to_owned());
    eventually("disconnected", || operator.book.has(&gone)).await;
    assert_eq!(operator.book.reports("node-1"), []);
}

#[tokio::test]
async fn a_flood_of_reports_ends_the_stream() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    let peer = Peer::admitted(&operator, &authority, "node-1").await;
    for _ in 0..60 {
        peer.send(report(&Report::default())).await;
    }
    let status = peer.end().await;
    assert_eq!(status.message(), "more than 50 messages in a second");
    assert!(operator.book.reports("node-1").len() <= 50);
}

#[tokio::test]
async fn messages_that_make_no_sense_end_the_stream() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    let twice = Peer::admitted(&operator, &authority, "node-1").await;
    twice.send(hello("node-1")).await;
    assert_eq!(twice.end().await.message(), "a second Hello");

    let broken = Peer::admitted(&operator, &authority, "node-2").await;
    let mut message = encode_report(&full_report(), Duration::ZERO);
    message.bucket_bounds.clear();
    broken
        .send(FromNode {
            message: Some(from_node::Message::Report(message)),
        })
        .await;
    assert_eq!(broken.end().await.code(), Code::InvalidArgument);

    let newer = Peer::admitted(&operator, &authority, "node-3").await;
    newer.send(FromNode { message: None }).await;
    newer.send(report(&full_report())).await;
    eventually("the report after an unknown message", || {
        operator.book.reports("node-3").pop()
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_does_not_read_holds_up_nobody_and_gets_the_newest_plan() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    // A plan larger than every buffer on the way.
    let plan = |revision| Plan {
        revision,
        targets: vec![
            Target {
                id: TargetId("t".repeat(1000)),
                scheme: infmon_samples::Scheme::Http,
                address: "127.0.0.1:8000".to_owned(),
                metrics_path: "/metrics".to_owned(),
                engine: None,
                mapping: infmon_engines::Mapping::default(),
                period: Duration::from_secs(1),
                deadline: Duration::from_secs(1),
                body_limit_bytes: 1,
                access: infmon_samples::Access::default(),
                pod_uid: None,
            };
            3000
        ],
        ..Plan::default()
    };
    operator.book.set_plan("slow", plan(1));
    let slow = Peer::admitted(&operator, &authority, "slow").await;
    for revision in 2..20 {
        operator.book.set_plan("slow", plan(revision));
        slow.send(report(&Report {
            plan_revision: revision,
            ..Report::default()
        }))
        .await;
        let reported = || {
            operator
                .book
                .reports("slow")
                .iter()
                .any(|r| r.plan_revision == revision)
                .then_some(())
        };
        eventually("its own report", reported).await;
    }
    operator.book.set_plan("node-1", Plan::default());
    let mut other = Peer::admitted(&operator, &authority, "node-1").await;
    assert!(other.inbound.as_mut().unwrap().message().await.unwrap().is_some());

    let mut inbound = slow.inbound.unwrap();
    let mut revisions = Vec::new();
    while revisions.last() != Some(&19) {
        let message = inbound.message().await.unwrap().unwrap();
        let Some(to_node::Message::Plan(plan)) = message.message else {
            panic!("no plan");
        };
        revisions.push(plan.revision);
    }
    assert!(revisions.len() < 6, "plans in between are skipped: {revisions:?}");
}

#[tokio::test]
async fn a_stream_without_plan_source_ends() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    let peer = Peer::admitted(&operator, &authority, "node-1").await;
    eventually("connected", || (operator.book.connections() == 1).then_some(())).await;
    operator.book.plans.lock().unwrap().clear();
    assert_eq!(
        peer.end().await.message(),
        "the operator has no plan for this node any more"
    );
}

#[tokio::test]
async fn connections_that_lead_nowhere_are_closed() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, quick()).await;
    let mut byte = [0; 64];
    let mut silent = TcpStream::connect(operator.address).await.unwrap();
    let mut no_http = tls_stream(&operator, &authority).await;
    let no_stream = http2(&operator, &authority).await;
    let read = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut byte))
        .await
        .unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let closed = async { while matches!(no_http.read(&mut byte).await, Ok(length) if length > 0) {} };
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
    eventually("closed", || no_stream.is_closed().then_some(())).await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let authority = Authority::new();
    let options = LinkServerOptions {
        max_connections: 2,
        ..LinkServerOptions::default()
    };
    let operator = Operator::start(&authority, options).await;
    let _first = Peer::admitted(&operator, &authority, "node-1").await;
    let second = Peer::admitted(&operator, &authority, "node-2").await;
    let mut third = TcpStream::connect(operator.address).await.unwrap();
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_secs(5), third.read(&mut byte))
        .await
        .unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(second);
    let gone = Event::Disconnected("node-2".to_owned());
    eventually("a free place", || operator.book.has(&gone)).await;
}

#[tokio::test]
async fn a_connection_carries_one_stream() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    let connection = http2(&operator, &authority).await;
    let first = Peer::open(connection.clone(), Some(TOKEN), Some(hello("node-1"))).await;
    // HTTP/2 makes the second one wait for a free place; the connection ends with the first stream, so it never gets one.
    let second = tokio::spawn(Peer::open(connection.clone(), Some(TOKEN), Some(hello("node-2"))));
    drop(first);
    eventually("the end of the connection", || connection.is_closed().then_some(())).await;
    assert!(second.await.unwrap().inbound.is_err());
    assert_eq!(operator.book.connections(), 1);
}

#[tokio::test]
async fn an_expired_token_ends_the_stream() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    *operator.book.valid_for.lock().unwrap() = Some(Duration::from_millis(50));
    let peer = Peer::admitted(&operator, &authority, "node-1").await;
    let status = peer.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "the token is about to expire: connect again")
    );
}

#[tokio::test]
async fn counts_tell_what_happened() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, quick()).await;
    let peer = Peer::admitted(&operator, &authority, "node-1").await;
    peer.send(report(&full_report())).await;
    eventually("the report", || operator.book.reports("node-1").pop()).await;
    let _ = Peer::open(http2(&operator, &authority).await, None, Some(hello("n")))
        .await
        .end()
        .await;
    let _silent = TcpStream::connect(operator.address).await.unwrap();
    let counts = Arc::clone(&operator.counts);
    eventually("the failed handshake", || {
        (counts.failed_handshakes.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    assert_eq!(counts.connections.load(Ordering::Relaxed), 3);
    assert_eq!(counts.refused.load(Ordering::Relaxed), 1);
    assert_eq!(counts.sessions.load(Ordering::Relaxed), 1);
    assert_eq!(counts.reports.load(Ordering::Relaxed), 1);
}
