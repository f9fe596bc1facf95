//! What is asked beside the metrics: slots, sleep and routers of llama.cpp, loads of SGLang.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::{Core, LOCAL, target};
use infmon_engines::Engine;
use infmon_node_daemon::GpuOptions;
use infmon_samples::FailureKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

type Answers = &'static [(&'static str, u16, &'static str)];

/// Bodies of one path, one after the other; the last one stays.
type Sequence = (&'static str, &'static [&'static str]);

/// A server that knows its answers by heart; every other path is 404.
struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    async fn start(answers: Answers) -> Self {
        Self::start_with(answers, None).await
    }

    async fn one_after_another(path: &'static str, bodies: &'static [&'static str]) -> Self {
        Self::start_with(&[], Some((path, bodies))).await
    }

    async fn start_with(answers: Answers, sequence: Option<Sequence>) -> Self {
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut path = String::new();
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                        if let Some(rest) = line.strip_prefix("GET ") {
                            rest.split(' ').next().unwrap().clone_into(&mut path);
                        } else if line == "\r\n" {
                            let found = answers.iter().find(|answer| answer.0 == path);
                            let before = log.lock().unwrap().iter().filter(|asked| **asked == path).count();
                            let (status, body) = match (found, sequence) {
                                (Some(answer), _) => (answer.1, answer.2),
                                (None, Some((of, bodies))) if of == path => (200, bodies[before.min(bodies.len() - 1)]),
                                _ => (404, ""),
                            };
                            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                            stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                            log.lock().unwrap().push(std::mem::take(&mut path));
                        }
                        line.clear();
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn was_asked(&self, path: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == path)
    }
}

const IDLE: &str =
    "llamacpp:requests_deferred 0\nllamacpp:requests_processing 0\nllamacpp:prompt_tokens_cached_total 0\n";
const SLOTS: &str = r#"[{"id":0,"n_ctx":100,"is_processing":false},{"id":1,"n_ctx":100,"is_processing":false}]"#;

const OF_A: &str = "/metrics?model=a%2Fb&autoload=false";
const OF_C: &str = "/metrics?model=c&autoload=false";

#[tokio::test]
async fn a_sleeping_llama_server_is_not_woken() {
    let server = Stub::start(&[
        ("/metrics", 200, IDLE),
        (
            "/props",
            200,
            r#"{"total_slots":2,"model_alias":"tiny","is_sleeping":true}"#,
        ),
        ("/slots", 200, SLOTS),
    ])
    .await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
    let sample = core.good("a").await.sample;
    assert_eq!((sample.sleeping, sample.max_concurrency), (Some(true), Some(2.0)));
    assert_eq!(
        (sample.waiting, sample.models.as_slice()),
        (Some(0.0), ["tiny".to_owned()].as_slice())
    );
    assert!(server.was_asked("/props") && !server.was_asked("/slots"));
}

#[tokio::test]
async fn a_llama_server_that_is_awake_or_too_old_to_sleep_is_asked_for_its_slots() {
    const AWAKE: Answers = &[
        ("/metrics", 200, IDLE),
        ("/props", 200, r#"{"total_slots":2,"is_sleeping":false}"#),
        ("/slots", 200, SLOTS),
    ];
    const OLD: Answers = &[("/metrics", 200, IDLE), ("/slots", 200, SLOTS)];
    for answers in [AWAKE, OLD] {
        let server = Stub::start(answers).await;
        let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
        let sample = core.good("a").await.sample;
        assert_eq!((sample.max_concurrency, sample.kv_cache_usage), (Some(2.0), Some(0.0)));
        assert!(server.was_asked("/slots"));
    }
}

#[tokio::test]
async fn a_router_is_read_model_by_model() {
    let server = Stub::start(&[
        ("/metrics", 400, r#"{"error":{"message":"model name is missing","code":400}}"#),
        (
            "/models",
            200,
            r#"{"data":[{"id":"a/b","status":{"value":"loaded"}},{"id":"c","status":{"value":"loaded"}},{"id":"d","status":{"value":"unloaded"}}]}"#,
        ),
        (OF_A, 200, "llamacpp:requests_deferred 2\nllamacpp:requests_processing 1\n"),
        (OF_C, 200, "llamacpp:requests_deferred 3\nllamacpp:requests_processing 1\n"),
        ("/slots?model=a%2Fb&autoload=false", 200, SLOTS),
        (
            "/slots?model=c&autoload=false",
            200,
            r#"[{"id":0,"n_ctx":100,"n_prompt_tokens":25,"is_processing":true}]"#,
        ),
    ])
    .await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
    let sample = core.good("a").await.sample;
    assert_eq!((sample.waiting, sample.running), (Some(5.0), Some(2.0)));
    assert_eq!(sample.models, ["a/b", "c"]);
    assert_eq!((sample.max_concurrency, sample.kv_cache_usage), (Some(3.0), Some(0.25)));
    for path in ["/metrics", "/slots"] {
        assert!(!server.was_asked(&format!("{path}?model=d&autoload=false")));
    }
}

#[tokio::test]
async fn a_router_whose_slots_are_not_all_told_is_read_without_them() {
    let server = Stub::start(&[
        (
            "/metrics",
            400,
            r#"{"error":{"message":"model name is missing","code":400}}"#,
        ),
        (
            "/models",
            200,
            r#"{"data":[{"id":"a/b","status":{"value":"loaded"}},{"id":"c","status":{"value":"loaded"}}]}"#,
        ),
        (
            OF_A,
            200,
            "llamacpp:requests_deferred 2\nllamacpp:requests_processing 1\n",
        ),
        (
            OF_C,
            200,
            "llamacpp:requests_deferred 3\nllamacpp:requests_processing 1\n",
        ),
        ("/slots?model=a%2Fb&autoload=false", 200, SLOTS),
    ])
    .await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
    let sample = core.good("a").await.sample;
    assert_eq!((sample.waiting, sample.max_concurrency), (Some(5.0), None));
}

#[tokio::test]
async fn what_answers_400_and_is_no_router_stays_a_failure() {
    let server = Stub::start(&[("/metrics", 400, "{}"), ("/models", 200, r#"{"data":[{"id":"m"}]}"#)]).await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
    assert_eq!(core.failure("a").await.kind, FailureKind::HttpStatus);
}

#[tokio::test]
async fn sglang_is_asked_for_its_loads_and_does_without() {
    const METRICS: (&str, u16, &str) = ("/metrics", 200, "sglang:num_queue_reqs 1\nsglang:num_running_reqs 2\n");
    const LOADS: &str =
        r#"{"loads":[{"dp_rank":0,"max_running_requests":64},{"dp_rank":1,"max_running_requests":64}]}"#;
    const NEW: Answers = &[METRICS, ("/v1/loads", 200, LOADS)];
    const OLD: Answers = &[METRICS];
    for (answers, max) in [(NEW, Some(128.0)), (OLD, None)] {
        let server = Stub::start(answers).await;
        let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
        let sample = core.good("a").await.sample;
        assert_eq!((sample.engine, sample.max_concurrency), (Some(Engine::Sglang), max));
        assert!(!server.was_asked("/health") && !server.was_asked("/slots"));
    }
}

#[tokio::test]
async fn sglang_behind_nim_is_asked_for_its_loads_too() {
    let server = Stub::start(&[
        (
            "/v1/metrics",
            200,
            "sglang:num_queue_reqs 1\nsglang:num_running_reqs 2\n",
        ),
        (
            "/v1/loads",
            200,
            r#"{"loads":[{"dp_rank":0,"max_running_requests":64}]}"#,
        ),
    ])
    .await;
    let mut named = target("a", server.address);
    named.engine = Some(Engine::Nim);
    "/v1/metrics".clone_into(&mut named.metrics_path);
    let mut core = Core::start(GpuOptions::Off, vec![named]);
    let sample = core.good("a").await.sample;
    assert_eq!((sample.engine, sample.max_concurrency), (Some(Engine::Nim), Some(64.0)));
}

#[tokio::test]
async fn the_model_of_a_server_without_a_label_for_it_is_asked_once_in_a_while_and_may_lack() {
    const TGI: (&str, u16, &str) = ("/metrics", 200, "tgi_queue_size 1\ntgi_batch_current_size 2\n");
    const INFO: Answers = &[
        TGI,
        ("/info", 200, r#"{"model_id":"a/b","max_concurrent_requests":128}"#),
    ];
    const OLD: Answers = &[TGI, ("/info", 500, "")];
    for (answers, model, max) in [(INFO, "a/b", Some(128.0)), (OLD, "", None)] {
        let server = Stub::start(answers).await;
        let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
        for _ in 0..3 {
            let sample = core.good("a").await.sample;
            assert_eq!((sample.models.concat().as_str(), sample.max_concurrency), (model, max));
            assert_eq!(sample.waiting, Some(1.0));
        }
        let asked = |path: &str| {
            server
                .asked
                .lock()
                .unwrap()
                .iter()
                .filter(|asked| *asked == path)
                .count()
        };
        assert_eq!(asked("/info"), 1);
        assert!(asked("/metrics") >= 1);
    }

    let server = Stub::start(&[
        (
            "/prometheus/metrics",
            200,
            "trtllm_num_requests_waiting 1\ntrtllm_num_requests_running 2\n",
        ),
        ("/v1/models", 200, r#"{"object":"list","data":[{"id":"llama"}]}"#),
    ])
    .await;
    let mut named = target("a", server.address);
    "/prometheus/metrics".clone_into(&mut named.metrics_path);
    let mut core = Core::start(GpuOptions::Off, vec![named]);
    assert_eq!(core.good("a").await.sample.models, ["llama"]);
}

#[tokio::test]
async fn an_empty_list_of_a_server_that_answered_before_is_its_own() {
    let server = Stub::start(&[("/metrics", 200, "[]")]).await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
    let failure = core.failure("a").await;
    assert_eq!(failure.kind, FailureKind::Malformed, "it may be anybody's");
    assert!(failure.message.contains("spec.engine: TensorRTLLM"), "{failure:?}");

    const ITERATION: &str = r#"[{"iter":1,"numActiveRequests":1,"numQueuedRequests":2}]"#;
    let server = Stub::one_after_another("/metrics", &[ITERATION, "[]"]).await;
    let mut core = Core::start(GpuOptions::Off, vec![target("a", server.address)]);
    let idle = core
        .target("a", "a reading of the empty list", |report| {
            report.last.clone().filter(|last| last.sample.waiting.is_none())
        })
        .await;
    assert_eq!(idle.sample.engine, Some(Engine::TensorRtLlm));
    assert!(
        idle.recognition.hint.contains("/prometheus/metrics"),
        "{:?}",
        idle.recognition
    );
}

#[tokio::test]
async fn a_named_engine_says_which_flag_turns_its_metrics_on() {
    let server = Stub::start(&[]).await;
    let mut named = target("a", server.address);
    named.engine = Some(Engine::Sglang);
    let mut core = Core::start(GpuOptions::Off, vec![named]);
    let failure = core.failure("a").await;
    assert_eq!(failure.kind, FailureKind::MetricsDisabled);
    assert!(failure.message.contains("--enable-metrics"), "{failure:?}");
}
