//! Does memory fill, and when is it full: trends over bounded series, as pure functions. docs/memory-risk.md explains them to users.

mod cache;
mod growth;
mod host;
mod slope;

pub use cache::{CacheRise, CacheTrend};
pub use growth::{Growth, GrowthTrend, Unsure};
pub use host::HostObservation;
