//! The part of the cluster that decisions look at, pruned to what they need.

use crate::NamedCredentials;
use infmon_crds::v1alpha1::{LabelSelectorRequirement, PodSelector, PortReference, SelectorOperator};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A container port that a pod declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Name; empty when the port has none.
    pub name: String,
    /// Port number.
    pub number: u16,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// Uid: a new pod of the same name is another one.
    pub uid: String,
    /// Uid by which its kubelet knows it, as in the names of control groups: for a static pod not that of its mirror in the API.
    pub kubelet_uid: String,
    /// Node it is bound to.
    pub node: Option<String>,
    /// Primary address.
    pub ip: Option<std::net::IpAddr>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// TCP ports that its containers declare.
    pub ports: Vec<PodPort>,
    /// The kubelet says Ready: the pod gets requests through Services.
    pub ready: bool,
    /// It shares the network of its node.
    pub host_network: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// It has ended (Succeeded or Failed).
    pub ended: bool,
    /// Device ids in `containerStatuses[].allocatedResourcesStatus` (KEP-4680), for example `GPU-<uuid>`; empty where the cluster does
    /// not tell.
    pub devices: Vec<String>,
}

/// One address of a Service, from its EndpointSlices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// Address.
    pub ip: std::net::IpAddr,
    /// Pod behind it.
    pub pod: Option<String>,
    /// Node behind it.
    pub node: Option<String>,
    /// Takes requests.
    pub ready: bool,
    /// Ports of the slice: name (may be empty) and number.
    pub ports: Vec<PodPort>,
}

/// What is known of a Secret that a monitor names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretReading {
    /// It has not been read yet.
    #[default]
    NotYet,
    /// It was read and is in order.
    Usable(Arc<NamedCredentials>),
    /// Why it cannot be used and what to do, for people.
    Unusable(String),
}

/// Pods, Services and named Secrets of one namespace.
pub trait Namespace {
    /// Pods, in any order.
    fn pods(&self) -> Box<dyn Iterator<Item = &Pod> + '_>;
    /// Addresses of a Service; `None` when no EndpointSlice names it.
    fn service(&self, name: &str) -> Option<Vec<ServiceAddress>>;
    /// A Secret that a monitor names.
    fn secret(&self, _name: &str) -> SecretReading {
        SecretReading::NotYet
    }
}

/// Whether labels meet a selector.
#[must_use]
pub fn selects(selector: &PodSelector, labels: &BTreeMap<String, String>) -> bool {
    selector
        .match_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && selector
            .match_expressions
            .iter()
            .all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    match requirement.operator {
        SelectorOperator::In => value.is_some_and(|value| requirement.values.contains(value)),
        SelectorOperator::NotIn => value.is_none_or(|value| !requirement.values.contains(value)),
        SelectorOperator::Exists => value.is_some(),
        SelectorOperator::DoesNotExist => value.is_none(),
    }
}

/// The number of the port that `reference` names among `ports`.
#[must_use]
pub fn port_number(reference: &PortReference, ports: &[PodPort]) -> Option<u16> {
    ports
        .iter()
        .find(|port| match reference {
            PortReference::Number(number) => i32::from(port.number) == *number,
            PortReference::Name(name) => !name.is_empty() && port.name == *name,
        })
        .map(|port| port.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn selectors_follow_the_kubernetes_rules() {
        let has = labels(&[("app", "vllm"), ("tier", "gold")]);
        let expression = |key: &str, operator, values: &[&str]| PodSelector {
            match_labels: BTreeMap::new(),
            match_expressions: vec![LabelSelectorRequirement {
                key: key.into(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }],
        };
        let by_label = |pairs| PodSelector {
            match_labels: labels(pairs),
            match_expressions: vec![],
        };
        let cases = [
            ("label matches", by_label(&[("app", "vllm")]), true),
            ("label differs", by_label(&[("app", "tgi")]), false),
            ("label absent", by_label(&[("zone", "a")]), false),
            ("in", expression("app", SelectorOperator::In, &["a", "vllm"]), true),
            ("in, absent", expression("zone", SelectorOperator::In, &["a"]), false),
            (
                "not in, absent label counts as not in",
                expression("zone", SelectorOperator::NotIn, &["a"]),
                true,
            ),
            (
                "not in, has value",
                expression("app", SelectorOperator::NotIn, &["vllm"]),
                false,
            ),
            ("exists", expression("app", SelectorOperator::Exists, &[]), true),
            (
                "does not exist",
                expression("app", SelectorOperator::DoesNotExist, &[]),
                false,
            ),
        ];
        for (name, selector, expected) in cases {
            assert_eq!(selects(&selector, &has), expected, "{name}");
        }
    }

    #[test]
    fn a_port_must_be_declared() {
        let ports = [
            PodPort {
                name: "http".into(),
                number: 8000,
            },
            PodPort {
                name: String::new(),
                number: 9000,
            },
        ];
        assert_eq!(port_number(&PortReference::Name("http".into()), &ports), Some(8000));
        assert_eq!(port_number(&PortReference::Number(9000), &ports), Some(9000));
        assert_eq!(port_number(&PortReference::Number(10250), &ports), None);
        assert_eq!(port_number(&PortReference::Name(String::new()), &ports), None);
    }
}
