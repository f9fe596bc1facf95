//! Discovery documents, computed once and answered from memory.
//!
//! The aggregated document is what apiserver `pkg/endpoints/installer.go` (`ConvertGroupVersionIntoToDiscovery`) makes of
//! the resource lists. It carries an ETag, so that the API server's poll each minute costs a 304.

use std::collections::HashMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    group::{Groups, ServedVersion, monitor},
    source::MetricInfo,
};

/// All documents.
#[derive(Debug)]
pub(super) struct Discovery {
    groups: Value,
    aggregated: Vec<u8>,
    etag: String,
    group: HashMap<&'static str, Value>,
    resources: HashMap<ServedVersion, Value>,
    version: Value,
}

impl Discovery {
    /// The documents for these groups and metrics.
    pub(super) fn new(groups: Groups, metrics: &[MetricInfo]) -> Self {
        let aggregated = aggregated(groups, metrics).to_string().into_bytes();
        let etag = Sha256::digest(&aggregated)[..16]
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<String>();
        Self {
            groups: json!({"kind": "APIGroupList", "apiVersion": "v1",
                "groups": groups.served().map(|(name, versions)| group(name, versions)).collect::<Vec<_>>()}),
            aggregated,
            etag: format!("\"{etag}\""),
            group: groups
                .served()
                .map(|(name, versions)| (name, standalone(group(name, versions))))
                .collect(),
            resources: groups
                .served()
                .flat_map(|(_, versions)| versions)
                .map(|version| (*version, resources(*version, metrics)))
                .collect(),
            version: json!({"major": env!("CARGO_PKG_VERSION_MAJOR"), "minor": env!("CARGO_PKG_VERSION_MINOR"),
                "gitVersion": concat!("v", env!("CARGO_PKG_VERSION"))}),
        }
    }

    /// `/apis` for clients that do not ask for the aggregated form.
    pub(super) fn groups(&self) -> &Value {
        &self.groups
    }

    /// `/apis` in the aggregated form.
    pub(super) fn aggregated(&self) -> &[u8] {
        &self.aggregated
    }

    /// The quoted ETag of the aggregated form.
    pub(super) fn etag(&self) -> &str {
        &self.etag
    }

    /// `/apis/{group}`
    pub(super) fn group(&self, name: &str) -> Option<&Value> {
        self.group.get(name)
    }

    /// `/apis/{group}/{version}`
    pub(super) fn resources(&self, version: ServedVersion) -> Option<&Value> {
        self.resources.get(&version)
    }

    /// `/version`
    pub(super) fn version(&self) -> &Value {
        &self.version
    }
}

fn group(name: &str, versions: &[ServedVersion]) -> Value {
    let entry =
        |version: &ServedVersion| json!({"groupVersion": version.group_version(), "version": version.version()});
    json!({"name": name, "versions": versions.iter().map(entry).collect::<Vec<_>>(),
           "preferredVersion": versions.first().map(entry)})
}

fn standalone(mut group: Value) -> Value {
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    group
}

fn resources(version: ServedVersion, metrics: &[MetricInfo]) -> Value {
    let resource = |metric: &MetricInfo| {
        json!({"name": resource_name(version, &metric.name), "singularName": "", "namespaced": true,
               "kind": version.list_kind(), "verbs": ["get"]})
    };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version.group_version(),
           "resources": metrics.iter().map(resource).collect::<Vec<_>>()})
}

fn resource_name(version: ServedVersion, metric: &str) -> String {
    match version {
        ServedVersion::CustomV1Beta2 | ServedVersion::CustomV1Beta1 => format!("{}/{metric}", monitor::RESOURCE),
        ServedVersion::ExternalV1Beta1 => metric.to_owned(),
    }
}

fn aggregated(groups: Groups, metrics: &[MetricInfo]) -> Value {
    let version = |version: &ServedVersion| json!({"version": version.version(), "freshness": "Current", "resources": aggregated_resources(*version, metrics)});
    let items = groups.served().map(|(name, versions)| {
        json!({"metadata": {"name": name, "creationTimestamp": null},
               "versions": versions.iter().map(version).collect::<Vec<_>>()})
    });
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
           "items": items.collect::<Vec<_>>()})
}

