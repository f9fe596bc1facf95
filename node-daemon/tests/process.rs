//! The real binary, with a real operator end of the link beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::kubelet::{Answer, Kubelet, gpu, plain, socket_in};
use harness::{LOCAL, PERIOD, eventually, plan, target};
use infmon_gpu::DriverState;
use infmon_link::{AuthError, Authenticated, LinkServer, LinkServerOptions, NodeSessions};
use infmon_nvml_stand_in::{Profile, Scenario, StandIn};
use infmon_runtime::{ServerTls, install_crypto_provider, tls};
use infmon_samples::{NodeIdentity, Plan, Report};
use infmon_simulated_engine::{Kind, Mode, SimulatedEngine};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAME: &str = "infmon-operator.test";

/// The operator's end: keeps the newest report.
struct Operator {
    address: SocketAddr,
    sessions: Arc<Sessions>,
    ca: String,
    stop: CancellationToken,
}

struct Sessions {
    plan: watch::Sender<Arc<Plan>>,
    last: Mutex<Option<(NodeIdentity, Report)>>,
}

impl NodeSessions for Sessions {
    fn authenticate(
        &self,
        _: &NodeIdentity,
        bearer: &str,
    ) -> impl Future<Output = Result<Authenticated, AuthError>> + Send {
        let good = bearer == "good-token";
        std::future::ready(match good {
            true => Ok(Authenticated::default()),
            false => Err(AuthError::Denied("not this one".to_owned())),
        })
    }

    fn connected(&self, _: &NodeIdentity) -> watch::Receiver<Arc<Plan>> {
        self.plan.subscribe()
    }

    fn report(&self, node: &NodeIdentity, report: Report) {
        *self.last.lock().unwrap() = Some((node.clone(), report));
    }

    fn disconnected(&self, _: &NodeIdentity) {}
}

impl Operator {
    async fn start(first: Plan) -> Self {
        install_crypto_provider();
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let (ca, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let config = tls::server_config(ca.as_bytes(), key.as_bytes(), &[b"h2"]).unwrap();
        let sessions = Arc::new(Sessions {
            plan: watch::Sender::new(Arc::new(first)),
            last: Mutex::default(),
        });
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = LinkServer::new(
            Arc::clone(&sessions),
            ServerTls::new(config),
            LinkServerOptions::default(),
        );
        tokio::spawn(server.serve(listener, stop.clone()));
        Self {
            address,
            sessions,
            ca,
            stop,
        }
    }

    async fn report<T>(&self, what: &str, condition: impl Fn(&Report) -> Option<T>) -> T {
        eventually(what, || {
            let last = self.sessions.last.lock().unwrap();
            last.as_ref().and_then(|(_, report)| condition(report))
        })
        .await
    }
}

/// The daemon as a process; killed when dropped.
struct Daemon {
    child: Child,
    log: TempDir,
    admin: SocketAddr,
}

impl Daemon {
    fn start(operator: SocketAddr, ca: &str, more: &[&str]) -> Self {
        Self::start_as(
            env!("CARGO_BIN_EXE_infmon-node-daemon").as_ref(),
            operator,
            ca,
            more,
            |_| {},
        )
    }

    /// `change` has the last word about the process.
    fn start_as(
        program: &Path,
        operator: SocketAddr,
        ca: &str,
        more: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("ca.crt"), ca).unwrap();
        std::fs::write(file("token"), "good-token\n").unwrap();
        let log = std::fs::File::create(file("log")).unwrap();
        // Taken and given back: the daemon cannot tell its port before it is asked for metrics.
        let admin = std::net::TcpListener::bind(LOCAL).unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command
            .arg("--node-name=node-1")
            .arg("--pod-name=daemon-x")
            .arg(format!("--operator={operator}"))
            .arg(format!("--operator-server-name={NAME}"))
            .arg(format!("--ca-file={}", file("ca.crt").display()))
            .arg(format!("--token-file={}", file("token").display()))
            .arg(format!("--admin-listen={admin}"))
            .args(more)
            .env_remove("RUST_LOG")
            .stderr(Stdio::from(log));
        change(&mut command);
        let child = command.spawn().unwrap();
        Self {
            child,
            log: folder,
            admin,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path().join("log")).unwrap()
    }

