//! The stream between node daemon and operator: messages, client, server.
//!
//! A daemon opens one stream to every operator replica ([`LinkClient`]), says who it is, receives a plan and sends a report per period.
//! The operator side ([`LinkServer`]) hands sessions to its implementation of [`NodeSessions`]. The messages themselves stay inside this
//! crate: both sides speak [`infmon_samples`].

mod client;
mod codec;
mod server;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transit;

/// Generated from `proto/inferencemonitor/link/v1/link.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod wire {
    tonic::include_proto!("inferencemonitor.link.v1");
}

pub use client::{LinkClient, LinkClientOptions, OperatorState};
pub use server::{AuthError, Authenticated, LinkServer, LinkServerCounts, LinkServerOptions, NodeSessions};

/// Version of the protocol that this crate speaks; a peer with another one is refused with words.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest message accepted, either way. A report of 8 GPUs and 64 servers is about 200 KiB.
pub const MESSAGE_LIMIT_BYTES: usize = 4 * 1024 * 1024;
