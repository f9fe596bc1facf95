//! Runs the built binary as a user does.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `infmon` and the lines that it has printed.
struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    text: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_infmon"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            out,
            text: String::new(),
        }
    }

    /// Reads lines until one contains `words`.
    fn read_until(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.out.read_line(&mut line).unwrap() > 0,
                "the end came before {words:?}:\n{}",
                self.text
            );
            self.text.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }

    /// `127.0.0.1:port` of the servers.
    fn address(&mut self) -> String {
        let line = self.read_until("metrics http://");
        line.split("http://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// Waits for the end: exit code, everything printed, standard error.
    fn finish(mut self) -> (Option<i32>, String, String) {
        self.out.read_to_string(&mut self.text).unwrap();
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), self.text.clone(), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
        let child = Command::new(env!("CARGO_BIN_EXE_infmon"))
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (child.status.code(), text(child.stdout), text(child.stderr))
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

/// The only long test: the whole story, as `infmon demo --for 60s` tells it.
#[test]
fn the_demo_tells_its_story_within_a_minute() {
    let mut demo = Running::start(&["demo", "--simulate", "--for", "60s", "--listen", "127.0.0.1:0"]);
    let first = demo.read_until("inference-monitor");
    assert!(
        first.contains("SIMULATED: 2 vLLM servers, 1 llama-server, 2 GPUs"),
        "{first}"
    );
    let address = demo.address();
    demo.read_until("OOMRISK  SIMULATED");
    demo.read_until("chat ");

    let monitors = get(&address, "/api/v1/monitors");
    assert!(
        monitors.contains(r#""inferencemonitor.io/simulated":"true""#),
        "{monitors}"
    );
    assert!(monitors.contains(r#""endpoints":"2/2""#), "{monitors}");
    let endpoints = get(&address, "/api/v1/monitors/default/chat/endpoints");
    assert!(endpoints.contains(r#""generatedTokensTotal":"#), "{endpoints}");
    assert!(get(&address, "/api/v1/nodes").contains("NVIDIA H100"));
    let metrics = get(&address, "/metrics");
    for line in [
        "infmon_simulated 1\n",
        "infmon_monitor_requests_running{",
        "infmon_gpu_sm_clock",
        "infmon_scrapes_total{",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let path =
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/inferencemonitors.inferencemonitor.io/chat/queue-depth";
    assert!(get(&address, path).contains("MetricValueList"));
    assert!(get(&address, "/apis/custom.metrics.k8s.io/v1beta2").contains("APIResourceList"));
    assert!(get(&address, "/").contains("SIMULATED"));

    let (code, text, errors) = demo.finish();
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{text}");
    for finding in ["QueueDepthHigh", "OOMRisk", "Throttled"] {
        let at = |mark: &str| {
            text.find(&format!("{mark} {finding}"))
                .unwrap_or_else(|| panic!("no {mark} {finding} in\n{text}"))
        };
        assert!(at("+") < at("-"), "{text}");
        let summary = text.split("SUMMARY of 1 min").nth(1).unwrap();
        assert!(
            summary
                .lines()
                .any(|line| line.starts_with("chat ") && line.contains(finding)),
            "{text}"
        );
    }
    assert!(
        !text.contains("EndpointsReachable") && !text.contains("MetricsRecognized"),
        "{text}"
    );
}

#[test]
fn signals_end_it_within_two_seconds_with_a_summary() {
    for signal in ["TERM", "INT"] {
        let mut demo = Running::start(&["demo", "--simulate", "--listen", "127.0.0.1:0"]);
        demo.read_until("assistant ");
        let start = Instant::now();
        demo.signal(signal);
        let (code, text, _) = demo.finish();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(code, Some(0));
        assert!(
            text.contains("SUMMARY of") && text.contains("samples of 3 servers"),
            "{text}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut demo = Running::start(&["demo", "--simulate", "--listen", "127.0.0.1:0"]);
    demo.read_until("inference-monitor");
    let Running { child, out, .. } = &mut demo;
    // Closes the pipe, as `| head -1` does.
    let errors = child.stderr.take().unwrap();
    let pipe = std::mem::replace(
        out,
        BufReader::new(
            Command::new("true")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
                .stdout
                .take()
                .unwrap(),
        ),
    );
    drop(pipe);
    let start = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, Some(0));
    assert_eq!(std::io::read_to_string(errors).unwrap(), "");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (code, text, errors) = Running::run(&["demo", "--simulate", "--listen", &format!("127.0.0.1:{port}")]);
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert!(
        errors.contains(&format!("port {port} is taken")) && errors.contains("--listen"),
        "{errors}"
    );
}

#[test]
fn other_machines_cannot_be_listened_to() {
    let (code, _, errors) = Running::run(&["demo", "--listen", "0.0.0.0:9400"]);
    assert_eq!(code, Some(64));
    assert!(
        errors.contains("no authentication here: use 127.0.0.1:9400"),
        "{errors}"
    );
}

const MONITOR: &str = "\
apiVersion: inferencemonitor.io/v1alpha1
kind: InferenceMonitor
metadata: {name: gone}
spec:
  staleAfterSeconds: 2
  endpoints:
  - {name: server, url: \"http://127.0.0.1:PORT\"}
";

#[test]
fn a_file_is_watched_and_followed() {
    // A port that nobody listens on: what is not there becomes a condition, not a number.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor.yaml");
    let monitor = MONITOR.replace("PORT", &port.to_string());
    std::fs::write(&path, &monitor).unwrap();
    let mut run = Running::start(&[
        "run",
        "-f",
        path.to_str().unwrap(),
        "--no-gpu",
        "--listen",
        "127.0.0.1:0",
    ]);
    let first = run.read_until("inference-monitor");
    assert!(
        first.contains("1 monitor of") && !first.contains("SIMULATED"),
        "{first}"
    );
    let address = run.address();
    assert!(run.read_until("EndpointsReachable=False").contains("+ "));
    assert!(get(&address, "/metrics").contains("infmon_simulated 0\n"));
    assert!(!get(&address, "/metrics").contains("infmon_monitor_requests_waiting{"));
    std::fs::write(&path, monitor.replace("staleAfterSeconds", "staleAfter")).unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    std::fs::write(&path, monitor.replace("name: gone", "name: renamed-in-the-file")).unwrap();
    run.read_until("renamed-in-the-file ");
    run.signal("TERM");
    let (code, _, errors) = run.finish();
    assert_eq!(code, Some(0));
    assert!(
        errors.contains("monitor.yaml:5: spec.staleAfter is not a field: did you mean staleAfterSeconds?"),
        "{errors}"
    );
    assert!(
        errors.contains("the monitors of before stay") && errors.contains("1 monitor from now on"),
        "{errors}"
    );
}

#[test]
fn a_file_that_cannot_be_used_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor.yaml");
    let file = path.to_str().unwrap();
    let (code, _, errors) = Running::run(&["run", "-f", file]);
    assert!(code == Some(1) && errors.contains("cannot be read"), "{errors}");
    std::fs::write(&path, MONITOR.replace("127.0.0.1:PORT", "gpu-box:8000")).unwrap();
    let (code, _, errors) = Running::run(&["run", "-f", file]);
    assert!(
        code == Some(1)
            && errors.contains(
                "monitor.yaml:7: url http://gpu-box:8000 leads to another machine: allow it with --allow-host gpu-box"
            ),
        "{errors}"
    );
}
