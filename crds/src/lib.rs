//! API types of `inferencemonitor.io` and their CustomResourceDefinition.
//!
//! The doc comments of the types are the descriptions that `kubectl explain` prints, and [`crd_yaml`] is what `cargo xtask generate`
//! writes to `crds/` and into the chart. Nothing here talks to an API server.
// The schema derive makes private copies of public types.
#![allow(unreachable_pub)]
// The fields of two printer columns are no repeated attributes.
#![allow(clippy::duplicated_attributes)]

pub mod v1alpha1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// API group of every resource of this project.
pub const GROUP: &str = "inferencemonitor.io";
/// `plural.group`, the name of the CustomResourceDefinition.
pub const CRD_NAME: &str = "inferencemonitors.inferencemonitor.io";
/// Field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "inference-monitor-operator";

/// The CustomResourceDefinition as the API server gets it.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    v1alpha1::InferenceMonitor::crd()
}

/// [`crd`] as YAML, in a form that does not change between two runs.
///
/// # Errors
/// When the definition cannot be serialised, which a test excludes.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    // Through serde_json::Value, whose maps are sorted: the derive's own order is not promised to stay.
    let value = serde_json::to_value(crd()).unwrap_or_default();
    serde_saphyr::to_string(&value)
}
