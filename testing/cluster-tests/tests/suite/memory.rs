//! Host memory of pods, from the control groups that a real kubelet makes.

use anyhow::ensure;
use infmon_cluster_tests::{Installation, Namespace, Session, servers};
use infmon_end_to_end::{Monitor, eventually, polling::took};
use serde_json::json;
use std::time::{Duration, Instant};

/// The first samples, a search for the pod, a reading every 5 s, and a status.
const READ: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn the_host_memory_of_a_pod_is_read_without_privilege() -> anyhow::Result<()> {
    let session = Session::get()?;
    let namespace = Namespace::create(session, "hostmemory")?;
    // The namespace of the release must be there before its level can be changed.
    Installation::with(session, &["nodeProfiles[0].name=default"])?;
    Installation::allow(session, "privileged")?;
    let profile = ["nodeProfiles[0].name=default", "nodeProfiles[0].hostMemory=true"];
    let installation = Installation::with(session, &profile)?;
    servers::llama(&namespace, "chat", 1)?;
    let limit = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "server", "resources": {"limits": {"memory": "1Gi"}}}],
    }}}});
    namespace.kubectl(&["patch", "deployment", "chat", "--patch", &limit.to_string()])?;
    let monitor = Monitor::apply(session.api(), "hostmemory", "chat", "chat", &json!({}))?;
    namespace.kubectl(&["rollout", "status", "deployment/chat", "--timeout=120s"])?;
    installation.wait_for_daemons(session)?;
    let begun = Instant::now();
    let path = "/apis/inferencemonitor.io/v1alpha1/namespaces/hostmemory/inferencemonitors/chat";
    let mut requests = 5;
    let found = eventually("the host memory of the pod is read", READ, || {
        // Words alone are no reason to write a status; a change of the spec is.
        requests += 1;
        let spec = json!({"spec": {"thresholds": {"queueDepth": {"perEndpoint": requests}}}});
        session.api().merge(path, &spec)?;
        let found = monitor.condition("OOMRisk")?;
        ensure!(found.message.contains("% of a pod's host memory in use"), "{found:?}");
        Ok(found)
    })?;
    took("the host memory of a pod is told", begun);
    println!("  {}", found.message);
    ensure!(found.status == "False", "{found:?}");
    for pod in installation.pods(session, "node-daemon")? {
        let user = &pod["spec"]["securityContext"]["runAsUser"];
        ensure!(*user == 65532, "a daemon that reads host memory runs as {user}");
    }

    Installation::with(session, &["nodeProfiles[0].name=default"])?.wait_for_daemons(session)?;
    Installation::allow(session, "restricted")?;
    namespace.delete()
}
