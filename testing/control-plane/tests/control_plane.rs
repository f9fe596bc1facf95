//! The control plane itself: what other tests rely on.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use infmon_control_plane::{AuditWrite, ControlPlane, Options, process};
use serde_json::{Value, json};

const NODE: &str = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}"#;

fn pod(name: &str, node: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "nodeName": node, "containers": [{ "name": "main", "image": "example/none" }] },
    })
    .to_string()
}

/// What the apiserver says about a token.
fn review(plane: &ControlPlane, token: &str, audience: &str) -> anyhow::Result<Value> {
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": [audience] },
    });
    let file = plane.data_dir().join("review.json");
    std::fs::write(&file, body.to_string())?;
    let answer = plane.kubectl(&["create", "--output=json", "--filename", &file.display().to_string()])?;
    Ok(serde_json::from_str(&answer)?)
}

/// The first write that fits. It may show a moment after kubectl has its answer.
fn find_write(plane: &ControlPlane, offset: u64, fits: impl Fn(&AuditWrite) -> bool) -> anyhow::Result<AuditWrite> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let writes = plane.audit_writes_since(offset)?;
        if let Some(write) = writes.iter().find(|write| fits(write)) {
            return Ok(write.clone());
        }
        ensure!(Instant::now() < deadline, "no such write among {writes:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_config_map_is_kept_and_its_write_is_counted() -> anyhow::Result<()> {
    let plane = ControlPlane::shared()?;
    let offset = plane.audit_offset()?;
    plane.kubectl(&["create", "configmap", "greeting", "--from-literal=text=hello"])?;
    assert_eq!(
        plane.kubectl(&["get", "configmap", "greeting", "--output=jsonpath={.data.text}"])?,
        "hello"
    );

    let write = find_write(&plane, offset, |write| write.name == "greeting")?;
    assert_eq!(
        (write.user.as_str(), write.verb.as_str(), write.code),
        ("kubernetes-admin", "create", 201)
    );
    assert_eq!(
        (write.resource.as_str(), write.namespace.as_str()),
        ("configmaps", "default")
    );
    assert_eq!((write.api_group.as_str(), write.subresource.as_str()), ("", ""));
    Ok(())
}

#[test]
fn reads_are_not_counted_and_refused_writes_are() -> anyhow::Result<()> {
    let plane = ControlPlane::shared()?;
    let jane = plane.kubeconfig_for_user("jane", None, "jane")?;
    let offset = plane.audit_offset()?;
    let error = plane.kubectl_as(&jane, &["get", "pods"]).unwrap_err().to_string();
    assert!(error.contains(r#"User "jane" cannot list resource "pods""#), "{error}");
    plane
        .kubectl_as(&jane, &["create", "configmap", "refused"])
        .unwrap_err();

    let write = find_write(&plane, offset, |write| write.user == "jane")?;
    assert_eq!(
        (write.verb.as_str(), write.resource.as_str(), write.code),
        ("create", "configmaps", 403)
    );
    Ok(())
}

#[test]
fn the_controllers_act() -> anyhow::Result<()> {
    let plane = ControlPlane::shared()?;
    plane.check_controller_manager()?;
    let offset = plane.audit_offset()?;
    plane.kubectl_apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: example/none}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: default}
spec:
  maxReplicas: 3
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
"#,
    )?;
    let hpa = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    let write = find_write(&plane, offset, |write| {
        write.user == hpa && write.subresource == "status"
    })?;
    assert_eq!(
        (write.resource.as_str(), write.name.as_str()),
        ("horizontalpodautoscalers", "web")
    );
    Ok(())
}

#[test]
fn a_bound_token_names_its_pod_and_node() -> anyhow::Result<()> {
    let plane = ControlPlane::shared()?;
    plane.kubectl_apply(NODE)?;
    plane.kubectl_apply(&pod("on-node", "node-1"))?;
    let audience = "https://metrics.example";
    let token = plane.service_account_token("default", "default", Some(audience), Some("on-node"))?;

    let status = &review(&plane, &token, audience)?["status"];
    assert_eq!(status["authenticated"], true, "{status:#}");
    assert_eq!(status["audiences"], json!([audience]));
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:default");
    let extra = &status["user"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!(["on-node"]),
        "{extra:#}"
    );
    assert_eq!(
        extra["authentication.kubernetes.io/node-name"],
        json!(["node-1"]),
        "{extra:#}"
    );

    // A token for someone else is no login at the apiserver.
    let kubeconfig = plane.kubeconfig_for_token(&token, "bound")?;
    plane.kubectl_as(&kubeconfig, &["get", "--raw", "/api"]).unwrap_err();
    let token = plane.service_account_token("default", "default", None, None)?;
    let kubeconfig = plane.kubeconfig_for_token(&token, "unbound")?;
    let me = plane.kubectl_as(
        &kubeconfig,
        &["auth", "whoami", "--output=jsonpath={.status.userInfo.username}"],
    )?;
    assert_eq!(me, "system:serviceaccount:default:default");
    Ok(())
}

#[test]
fn data_outlives_the_apiserver() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options::default())?;
    let url = plane.server_url();
    plane.kubectl(&["create", "configmap", "kept"])?;
    plane.stop_apiserver();
    let error = plane.kubectl(&["get", "--raw", "/readyz"]).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");

    plane.start_apiserver()?;
    assert_eq!(plane.server_url(), url);
    plane.kubectl(&["get", "configmap", "kept"])?;
    // Whether we may ask for its health, the manager asks the apiserver, and it may be in the middle of a pause before it tries again.
    let mut error = None;
    process::wait_for("the controller manager", Duration::from_secs(60), || {
        error = plane.check_controller_manager().err();
        Ok(error.is_none())
    })
    .with_context(|| format!("{error:?}"))
}

#[test]
fn a_failed_start_shows_the_log() {
    let options = Options {
        apiserver_args: vec!["--no-such-flag".to_owned()],
        ..Options::default()
    };
    let error = format!("{:#}", ControlPlane::start(options).unwrap_err());
    assert!(
        error.contains("kube-apiserver ended with") && error.contains("unknown flag: --no-such-flag"),
        "{error}"
    );
}
