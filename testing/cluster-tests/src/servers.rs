//! Real inference servers, what is in front of them, and a load, as pods.

use anyhow::{Context, ensure};
use std::time::Duration;

use crate::Namespace;

const LLAMA: &str = include_str!("servers/llama-server.yaml");
const GATEWAY: &str = include_str!("servers/gateway.yaml");
const LOAD: &str = include_str!("servers/load.yaml");
const AUTOSCALER: &str = include_str!("servers/autoscaler.yaml");

/// How long a server may take until it is ready: its model is tiny.
pub const START: Duration = Duration::from_secs(120);

/// A Deployment of llama-server with its Service, both called `name`; pods have the label `app: name`.
///
/// # Errors
/// When the API server refuses it.
pub fn llama(namespace: &Namespace, name: &str, replicas: u32) -> anyhow::Result<()> {
    namespace.apply(&LLAMA.replace("NAME", name).replace("REPLICAS", &replicas.to_string()))
}

/// A gateway that keeps requests for the Service `backend` while no server takes them.
///
/// # Errors
/// When the API server refuses it.
pub fn gateway(namespace: &Namespace, name: &str, backend: &str) -> anyhow::Result<()> {
    namespace.apply(&GATEWAY.replace("NAME", name).replace("BACKEND", backend))
}

/// So many requests at a time to the Service `to`, one after the other, until [`stop_load`].
///
/// # Errors
/// When the API server refuses it.
pub fn load(namespace: &Namespace, to: &str, concurrency: u32) -> anyhow::Result<()> {
    namespace.apply(
        &LOAD
            .replace("TARGET", to)
            .replace("CONCURRENCY", &concurrency.to_string()),
    )
}

/// Ends the load on `to`.
///
/// # Errors
/// When the API server refuses.
pub fn stop_load(namespace: &Namespace, to: &str) -> anyhow::Result<()> {
    namespace
        .kubectl(&["delete", "deployment", &format!("load-{to}"), "--wait=false"])
        .map(drop)
}

/// Whether the load on `to` got an answer.
///
/// # Errors
/// When it did not yet.
pub fn answered(namespace: &Namespace, to: &str) -> anyhow::Result<()> {
    let log = namespace.kubectl(&["logs", &format!("deployment/load-{to}"), "--tail=5"])?;
    let completed = log
        .lines()
        .filter_map(|line| {
            line.split_once("completed=")?
                .1
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .next_back()
        .with_context(|| format!("the load says nothing: {log}"))?;
    ensure!(completed > 0, "{log}");
    Ok(())
}

/// A HorizontalPodAutoscaler of the Deployment `name` on a metric of the monitor `name`.
///
/// # Errors
/// When the API server refuses it.
pub fn autoscaler(namespace: &Namespace, name: &str, metric: &str, target: u32, least: u32) -> anyhow::Result<()> {
    namespace.apply(
        &AUTOSCALER
            .replace("NAME", name)
            .replace("METRIC", metric)
            .replace("TARGET", &target.to_string())
            .replace("LEAST", &least.to_string()),
    )
}
