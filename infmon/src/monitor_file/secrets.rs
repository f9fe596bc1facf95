//! Secrets that stand beside the monitors of a file, in the form that they have in a cluster: the same file works there. No word of a fault
//! holds a value.

use super::is_dns_name;
use crate::monitors;
use crate::schema::Fault;
use crate::yaml::{Node, Tree};
use base64::Engine as _;
use infmon_evaluation::NamedCredentials;
use infmon_evaluation::cluster::{Namespace, Pod, SecretReading, ServiceAddress};
use infmon_evaluation::credentials::SecretData;
use std::collections::BTreeMap;
use std::sync::Arc;

const FIELDS: [&str; 7] = [
    "apiVersion",
    "kind",
    "metadata",
    "type",
    "data",
    "stringData",
    "immutable",
];

/// The Secrets of a file, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<(String, String), Arc<NamedCredentials>>);

impl Secrets {
    /// Every Secret with its namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&(String, String), &Arc<NamedCredentials>)> {
        self.0.iter()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a document in that is a Secret.
    pub(super) fn add(&mut self, document: &Node, faults: &mut Vec<Fault>) {
        let Some(secret) = read(document, faults) else { return };
        let key = (secret.namespace.clone(), secret.name.clone());
        match NamedCredentials::read(&secret) {
            Err(words) => faults.push(Fault::new(document.line, words)),
            Ok(_) if self.0.contains_key(&key) => {
                let words = format!("a second Secret {}: rename one of them", key.1);
                faults.push(Fault::new(document.line, words));
            }
            Ok(named) => _ = self.0.insert(key, Arc::new(named)),
        }
    }

    /// Those of one namespace, for the pipeline's own word on an endpoint.
    pub(super) const fn of<'a>(&'a self, namespace: &'a str) -> Of<'a> {
        Of {
            secrets: self,
            namespace,
        }
    }
}

/// A namespace that has nothing but the Secrets of a file.
pub(super) struct Of<'a> {
    secrets: &'a Secrets,
    namespace: &'a str,
}

impl Namespace for Of<'_> {
    fn pods(&self) -> Box<dyn Iterator<Item = &Pod> + '_> {
        Box::new(std::iter::empty())
    }

    fn service(&self, _: &str) -> Option<Vec<ServiceAddress>> {
        None
    }

    fn secret(&self, name: &str) -> SecretReading {
        match self.secrets.0.get(&(self.namespace.to_owned(), name.to_owned())) {
            Some(named) => SecretReading::Usable(Arc::clone(named)),
            None => SecretReading::Unusable(format!(
                "there is no Secret {name} in the file for the namespace {}: put it into another document (kind: Secret)",
                self.namespace
            )),
        }
    }
}

/// Whether a document says that it is a Secret.
pub(super) fn is_secret(document: &Node) -> bool {
    let text = |field| document.get(field).and_then(Node::text);
    (text("apiVersion"), text("kind")) == (Some("v1"), Some("Secret"))
}

fn read(document: &Node, faults: &mut Vec<Fault>) -> Option<SecretData> {
    let known = faults.len();
    if let Tree::Map(fields) = &document.tree {
        for (field, line, _) in fields.iter().filter(|(field, ..)| !FIELDS.contains(&field.as_str())) {
            let words = format!("{field} is not a field of a Secret: use data or stringData");
            faults.push(Fault::new(*line, words));
        }
    }
    let metadata = document.get("metadata");
    let text = |field| metadata.and_then(|metadata| metadata.get(field)).and_then(Node::text);
    let name = text("name").filter(|name| is_dns_name(name));
    if name.is_none() {
        let words = "metadata.name of a Secret must be lower-case letters, digits, '-' and '.', 253 at most";
        faults.push(Fault::new(document.line, words));
    }
    let mut data = values(document.get("data"), "data", faults, |text| {
        // Line breaks are what `base64` puts in.
        let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        base64::engine::general_purpose::STANDARD.decode(packed).ok()
    });
    // As the API server has it: what stands in both counts as stringData has it.
    data.extend(values(document.get("stringData"), "stringData", faults, |text| {
        Some(text.as_bytes().to_vec())
    }));
    let name = name.filter(|_| faults.len() == known)?;
    Some(SecretData {
        namespace: text("namespace").unwrap_or(monitors::NAMESPACE).to_owned(),
        name: name.to_owned(),
        kind: document.get("type").and_then(Node::text).unwrap_or_default().to_owned(),
        labels: texts(metadata.and_then(|metadata| metadata.get("labels"))),
        annotations: texts(metadata.and_then(|metadata| metadata.get("annotations"))),
        data,
    })
}

fn values(
    node: Option<&Node>,
    field: &str,
    faults: &mut Vec<Fault>,
    decode: impl Fn(&str) -> Option<Vec<u8>>,
) -> BTreeMap<String, Vec<u8>> {
    let mut values = BTreeMap::new();
    let Some(node) = node.filter(|node| !matches!(node.tree, Tree::Null)) else {
        return values;
    };
    let Tree::Map(entries) = &node.tree else {
        faults.push(Fault::new(
            node.line,
            format!("{field} of a Secret must be a mapping (key: value)"),
        ));
        return values;
    };
    for (key, line, value) in entries {
        match value.text().map(&decode) {
            Some(Some(bytes)) => _ = values.insert(key.clone(), bytes),
            Some(None) => faults.push(Fault::new(
                *line,
                format!("{field}.{key} is not base64: use stringData for plain text"),
            )),
            None => faults.push(Fault::new(
                *line,
                format!("{field}.{key} must be a text: put it in quotes"),
            )),
        }
    }
    values
}

fn texts(node: Option<&Node>) -> BTreeMap<String, String> {
    let Some(Tree::Map(entries)) = node.map(|node| &node.tree) else {
        return BTreeMap::new();
    };
    let text = |(key, _, value): &(String, u64, Node)| Some((key.clone(), value.text()?.to_owned()));
    entries.iter().filter_map(text).collect()
}
