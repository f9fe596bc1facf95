//! What the project's own identities wrote to the API server.

use infmon_control_plane::AuditWrite;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::{Cluster, NAMESPACE};

/// Writes of the project's ServiceAccounts, sorted by what they mean.
#[derive(Debug, Default)]
pub struct Writes {
    /// Renewals of the Lease.
    pub lease: usize,
    /// Reviews: they are `create`, but store nothing.
    pub reviews: usize,
    /// Everything else, by user, verb and object.
    pub stored: BTreeMap<String, usize>,
}

/// The writes since an offset of the audit log.
///
/// # Errors
/// When the log cannot be read.
pub fn since(cluster: &Cluster, offset: u64) -> anyhow::Result<Writes> {
    let ours = format!("system:serviceaccount:{NAMESPACE}:");
    let mut writes = Writes::default();
    for write in cluster.plane().audit_writes_since(offset)? {
        let Some(account) = write.user.strip_prefix(&ours) else {
            continue;
        };
        match write.resource.as_str() {
            "leases" => writes.lease += 1,
            "tokenreviews" | "subjectaccessreviews" => writes.reviews += 1,
            _ => *writes.stored.entry(describe(account, &write)).or_default() += 1,
        }
    }
    Ok(writes)
}

fn describe(account: &str, write: &AuditWrite) -> String {
    let AuditWrite {
        verb,
        resource,
        subresource,
        namespace,
        name,
        code,
        ..
    } = write;
    format!("{account}: {verb} {resource}/{subresource} {namespace}/{name} -> {code}")
}

/// What only the leader may write, oldest first: the pod whose token was used, and the write. Pods that write twice in a row stand
/// there twice.
///
/// # Errors
/// When the audit log cannot be read.
pub fn by_pod(cluster: &Cluster) -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(cluster.plane().data_dir().join("audit.log"))?;
    let ours = format!("system:serviceaccount:{NAMESPACE}:");
    let mut writes = Vec::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line)?;
        let object = &event["objectRef"];
        let resource = object["resource"].as_str().unwrap_or_default();
        let user = event["user"]["username"].as_str().unwrap_or_default();
        if !user.starts_with(&ours) || !["inferencemonitors", "daemonsets", "events"].contains(&resource) {
            continue;
        }
        let pod = &event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0];
        let received = event["requestReceivedTimestamp"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let what = format!("{received} {} {resource} {}", event["verb"], object["name"]);
        writes.push((received, pod.as_str().unwrap_or_default().to_owned(), what));
    }
    // The log is in the order of the answers.
    writes.sort();
    Ok(writes.into_iter().map(|(_, pod, what)| (pod, what)).collect())
}
