//! Monitors that no API server made: what it would have added is added here.

use infmon_crds::v1alpha1::{Endpoint, InferenceMonitor, InferenceMonitorSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

/// Annotation that marks a monitor of simulated servers in every view.
pub(crate) const SIMULATED: &str = "inferencemonitor.io/simulated";
/// Namespace of monitors that name none.
pub(crate) const NAMESPACE: &str = "default";

/// Gives a monitor what the API server would give it.
pub(crate) fn complete(mut monitor: InferenceMonitor) -> InferenceMonitor {
    let metadata = &mut monitor.metadata;
    metadata.namespace.get_or_insert_with(|| NAMESPACE.into());
    metadata.generation.get_or_insert(1);
    metadata
        .creation_timestamp
        .get_or_insert_with(|| Time(jiff::Timestamp::now()));
    monitor
}

/// A monitor of servers on this machine. The endpoints are `(name, host:port)`.
pub(crate) fn of_servers(
    name: &str,
    servers: &[(String, String)],
    thresholds: &serde_json::Value,
) -> anyhow::Result<InferenceMonitor> {
    let endpoints = servers
        .iter()
        .map(|(name, address)| Endpoint {
            name: name.clone(),
            url: Some(format!("http://{address}")),
            ..Endpoint::default()
        })
        .collect::<Vec<_>>();
    let spec: InferenceMonitorSpec = serde_json::from_value(json!({"endpoints": endpoints, "thresholds": thresholds}))?;
    Ok(complete(InferenceMonitor::new(name, spec)))
}

/// Marks a monitor as one of simulated servers.
pub(crate) fn marked_simulated(mut monitor: InferenceMonitor) -> InferenceMonitor {
    let annotations = monitor.metadata.annotations.get_or_insert_default();
    annotations.insert(SIMULATED.into(), "true".into());
    monitor
}
