//! End-to-end tests on a real control plane.
//!
//! A [`Cluster`] is a real etcd, kube-apiserver and kube-controller-manager with the project's Helm chart installed. There is no
//! kubelet, no scheduler and no kube-proxy; this crate plays them through the API, and everything else is the real thing:
//!
//! | what | here |
//! |---|---|
//! | kubelet, scheduler | [`cluster`], [`kubelet`]: nodes are objects, pods are bound and reported Ready by the test |
//! | operator, node daemon | [`operator_process`], [`daemon_process`]: the binaries, with the tokens that their pods would have |
//! | kube-proxy | [`service_proxy`]: spreads connections over the replicas whose `/readyz` says yes |
//! | inference server | [`engine_pod`]: a simulated engine on the address of its pod |
//! | GPU driver | a stand-in for `libnvidia-ml.so.1` that each daemon loads |
//!
//! Every simulated pod has an address of its own in 127.0.0.0/8, so ports are those of a cluster and tests never meet.

pub mod addresses;
pub mod api;
pub mod cluster;
pub mod daemon_process;
pub mod engine_pod;
pub mod front_proxy;
pub mod guarded_server;
pub mod http_client;
pub mod kubelet;
pub mod lease;
pub mod monitor;
pub mod operator_process;
pub mod polling;
pub mod process;
pub mod programs;
pub mod service_proxy;
pub mod writes;

pub use api::{Answer, Api};
pub use cluster::{Cluster, NAMESPACE, Settings};
pub use daemon_process::{Credentials, DaemonProcess};
pub use engine_pod::EnginePod;
pub use front_proxy::FrontProxy;
pub use monitor::Monitor;
pub use operator_process::OperatorProcess;
pub use polling::eventually;
