//! The process that starts the parts of a cluster and holds them. It runs in the control plane's network namespace.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use infmon_control_plane::{ControlPlane, Options, process::Process};

use crate::Cluster;

/// A node that is not heard of for this long is NotReady. The default of 50 s is for thousands of nodes.
const NODE_GRACE: &str = "20s";
/// How long nodes and DNS may take.
const READY: Duration = Duration::from_secs(120);
const DNS: &str = include_str!("coredns.yaml");

/// Starts everything, says so in the cluster's folder, and stays until it is killed: the kernel then ends what it started.
///
/// # Errors
///
/// When a part ends or does not become ready.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let settings = cluster.settings();
    let begun = Instant::now();
    let said = |what: &str| eprintln!("{:6.2} s {what}", begun.elapsed().as_secs_f64());
    let plane = ControlPlane::start(Options {
        address: settings.network.apiserver(),
        folder: Some(cluster.folder().join("control-plane")),
        // Services lead to pods that the control plane reaches by their own addresses; it has no kube-proxy.
        aggregator_routing: true,
        hpa_sync_period: Duration::from_secs(settings.hpa_sync_seconds),
        // Kubernetes' own default.
        hpa_downscale_stabilization: Duration::from_secs(300),
        controller_manager_args: vec![
            format!("--node-monitor-grace-period={NODE_GRACE}"),
            "--node-monitor-period=2s".to_owned(),
        ],
        ..Options::default()
    })?;
    said("control plane");
    fs::copy(plane.admin_kubeconfig(), cluster.kubeconfig()).context("failed to write the kubeconfig")?;
    let images = cluster.folder().join("images");
    let mut processes = Vec::new();
    for node in cluster.nodes() {
        let credentials = plane.node_credentials(&node.name(), node.address())?;
        processes.push(node.start(&credentials, plane.tools().folder(), &images, settings.gpus)?);
    }
    plane.kubectl_apply(DNS).context("cluster DNS")?;
    wait_for_nodes(&plane, &mut processes)?;
    said("nodes");
    wait(&mut processes, "cluster DNS", || {
        let ready = plane.kubectl(&[
            "get",
            "deployment",
            "coredns",
            "--namespace=kube-system",
            "--output=jsonpath={.status.readyReplicas}",
        ])?;
        Ok(ready.trim() == "1")
    })?;
    said("DNS");
    cluster.mark_ready()?;
    // Nothing is left to do but to be the parent of all this.
    loop {
        thread::park();
    }
}

fn wait_for_nodes(plane: &ControlPlane, processes: &mut [Process]) -> anyhow::Result<()> {
    let expected = processes.len();
    wait(processes, "the nodes to be Ready", || {
        let ready = plane.kubectl(&[
            "get",
            "nodes",
            r#"--output=jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{" "}{end}"#,
        ])?;
        Ok(ready.split_whitespace().filter(|status| *status == "True").count() == expected)
    })
}

/// Asks until it is so; fails when a node ends meanwhile or after two minutes.
fn wait(processes: &mut [Process], what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY;
    while !done()? {
        for process in processes.iter_mut() {
            process.check()?;
        }
        if Instant::now() > deadline {
            bail!("timed out after {READY:?} waiting for {what}; nodes/*/logs in the cluster's folder may say why");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
