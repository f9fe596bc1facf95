//! The exposition parser beside those of Prometheus and VictoriaMetrics, which a Go program in `go/` holds.
//!
//! `cargo run --release -p infmon-parser-peers` prints how long each takes; the tests compare what they find, and `--example soak` does
//! that for as long as it is told.

#[path = "../../../engines/tests/bodies/mod.rs"]
mod bodies;
mod changes;
mod compare;
mod prometheus;
#[path = "../../../engines/tests/reference/mod.rs"]
mod reference;

pub mod figures;

pub use changes::Changes;
pub use compare::{Difference, compare, compare_with_reference};
pub use prometheus::{Found, Prometheus, Series};
