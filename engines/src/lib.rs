//! Reads what inference servers expose: exposition parser, engine detection, one model for all; pure, no I/O.

mod sample;

pub use sample::{Engine, EngineSample, Histogram, Latency};
