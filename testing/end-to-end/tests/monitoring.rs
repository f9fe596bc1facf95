//! What a user sees of healthy and of failing services, on one cluster: each test has its own namespace, node and daemon.

#[path = "monitoring/autoscaling.rs"]
mod autoscaling;
#[path = "monitoring/credentials.rs"]
mod credentials;
#[path = "monitoring/custom.rs"]
mod custom;
#[path = "monitoring/driver_upgrade.rs"]
mod driver_upgrade;
#[path = "monitoring/gpu_faults.rs"]
mod gpu_faults;
#[path = "monitoring/latency.rs"]
mod latency;
#[path = "monitoring/link.rs"]
mod link;
#[path = "monitoring/metrics_api.rs"]
mod metrics_api;
#[path = "monitoring/processes.rs"]
mod processes;
#[path = "monitoring/services.rs"]
mod services;
#[path = "monitoring/targets.rs"]
mod targets;
#[path = "monitoring/throttling.rs"]
mod throttling;

use infmon_end_to_end::{Cluster, DaemonProcess, EnginePod, OperatorProcess, Settings};
use infmon_nvml_stand_in::{Profile, Scenario};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A cluster with one operator replica that the tests of this file share.
struct Shared {
    // Processes end before the cluster does.
    operators: Vec<OperatorProcess>,
    cluster: Cluster,
}

impl Shared {
    fn get() -> anyhow::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = shared.upgrade() {
            return Ok(shared);
        }
        let cluster = Cluster::start(Settings::default())?;
        cluster.add_node("system")?;
        let operators = OperatorProcess::start_all(&cluster, "system")?;
        let new = Arc::new(Self { operators, cluster });
        *shared = Arc::downgrade(&new);
        Ok(new)
    }

    /// A namespace and a node of that name. The node's daemon is started when a monitor has brought the DaemonSet.
    fn place(&self, name: &str) -> anyhow::Result<()> {
        self.cluster.add_namespace(name)?;
        self.cluster.add_node(name)
    }

    fn daemon(&self, node: &str) -> anyhow::Result<DaemonProcess> {
        self.daemon_with(node, &Scenario::of(Profile::L40S, 1))
    }

    fn daemon_with(&self, node: &str, scenario: &Scenario) -> anyhow::Result<DaemonProcess> {
        DaemonProcess::start(&self.cluster, node, &self.operators, scenario)
    }
}

/// As the kubelet reports what a device plugin gave to a container.
fn assign(shared: &Shared, pod: &EnginePod, uuid: &str) -> anyhow::Result<()> {
    let api = shared.cluster.api();
    let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
    let mut statuses = api.get(&path)?["status"]["containerStatuses"].take();
    statuses[0]["allocatedResourcesStatus"] =
        json!([{"name": "nvidia.com/gpu", "resources": [{"resourceID": uuid, "health": "Healthy"}]}]);
    api.merge(
        &format!("{path}/status"),
        &json!({"status": {"containerStatuses": statuses}}),
    )?;
    Ok(())
}
