//! End-to-end tests on a real cluster, in the words of a user.
//!
//! The cluster is whatever `KUBECONFIG` names; `cargo xtask e2e` starts one for the run when none is named. The images of the product
//! and of what the tests run beside it must be in it. Tests share the cluster and one release of the chart, so they run one at a time.
//!
//! | module | owns |
//! |---|---|
//! | [`session`] | the cluster under test: its API, kubectl, and its nodes where they are of this machine |
//! | [`installation`] | the release of the chart |
//! | [`workload`] | namespaces and what runs in them |
//! | [`servers`] | real inference servers, as pods |
//! | [`reader`] | one who reads a metric all the time and counts what failed |

pub mod installation;
pub mod reader;
pub mod servers;
pub mod session;
pub mod workload;

pub use installation::Installation;
pub use reader::Reader;
pub use session::Session;
pub use workload::Namespace;
