//! Builders of specs: the smallest valid one, and patches of it.

use serde_json::{Value, json};

/// A spec that is valid and says nothing but what has to be said.
pub(crate) fn minimal() -> Value {
    json!({ "endpoints": [pods("servers")] })
}

pub(crate) fn pods(name: &str) -> Value {
    json!({ "name": name, "pods": { "selector": { "matchLabels": { "app": "chat" } }, "port": "http" } })
}

/// A patch that replaces the endpoints by one, which is [`pods`] with a merge patch of its own.
pub(crate) fn endpoint(patch: &Value) -> Value {
    let mut endpoint = pods("servers");
    merge(&mut endpoint, patch);
    json!({ "endpoints": [endpoint] })
}

pub(crate) fn selector(selector: &Value) -> Value {
    json!({ "endpoints": [{ "name": "servers", "pods": { "selector": selector, "port": "http" } }] })
}

pub(crate) fn expression(expression: &Value) -> Value {
    selector(&json!({ "matchExpressions": [expression] }))
}

pub(crate) fn port(port: impl Into<Value>) -> Value {
    endpoint(&json!({ "pods": { "port": port.into() } }))
}

pub(crate) fn service(name: impl Into<Value>, port: impl Into<Value>) -> Value {
    json!({ "endpoints": [{ "name": "servers", "service": { "name": name.into(), "port": port.into() } }] })
}

pub(crate) fn url(url: impl Into<Value>) -> Value {
    json!({ "endpoints": [{ "name": "servers", "url": url.into() }] })
}

pub(crate) fn threshold(name: &str, value: &Value) -> Value {
    json!({ "thresholds": { name: value } })
}

pub(crate) fn labels(count: usize) -> Value {
    (0..count)
        .map(|n| (format!("label-{n}"), json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// JSON merge patch (RFC 7386), except that a null stays a null.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

pub(crate) fn monitor(name: &str, patch: &Value) -> Value {
    let mut spec = minimal();
    merge(&mut spec, patch);
    json!({
        "apiVersion": "inferencemonitor.io/v1alpha1",
        "kind": "InferenceMonitor",
        "metadata": { "name": name, "namespace": "default" },
        "spec": spec,
    })
}
