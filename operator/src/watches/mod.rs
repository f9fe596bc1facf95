//! Watches: the API server's changes, pruned, into the world. Every replica runs them.

mod cluster;
mod follow;
mod monitors;
mod namespaces;
mod prune;

pub use cluster::ClusterView;
pub use namespaces::run as follow_namespaces;

pub use cluster::{follow_daemon_sets, follow_nodes};
pub use monitors::run as follow_monitors;
