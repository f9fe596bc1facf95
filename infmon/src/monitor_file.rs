//! Monitors from a file: the same YAML as in a cluster, held to the same rules, with `url` endpoints only, and the Secrets that they name.

mod secrets;

use crate::access::can_be_read_by_others;
use crate::monitors;
use crate::schema::{self, Fault};
use crate::yaml::{self, Node, Tree};
use infmon_crds::v1alpha1::InferenceMonitor;
use infmon_evaluation::{AddressPolicy, mapping_of, resolve};
use infmon_operator::world::NamespaceView;
use infmon_samples::Credentials;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use secrets::Secrets;

/// Fields of `metadata` that are looked at, and those that `kubectl get -o yaml` adds.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];
const METADATA_OF_CLUSTER: [&str; 5] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
];

/// Why a file cannot be used, one line per fault: `monitor.yaml:12: what, and what to change`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines.join("\n"))]
pub struct FileError {
    /// The faults.
    pub lines: Vec<String>,
}

impl FileError {
    fn of(name: &str, words: impl std::fmt::Display) -> Self {
        Self {
            lines: vec![format!("{name}: {words}")],
        }
    }
}

/// What a file declares.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// The monitors.
    pub monitors: Vec<InferenceMonitor>,
    /// The Secrets that they name.
    pub secrets: Secrets,
    /// What the owner of the file should know.
    pub warnings: Vec<String>,
}

/// A file with monitors, or standard input.
#[derive(Clone, Debug)]
pub struct MonitorFile {
    /// `None` is standard input.
    path: Option<PathBuf>,
    policy: AddressPolicy,
    stamp: Option<(SystemTime, u64)>,
}

impl MonitorFile {
    /// A file, or `-` for standard input; `allowed_hosts` may be named by urls besides those of this machine. `credentials` are for
    /// urls whose endpoint names no Secret.
    #[must_use]
    pub fn new(path: &Path, allowed_hosts: Vec<String>, credentials: Option<Credentials>) -> Self {
        Self {
            path: (path != Path::new("-")).then(|| path.to_owned()),
            policy: AddressPolicy {
                allow_loopback: true,
                allowed_hosts,
                credentials: credentials.map(Arc::new),
                ..AddressPolicy::default()
            },
            stamp: None,
        }
    }

    /// The address policy that the monitors are held to.
    #[must_use]
    pub fn policy(&self) -> AddressPolicy {
        self.policy.clone()
    }

    /// Reads the monitors.
    ///
    /// # Errors
    /// When the file cannot be read or a monitor is not valid.
    pub fn read(&mut self) -> Result<Declared, FileError> {
        let (name, text) = match &self.path {
            Some(path) => {
                self.stamp = stamp(path);
                (path.display().to_string(), std::fs::read_to_string(path))
            }
            None => {
                let mut text = String::new();
                (
                    "standard input".to_owned(),
                    std::io::stdin().read_to_string(&mut text).map(|_| text),
                )
            }
        };
        let text = text.map_err(|error| FileError::of(&name, format!("cannot be read: {error}")))?;
        let mut declared = parse(&name, &text, &self.policy)?;
        if !declared.secrets.is_empty() {
            declared.warnings = self
                .path
                .as_deref()
                .and_then(can_be_read_by_others)
                .into_iter()
                .collect();
        }
        Ok(declared)
    }

    /// Whether the file differs from the one last read. A file that is gone has not changed: editors replace files.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let now = self.path.as_deref().and_then(stamp);
        now.is_some() && now != self.stamp
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Reads the monitors and Secrets of a text; `name` is what errors call it.
///
/// # Errors
/// Every fault found, each with its line.
pub fn parse(name: &str, text: &str, policy: &AddressPolicy) -> Result<Declared, FileError> {
    let documents = yaml::documents(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let words = error.without_snippet().to_string();
        FileError {
            lines: vec![format!(
                "{name}:{line}: this is not YAML: {}",
                words.lines().next().unwrap_or_default()
            )],
        }
    })?;
    let schema = schema::of_spec();
    let mut faults = Vec::new();
    let mut monitors = Vec::new();
    let mut names = BTreeSet::new();
    let mut secrets = Secrets::default();
    let (of_secrets, of_monitors): (Vec<&Node>, Vec<&Node>) =
        documents.iter().partition(|document| secrets::is_secret(document));
    for document in of_secrets {
        secrets.add(document, &mut faults);
    }
    for document in of_monitors {
        let known = faults.len();
        check(document, &schema, policy, &mut faults);
        if faults.len() > known {
            continue;
        }
        match monitor(document) {
            Ok(monitor) if names.insert((monitor.metadata.namespace.clone(), monitor.metadata.name.clone())) => {
                check_secrets(document, &monitor, &secrets, policy, &mut faults);
                monitors.push(monitor);
            }
            Ok(monitor) => {
                let name = monitor.metadata.name.unwrap_or_default();
                faults.push(Fault::new(
                    document.line,
                    format!("a second monitor {name}: rename one of them"),
                ));
            }
            // The schema was met, so only a difference between schema and types can lead here.
            Err(error) => faults.push(Fault::new(document.line, error.to_string())),
        }
    }
    if !faults.is_empty() {
        let lines = faults
            .into_iter()
            .map(|fault| format!("{name}:{}: {}", fault.line, fault.words))
            .collect();
        return Err(FileError { lines });
    }
    if monitors.is_empty() {
        return Err(FileError::of(name, "there is no InferenceMonitor in it"));
    }
    Ok(Declared {
        monitors,
        secrets,
        warnings: Vec::new(),
    })
}

