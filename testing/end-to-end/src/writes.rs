//! What the project's own identities wrote to the API server.

use infmon_control_plane::AuditWrite;
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