    async fn logged(&self, words: &str) -> String {
        eventually(&format!("{words:?} in the log"), || {
            let log = self.log();
            log.contains(words).then_some(log)
        })
        .await
    }

    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// Sends SIGTERM; the exit and how long it took.
    async fn terminate(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = eventually("the exit", || self.child.try_wait().unwrap()).await;
        (status, began.elapsed())
    }

    async fn ends_in_time(&mut self) {
        let (status, took) = self.terminate().await;
        assert!(
            status.success() && took < Duration::from_secs(2),
            "{status} after {took:?}:\n{}",
            self.log()
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address where nobody answers.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind(LOCAL).unwrap().local_addr().unwrap()
}

fn missing_library(folder: &Path) -> String {
    format!("--nvml-library={}", folder.join("libnvidia-ml.so.1").display())
}

#[tokio::test]
async fn samples_scrapes_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = StandIn::install(folder.path(), &Scenario::of(Profile::H100, 2)).unwrap();
    let server = SimulatedEngine::start(Kind::Vllm, LOCAL).await.unwrap();
    let operator = Operator::start(plan(5, vec![target("a", server.address())])).await;
    let library = format!("--nvml-library={}", stand_in.library_path().display());
    let mut daemon = Daemon::start(operator.address, &operator.ca, &[&library, "--allow-local-targets"]);
    let age = operator
        .report("GPUs and a sample", |report| {
            let last = report.targets.first()?.last.as_ref()?;
            (report.plan_revision == 5 && report.gpus.samples.len() == 2).then_some(last.age)
        })
        .await;
    assert!(age < Duration::from_secs(1));
    let identity = operator.sessions.last.lock().unwrap().clone().unwrap().0;
    assert_eq!((identity.node.as_str(), identity.pod.as_str()), ("node-1", "daemon-x"));
    assert!(daemon.get("/livez").await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(daemon.get("/readyz").await.unwrap().starts_with("HTTP/1.1 200"));
    let metrics = daemon.get("/metrics").await.unwrap();
    for name in [
        "infmon_scrapes_total{result=\"ok\"}",
        "infmon_gpu_driver_state{state=\"Ready\"} 1",
        "infmon_gpus 2",
        &format!("infmon_operator_connected{{operator=\"{}\"}} 1", operator.address),
        "process_resident_memory_bytes",
        "infmon_build_info{component=\"node-daemon\"",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }

    // The operator goes away: the daemon lives on and is not ready to be told anything new, but keeps its plan.
    operator.stop.cancel();
    daemon.logged("no stream to the operator").await;
    let requests = server.requests();
    eventually("scrapes without operator", || {
        (server.requests() > requests + 3).then_some(())
    })
    .await;
    daemon.ends_in_time().await;
}

#[tokio::test]
async fn runs_without_gpu_library_and_operator_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(
        nobody(),
        "no certificate",
        &[&missing_library(folder.path()), "--log-format=json"],
    );
    let log = daemon.logged("no stream to the operator").await;
    let log = if log.contains("LibraryNotFound") {
        log
    } else {
        daemon.logged("LibraryNotFound").await
    };
    assert_eq!(log.matches("LibraryNotFound").count(), 1, "{log}");
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
    assert!(daemon.get("/livez").await.unwrap().starts_with("HTTP/1.1 200"));
    let readyz = daemon.get("/readyz").await.unwrap();
    assert!(
        readyz.starts_with("HTTP/1.1 503") && readyz.contains("a stream to the operator"),
        "{readyz}"
    );
    daemon.ends_in_time().await;
}

#[tokio::test]
async fn ends_in_time_although_the_operator_is_mute() {
    // Accepts, and never says a word.
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let mut daemon = Daemon::start(listener.local_addr().unwrap(), &made.cert.pem(), &["--no-gpu"]);
    let accepted = tokio::time::timeout(Duration::from_secs(15), listener.accept()).await;
    let _held = accepted.expect("the daemon connects").unwrap();
    daemon.ends_in_time().await;
}

#[tokio::test]
async fn ends_in_time_although_the_driver_hangs() {
    let folder = tempfile::tempdir().unwrap();
    for call in ["nvmlInit", "GetUtilizationRates"] {
        let scenario = Scenario::of(Profile::H100, 1).hang(call);
        let stand_in = StandIn::install(folder.path(), &scenario).unwrap();
        let operator = Operator::start(plan(1, Vec::new())).await;
        let library = format!("--nvml-library={}", stand_in.library_path().display());
        let mut daemon = Daemon::start(operator.address, &operator.ca, &[&library]);
        operator
            .report("a report in spite of the hang", |report| {
                matches!(report.gpus.driver, DriverState::Starting).then_some(())
            })
            .await;
        daemon.ends_in_time().await;
        assert!(daemon.log().contains("a driver call hangs"), "{}", daemon.log());
    }
}

#[tokio::test]
async fn asks_the_kubelet_and_says_whether_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = socket_in(folder.path());
    let operator = Operator::start(plan(1, Vec::new())).await;
    let option = format!("--pod-resources-socket={}", socket.display());
    let mut daemon = Daemon::start(operator.address, &operator.ca, &["--no-gpu", &option]);
    daemon.logged("there is no socket").await;
    let metrics = daemon.get("/metrics").await.unwrap();
    assert!(
        metrics.contains("infmon_pod_resources_state{state=\"Unknown\"} 1"),
        "{metrics}"
    );