/// Whether the Secrets that a monitor names are there and are for the hosts of its urls: the pipeline's own word.
fn check_secrets(
    document: &Node,
    monitor: &InferenceMonitor,
    secrets: &Secrets,
    policy: &AddressPolicy,
    faults: &mut Vec<Fault>,
) {
    let namespace = monitor.metadata.namespace.as_deref().unwrap_or(monitors::NAMESPACE);
    let endpoints = document.get("spec").and_then(|spec| spec.get("endpoints"));
    for (index, endpoint) in monitor.spec.endpoints.iter().enumerate() {
        if endpoint.credentials_secret_ref.is_none() {
            continue;
        }
        let mut alone = monitor.spec.clone();
        alone.endpoints = vec![endpoint.clone()];
        let node = endpoints.and_then(|endpoints| endpoints.items().get(index)?.get("credentialsSecretRef"));
        let line = node.map_or(document.line, |node| node.line);
        let found = resolve(&alone, &secrets.of(namespace), policy);
        faults.extend(found.problems.into_iter().map(|words| Fault::new(line, words)));
    }
}

fn monitor(document: &Node) -> Result<InferenceMonitor, serde_json::Error> {
    let mut value = document.to_json();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| METADATA.contains(&field.as_str()));
        }
    }
    serde_json::from_value(value).map(monitors::complete)
}

fn check(document: &Node, schema: &Value, policy: &AddressPolicy, faults: &mut Vec<Fault>) {
    let Tree::Map(fields) = &document.tree else {
        return faults.push(Fault::new(
            document.line,
            "this is no InferenceMonitor: it must begin with apiVersion, kind, metadata and spec",
        ));
    };
    let (version, kind) = (
        document.get("apiVersion").and_then(Node::text),
        document.get("kind").and_then(Node::text),
    );
    if (version, kind) != (Some("inferencemonitor.io/v1alpha1"), Some("InferenceMonitor")) {
        let found = format!("{} {}", version.unwrap_or("no apiVersion,"), kind.unwrap_or("no kind"));
        return faults.push(Fault::new(
            document.line,
            format!("this is {found}: give apiVersion: inferencemonitor.io/v1alpha1 and kind: InferenceMonitor, or v1 and Secret"),
        ));
    }
    for (field, line, _) in fields {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&field.as_str()) {
            faults.push(Fault::new(
                *line,
                format!("{field} is not a field: the settings of a monitor stand under spec"),
            ));
        }
    }
    metadata(document, faults);
    match document.get("spec") {
        None => faults.push(Fault::new(document.line, "spec is missing: give spec.endpoints")),
        Some(spec) => {
            let known = faults.len();
            schema::check(spec, schema, "spec", faults);
            if faults.len() == known {
                rules(document, spec, policy, faults);
            }
        }
    }
}

fn metadata(document: &Node, faults: &mut Vec<Fault>) {
    let metadata = document.get("metadata");
    let Some(name) = metadata.and_then(|metadata| metadata.get("name")) else {
        return faults.push(Fault::new(
            document.line,
            "metadata.name is missing: give the monitor a name",
        ));
    };
    for (field, part) in [
        ("name", Some(name)),
        ("namespace", metadata.and_then(|metadata| metadata.get("namespace"))),
    ] {
        if let Some(part) = part
            && !part.text().is_some_and(is_dns_name)
        {
            faults.push(Fault::new(
                part.line,
                format!("metadata.{field} must be lower-case letters, digits, '-' and '.', 253 at most"),
            ));
        }
    }
    if let Some(Tree::Map(fields)) = metadata.map(|metadata| &metadata.tree) {
        for (field, line, _) in fields {
            if !METADATA.contains(&field.as_str()) && !METADATA_OF_CLUSTER.contains(&field.as_str()) {
                faults.push(Fault::new(
                    *line,
                    format!("metadata.{field} is not a field: use {}", METADATA.join(", ")),
                ));
            }
        }
    }
}

