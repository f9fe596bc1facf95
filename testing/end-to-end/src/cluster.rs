//! A control plane with the chart installed, and its nodes and pods.

use anyhow::{Context, ensure};
use infmon_control_plane::{ControlPlane, HelmVersion, Options};
use serde_json::{Value, json};
use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::runtime::{Handle, Runtime};

use crate::{
    Api, FrontProxy,
    kubelet::{self, Kubelet},
    polling::{eventually, took},
    programs::{Programs, repository},
    service_proxy::ServiceProxy,
};

/// Namespace of the release.
pub const NAMESPACE: &str = "inference-monitor-system";
/// Name of the release, and with it of the metrics Service.
pub const RELEASE: &str = "inference-monitor";
/// The APIServices of the chart.
pub const API_SERVICES: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];

/// What a test chooses about its cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Helm that installs the chart.
    pub helm: HelmVersion,
    /// Operator replicas.
    pub replicas: u8,
    /// Seconds for which a DaemonSet stays that nothing needs.
    pub removal_grace_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            helm: HelmVersion::V4,
            replicas: 1,
            removal_grace_seconds: 60,
        }
    }
}

/// A running cluster. Processes that a test started beside it must be dropped before it.
#[derive(Debug)]
pub struct Cluster {
    /// What it was started with.
    pub settings: Settings,
    logs: Mutex<Vec<PathBuf>>,
    // In the order in which they have to end.
    _kubelet: Kubelet,
    proxy: ServiceProxy,
    api: Api,
    plane: ControlPlane,
    runtime: Runtime,
}

impl Cluster {
    /// Starts a control plane and installs the chart. The operator's pods are there then; nothing runs in them yet.
    ///
    /// # Errors
    /// When a part does not come up.
    pub fn start(settings: Settings) -> anyhow::Result<Self> {
        infmon_runtime::install_crypto_provider();
        Programs::locate()?;
        let begun = Instant::now();
        let plane = ControlPlane::start(Options {
            // Nodes have no heartbeat here: without these two nobody minds.
            controller_manager_args: vec![
                "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller".into(),
            ],
            ..Options::default()
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let api = Api::new(plane.admin_kubeconfig(), runtime.handle())?;
        let cluster = Self {
            settings,
            logs: Mutex::default(),
            _kubelet: Kubelet::start(api.clone()),
            proxy: ServiceProxy::start(runtime.handle())?,
            api,
            plane,
            runtime,
        };
        cluster.install()?;
        took("control plane with the chart installed", begun);
        Ok(cluster)
    }

    fn install(&self) -> anyhow::Result<()> {
        let chart = repository().join("charts/inference-monitor");
        let values = [
            "podAddresses.allowLoopback=true".to_owned(),
            format!("operator.replicas={}", self.settings.replicas),
            format!("nodeDaemon.removalGraceSeconds={}", self.settings.removal_grace_seconds),
        ]
        .join(",");
        let chart = chart.display().to_string();
        self.plane.helm(
            self.settings.helm,
            &[
                "install",
                RELEASE,
                &chart,
                "--namespace",
                NAMESPACE,
                "--create-namespace",
                "--set",
                &values,
            ],
        )?;
        // The aggregator dials the address of the Service, which leads nowhere without kube-proxy. With this type it dials the name,
        // and the serving certificate is still checked against the Service's own name.
        let service = format!("/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}");
        let port = self.proxy.port();
        self.api.merge(
            &service,
            &json!({"spec": {
                "type": "ExternalName", "externalName": "localhost",
                "clusterIP": null, "clusterIPs": null, "selector": null,
            }}),
        )?;
        for name in API_SERVICES {
            let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
            self.api.merge(&path, &json!({"spec": {"service": {"port": port}}}))?;
        }
        Ok(())
    }

    /// The API server, as administrator.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The control plane.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Where async parts run.
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// The way from the aggregator to the operator.
    pub fn proxy(&self) -> &ServiceProxy {
        &self.proxy
    }

    /// A client with the identity of a kubeconfig.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn api_as(&self, kubeconfig: &Path) -> anyhow::Result<Api> {
        Api::new(kubeconfig, self.runtime())
    }

    /// Reads from single replicas. The operator must have made its certificates.
    ///
    /// # Errors
    /// When they are not there.
    pub fn front_proxy(&self) -> anyhow::Result<FrontProxy> {
        let certificates = self.plane.data_dir().join("certificates");
        let authority = self.certificate_authority()?;
        FrontProxy::new(&certificates, &authority, &format!("{RELEASE}.{NAMESPACE}.svc"))
    }

    /// The authority that the operator made, as its daemons mount it.
    ///
    /// # Errors
    /// When it is not there within 20 s.
    pub fn certificate_authority(&self) -> anyhow::Result<String> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{RELEASE}-certificates-ca");
        eventually("the operator's CA", Duration::from_secs(20), || {
            let map = self.api.get(&path)?;
            Ok(map["data"]["ca.crt"].as_str().context("no ca.crt in it")?.to_owned())
        })
    }

