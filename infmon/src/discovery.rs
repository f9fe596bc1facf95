//! What runs on this machine: GPUs, and inference servers on the ports that they use by default.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use infmon_engines::{BodyReader, Engine};
use infmon_gpu::{DriverState, GpuMonitor, MonitorOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Default ports of vLLM and of llama-server.
pub const WELL_KNOWN_PORTS: [u16; 2] = [8000, 8080];
/// A server of this machine that takes longer is busy with something else than answering.
const SERVER_DEADLINE: Duration = Duration::from_millis(800);
/// Longest body looked at.
const BODY_LIMIT_BYTES: usize = 8 << 20;
/// Time for the driver to load and to answer once; a driver without persistence mode takes seconds to wake up.
const DRIVER_DEADLINE: Duration = Duration::from_secs(6);

/// An inference server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it answers.
    pub address: SocketAddr,
    /// What it said.
    pub answer: Answer,
}

/// What a server said to `GET /metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Metrics of an engine.
    Metrics(Engine),
    /// A refusal that inference servers give: 401 (API key), 501 (llama-server without `--metrics`), 503 (llama-server loads its
    /// model). A condition of the monitor says what to do about it.
    Refusal(u16),
}

impl Server {
    /// A name for people and for the monitor: `vllm-8000`.
    #[must_use]
    pub fn name(&self) -> String {
        let kind = match self.answer {
            Answer::Metrics(Engine::Vllm) => "vllm",
            Answer::Metrics(Engine::LlamaCpp) | Answer::Refusal(501 | 503) => "llama-server",
            Answer::Metrics(Engine::Sglang) => "sglang",
            Answer::Metrics(Engine::Triton) => "triton",
            Answer::Metrics(Engine::TensorRtLlm) => "trtllm",
            Answer::Metrics(Engine::Tgi) => "tgi",
            Answer::Metrics(Engine::LmDeploy) => "lmdeploy",
            Answer::Metrics(Engine::Nim) => "nim",
            Answer::Metrics(Engine::Ollama) => "ollama",
            Answer::Metrics(Engine::Custom) | Answer::Refusal(_) => "server",
        };
        format!("{kind}-{}", self.address.port())
    }
}

/// Looks for inference servers on ports of 127.0.0.1.
pub async fn servers(ports: &[u16]) -> Vec<Server> {
    let looks = ports.iter().map(|port| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        tokio::spawn(tokio::time::timeout(SERVER_DEADLINE, look(address)))
    });
    let mut found = Vec::new();
    for look in looks.collect::<Vec<_>>() {
        if let Ok(Ok(Some(server))) = look.await {
            found.push(server);
        }
    }
    found
}

async fn look(address: SocketAddr) -> Option<Server> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("/metrics")
        .header("host", address.to_string())
        .header("user-agent", concat!("infmon/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_LIMIT_BYTES)
        .collect()
        .await
        .ok()?
        .to_bytes();
    connection.abort();
    recognise(status, &body).map(|answer| Server { address, answer })
}

/// Whether an answer is one of an inference server. Anything may listen on port 8080, so a mere 404 or a page is none.
fn recognise(status: u16, body: &[u8]) -> Option<Answer> {
    match status {
        200 => BodyReader::new(None)
            .read(body)
            .ok()?
            .sample
            .engine
            .map(Answer::Metrics),
        401 | 501 => Some(Answer::Refusal(status)),
        503 if body.windows(17).any(|window| window == b"unavailable_error") => Some(Answer::Refusal(status)),
        _ => None,
    }
}

/// GPUs of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// Product names, in the order of the driver.
    Found(Vec<String>),
    /// There is a driver, and it does not answer in time: the machine has GPUs.
    Silent,
    /// None, or no driver for them.
    None,
}

/// Looks for GPUs.
pub async fn gpus(options: MonitorOptions) -> Gpus {
    tokio::task::spawn_blocking(move || look_for_gpus(options))
        .await
        .unwrap_or(Gpus::None)
}

fn look_for_gpus(options: MonitorOptions) -> Gpus {
    let monitor = GpuMonitor::start(options);
    let start = Instant::now();
    let found = loop {
        let snapshot = monitor.latest();
        match &snapshot.driver {
            DriverState::Ready { .. } if !snapshot.samples.is_empty() => {
                break Gpus::Found(snapshot.samples.iter().map(|sample| sample.name.clone()).collect());
            }
            DriverState::Unavailable { .. } => break Gpus::None,
            _ if start.elapsed() > DRIVER_DEADLINE => break Gpus::Silent,
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    // A hung driver call is left behind; the pipeline's own session reports it.
    let _ = monitor.stop(Duration::from_millis(500));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_nvml_stand_in::{Profile, Scenario, StandIn};
    use infmon_simulated_engine::{Kind, Mode, SimulatedEngine};

    async fn engine(kind: Kind, mode: Mode) -> SimulatedEngine {
        let engine = SimulatedEngine::start(kind, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
            .unwrap();
        engine.misbehave(mode);
        engine
    }

    #[tokio::test]
    async fn servers_are_told_by_what_they_answer() {
        for (kind, mode, name, answer) in [
            (Kind::Vllm, Mode::Normal, "vllm", Some(Answer::Metrics(Engine::Vllm))),
            (
                Kind::LlamaCpp,
                Mode::Normal,
                "llama-server",
                Some(Answer::Metrics(Engine::LlamaCpp)),
            ),
            (
                Kind::LlamaCpp,
                Mode::MetricsDisabled,
                "llama-server",
                Some(Answer::Refusal(501)),
            ),
            (
                Kind::LlamaCpp,
                Mode::Loading,
                "llama-server",
                Some(Answer::Refusal(503)),
            ),
            (Kind::LlamaCpp, Mode::Unauthorized, "server", Some(Answer::Refusal(401))),
            (Kind::Vllm, Mode::Hang, "", None),
            (Kind::Vllm, Mode::HugeBody, "", None),
            (Kind::Vllm, Mode::Malformed, "", None),
            (Kind::Vllm, Mode::Redirect, "", None),
        ] {
            let engine = engine(kind, mode).await;
            let port = engine.address().port();
            let found = servers(&[port]).await;
            assert_eq!(found.first().map(|server| server.answer), answer, "{kind:?} {mode:?}");
            if let Some(server) = found.first() {
                assert_eq!(server.name(), format!("{name}-{port}"));
            }
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_no_server() {
        let engine = engine(Kind::Vllm, Mode::Normal).await;
        let port = engine.address().port();
        engine.shutdown().await;
        assert_eq!(servers(&[port]).await, []);
    }

    #[test]
    fn other_pages_are_no_servers() {
        for (status, body) in [
            (200, "<html>"),
            (200, "up 1\n"),
            (200, ""),
            (404, "no"),
            (403, "no"),
            (503, "maintenance"),
        ] {
            assert_eq!(recognise(status, body.as_bytes()), None, "{status} {body}");
        }
    }

    #[tokio::test]
    async fn gpus_are_found_through_the_driver() {
        let folder = tempfile::tempdir().unwrap();
        let stand_in = StandIn::install(folder.path(), &Scenario::of(Profile::T4, 2)).unwrap();
        let options = |library| MonitorOptions {
            library_path: Some(library),
            ..MonitorOptions::default()
        };
        let found = gpus(options(stand_in.library_path())).await;
        assert_eq!(found, Gpus::Found(vec!["Tesla T4".into(), "Tesla T4".into()]));
        assert_eq!(gpus(options(folder.path().join("absent.so"))).await, Gpus::None);
    }
}
