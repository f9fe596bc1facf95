//! What is to be measured ([`Plan`]) and what was measured ([`Report`]): the words that node daemon and operator share.
//!
//! Plain data without I/O. The link carries it between machines; in standalone mode it crosses a channel as it is.
//! Times are ages ("so long ago"), never wall-clock times, so that clock skew between nodes cannot lie.

mod credentials;
mod device_id;
mod plan;
mod report;

pub use credentials::{Access, ClientCertificate, Credentials, Hidden};
pub use device_id::{DeviceId, DeviceName};
pub use plan::{Plan, Scheme, Target, TargetId};
pub use report::{
    Failure, FailureKind, GPU_OWNERS_STALE_AFTER, GpuIncident, GpuOutage, GpuOwner, GpuOwners, GpuOwnersFailure,
    GpuReport, HostMemory, NodeIdentity, Observation, ProcessLookup, Recognition, Report, SwitchIncident, TargetReport,
};
