//! Who leads.

use anyhow::Context;
use std::time::Duration;

use crate::{Cluster, NAMESPACE, OperatorProcess, cluster::RELEASE, polling::eventually};

/// The holder of the Lease as the operator writes it: the pod's name, `_`, and a number.
///
/// # Errors
/// When nobody holds it.
pub fn holder(cluster: &Cluster) -> anyhow::Result<String> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{RELEASE}-operator");
    let lease = cluster.api().get(&path)?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    anyhow::ensure!(!holder.is_empty(), "nobody holds the Lease");
    Ok(holder.to_owned())
}

/// The index of the replica that leads.
///
/// # Errors
/// When none does within 20 s.
pub fn leader(cluster: &Cluster, replicas: &[OperatorProcess]) -> anyhow::Result<usize> {
    eventually("a leader", Duration::from_secs(20), || {
        let holder = holder(cluster)?;
        let pod = holder.rsplit_once('_').map_or(holder.as_str(), |(pod, _)| pod);
        let found = replicas.iter().position(|replica| replica.pod() == pod);
        found.with_context(|| format!("{holder} is no replica"))
    })
}
