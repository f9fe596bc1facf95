//! The node daemon: samples GPUs, scrapes the inference servers of its node, reports. It has no Kubernetes client, and no credential but
//! the token that the operator asks for and what a plan gives it for one server each.
//!
//! [`spawn`] is the part without a network peer, which a standalone process uses as well: a plan goes in, a report per period comes
//! out. [`run`](run::run) adds the link to the operator, the admin server and the signals.

pub mod args;
mod cgroup;
mod daemon;
mod gpus;
mod host_memory;
mod kernel_log;
mod metrics;
mod pod_resources;
mod processes;
mod report;
pub mod run;
mod scrape;
pub mod tls;

pub use daemon::{DaemonOptions, spawn};
pub use gpus::GpuOptions;
pub use host_memory::HostMemoryOptions;
pub use metrics::DaemonMetrics;
pub use pod_resources::PodResourcesOptions;
pub use processes::ProcessOptions;
pub use scrape::AddressPolicy;