fn aggregated_resources(version: ServedVersion, metrics: &[MetricInfo]) -> Value {
    let kind = json!({"group": version.group(), "version": version.version(), "kind": version.list_kind()});
    match version {
        ServedVersion::CustomV1Beta2 | ServedVersion::CustomV1Beta1 => {
            let subresource =
                |metric: &MetricInfo| json!({"subresource": metric.name, "responseKind": kind, "verbs": ["get"]});
            // The parent is no resource of its own. Its kind is empty and not absent: client-go 0.26.0-0.26.3 panic on
            // the latter (kubernetes/kubernetes#118361).
            json!([{"resource": monitor::RESOURCE, "responseKind": {"group": "", "version": "", "kind": ""},
                    "scope": "Namespaced", "singularResource": "", "verbs": [],
                    "subresources": metrics.iter().map(subresource).collect::<Vec<_>>()}])
        }
        ServedVersion::ExternalV1Beta1 => metrics
            .iter()
            .map(|metric| {
                json!({"resource": metric.name, "responseKind": kind, "scope": "Namespaced", "singularResource": "",
                       "verbs": ["get"]})
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Vec<MetricInfo> {
        ["queue-depth", "running-requests"]
            .map(|name| MetricInfo {
                name: name.to_owned(),
                description: String::new(),
            })
            .into()
    }

    #[test]
    fn a_resource_list_names_each_metric_once() {
        let discovery = Discovery::new(
            Groups {
                custom: true,
                external: true,
            },
            &metrics(),
        );
        let custom = discovery.resources(ServedVersion::CustomV1Beta2).expect("custom");
        assert_eq!(custom["groupVersion"], "custom.metrics.k8s.io/v1beta2");
        assert_eq!(
            custom["resources"][0],
            json!({"name": "inferencemonitors.inferencemonitor.io/queue-depth", "singularName": "", "namespaced": true,
                   "kind": "MetricValueList", "verbs": ["get"]})
        );
        let external = discovery.resources(ServedVersion::ExternalV1Beta1).expect("external");
        assert_eq!(external["resources"][1]["name"], "running-requests");
        assert_eq!(external["resources"][1]["kind"], "ExternalMetricValueList");
    }

    #[test]
    fn only_groups_that_are_served_are_listed_and_v1beta2_is_preferred() {
        let discovery = Discovery::new(Groups::CUSTOM, &metrics());
        assert_eq!(
            discovery.groups(),
            &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [{
                "name": "custom.metrics.k8s.io",
                "versions": [{"groupVersion": "custom.metrics.k8s.io/v1beta2", "version": "v1beta2"},
                             {"groupVersion": "custom.metrics.k8s.io/v1beta1", "version": "v1beta1"}],
                "preferredVersion": {"groupVersion": "custom.metrics.k8s.io/v1beta2", "version": "v1beta2"}}]})
        );
        assert_eq!(discovery.group("external.metrics.k8s.io"), None);
        assert_eq!(discovery.resources(ServedVersion::ExternalV1Beta1), None);
        assert_eq!(
            discovery.group("custom.metrics.k8s.io").expect("group")["kind"],
            "APIGroup"
        );
    }

    #[test]
    fn the_aggregated_document_has_one_parent_with_subresources() {
        let discovery = Discovery::new(Groups::CUSTOM, &metrics());
        let document: Value = serde_json::from_slice(discovery.aggregated()).expect("json");
        assert_eq!(document["apiVersion"], "apidiscovery.k8s.io/v2");
        let versions = &document["items"][0]["versions"];
        assert_eq!(versions[0]["version"], "v1beta2");
        let resources = versions[0]["resources"].as_array().expect("resources");
        assert_eq!(resources.len(), 1);
        assert_eq!(resources[0]["resource"], monitor::RESOURCE);
        assert_eq!(resources[0]["subresources"].as_array().expect("subresources").len(), 2);
        assert_eq!(
            resources[0]["subresources"][0]["responseKind"]["kind"],
            "MetricValueList"
        );
    }

    #[test]
    fn the_etag_follows_the_content() {
        let etag = |metrics: &[MetricInfo]| Discovery::new(Groups::CUSTOM, metrics).etag().to_owned();
        assert_eq!(etag(&metrics()), etag(&metrics()));
        assert_ne!(etag(&metrics()), etag(&metrics()[..1]));
    }
}
