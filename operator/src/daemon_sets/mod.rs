//! Node daemons: one DaemonSet per node profile in use, applied by the leader.
//!
//! The templates stay in the operator and not in the chart, since a DaemonSet exists only while a monitor exists and a node matches.

mod build;
mod need;
mod reconcile;
mod security;

pub use build::{CONTAINER, LINK_AUDIENCE, daemon_set, name_of};
pub use need::{NodeLabels, Overlap, Step, needed_profiles, overlaps, step};
pub use reconcile::Reconciler;

/// Label on every DaemonSet that this operator manages, and on its pods: the node profile.
pub const PROFILE_LABEL: &str = "inferencemonitor.io/node-profile";
