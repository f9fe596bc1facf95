//! The suite of `cargo xtask e2e`. One test at a time: they share a cluster and a release.

mod autoscaling;
mod faults;
mod gpus;
mod installing;
mod memory;
mod rolling;
mod services;
