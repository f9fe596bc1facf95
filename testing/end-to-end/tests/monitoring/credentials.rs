//! A server outside the cluster behind HTTPS and a token: what has to be granted, what is said when it is not, and that the token is
//! seen by nobody but the server.

use anyhow::{Context, ensure};
use infmon_control_plane::HelmVersion;
use infmon_end_to_end::guarded_server::GuardedServer;
use infmon_end_to_end::http_client::Connection;
use infmon_end_to_end::programs::repository;
use infmon_end_to_end::{Cluster, Monitor, NAMESPACE, eventually};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

use crate::Shared;

const PLACE: &str = "credentials";
const FIRST: &str = "canary-first-5d41402abc4b";
const SECOND: &str = "canary-second-7d793037a076";
const SECRETS: &str = "/api/v1/namespaces/credentials/secrets";
/// A Secret that is in order is read every 54 to 66 s, one that is not within 60 s.
const WITHIN: Duration = Duration::from_secs(75);

fn says(monitor: &Monitor, words: &str) -> anyhow::Result<()> {
    let found = eventually(&format!("Ready says {words:?}"), WITHIN, || {
        let ready = monitor.condition("Ready")?;
        ensure!(ready.status != "True" && ready.message.contains(words), "{ready:?}");
        Ok(ready)
    })?;
    println!("  {}: {}", found.reason, found.message);
    Ok(())
}

/// Grants what the Helm value `credentials.namespaces` grants.
fn grant(cluster: &Cluster) -> anyhow::Result<()> {
    let chart = repository().join("charts/inference-monitor").display().to_string();
    let rendered = cluster.plane().helm(
        HelmVersion::V4,
        &[
            "template",
            infmon_end_to_end::cluster::RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--set",
            "credentials.namespaces={credentials}",
            "--show-only",
            "templates/rbac/credentials.yaml",
        ],
    )?;
    cluster.plane().kubectl_apply(&rendered)?;
    Ok(())
}

#[test]
fn a_guarded_server_outside_is_read_with_a_secret_that_nobody_sees() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    shared.place(PLACE)?;
    let story = cluster.story("a guarded server outside is read with a Secret that nobody sees");
    let server = GuardedServer::start(cluster, FIRST)?;
    let spec = |stale: u32| {
        json!({
            "staleAfterSeconds": stale,
            "endpoints": [{
                "name": "outside", "url": format!("https://{}", server.address),
                "credentialsSecretRef": {"name": "access"}, "labels": {"site": "fra"},
            }],
        })
    };
    let monitor = Monitor::apply(cluster.api(), PLACE, "guarded", "guarded", &spec(5))?;
    let daemon = shared.daemon(PLACE)?;

    // Step by step, as the words say.
    says(&monitor, "Helm value credentials.namespaces")?;
    grant(cluster)?;
    says(&monitor, "kubectl create secret generic access -n credentials")?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "access", "namespace": PLACE},
        "stringData": {"token": FIRST, "ca.crt": server.authority},
    });
    cluster.api().create(SECRETS, &secret)?;
    says(
        &monitor,
        "kubectl label secret access -n credentials inferencemonitor.io/credentials=true",
    )?;
    let label = "inferencemonitor.io/credentials=true";
    cluster
        .plane()
        .kubectl(&["label", "secret", "access", "-n", PLACE, label])?;
    says(
        &monitor,
        "kubectl annotate secret access -n credentials inferencemonitor.io/hosts=HOST",
    )?;
    let elsewhere = "inferencemonitor.io/hosts=elsewhere.test";
    let annotate = |hosts: &str| {
        let arguments = ["annotate", "--overwrite", "secret", "access", "-n", PLACE, hosts];
        cluster.plane().kubectl(&arguments).map(drop)
    };
    annotate(elsewhere)?;
    says(&monitor, "may be sent to elsewhere.test and not to")?;
    ensure!(
        server.seen().good + server.seen().bad == 0,
        "asked without credentials: {:?}",
        server.seen()
    );
    annotate(&format!("inferencemonitor.io/hosts={}", server.address))?;
    // The Secret was in order, if for another host: the change of a monitor is what it is read for at once.
    Monitor::apply(cluster.api(), PLACE, "guarded", "guarded", &spec(6))?;
    monitor.wait_for("Ready", "True", Duration::from_secs(30))?;
    let status = monitor.get()?["status"].take();
    ensure!(status["endpoints"][0]["labels"]["site"] == "fra", "{status}");
    ensure!(server.seen().bad == 0, "{:?}", server.seen());

    // A new token: the server takes it at once, the Secret is changed, and nothing else is done.
    server.rotate(SECOND);
    cluster
        .api()
        .merge(&format!("{SECRETS}/access"), &json!({"stringData": {"token": SECOND}}))?;
    eventually("the new token is used", WITHIN, || {
        ensure!(server.seen().good > 0, "{:?}", server.seen());
        Ok(())
    })?;
    monitor.wait_for("Ready", "True", Duration::from_secs(20))?;

    nothing_shows(&shared, &monitor, daemon.admin())?;

    // What is taken back is not used any longer, and the metric is an error.
    cluster.plane().kubectl(&[
        "label",
        "secret",
        "access",
        "-n",
        PLACE,
        "inferencemonitor.io/credentials-",
    ])?;
    Monitor::apply(cluster.api(), PLACE, "guarded", "guarded", &spec(5))?;
    says(&monitor, "lacks the label")?;
    let before = server.seen();
    ensure!(
        monitor.metric("queue-depth")?.success().is_err(),
        "a number without credentials"
    );
    infmon_end_to_end::polling::throughout("it is not asked", Duration::from_secs(3), || {
        ensure!(server.seen() == before, "{:?} after {before:?}", server.seen());
        Ok(())
    })?;
    nothing_shows(&shared, &monitor, daemon.admin())?;
    monitor.delete()?;
    story.ends_well();
    Ok(())
}

/// The token is in no log, status, Event or `/metrics`.
fn nothing_shows(shared: &Shared, monitor: &Monitor, daemon: std::net::SocketAddr) -> anyhow::Result<()> {
    let cluster = &shared.cluster;
    let mut texts = vec![
        ("the monitor", monitor.get()?.to_string()),
        (
            "Events",
            Value::from(cluster.api().list("/apis/events.k8s.io/v1/events")?).to_string(),
        ),
    ];
    for operator in &shared.operators {
        texts.push(("/metrics of the operator", operator.exposition(cluster)?));
    }
    let metrics = cluster
        .runtime()
        .block_on(async { Connection::plain(daemon).await?.get("/metrics", &[]).await })?;
    texts.push(("/metrics of the daemon", metrics.success()?));
    let logs = cluster.plane().data_dir().join("logs");
    let mut read = 0;
    for entry in fs::read_dir(&logs).with_context(|| logs.display().to_string())? {
        // Those of the API server are its own affair; it audits nothing here.
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("daemon-") || name.starts_with("inference-monitor-operator") {
            texts.push(("a log", String::from_utf8_lossy(&fs::read(&path)?).into_owned()));
            read += 1;
        }
    }
    ensure!(read >= 2, "only {read} logs in {}", logs.display());
    for (what, text) in texts {
        ensure!(
            !text.is_empty() && !text.contains("canary-"),
            "the token is in {what}: {text}"
        );
    }
    Ok(())
}
