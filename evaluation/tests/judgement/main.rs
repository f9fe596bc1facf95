//! Tables over the decisions: each case is a scene, told by a builder, and what must come of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)]

mod availability;
mod capacity;
mod credentials;
mod custom;
mod gpu_health;
mod gpus;
mod heat;
mod host_memory;
mod lag;
mod latency;
mod memory_growth;
mod memory_risk;
mod metric;
mod mig;
mod minute;
mod ownership;
mod partial;
mod plan;
mod processes;
mod properties;
mod queue;
mod resolve;
mod scaling;
mod scene;
mod status;
mod switches;
mod utilization;
