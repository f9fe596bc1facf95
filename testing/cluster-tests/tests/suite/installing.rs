//! From `helm install` to `helm uninstall`, as the README tells it.

use anyhow::ensure;
use infmon_cluster_tests::{
    Installation, Namespace, Session,
    installation::{chart, helm},
    servers,
};
use infmon_end_to_end::{Monitor, NAMESPACE, cluster::RELEASE, eventually, polling::took};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What a user may wait from `helm install` to a monitor that is Ready, images being on the nodes.
const FIRST_READY: Duration = Duration::from_secs(30);

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn install_monitor_and_uninstall() -> anyhow::Result<()> {
    let session = Session::get()?;
    let namespace = Namespace::create(session, "installing")?;
    if Installation::exists(session)? {
        Installation::remove(session)?;
    }
    Namespace::named(session, NAMESPACE).delete()?;
    remove_definition(session)?;
    servers::llama(&namespace, "chat", 1)?;
    namespace.wait_for_replicas("chat", 1, Duration::from_secs(120))?;

    // README: helm install ... --create-namespace
    let begun = Instant::now();
    let chart = chart();
    let keep_nothing = "crds.keep=false,nodeDaemon.removalGraceSeconds=5";
    helm(
        session,
        &[
            "install",
            RELEASE,
            &chart,
            "-n",
            NAMESPACE,
            "--create-namespace",
            "--set",
            keep_nothing,
            "--wait",
            "--timeout=2m",
        ],
    )?;
    took("helm install --wait", begun);
    let installation = Installation;
    let operators = installation.pods(session, "operator")?;
    ensure!(operators.len() == 2, "two operators: {operators:?}");
    ensure!(
        installation.daemon_sets(session)?.is_empty(),
        "a DaemonSet before the first monitor"
    );

    // README: kubectl apply of a monitor
    let applied = Instant::now();
    let monitor = Monitor::apply(session.api(), namespace.name(), "chat", "chat", &json!({}))?;
    installation.wait_for_daemons(session)?;
    took("first monitor -> daemons ready", applied);
    monitor.wait_for("Ready", "True", FIRST_READY)?;
    took("first monitor -> Ready", applied);
    let first_ready = took("helm install -> first Ready monitor", begun);
    ensure!(first_ready <= FIRST_READY, "{first_ready:?} from helm install to Ready");

    let table = session.kubectl(&["get", "infmon", "-n", namespace.name()])?;
    println!("{table}");
    for word in ["chat", "True", "LlamaCpp", "1/1"] {
        ensure!(table.contains(word), "{word} is missing in\n{table}");
    }

    // The last monitor goes, and the daemons with it.
    monitor.delete()?;
    let deleted = Instant::now();
    eventually("no DaemonSet", Duration::from_secs(40), || {
        let sets = installation.daemon_sets(session)?;
        ensure!(sets.is_empty(), "{} left", sets.len());
        Ok(())
    })?;
    took("last monitor deleted -> no DaemonSet (grace time 5 s)", deleted);

    Installation::remove(session)?;
    Namespace::named(session, NAMESPACE).delete()?;
    namespace.delete()?;
    let left = left_over(session)?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

/// The definition outlives a release that keeps it, and with it the monitor of a test that failed.
fn remove_definition(session: &Session) -> anyhow::Result<()> {
    let name = "inferencemonitors.inferencemonitor.io";
    session
        .kubectl(&["delete", "customresourcedefinition", name, "--ignore-not-found"])
        .map(drop)
}

/// Everything outside of namespaces that bears our name.
fn left_over(session: &Session) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for (kind, path) in [
        ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        (
            "ClusterRoleBinding",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        ),
        ("RoleBinding", "/apis/rbac.authorization.k8s.io/v1/rolebindings"),
        ("APIService", "/apis/apiregistration.k8s.io/v1/apiservices"),
        (
            "CustomResourceDefinition",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        ),
        ("Namespace", "/api/v1/namespaces"),
        ("Lease", "/apis/coordination.k8s.io/v1/leases"),
    ] {
        for object in session.api().list(path)? {
            if is_ours(&object) {
                left.push(format!("{kind} {}", object["metadata"]["name"]));
            }
        }
    }
    Ok(left)
}

fn is_ours(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    name.contains("inference-monitor") || name.contains("inferencemonitor") || name.contains("custom.metrics.k8s.io")
}
