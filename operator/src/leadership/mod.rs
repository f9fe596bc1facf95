//! Leadership by a Lease: every replica reads and serves, only the holder writes.
//!
//! The rules are those of client-go's leader election (`tools/leaderelection`): another holder's lease ends when *we* have not seen it
//! change for its duration, by our own monotonic clock; our own ends at a deadline counted from the *start* of our last successful
//! renewal. Every write carries a resourceVersion, so two contenders cannot both win.

mod claim;
mod lease;
#[cfg(test)]
mod tests;

pub use claim::Claim;
pub use lease::{Election, LeaseTimes, run};
