//! A pod with an inference server: a simulated engine on the pod's address and declared port.

use anyhow::Context;
use infmon_simulated_engine::{Kind, SimulatedEngine};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};

use crate::{Cluster, addresses};

/// The port that the pods declare under the name `http`.
pub const PORT: u16 = 8000;

/// A pod whose server runs in this process.
#[derive(Debug)]
pub struct EnginePod {
    /// The server.
    pub engine: SimulatedEngine,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Address.
    pub ip: IpAddr,
}

/// The spec of such a pod. Its label `app` is what monitors select by.
pub fn pod_spec() -> Value {
    json!({"containers": [{
        "name": "server", "image": "example.test/server",
        "ports": [{"name": "http", "containerPort": PORT}],
    }]})
}

impl EnginePod {
    /// Makes a pod on a node, with `app` as its label, and starts its server.
    ///
    /// # Errors
    /// When the pod is refused or the address is taken.
    pub fn start(cluster: &Cluster, kind: Kind, node: &str, namespace: &str, app: &str) -> anyhow::Result<Self> {
        Self::start_with(cluster, kind, node, namespace, app, pod_spec())
    }

    /// [`start`](Self::start) with a chosen pod spec.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(
        cluster: &Cluster,
        kind: Kind,
        node: &str,
        namespace: &str,
        app: &str,
        mut spec: Value,
    ) -> anyhow::Result<Self> {
        spec["nodeName"] = node.into();
        let pod = cluster.api().create(
            &format!("/api/v1/namespaces/{namespace}/pods"),
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": format!("{app}-"), "labels": {"app": app}},
                "spec": spec,
            }),
        )?;
        Self::run(cluster, kind, &pod, node)
    }

    /// Runs a server in a pod that somebody else made.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn run(cluster: &Cluster, kind: Kind, pod: &Value, node: &str) -> anyhow::Result<Self> {
        let ip = addresses::next();
        let engine = cluster
            .runtime()
            .block_on(SimulatedEngine::start(kind, SocketAddr::new(ip, PORT)))?;
        cluster.bind(pod, node)?;
        cluster.report_running(pod, ip)?;
        let field = |name: &str| pod["metadata"][name].as_str().map(str::to_owned);
        Ok(Self {
            engine,
            namespace: field("namespace").context("a pod without a namespace")?,
            name: field("name").context("a pod without a name")?,
            ip,
        })
    }

    /// Sets how many requests wait and run.
    pub fn set_requests(&self, waiting: u64, running: u64) {
        self.engine.change(|load| {
            load.waiting = waiting;
            load.running = running;
        });
    }
}
