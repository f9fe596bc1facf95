//! Runs `infmon inspect` as a user does, on the bodies of real servers and against simulated ones.
//!
//! What it prints is compared with the files in `tests/inspect`; `INFMON_UPDATE_GOLDEN=1` writes them anew, to be looked at in the diff.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "inspect/beside.rs"]
mod beside;
#[path = "inspect/mapping.rs"]
mod mapping;

use axum::Router;
use axum::routing::get;
use infmon_simulated_engine::{Kind, Mode, SimulatedEngine};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Exit code, standard output, standard error.
type Outcome = (i32, String, String);
/// Arguments, standard input, exit code, words on standard error.
type Case = (&'static [&'static str], &'static [u8], i32, &'static [&'static str]);

const GZIP: &[u8] = &[0x1f, 0x8b, 8, 0];

fn bodies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engines/tests/bodies")
}

/// Runs where the bodies are, so that no path of this machine is in what is printed.
fn inspect(arguments: &[&str], input: &[u8]) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_infmon"))
        .arg("inspect")
        .args(arguments)
        .current_dir(bodies())
        .env("http_proxy", "http://127.0.0.1:1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn golden(name: &str, printed: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect").join(name);
    if std::env::var_os("INFMON_UPDATE_GOLDEN").is_some() {
        fs::write(&path, printed).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(printed, expected, "{name}: INFMON_UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn the_json_is_that_of_the_sample() {
    for (name, arguments) in [
        ("vllm.json", &["vllm-0.32.0-queued.prom"][..]),
        ("vllm-dp2.json", &["vllm-dp2.txt"]),
        (
            "llama-server.json",
            &[
                "llama-server-0.7.0-b11669-queued.prom",
                "--slots",
                "llama-server-0.7.0-b11669-slots.json",
            ],
        ),
        ("sglang.json", &["sglang-0.5.23.txt", "--loads", "sglang-v1-loads.json"]),
        ("tgi.json", &["tgi-3.3.7.txt"]),
        ("triton.json", &["triton-tensorrtllm.txt"]),
        ("trtllm.json", &["trtllm-2026.txt"]),
        ("trtllm-iterations.json", &["trtllm-metrics.json"]),
        ("lmdeploy.json", &["lmdeploy-0.16.txt"]),
        ("ollama.json", &["ollama-api-ps.json"]),
    ] {
        let arguments = [arguments, &["--json"]].concat();
        let (code, out, errors) = inspect(&arguments, b"");
        assert_eq!(code, 0, "{name}: {errors}");
        assert!(serde_json::from_str::<Value>(&out).unwrap().is_object(), "{name}");
        golden(name, &out);
    }
}

#[test]
fn the_text_names_the_series_of_each_field() {
    let (code, out, errors) = inspect(
        &[
            "llama-server-0.7.0-b11669-queued.prom",
            "--slots",
            "llama-server-0.7.0-b11669-slots.json",
        ],
        b"",
    );
    assert_eq!((code, errors.as_str()), (0, ""));
    golden("llama-server.txt", &out);

    // One body may stand for the other, where metrics are off.
    let (code, out, errors) = inspect(&["llamacpp-slots-b10519.json"], b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.contains("start llama-server with --metrics"), "{out}");
    assert!(
        out.contains("\nkvCacheUsage    0.00806  n_prompt_tokens + n_ctx\n"),
        "{out}"
    );

    let (code, out, errors) = inspect(&["vllm-dp2.txt"], b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    for line in [
        "vllm-dp2.txt: VLLM v1-0.12+, model meta-llama/Llama-3.1-8B-Instruct\n",
        "\nFIELD                        VALUE               SERIES\n",
        "\nwaiting                      8                   vllm:num_requests_waiting (2 series)\n",
        "\nkvCacheCapacityTokens        853344              vllm:cache_config_info (2 series)\n",
        "\nlatency.queueTime            80, mean 21.6 ms    vllm:request_queue_time_seconds (2 series)\n",
        "\n  loraAdapters: --enable-lora\n",
        "\n  maxConcurrency: not published by VLLM\n",
        "vllm:iteration_tokens_total 32",
    ] {
        assert!(out.contains(line), "{line:?}:\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "no colours");
}

#[test]
fn standard_input_and_escaped_bodies_are_read() {
    let body = fs::read_to_string(bodies().join("llamacpp.txt")).unwrap();
    let escaped = serde_json::to_string(&body).unwrap();
    let (_, from_file, _) = inspect(&["llamacpp.txt", "--json"], b"");
    for input in [body.as_bytes(), escaped.as_bytes()] {
        let (code, out, errors) = inspect(&["-", "--json"], input);
        assert_eq!((code, &out), (0, &from_file));
        assert!(errors.contains("--slots"), "{errors}");
    }
    let slots = fs::read(bodies().join("llamacpp-slots-b10519.json")).unwrap();
    let (code, out, _) = inspect(&["llamacpp.txt", "--slots", "-", "--json"], &slots);
    let sample: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &sample["maxConcurrency"]), (0, &json!(4)));
}

#[test]
fn missing_series_are_named_with_what_gives_them() {
    let body = b"# TYPE vllm:num_requests_waiting gauge\n# TYPE vllm:num_requests_running gauge\n";
    let (code, out, errors) = inspect(&["-"], body);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.contains("\nMissing: vllm:num_requests_waiting, "), "{out}");
    assert!(out.contains("\nNext: "), "{out}");
    let (code, out, errors) = inspect(&["-", "--json"], body);
    assert_eq!(code, 0);
    let sample: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&sample["engine"], sample.get("waiting")), (&json!("VLLM"), None));
    assert!(errors.contains("missing vllm:num_requests_waiting"), "{errors}");
}

