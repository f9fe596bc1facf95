//! The metrics APIs: an aggregated API server for `custom.metrics.k8s.io` (v1beta1, v1beta2) and, where this operator owns
//! it, `external.metrics.k8s.io` (v1beta1). The HPA reads them through kube-apiserver.
//!
//! | path | answered to |
//! |---|---|
//! | `/livez`, `/healthz`, `/readyz` | anybody |
//! | `/openapi/...` | anybody, 404 |
//! | `/apis`, `/apis/{group}`, `/apis/{group}/{version}`, `/version` | any authenticated caller |
//! | `/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/inferencemonitors.inferencemonitor.io/{name or *}/{metric}` | whom RBAC allows `get` on the resource, with the metric as its subresource |
//! | `/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}?labelSelector=monitor=NAME` | whom RBAC allows `list` on the metric |
//!
//! Values come from memory ([`MetricSource`]). The only I/O on the way to a value is a review by the API server when its
//! last answer has expired. Every replica serves; nothing here depends on leadership.
//!
//! Sources: kubernetes-sigs/custom-metrics-apiserver, kubernetes/apiserver, kubernetes/kube-aggregator, kubernetes/metrics;
//! KEP-3352 (aggregated discovery). The files are named where they matter.

mod access;
pub mod authentication;
pub mod authorization;
mod cluster;
mod connection;
mod discovery;
mod failure;
pub mod group;
mod handler;
pub mod identity;
mod media_type;
mod percent;
pub mod quantity;
mod reader;
mod review_cache;
mod route;
pub mod selector;
mod server;
pub mod source;
mod tls;
mod values;

pub use access::{Access, DelegatedAccess};
pub use group::Groups;
pub use handler::{ApiState, Readiness, router};
pub use review_cache::ReviewError;
pub use selector::LabelSelector;
pub use server::{ServeOptions, serve};
pub use source::{MetricError, MetricInfo, MetricReading, MetricSource};
pub use tls::server_config;
