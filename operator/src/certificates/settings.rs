//! Names: of the objects, and in the certificate.

use std::collections::BTreeMap;

use super::plan::ServiceName;
use crate::config::Config;

/// What the certificates are for, and where they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's namespace.
    pub namespace: String,
    /// The operator's Deployment, owner of what is made.
    pub deployment: String,
    /// The Secret.
    pub secret: String,
    /// The Service that our APIServices name.
    pub service: ServiceName,
    /// The APIServices to publish in.
    pub api_services: Vec<String>,
    /// The names that the servers are called by.
    pub dns_names: Vec<String>,
}

impl Settings {
    /// From the configuration.
    pub fn new(config: &Config, namespace: &str) -> Self {
        let services = [&config.metrics_service, &config.link_service];
        Self {
            namespace: namespace.to_owned(),
            deployment: config.deployment.clone(),
            secret: config.certificate_secret.clone(),
            service: ServiceName {
                namespace: namespace.to_owned(),
                name: config.metrics_service.clone(),
            },
            api_services: config.api_services.clone(),
            dns_names: services
                .into_iter()
                .flat_map(|service| service_names(service, namespace))
                .collect(),
        }
    }

    /// The ConfigMap with what clients trust.
    pub fn config_map(&self) -> String {
        format!("{}-ca", self.secret)
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "inference-monitor"),
            ("app.kubernetes.io/component", "certificates"),
            ("app.kubernetes.io/managed-by", self.deployment.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }
}

/// The names of a Service: short, and as the API server (`svc.namespace.svc`) and clients in other namespaces call it.
fn service_names(service: &str, namespace: &str) -> [String; 4] {
    [
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
    ]
}