#[test]
fn what_is_no_inference_server_is_2_and_what_is_malformed_is_3() {
    let cases: [Case; 18] = [
        (
            &["-"],
            b"go_gc 1\ngo_info{v=\"1\"} 1\nup 1\n",
            2,
            &["standard input: ", "3 families with 3 series: go_ 2, up 1"],
        ),
        (&["-"], b"python_info 1\n", 2, &["--disable-log-stats"]),
        (&["-", "--engine", "vllm"], b"up 1\n", 2, &["no series of VLLM"]),
        (
            &["tgi-idle.txt", "--mapping", "-"],
            b"fields:\n- {field: Waiting, series: tgi_batch_max_total_token}\n",
            2,
            &[
                "none of the series that spec.custom maps",
                "similar names are: tgi_batch_max_total_tokens",
            ],
        ),
        (
            &["tgi-idle.txt", "--mapping", "-"],
            b"custom:\n  fields:\n  - {field: Wating, series: a}\n",
            64,
            &["standard input:3: custom.fields[0].field is \"Wating\": did you mean Waiting?"],
        ),
        (&["-"], b"", 2, &["empty"]),
        (&["-"], b"# a comment\n", 2, &["empty"]),
        (&["-"], b"{\"error\":{\"message\":\"Not here\"}}", 2, &["\"Not here\""]),
        (
            &["vllm-dp2.txt", "--engine", "LlamaCpp"],
            b"",
            2,
            &["--engine names LlamaCpp", "those of VLLM"],
        ),
        (&["llamacpp.txt", "--engine", "TGI"], b"", 2, &["leave --engine out"]),
        (
            &["-"],
            b"a 1\nvllm:b{c=\"1} 2\n",
            3,
            &["line 2", "  2 | vllm:b{c=\"1} 2"],
        ),
        (&["-"], b"a 1\n\x1b[2Jb\n", 3, &["line 2", "\u{fffd}[2Jb"]),
        (&["-"], b"{\"a\":\n 1", 3, &["line 2 column 2"]),
        (&["-"], b"\"a 1\\n", 3, &["line 1 column"]),
        (&["-"], b"<html>", 3, &["HTML"]),
        (&["-"], GZIP, 3, &["gzip"]),
        (
            &["llamacpp.txt", "--slots", "llamacpp.txt"],
            b"",
            3,
            &["llamacpp.txt: ", "line 1, column"],
        ),
        (
            &["sglang-0.5.23.txt", "--loads", "llamacpp-slots-b10519.json"],
            b"",
            3,
            &["llamacpp-slots-b10519.json: ", "/v1/loads"],
        ),
    ];
    for (arguments, input, code, words) in cases {
        for json in [false, true] {
            let arguments = [arguments, if json { &["--json"] } else { &[] }].concat();
            let (ended, out, errors) = inspect(&arguments, input);
            assert_eq!((ended, out.as_str()), (code, ""), "{arguments:?}: {errors}");
            assert!(errors.starts_with("infmon: "), "{errors}");
            for words in words {
                assert!(errors.contains(words), "{words}: {errors}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_1_and_wrong_use_is_64() {
    let cases: [(&[&str], i32, &str); 15] = [
        (&["absent.txt"], 1, "absent.txt: no such file"),
        (&["127.0.0.1:8000"], 1, "write http://127.0.0.1:8000"),
        (&["."], 1, "cannot be read"),
        (
            &["http://127.0.0.1:1"],
            1,
            "http://127.0.0.1:1/metrics: connection refused",
        ),
        (&["http://no-such-host.invalid/"], 1, "cannot resolve"),
        (
            &["llamacpp.txt", "--slots", "absent.json"],
            1,
            "absent.json: no such file",
        ),
        (&[], 64, "Usage"),
        (&["ftp://127.0.0.1/"], 64, "http:// or https://"),
        (&["llamacpp.txt", "--engine", "Auto"], 64, "VLLM, LlamaCpp, SGLang"),
        (&["-", "--slots", "-"], 64, "one body"),
        (&["x", "--slots", "-", "--loads", "-"], 64, "one body"),
        (&["-", "--mapping", "-"], 64, "one body"),
        (&["tgi-idle.txt", "--engine", "custom"], 64, "needs --mapping"),
        (
            &["tgi-idle.txt", "--engine", "TGI", "--mapping", "-"],
            64,
            "leave --engine out",
        ),
        (
            &["tgi-idle.txt", "--mapping", "absent.yaml"],
            1,
            "absent.yaml: no such file",
        ),
    ];
    for (arguments, code, words) in cases {
        let (ended, out, errors) = inspect(arguments, b"");
        assert_eq!((ended, out.as_str()), (code, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(words), "{arguments:?}: {errors}");
    }
    let (code, out, _) = inspect(&["--help"], b"");
    assert!(code == 0 && out.contains("Exit codes:"), "{out}");
}

async fn server(kind: Kind, mode: Mode) -> SimulatedEngine {
    let engine = SimulatedEngine::start(kind, SocketAddr::from(ANY_PORT)).await.unwrap();
    engine.misbehave(mode);
    engine
}

async fn inspect_server(server: &SimulatedEngine, path: &str) -> Outcome {
    inspect_url(format!("http://{}{path}", server.address())).await
}

async fn inspect_url(url: String) -> Outcome {
    tokio::task::spawn_blocking(move || inspect(&[&url, "--json"], b""))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_server_is_asked_for_all_that_its_engine_needs() {
    let llama = server(Kind::LlamaCpp, Mode::Normal).await;
    let (code, out, errors) = inspect_server(&llama, "").await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let sample: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(sample["engine"], "LlamaCpp");
    assert!(sample["maxConcurrency"].is_u64(), "{out}");
    assert!(sample["models"].is_array(), "{out}");
    assert_eq!(llama.requests(), 3, "/metrics, /props and /slots");

    let vllm = server(Kind::Vllm, Mode::Normal).await;
    let (code, out, errors) = inspect_server(&vllm, "/metrics").await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let sample: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(sample["engine"], "VLLM");
    assert_eq!(vllm.requests(), 1);

    let (code, _, errors) = inspect_server(&vllm, "/nothing").await;
    assert_eq!(code, 1);
    assert!(
        errors.contains("/nothing: the server has nothing at /nothing (404)"),
        "{errors}"
    );
}

#[tokio::test]
async fn what_a_server_refuses_is_explained() {
    for (mode, code, words) in [
        (Mode::MetricsDisabled, 1, "start it with --metrics"),
        (Mode::Unauthorized, 1, "API key"),
        (Mode::Loading, 1, "loads its model"),
        (Mode::Redirect, 1, "redirects are not followed"),
        (Mode::HugeBody, 1, "larger than 16 MiB"),
        (Mode::HalfBody, 1, "broke off"),
        (Mode::Malformed, 3, "line "),
    ] {
        let server = server(Kind::LlamaCpp, mode).await;
        let (ended, out, errors) = inspect_server(&server, "").await;
        assert_eq!((ended, out.as_str()), (code, ""), "{mode:?}: {errors}");
        let place = format!("infmon: http://{}/metrics: ", server.address());
        assert!(
            errors.starts_with(&place) && errors.contains(words),
            "{mode:?}: {errors}"
        );
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_not_waited_for() {
    let server = server(Kind::Vllm, Mode::Hang).await;
    let began = Instant::now();
    let (code, _, errors) = inspect_server(&server, "").await;
    assert_eq!(code, 1);
    assert!(errors.contains("no complete answer within 5 s"), "{errors}");
    assert!(began.elapsed() < Duration::from_secs(9));
}

/// A server that has bodies at some paths.
async fn bodies_at(paths: &[(&str, &str)]) -> String {
    let mut routes = Router::new();
    for (path, body) in paths {
        let body = fs::read(bodies().join(body)).unwrap();
        routes = routes.route(path, get(move || async move { body }));
    }
    serve(routes).await
}

/// Serves until the test ends.
async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

#[tokio::test]
async fn metrics_are_looked_for_where_engines_have_them() {
    let url = bodies_at(&[("/v1/metrics", "vllm-dp2.txt")]).await;
    let (code, out, errors) = inspect_url(url.clone()).await;
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("\"waiting\": 8"), "{out}");
    assert_eq!(errors, format!("infmon: {url}/metrics has nothing: read /v1/metrics\n"));

    // The list at /metrics gives each entry once: the other path is better.
    let paths = [
        ("/metrics", "trtllm-metrics.json"),
        ("/prometheus/metrics", "trtllm-2026.txt"),
    ];
    let trtllm = bodies_at(&paths).await;
    let (code, out, errors) = inspect_url(trtllm.clone()).await;
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("\"latency\""), "{out}");
    assert!(
        errors.starts_with(&format!("infmon: {trtllm}/metrics has JSON: ")),
        "{errors}"
    );
    let (_, out, _) = inspect_url(format!("{trtllm}/metrics")).await;
    assert!(!out.contains("\"latency\""), "{out}");

    let paths = [("/metrics", "sglang-0.5.23.txt"), ("/v1/loads", "sglang-v1-loads.json")];
    let sglang = bodies_at(&paths).await;
    let (code, out, errors) = inspect_url(sglang).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.contains("\"maxConcurrency\": 2048"), "{out}");

    // Who names a path means it.
    let (code, _, errors) = inspect_url(format!("{url}/metrics")).await;
    assert_eq!(code, 1, "{errors}");
}

#[tokio::test]
async fn https_is_read_whatever_the_certificate() {
    infmon_runtime::install_crypto_provider();
    let made = rcgen::generate_simple_self_signed(["somebody-else.test".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let config = infmon_runtime::tls::server_config(chain.as_bytes(), key.as_bytes(), &[]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let body = "vllm:num_requests_waiting{engine=\"0\"} 3\n";
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Until the client has gone.
        let _ = stream.read(&mut head).await;
    });
    let (code, out, errors) = inspect_url(url).await;
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("\"waiting\": 3"), "{out}");

    let plain = bodies_at(&[]).await;
    let (code, _, errors) = inspect_url(plain.replace("http:", "https:")).await;
    assert_eq!(code, 1);
    assert!(errors.contains("does the server speak HTTPS"), "{errors}");
}
