//! Inference servers that serve real metric bodies over HTTP, with the load set from outside.
//!
//! [`SimulatedEngine`] answers as a vLLM or llama.cpp server does, with the bodies of running servers and the numbers of a [`Load`]; and
//! it misbehaves on request ([`Mode`]). [`QueueModel`] makes plausible loads: requests arrive, wait, run, fill the KV cache and evict
//! each other. [`Story`] leads it through calm, rush, overload and recovery. Both models are pure and repeat exactly.

mod body;
mod homemade;
mod load;
mod queue;
mod server;

pub use load::{Distribution, Load, LoadChange};
pub use queue::{Chapter, QueueModel, Server, Story};
pub use server::{Kind, Mode, SimulatedEngine};
