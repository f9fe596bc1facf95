//! What is in the images, run as a container would: in a root of its own, without this machine's environment, not as root.

use std::{
    env,
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use infmon_engines::{BodyReader, EngineSample};
use infmon_packaging::oci::Image;
use tokio::{
    net::{TcpListener, TcpSocket},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{LlamaRoot, gateway_image, llama_server};
use crate::{exchange::Connection, gateway, load};

const LIMIT: Duration = Duration::from_secs(30);

/// A container without walls: the image's files as root folder, its environment and its user.
fn container(image: &Image, root: &Path) -> Command {
    for layer in &image.layers {
        layer.unpack(root).unwrap();
    }
    let mut command = Command::new("/usr/sbin/chroot");
    command
        .arg(format!("--userspec={}", image.config.user))
        .arg(root)
        .args(&image.config.entrypoint)
        .env_clear()
        .envs(image.config.env.iter().filter_map(|pair| pair.split_once('=')))
        .stdin(Stdio::null());
    command
}

/// Killed when the test ends, however it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn fetch(address: &str, path: &str) -> Option<String> {
    use http_body_util::{BodyExt, Full};
    let connection = Connection::open(address, Duration::from_secs(1)).await.ok()?;
    let request = http::Request::get(path)
        .header("host", address)
        .body(Full::default())
        .unwrap();
    let answer = connection.send(request).await.ok()?;
    let success = answer.status().is_success();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    success.then(|| String::from_utf8_lossy(&body).into_owned())
}

async fn sample(address: &str) -> EngineSample {
    let body = fetch(address, "/metrics").await.unwrap();
    let reading = BodyReader::new(None).read(body.as_bytes()).unwrap();
    assert_eq!(reading.missing, Vec::<String>::new());
    reading.sample
}

async fn until(address: &str, what: &str, is_so: impl Fn(&EngineSample) -> bool) -> EngineSample {
    let began = Instant::now();
    loop {
        let sample = sample(address).await;
        if is_so(&sample) {
            return sample;
        }
        assert!(began.elapsed() < LIMIT, "{what}: {sample:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
#[ignore = "needs root: cargo test -p infmon-workloads -- --ignored"]
fn the_gateway_starts_with_what_is_in_its_image() {
    let folder = tempfile::tempdir().unwrap();
    // This test's own program stands for it: it needs the same libraries.
    let image = gateway_image(folder.path(), &env::current_exe().unwrap()).unwrap();
    let output = container(&image, &folder.path().join("root"))
        .arg("--list")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
#[ignore = "needs root and debootstrap: cargo test -p infmon-workloads -- --ignored"]
async fn a_real_server_queues_what_the_gateway_held() {
    let folder = tempfile::tempdir().unwrap();
    let image = llama_server(folder.path(), &LlamaRoot::locate().unwrap()).unwrap();
    let size: u64 = image.layers.iter().map(|layer| layer.size).sum();
    assert!(size < 80 << 20, "{size} bytes");
    // Bound and not listening: connections are refused until the server has the port.
    let kept = TcpSocket::new_v4().unwrap();
    kept.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = kept.local_addr().unwrap().port().to_string();
    let server = format!("127.0.0.1:{port}");
    let mut command = container(&image, &folder.path().join("root"));
    command.args("--metrics --slots -np 2 -c 2048 --threads 1".split(' '));
    command.args(["--host", "127.0.0.1", "--port", &port]);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let gateway = listener.local_addr().unwrap().to_string();
    let settings = gateway::Settings {
        backend: server.clone(),
        hold_at_most: 100,
        hold_for: LIMIT,
        answer_within: LIMIT,
    };
    let stop = CancellationToken::new();
    let _end = stop.clone().drop_guard();
    tokio::spawn(gateway::serve(settings, listener, stop.clone()));
    let settings = load::Settings {
        url: format!("http://{gateway}/v1/completions").parse().unwrap(),
        concurrency: 12,
        max_tokens: 200,
        answer_within: LIMIT,
        lasts: None,
    };
    let stop_load = stop.child_token();
    let ended = stop_load.clone();
    let loading = tokio::spawn(async move { load::run(&settings, ended, |_| ()).await });
    until(&gateway, "all wait", |sample| sample.waiting == Some(12.0)).await;

    drop(kept);
    let log = folder.path().join("log");
    let output = std::fs::File::create(&log).unwrap();
    let running = Running(
        command
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap(),
    );
    let began = Instant::now();
    while fetch(&server, "/health").await.is_none() {
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(began.elapsed() < LIMIT, "{log}");
        sleep(Duration::from_millis(20)).await;
    }
    let queued = until(&server, "two run and ten wait", |sample| {
        sample.running == Some(2.0) && sample.waiting == Some(10.0)
    })
    .await;
    let held = until(&gateway, "none held", |sample| sample.waiting == Some(0.0)).await;
    assert_eq!(held.generation, queued.generation);

    drop(running);
    until(&gateway, "all wait again", |sample| sample.waiting == Some(12.0)).await;
    let running = Running(command.spawn().unwrap());
    until(&gateway, "none held", |sample| sample.waiting == Some(0.0)).await;
    sleep(Duration::from_secs(1)).await;
    stop_load.cancel();
    let outcome = loading.await.unwrap().unwrap();
    println!("{}", outcome.line());
    assert_eq!(outcome.failed, 0, "{}", outcome.line());
    drop(running);
}
