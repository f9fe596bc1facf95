//! Checks a document against the schema of the CustomResourceDefinition, as the API server would, and says where and what to change.

use crate::yaml::{Node, Tree};
use regex::Regex;
use serde_json::Value;

/// A fault of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: u64,
    pub(crate) words: String,
}

impl Fault {
    pub(crate) fn new(line: u64, words: impl Into<String>) -> Self {
        let words = words.into();
        Self { line, words }
    }
}

/// The schema of `spec` as the API server knows it.
pub(crate) fn of_spec() -> Value {
    let definition = serde_json::to_value(infmon_crds::crd()).unwrap_or_default();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Checks a value against a structural schema. `path` is for people: `spec.thresholds`.
pub(crate) fn check(node: &Node, schema: &Value, path: &str, faults: &mut Vec<Fault>) {
    let fault = |words: String| Fault::new(node.line, format!("{path} {words}"));
    let kind = schema["type"].as_str().unwrap_or_default();
    match (&node.tree, kind) {
        (Tree::Null, _) => {
            // `key:` without a value is dropped by the API server, and then the default holds.
        }
        (Tree::Map(entries), "object") => object(node, entries, schema, path, faults),
        (Tree::List(items), "array") => {
            let count = items.len() as u64;
            if let Some(min) = schema["minItems"].as_u64().filter(|min| count < *min) {
                faults.push(fault(format!("has {count} entries: give at least {min}")));
            }
            if let Some(max) = schema["maxItems"].as_u64().filter(|max| count > *max) {
                faults.push(fault(format!("has {count} entries: give at most {max}")));
            }
            for (index, item) in items.iter().enumerate() {
                check(item, &schema["items"], &format!("{path}[{index}]"), faults);
            }
        }
        (Tree::Scalar(Value::String(text)), "string") => faults.extend(string(text, schema).map(fault)),
        (Tree::Scalar(Value::Number(number)), "integer") if number.is_i64() || number.is_u64() => {
            let value = number.as_f64().unwrap_or(f64::NAN);
            let (min, max) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            if min.is_some_and(|min| value < min) || max.is_some_and(|max| value > max) {
                let bound = |bound: Option<f64>| bound.map_or_else(|| "any".into(), |bound| format!("{bound:.0}"));
                faults.push(fault(format!("is {number}: give {} to {}", bound(min), bound(max))));
            }
        }
        (Tree::Scalar(Value::Bool(_)), "boolean") | (_, "") => {}
        (tree, expected) => faults.push(fault(format!("is {}: give {}", what(tree), wanted(expected)))),
    }
}

fn object(node: &Node, entries: &[(String, u64, Node)], schema: &Value, path: &str, faults: &mut Vec<Fault>) {
    let join = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    let count = entries.len() as u64;
    if let Some(max) = schema["maxProperties"].as_u64().filter(|max| count > *max) {
        let words = format!("{path} has {count} entries: give at most {max}");
        faults.push(Fault::new(node.line, words));
    }
    let properties = schema["properties"].as_object();
    let further = schema.get("additionalProperties").filter(|further| further.is_object());
    for (name, line, value) in entries {
        if let Some(known) = properties.and_then(|properties| properties.get(name)) {
            check(value, known, &join(name), faults);
        } else if let Some(further) = further {
            check(value, further, &join(name), faults);
        } else if let Some(properties) = properties {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            let words = format!("{} is not a field: {}", join(name), instead(name, &known));
            faults.push(Fault::new(*line, words));
        }
    }
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if node.get(name).is_none_or(|value| matches!(value.tree, Tree::Null)) {
            faults.push(Fault::new(node.line, format!("{} is missing: give it", join(name))));
        }
    }
}

fn string(text: &str, schema: &Value) -> Option<String> {
    if let Some(allowed) = schema["enum"].as_array() {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        return (!allowed.contains(&text)).then(|| format!("is {text:?}: {}", instead(text, &allowed)));
    }
    let length = text.chars().count() as u64;
    let (min, max) = (
        schema["minLength"].as_u64().unwrap_or(0),
        schema["maxLength"].as_u64().unwrap_or(u64::MAX),
    );
    if length < min || length > max {
        return Some(format!("has {length} characters: give {min} to {max}"));
    }
    let pattern = schema["pattern"].as_str()?;
    let matches = Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
    (!matches).then(|| format!("is {text:?}: it must match {pattern}"))
}

/// What to write instead of an unknown word: the one that was meant, or all.
fn instead(word: &str, known: &[&str]) -> String {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase()
    };
    let meant = plain(word);
    let near = known
        .iter()
        .map(|name| {
            // Half a word is a likely slip too: staleAfter for staleAfterSeconds.
            let begins = meant.len() >= 4 && plain(name).starts_with(&meant);
            (if begins { 0 } else { distance(&meant, &plain(name)) }, *name)
        })
        .min()
        .filter(|(distance, name)| distance * 3 <= name.len());
    match near {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("use one of {}", known.join(", ")),
    }
}

/// Letters to insert, remove or replace to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

fn what(tree: &Tree) -> String {
    match tree {
        Tree::Null => "empty".into(),
        Tree::Scalar(Value::String(text)) => format!("the text {text:?}"),
        Tree::Scalar(value) => format!("{value}"),
        Tree::List(_) => "a list".into(),
        Tree::Map(_) => "a mapping".into(),
    }
}

fn wanted(kind: &str) -> &'static str {
    match kind {
        "integer" => "a whole number, without quotes",
        "string" => "a text",
        "array" => "a list (lines that begin with -)",
        "object" => "a mapping (key: value)",
        _ => "true or false",
    }
}
