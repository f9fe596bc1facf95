//! Plain types to messages and back. Lossless, except that times are cut to microseconds.
//!
//! A peer may be newer: names and enum values it knows and we do not become the safest value that we have, never an error and never a
//! number. Only messages that contradict themselves are refused.

mod credentials;
mod engine;
mod faults;
mod gpu;
mod histogram;
mod mapping;
mod mig;
mod owners;
mod plan;
mod processes;
mod report;
#[cfg(test)]
pub(crate) mod tests;

use crate::wire;
use infmon_samples::NodeIdentity;
use std::time::Duration;

pub(crate) use plan::{decode_plan, encode_plan};
pub(crate) use report::{decode_report, encode_report};

/// Kubernetes names end at 253 characters; anything longer is not a node.
const NAME_LIMIT_BYTES: usize = 253;

/// A message that cannot be what its sender means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("a histogram has {counts} counts for {bounds} bucket bounds")]
    BucketCount { counts: usize, bounds: usize },
    #[error("a histogram names bucket bounds {index}, but the report has {sets}")]
    BucketBounds { index: u32, sets: usize },
    #[error("the {0} of the hello is empty or longer than {NAME_LIMIT_BYTES} bytes")]
    Name(&'static str),
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn encode_hello(identity: &NodeIdentity, protocol_version: u32) -> wire::Hello {
    wire::Hello {
        protocol_version,
        node: identity.node.clone(),
        pod: identity.pod.clone(),
        daemon_version: identity.version.clone(),
    }
}

pub(crate) fn decode_hello(hello: wire::Hello) -> Result<NodeIdentity, DecodeError> {
    let fits = |text: &str| text.len() <= NAME_LIMIT_BYTES;
    if hello.node.is_empty() || !fits(&hello.node) {
        return Err(DecodeError::Name("node name"));
    }
    if !fits(&hello.pod) {
        return Err(DecodeError::Name("pod name"));
    }
    if !fits(&hello.daemon_version) {
        return Err(DecodeError::Name("daemon version"));
    }
    Ok(NodeIdentity {
        node: hello.node,
        pod: hello.pod,
        version: hello.daemon_version,
    })
}
