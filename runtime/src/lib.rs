//! What every binary of the project needs and none owns: telemetry, the admin server, readiness, shutdown, backoff, TLS, process
//! metrics.
//!
//! Nothing here knows of GPUs, inference servers or Kubernetes.

pub mod admin;
pub mod backoff;
pub mod deadline;
pub mod process;
pub mod readiness;
pub mod shutdown;
pub mod telemetry;
pub mod termination;
pub mod tls;

pub use admin::AdminServer;
pub use backoff::{Backoff, BackoffPolicy};
pub use deadline::{DeadlineExceeded, deadline};
pub use readiness::{Latch, Readiness};
pub use shutdown::{Shutdown, StillRunning};
pub use telemetry::LogFormat;
pub use termination::termination_log;
pub use tls::{ServerTls, install_crypto_provider};
