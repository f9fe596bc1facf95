//! Whether the cases meet every rule of the schema.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;

/// Bounds and rules of the spec that no answer speaks of.
pub(crate) fn unmet_rules(said: &str) -> anyhow::Result<Vec<String>> {
    let answers = without_indexes(said);
    let crd = serde_json::to_value(infmon_crds::crd())?;
    let spec = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .context("the CRD has no spec")?;
    let mut rules = BTreeSet::new();
    collect_rules("spec", spec, &mut rules);
    ensure!(rules.len() > 40, "found only {} rules in the CRD", rules.len());
    Ok(rules
        .into_iter()
        .filter(|rule| !answers.contains(rule.as_str()))
        .collect())
}

/// Indexes out: `spec.endpoints[3].name` and `spec.endpoints[].name` are the same rule.
fn without_indexes(said: &str) -> String {
    let mut parts = said.split('[');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        kept.push('[');
        kept.push_str(if rest.starts_with(']') { rest } else { part });
    }
    kept
}

/// The words in which the API server refuses what breaks a rule, for each rule of a schema.
fn collect_rules(path: &str, schema: &Value, rules: &mut BTreeSet<String>) {
    let number = |name: &str| schema[name].as_f64();
    let words = [
        number("minimum").map(|n| format!("{path} in body should be greater than or equal to {n}")),
        number("maximum").map(|n| format!("{path} in body should be less than or equal to {n}")),
        number("minLength").map(|n| format!("{path} in body should be at least {n} chars long")),
        number("maxLength").map(|n| format!("{path}: Too long: may not be more than {n} bytes")),
        number("minItems").map(|n| format!("{path} in body should have at least {n} items")),
        number("maxItems").map(|n| format!("{path}: Too many: {}: must have at most {n} items", n + 1.0)),
        number("maxProperties").map(|n| format!("{path}: Too many: {}: must have at most {n} items", n + 1.0)),
        schema["pattern"]
            .as_str()
            .map(|pattern| format!("{path} in body should match '{pattern}'")),
        schema["enum"].as_array().map(|_| format!("{path}: Unsupported value")),
        (schema["x-kubernetes-list-type"] == "map").then(|| format!("{path}[]: Duplicate value")),
    ];
    rules.extend(words.into_iter().flatten());
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        rules.insert(
            rule["message"]
                .as_str()
                .unwrap_or("a rule without a message")
                .to_owned(),
        );
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        collect_rules(&format!("{path}.{name}"), property, rules);
    }
    if schema["items"].is_object() {
        collect_rules(&format!("{path}[]"), &schema["items"], rules);
    }
    if schema["additionalProperties"].is_object() {
        // By the key that the cases use.
        collect_rules(&format!("{path}.app"), &schema["additionalProperties"], rules);
    }
}
