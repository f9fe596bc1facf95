//! Decisions as pure functions over plain data: no client, no clock, no channel, so that nearly every test is a table.
//!
//! The way of the data: [`resolve`] turns a spec and the cluster into endpoints; [`plan`] turns endpoints into what each node daemon
//! is to measure; [`Observations`] holds what the daemons reported; [`evaluate`] judges; [`status`] turns the judgement into the
//! resource's status and says whether it is worth a write; [`metric`] answers an HPA.

mod capacity;
pub mod cluster;
pub mod credentials;
mod evaluate;
mod hold;
mod mapping;
pub mod memory;
pub mod metric;
mod moment;
mod observations;
mod plan;
mod resolve;
pub mod status;
mod totals;
mod traffic;
mod url;
mod users;
mod words;

pub use capacity::{Capacity, NAMES_MAX};
pub use credentials::NamedCredentials;
pub use evaluate::{
    Attribution, Finding, GpuVerdict, Input, Memory, Outcome, Part, PodProcesses, Sharing, Verdict, evaluate,
};
pub use hold::Hold;
pub use mapping::{mapping, mapping_of};
pub use moment::Moment;
pub use observations::{
    NodeObservation, Observations, OwnersList, OwnersObservation, TargetObservation, ThrottleHistory,
};
pub use plan::{PlanRevisions, assign_urls, plan};
pub use resolve::{AddressPolicy, Place, Resolution, ResolvedEndpoint, resolve};
pub use totals::{EndpointState, Totals, endpoint_state};
pub use traffic::{Estimate, LatencyKind, Traffic};
pub use users::GpuUsers;
