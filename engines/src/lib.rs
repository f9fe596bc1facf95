//! Reads what inference servers expose: exposition parser, engine detection, one model for all; pure, no I/O.
//!
//! [`BodyReader`] turns the metrics bodies of one target into [`Reading`]s, [`read_slots`] and [`merge_slots`] add what llama.cpp tells only
//! as JSON, and [`explain_http`] says what an HTTP error of a metrics path means. An engine is a module with a table of series,
//! newest names first, and the few facts that a table cannot hold.

mod collector;
mod detect;
mod error;
mod explanation;
pub mod exposition;
mod histogram;
mod inspection;
mod json;
mod layout;
mod llamacpp;
mod plan;
mod reader;
mod sample;
mod slots;
mod vllm;

pub use error::ReadError;
pub use explanation::{Explanation, HttpProblem, explain_http};
pub use inspection::{FieldSource, IgnoredFamily, Inspection, inspect};
pub use reader::{BodyReader, Reading};
pub use sample::{Engine, EngineSample, Histogram, Latency};
pub use slots::{Slots, SlotsError, merge_slots, read_slots};