    let _kubelet = Kubelet::start(
        &socket,
        Answer::Pods(vec![plain("daemon-x"), gpu("prod", "vllm-0", "GPU-1")]),
    );
    let owner = operator
        .report("an owner", |report| {
            report.gpus.owners.as_ref()?.owners.first().cloned()
        })
        .await;
    assert_eq!(
        (owner.pod.as_str(), owner.devices),
        ("vllm-0", vec!["GPU-1".to_owned()])
    );
    let log = daemon.logged("the kubelet tells which pods have which GPUs").await;
    assert_eq!(log.matches("does not tell which pods").count(), 1, "told once: {log}");
    let metrics = daemon.get("/metrics").await.unwrap();
    for line in [
        "infmon_pod_resources_state{state=\"Fresh\"} 1",
        "infmon_pod_resources_devices 1",
        "infmon_pod_resources_calls_total{result=\"ok\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    daemon.ends_in_time().await;
}

/// The kubelet's folder has mode 0750 and belongs to root, as on a node; the daemon is the user that images run as.
#[tokio::test]
async fn without_the_right_to_connect_it_says_what_it_takes() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let folder = tempfile::tempdir().unwrap();
    let kubelets = folder.path().join("pod-resources");
    std::fs::create_dir(&kubelets).unwrap();
    let _kubelet = Kubelet::start(&socket_in(&kubelets), Answer::Pods(vec![plain("daemon-x")]));
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let is_root = std::fs::metadata(&kubelets).unwrap().uid() == 0;
    // Who is not root has no right to a folder without any; root is kept out by nothing but being somebody else.
    mode(&kubelets, if is_root { 0o750 } else { 0 });
    mode(folder.path(), 0o755);
    let program = folder.path().join("daemon");
    std::fs::copy(env!("CARGO_BIN_EXE_infmon-node-daemon"), &program).unwrap();
    let option = format!("--pod-resources-socket={}", socket_in(&kubelets).display());
    let mut daemon = Daemon::start_as(
        &program,
        nobody(),
        "no certificate",
        &["--no-gpu", &option],
        |command| {
            if is_root {
                command.uid(65532).gid(65532);
            }
        },
    );
    daemon.logged("no permission to connect to").await;
    let log = daemon.logged("must run as uid 0").await;
    assert!(log.contains("pod-resources/kubelet.sock"), "{log}");
    daemon.ends_in_time().await;
    mode(&kubelets, 0o750);
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said() {
    let taken = TcpListener::bind(LOCAL).await.unwrap();
    let address = format!("--admin-listen={}", taken.local_addr().unwrap());
    for (filter, words) in [
        ("info", "cannot listen on"),
        ("no=filter=", "RUST_LOG is not a log filter"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infmon-node-daemon"));
        command
            .args(["--node-name=n", "--operator=127.0.0.1:1", &address])
            .env("RUST_LOG", filter);
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(log.contains(words), "{log}");
    }
}

/// CPU seconds and resident KiB of a process.
fn usage(pid: u32) -> (f64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (ticks / 100.0, resident.trim().trim_end_matches(" kB").parse().unwrap())
}

/// A body above the size at which memory is shared out.
const LARGE: usize = 16 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn many_huge_bodies_neither_fill_memory_nor_delay_others() {
    let good = SimulatedEngine::start(Kind::Vllm, LOCAL).await.unwrap();
    let mut targets = vec![target("good", good.address())];
    let mut hostile = Vec::new();
    for index in 0..12 {
        let server = SimulatedEngine::start(Kind::Vllm, LOCAL).await.unwrap();
        server.misbehave(Mode::HugeBody);
        let mut target = target(&format!("huge-{index}"), server.address());
        target.body_limit_bytes = LARGE as u64;
        targets.push(target);
        hostile.push(server);
    }
    let operator = Operator::start(plan(1, targets)).await;
    let mut daemon = Daemon::start(operator.address, &operator.ca, &["--no-gpu", "--allow-local-targets"]);
    let mut peak = 0;
    let began = Instant::now();
    eventually("a failure of each", || {
        peak = peak.max(usage(daemon.child.id()).1);
        let last = operator.sessions.last.lock().unwrap();
        let (_, report) = last.as_ref()?;
        let failed = report.targets.iter().filter(|target| target.failure.is_some()).count();
        (failed == 12 && began.elapsed() > Duration::from_secs(3)).then_some(())
    })
    .await;
    let age = operator
        .report("the good target", |report| Some(report.targets[0].last.as_ref()?.age))
        .await;
    assert!(age < Duration::from_secs(1), "{age:?}");
    // The memory limit that the chart sets.
    assert!(peak < 64 * 1024, "{peak} KiB");
    daemon.ends_in_time().await;
}

/// The promise of the design: `cargo test --release -p infmon-node-daemon --test process -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 40 s and means something only in a release build on a quiet machine"]
async fn footprint_with_8_gpus_and_8_servers() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = StandIn::install(folder.path(), &Scenario::of(Profile::H100, 8)).unwrap();
    let mut servers = Vec::new();
    let mut targets = Vec::new();
    for index in 0..8 {
        let server = SimulatedEngine::start(Kind::Vllm, LOCAL).await.unwrap();
        let mut target = target(&format!("server-{index}"), server.address());
        target.period = Duration::from_secs(1);
        targets.push(target);
        servers.push(server);
    }
    let operator = Operator::start(Plan {
        period: Duration::from_secs(1),
        ..plan(1, targets)
    })
    .await;
    let library = format!("--nvml-library={}", stand_in.library_path().display());
    let mut daemon = Daemon::start(operator.address, &operator.ca, &[&library, "--allow-local-targets"]);
    operator
        .report("all samples", |report| {
            (report.targets.len() == 8 && report.targets.iter().all(|target| target.last.is_some())).then_some(())
        })
        .await;
    tokio::time::sleep(10 * PERIOD).await;
    let (cpu_before, _) = usage(daemon.child.id());
    let began = Instant::now();
    let mut peak = 0;
    while began.elapsed() < Duration::from_secs(30) {
        for server in &servers {
            server.change(|load| load.generated_tokens_total += 1234);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        peak = peak.max(usage(daemon.child.id()).1);
    }
    let share = (usage(daemon.child.id()).0 - cpu_before) / began.elapsed().as_secs_f64();
    println!("resident {peak} KiB, {:.2} % of a core", share * 100.0);
    assert!(peak < 25 * 1024, "resident {peak} KiB");
    assert!(share < 0.01, "{share} of a core");
    daemon.ends_in_time().await;
}
