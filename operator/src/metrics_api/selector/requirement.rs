//! One requirement of a selector, and the limits on keys and values.

use std::collections::BTreeSet;

use super::SelectorError;

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key in (..)`, `key=value`, `key==value`
    In,
    /// `key notin (..)`, `key!=value`; holds for an object without the label too
    NotIn,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>integer`
    GreaterThan,
    /// `key<integer`
    LessThan,
}

/// A key, an operator and the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

impl Requirement {
    pub(super) fn new(key: String, operator: Operator, values: BTreeSet<String>) -> Result<Self, SelectorError> {
        validate_key(&key)?;
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(SelectorError(format!(
                    "{key}: for 'in' and 'notin', the set of values must not be empty"
                )));
            }
            Operator::GreaterThan | Operator::LessThan if !values.iter().all(|value| value.parse::<i64>().is_ok()) => {
                return Err(SelectorError(format!(
                    "{key}: for '>' and '<', the value must be an integer"
                )));
            }
            _ => {}
        }
        for value in &values {
            validate_value(&key, value)?;
        }
        Ok(Self { key, operator, values })
    }

    /// The label that is looked at.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it is compared.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// What it is compared with; empty for `Exists` and `DoesNotExist`.
    pub fn values(&self) -> &BTreeSet<String> {
        &self.values
    }

    /// Whether it holds for an object whose label has this value (`None`: no such label).
    pub fn matches(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value, |label, bound| label > bound),
            Operator::LessThan => self.compare(value, |label, bound| label < bound),
        }
    }

    fn compare(&self, value: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let Some(label) = value.and_then(|value| value.parse::<i64>().ok()) else {
            return false;
        };
        self.values
            .iter()
            .filter_map(|bound| bound.parse::<i64>().ok())
            .all(|bound| holds(label, bound))
    }
}

/// A label key: an optional DNS subdomain and `/`, then a name.
pub(super) fn validate_key(key: &str) -> Result<(), SelectorError> {
    let refuse = |why: &str| Err(SelectorError(format!("invalid label key {key:?}: {why}")));
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if !is_dns_subdomain(prefix) {
                return refuse("the prefix must be a DNS subdomain");
            }
            name
        }
        None => key,
    };
    if !is_name(name) {
        return refuse("the name must be 1 to 63 characters: alphanumeric, '-', '_' or '.', alphanumeric at both ends");
    }
    Ok(())
}

fn validate_value(key: &str, value: &str) -> Result<(), SelectorError> {
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    Err(SelectorError(format!(
        "invalid value {value:?} for label {key}: at most 63 characters: alphanumeric, '-', '_' or '.', alphanumeric at both ends"
    )))
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    bytes.len() <= 63
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_dns_subdomain(text: &str) -> bool {
    let is_lower = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 253
        && text.split('.').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(is_lower)
                && bytes.last().is_some_and(is_lower)
                && bytes.iter().all(|byte| is_lower(byte) || *byte == b'-')
        })
}
