//! Memory of operator and daemons in a real cluster under load: `docs/benchmarks.md`.
//!
//! ```text
//! cargo xtask e2e --keep -- no-test-of-this-name     # release images, a cluster, and it stays
//! KUBECONFIG=... cargo run -p infmon-cluster-tests --example figures -- 10
//! ```
//!
//! The argument is how many minutes the load lasts. It needs a cluster of this machine, since memory is read from the processes.

use anyhow::{Context, ensure};
use infmon_cluster::pod_processes;
use infmon_cluster_tests::{Installation, Namespace, Session, servers};
use infmon_end_to_end::Monitor;
use serde_json::json;
use std::{env, fs, thread, time::Duration};

fn main() -> anyhow::Result<()> {
    let minutes: u64 = env::args().nth(1).unwrap_or_else(|| "10".to_owned()).parse()?;
    let session = Session::get()?;
    ensure!(
        session.machine("memory of processes").is_some(),
        "not a cluster of this machine"
    );
    let installation = Installation::with(session, &[])?;
    let namespace = Namespace::create(session, "figures")?;
    servers::llama(&namespace, "chat", 2)?;
    let monitor = Monitor::apply(session.api(), namespace.name(), "chat", "chat", &json!({}))?;
    namespace.wait_for_replicas("chat", 2, servers::START)?;
    installation.wait_for_daemons(session)?;
    monitor.wait_for("Ready", "True", Duration::from_secs(30))?;
    servers::load(&namespace, "chat", 12)?;
    for minute in 0..=minutes {
        println!("after {minute} min under load");
        for (component, program) in [("operator", "infmon-operator"), ("node-daemon", "infmon-node-daemon")] {
            for pod in installation.pods(session, component)? {
                let uid = pod["metadata"]["uid"].as_str().context("a pod without uid")?;
                for process in pod_processes::of(uid, program) {
                    println!("  {program:<20} {:>6.1} MiB resident", resident_mib(process)?);
                }
            }
        }
        if minute < minutes {
            thread::sleep(Duration::from_secs(60));
        }
    }
    println!("{}", session.kubectl(&["get", "infmon", "--all-namespaces"])?);
    namespace.delete()
}

/// Resident memory of a process, MiB.
fn resident_mib(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = kib
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