    /// Creates a namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn add_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.api.create("/api/v1/namespaces", &namespace)?;
        // Pods need it; a controller makes it.
        eventually("the default ServiceAccount", Duration::from_secs(20), || {
            self.api
                .get(&format!("/api/v1/namespaces/{name}/serviceaccounts/default"))
                .map(drop)
        })
    }

    /// Creates a node that takes pods.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn add_node(&self, name: &str) -> anyhow::Result<()> {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.api.create("/api/v1/nodes", &node)?;
        // Admission taints every new node as not ready, and the controller that would take it away is off.
        self.api
            .merge(&format!("/api/v1/nodes/{name}"), &json!({"spec": {"taints": null}}))?;
        Ok(())
    }

    /// Plays the scheduler for one pod.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn bind(&self, pod: &Value, node: &str) -> anyhow::Result<()> {
        if pod["spec"]["nodeName"].is_string() {
            return Ok(());
        }
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod["metadata"]["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        self.api
            .create(&format!("{}/binding", kubelet::path_of(pod)), &binding)?;
        Ok(())
    }

    /// Plays the kubelet for one pod: it runs, is ready and has an address.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn report_running(&self, pod: &Value, ip: IpAddr) -> anyhow::Result<()> {
        let path = format!("{}/status", kubelet::path_of(pod));
        self.api.merge(&path, &kubelet::running(pod, ip))?;
        Ok(())
    }

    /// Pods of the release's namespace by the label `app.kubernetes.io/component`.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn component_pods(&self, component: &str) -> anyhow::Result<Vec<Value>> {
        let pods = self.api.list(&format!(
            "/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component={component}"
        ))?;
        let alive = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
        Ok(pods.into_iter().filter(alive).collect())
    }

    /// The pod that the DaemonSet controller made for a node.
    ///
    /// # Errors
    /// When there is none within 30 s.
    pub fn daemon_pod(&self, node: &str) -> anyhow::Result<Value> {
        eventually(
            &format!("a daemon pod for node {node}"),
            Duration::from_secs(30),
            || {
                let pods = self.component_pods("node-daemon")?;
                let found = pods.into_iter().find(|pod| meant_for(pod) == Some(node));
                found.context("the DaemonSet controller has made none")
            },
        )
    }

    /// Writes a file that belongs to this cluster.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_file(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.plane.data_dir().join(name);
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    /// The path of a process's log, which is shown when a test fails.
    pub fn log_file(&self, name: &str) -> PathBuf {
        let path = self.plane.data_dir().join("logs").join(format!("{name}.log"));
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if !logs.contains(&path) {
            logs.push(path.clone());
        }
        path
    }

    /// Shows the ends of all logs unless [`Story::ends_well`] is called.
    pub fn story(&self, name: &'static str) -> Story<'_> {
        println!("{name}");
        Story {
            cluster: self,
            name,
            begun: Instant::now(),
            good: false,
        }
    }

    /// Waits until the aggregated APIs are Available.
    ///
    /// # Errors
    /// When they are not within a minute: a failed check is repeated later and later, every 30 s in the end.
    pub fn wait_for_metrics_api(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        eventually("a replica that takes connections", Duration::from_secs(20), || {
            ensure!(self.proxy.ready() > 0, "none is ready");
            Ok(())
        })?;
        // The aggregator looks again when the endpoints of a Service change. This one has none that could: touch it instead.
        let touch = json!({"metadata": {"annotations": {"end-to-end/endpoints-changed": format!("{begun:?}")}}});
        let service = format!("/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}");
        self.api.merge(&service, &touch)?;
        for name in API_SERVICES {
            let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
            eventually(&format!("{name} Available"), Duration::from_secs(60), || {
                let service = self.api.get(&path)?;
                let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let available = conditions.iter().find(|condition| condition["type"] == "Available");
                let available = available.context("no condition Available")?;
                ensure!(available["status"] == "True", "{available}");
                Ok(())
            })?;
        }
        if begun.elapsed() > Duration::from_secs(1) {
            took("waited for the APIServices to be Available", begun);
        }
        Ok(())
    }
}

/// The node that the DaemonSet controller wants a pod on.
fn meant_for(pod: &Value) -> Option<&str> {
    pod.pointer(
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0",
    )?
    .as_str()
}

/// One test while it runs.
#[derive(Debug)]
pub struct Story<'a> {
    cluster: &'a Cluster,
    name: &'static str,
    begun: Instant,
    good: bool,
}

impl Story<'_> {
    /// The test passed.
    pub fn ends_well(mut self) {
        self.good = true;
        took(self.name, self.begun);
    }
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if self.good {
            return;
        }
        let logs = self.cluster.logs.lock().unwrap_or_else(PoisonError::into_inner);
        for log in logs.iter() {
            let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- {}: the end of {}\n{tail}", self.name, log.display());
        }
    }
}
