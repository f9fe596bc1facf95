//! What a node daemon is to measure.

use crate::Access;
use infmon_engines::{BodyReader, Engine, Mapping};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Names a target within one operator; the same address and settings keep the same id from plan to plan, so that the scraper keeps
/// its layout cache and its connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TargetId(pub String);

/// HTTP or HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS; [`Access`] says whether the certificate is verified. That of a pod is not, since pods have no names that it could
    /// carry.
    Https,
}

/// One inference server to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Stable name of the target.
    pub id: TargetId,
    /// HTTP or HTTPS.
    pub scheme: Scheme,
    /// `ip:port` (pods) or `host:port` (url endpoints).
    pub address: String,
    /// Path of the metrics, `/metrics` unless the spec says otherwise.
    pub metrics_path: String,
    /// Engine forced by the spec; `None` detects it from the body.
    pub engine: Option<Engine>,
    /// Which series feed which field; empty but for [`Engine::Custom`].
    pub mapping: Mapping,
    /// Time between two scrapes.
    pub period: Duration,
    /// Deadline of one scrape, connect to last byte.
    pub deadline: Duration,
    /// Largest body read, bytes.
    pub body_limit_bytes: u64,
    /// How it proves who it is, and what it is shown.
    pub access: Access,
    /// Uid by which the kubelet knows its pod (of a static pod not that of its mirror in the API), to find the pod's host memory by; `None` for a server that is no pod.
    pub pod_uid: Option<String>,
}

impl Target {
    /// A reader of its bodies.
    #[must_use]
    pub fn reader(&self) -> BodyReader {
        match self.engine {
            Some(Engine::Custom) => BodyReader::custom(self.mapping.clone()),
            engine => BodyReader::new(engine),
        }
    }
}

/// What a node daemon is to measure. A new plan replaces the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Rises with every change; reports name the plan they follow.
    pub revision: u64,
    /// Time between two GPU samples and between two reports.
    pub period: Duration,
    /// Servers to scrape.
    pub targets: Vec<Target>,
    /// Let go of the GPUs' driver: it is about to be replaced, which nobody may hinder by having it open.
    pub release_gpus: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            revision: 0,
            period: Duration::from_secs(1),
            targets: Vec::new(),
            release_gpus: false,
        }
    }
}
