//! From what is in the cluster to what is to be written. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};

use super::{
    bundle::{Bundle, CA},
    decision::{Decision, decide},
};

/// An object, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Known<T> {
    /// Not listed yet.
    #[default]
    NotYet,
    /// There is none.
    Absent,
    /// There it is.
    Present(T),
}

impl<T> Known<T> {
    pub(super) fn present(&self) -> Option<&T> {
        match self {
            Self::Present(object) => Some(object),
            Self::NotYet | Self::Absent => None,
        }
    }
}

/// What is in the cluster.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The Secret with all certificates and keys.
    pub secret: Known<Secret>,
    /// The ConfigMap with what clients trust.
    pub config_map: Known<ConfigMap>,
    /// The APIServices of the configuration, by name.
    pub api_services: BTreeMap<String, Known<APIService>>,
}

/// The Service that an APIService must name to be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// Whose an APIService is. A group has one owner in a cluster, and another's is never touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Not known yet.
    Unknown,
    /// There is none: this API is not served by anybody.
    Absent,
    /// Ours: it sends requests to our Service.
    Ours,
    /// Somebody else's: who, in words.
    Other(String),
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Into the ConfigMap: what clients trust.
    PublishTrust {
        /// PEM.
        trusted: String,
    },
    /// Into an APIService of ours: what the API server trusts.
    PublishCaBundle {
        /// The APIService.
        name: String,
        /// As it was seen: the write fails when it has changed since.
        resource_version: Option<String>,
        /// PEM.
        trusted: String,
    },
    /// Into the Secret: what the decision makes of it.
    ChangeSecret(Decision),
}

/// What is to be written, in this order, and when to look again at the latest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The writes.
    pub actions: Vec<Action>,
    /// When certificates have to be looked at again.
    pub until: Option<Timestamp>,
}

/// Plans.
///
/// What clients trust is published before anything depends on it: an authority does not begin to sign while its publication
/// is outstanding.
pub fn plan(view: &View, service: &ServiceName, dns_names: &[String], now: Timestamp) -> Plan {
    let bundle = match &view.secret {
        Known::NotYet => {
            return Plan {
                actions: Vec::new(),
                until: None,
            };
        }
        Known::Absent => Err("there is none".to_owned()),
        Known::Present(secret) => bundle(secret),
    };
    let mut actions = bundle
        .as_ref()
        .map(|bundle| publications(view, service, &bundle.trusted()))
        .unwrap_or_default();
    let is_published = actions.is_empty()
        && view.config_map != Known::NotYet
        && view
            .api_services
            .values()
            .all(|api_service| *api_service != Known::NotYet);
    let until = match decide(bundle.as_ref().map_err(String::as_str), dns_names, now) {
        Decision::Keep { until } => Some(until),
        // The watch or the publication brings us back here.
        Decision::SwitchAuthority if !is_published => None,
        decision => {
            actions.push(Action::ChangeSecret(decision));
            None
        }
    };
    Plan { actions, until }
}

/// The bundle in a Secret, or why there is none.
pub(super) fn bundle(secret: &Secret) -> Result<Bundle, String> {
    let empty = BTreeMap::new();
    Bundle::from_secret(secret.data.as_ref().unwrap_or(&empty)).map_err(|error| error.to_string())
}

fn publications(view: &View, service: &ServiceName, trusted: &str) -> Vec<Action> {
    let is_current =
        |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get(CA)).map(String::as_str) == Some(trusted);
    let config_map = match &view.config_map {
        Known::NotYet => None,
        Known::Present(map) if is_current(map) => None,
        Known::Absent | Known::Present(_) => Some(Action::PublishTrust {
            trusted: trusted.to_owned(),
        }),
    };
    let api_services = view.api_services.iter().filter_map(|(name, api_service)| {
        let found = api_service
            .present()
            .filter(|found| ownership_of(found, service) == Ownership::Ours)?;
        let published = found.spec.as_ref().and_then(|spec| spec.ca_bundle.as_ref());
        let is_published = published.is_some_and(|published| published.0 == trusted.as_bytes());
        (!is_published).then(|| Action::PublishCaBundle {
            name: name.clone(),
            resource_version: found.metadata.resource_version.clone(),
            trusted: trusted.to_owned(),
        })
    });
    config_map.into_iter().chain(api_services).collect()
}

/// Whose an APIService is.
pub(super) fn ownership(api_service: &Known<APIService>, service: &ServiceName) -> Ownership {
    match api_service {
        Known::NotYet => Ownership::Unknown,
        Known::Absent => Ownership::Absent,
        Known::Present(found) => ownership_of(found, service),
    }
}

fn ownership_of(api_service: &APIService, service: &ServiceName) -> Ownership {
    let Some(found) = api_service.spec.as_ref().and_then(|spec| spec.service.as_ref()) else {
        return Ownership::Other("the API server itself".to_owned());
    };
    let (namespace, name) = (
        found.namespace.as_deref().unwrap_or_default(),
        found.name.as_deref().unwrap_or_default(),
    );
    if namespace == service.namespace && name == service.name {
        Ownership::Ours
    } else {
        Ownership::Other(format!("Service {namespace}/{name}"))
    }
}

#[cfg(test)]
mod tests;
