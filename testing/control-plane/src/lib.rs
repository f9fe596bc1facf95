//! A real etcd, kube-apiserver and kube-controller-manager for tests.
//!
//! [`ControlPlane::start`] gives a test its own Kubernetes 1.37 control plane on loopback: no nodes, no pods that run, but
//! the real API machinery, admission, RBAC, audit log, garbage collector and HorizontalPodAutoscaler. It needs no root, no
//! container runtime and no network once the programs are built. Two planes never meet: each has its own folder, ports and
//! certificates, so tests that need one may run in parallel.
//!
//! ```no_run
//! use infmon_control_plane::{ControlPlane, Options};
//!
//! # fn main() -> anyhow::Result<()> {
//! let plane = ControlPlane::start(Options::default())?;
//! plane.kubectl(&["create", "configmap", "greeting", "--from-literal=text=hello"])?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything blocks the calling thread; an async test calls it inside `spawn_blocking` or before it starts its runtime.
//!
//! | module | owns |
//! |---|---|
//! | [`tools`] | where the programs come from: a folder that is already there, or a Go build kept in a cache folder |
//! | [`control_plane`] | the running plane: stop and restart, kubeconfigs, the audit log |
//! | [`client`] | `kubectl`, `helm` and tokens against a running plane |
//! | [`process`] | child processes that never outlive the one that started them |
//! | `node` | what a node needs to join a plane |
//! | [`audit`] | who wrote what, read from the apiserver's audit log |
//! | `plan`, `certificates`, `kubeconfig`, `ports`, `go_module` | the parts the above are made of |

pub mod audit;
mod certificates;
pub mod client;
pub mod control_plane;
mod go_module;
mod kubeconfig;
mod node;
mod options;
mod plan;
mod ports;
pub mod process;
pub mod tools;

pub use audit::AuditWrite;
pub use control_plane::ControlPlane;
pub use go_module::cache_folder;
pub use node::NodeCredentials;
pub use options::Options;
pub use tools::{HelmVersion, Tools};