/// The rules that the schema states in CEL, and those of life without a cluster.
fn rules(document: &Node, spec: &Node, policy: &AddressPolicy, faults: &mut Vec<Fault>) {
    let known = faults.len();
    let mut names = BTreeSet::new();
    for endpoint in spec.get("endpoints").map(Node::items).unwrap_or_default() {
        let name = endpoint.get("name").and_then(Node::text).unwrap_or_default();
        if !names.insert(name) {
            faults.push(Fault::new(
                endpoint.line,
                format!("a second endpoint {name}: names of endpoints must differ"),
            ));
        }
        let is_https = |url: &str| {
            url.get(..8)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
        };
        if let Some(reference) = endpoint.get("credentialsSecretRef")
            && !endpoint.get("url").and_then(Node::text).is_some_and(is_https)
        {
            let words = "credentialsSecretRef goes with an https:// url and with nothing else: credentials are sent only to a server \
                         that proves its name (without https, to this machine: --bearer-token-file)";
            faults.push(Fault::new(reference.line, words));
        }
        if let Some(Tree::Map(labels)) = endpoint.get("labels").map(|labels| &labels.tree) {
            for (label, line, _) in labels.iter().filter(|(label, ..)| !is_label_name(label)) {
                let words = format!("label {label} must begin with a letter and have 1 to 63 letters, digits and '_'");
                faults.push(Fault::new(*line, words));
            }
        }
        let given: Vec<&str> = ["pods", "service", "url"]
            .into_iter()
            .filter(|kind| endpoint.get(kind).is_some_and(|node| !matches!(node.tree, Tree::Null)))
            .collect();
        match given[..] {
            ["url"] => {}
            ["pods" | "service"] => faults.push(Fault::new(
                endpoint.line,
                format!(
                    "endpoint {name} selects {}, which needs a cluster (there: kubectl apply -f): without one give the address of the server, for example url: http://127.0.0.1:8000",
                    if given[0] == "pods" { "pods" } else { "a Service" }
                ),
            )),
            [] => faults.push(Fault::new(
                endpoint.line,
                format!("endpoint {name} has no address: give it one, for example url: http://127.0.0.1:8000"),
            )),
            _ => faults.push(Fault::new(
                endpoint.line,
                format!("endpoint {name} has {}: give exactly one of pods, service and url (url, without a cluster)", given.join(" and ")),
            )),
        }
    }
    if faults.len() > known {
        return;
    }
    let Ok(monitor) = monitor(document) else { return };
    if let Err(words) = mapping_of(&monitor.spec) {
        let node = spec.get("custom").or(spec.get("engine"));
        faults.push(Fault::new(node.map_or(spec.line, |node| node.line), words));
        return;
    }
    if i64::from(monitor.spec.stale_after_seconds) * 1000 < 2 * i64::from(monitor.spec.sample_period_milliseconds) {
        let line = spec
            .get("staleAfterSeconds")
            .or(spec.get("samplePeriodMilliseconds"))
            .map_or(spec.line, |node| node.line);
        faults.push(Fault::new(
            line,
            "spec.staleAfterSeconds must be at least twice samplePeriodMilliseconds, or every sample would be stale before the next one comes: raise staleAfterSeconds or lower samplePeriodMilliseconds",
        ));
    }
    for (index, endpoint) in monitor.spec.endpoints.iter().enumerate() {
        let Some(url) = &endpoint.url else { continue };
        let line = spec
            .get("endpoints")
            .and_then(|endpoints| endpoints.items().get(index)?.get("url"))
            .map_or(spec.line, |node| node.line);
        if let Err(words) = check_url(&monitor, index, url, policy) {
            faults.push(Fault::new(line, words));
        }
    }
}

/// Whether a url may be watched: the pipeline's own word, put in terms of this command.
fn check_url(monitor: &InferenceMonitor, index: usize, url: &str, policy: &AddressPolicy) -> Result<(), String> {
    let mut alone = monitor.spec.clone();
    alone.endpoints = alone.endpoints.drain(index..=index).collect();
    let nothing = NamespaceView::default();
    let resolves = |policy: &AddressPolicy| !resolve(&alone, &nothing, policy).endpoints.is_empty();
    if resolves(policy) {
        return Ok(());
    }
    let host = host(url);
    let lenient = AddressPolicy {
        allowed_hosts: vec![host.to_owned()],
        ..policy.clone()
    };
    if resolves(&lenient) {
        Err(format!(
            "url {url} leads to another machine: allow it with --allow-host {host}"
        ))
    } else {
        Err(format!(
            "url {url} must be http:// or https:// with a host and, if need be, a port, and nothing else, for example http://127.0.0.1:8000: put the path into spec.metricsPath; credentials belong into credentialsSecretRef"
        ))
    }
}

fn host(url: &str) -> &str {
    let authority = url
        .split_once("://")
        .map_or(url, |(_, rest)| rest)
        .trim_end_matches('/');
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

/// A name of a label as Prometheus takes it.
fn is_label_name(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 63 && text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && text.bytes().all(inside)
}

fn is_dns_name(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    text.len() <= 253
        && edge(bytes.first().copied())
        && edge(bytes.last().copied())
        && bytes
            .iter()
            .all(|byte| edge(Some(*byte)) || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests;
