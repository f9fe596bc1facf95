//! Why a body could not be read.

use std::fmt;

use crate::exposition::{Fault, MAX_SERIES};
use crate::sample::Engine;

/// Why a metrics body gave no reading. Its text says what to do next; the caller puts the address in front.
///
/// Nothing of the body is repeated in it but metric-name prefixes and the message of an error object, both cleaned and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The body holds no series and declares none. Some servers answer 200 with an empty body on a wrong path.
    Empty,
    /// The body is JSON, not the Prometheus text format.
    Json {
        /// What kind of JSON, as far as it can be told, and what to do about it.
        what: String,
    },
    /// A line does not follow the Prometheus text format.
    Malformed {
        /// Line number, from 1.
        line: usize,
        /// What is wrong, or what was expected.
        reason: String,
    },
    /// No engine that can be read was found in the body.
    UnknownEngine {
        /// The first few distinct prefixes of the metric names.
        seen: Vec<String>,
        /// The product that the names point to, where it is known but not read yet.
        looks_like: Option<&'static str>,
    },
    /// The body is that of another engine than the one the user named.
    WrongEngine {
        /// The engine that the user named.
        expected: Engine,
        /// The engine found.
        found: String,
    },
    /// No series that the user maps is in the body.
    NoMappedSeries {
        /// The series that `spec.custom` names.
        expected: Vec<String>,
        /// Names in the body that read like them.
        similar: Vec<String>,
    },
    /// The user named the engine `Custom`, and nobody says which series feed which field.
    NoMapping,
    /// The body holds more than [`MAX_SERIES`] series.
    TooManySeries,
}

/// Series that an error names.
const EXPECTED_LIMIT: usize = 3;

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed { line, reason } => Self::Malformed {
                line,
                reason: reason.to_owned(),
            },
            Fault::TooManySeries => Self::TooManySeries,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "the metrics body is empty: check the port and the metrics path; Triton answers 200 and nothing on any path but /metrics of port 8002",
            ),
            Self::Json { what } => write!(f, "the body is JSON, not Prometheus text: {what}"),
            Self::Malformed { line, reason } => {
                write!(
                    f,
                    "the body is not Prometheus text: line {line}: {reason}; check the metrics path"
                )
            }
            Self::UnknownEngine {
                looks_like: Some(product),
                ..
            } => {
                write!(f, "these are metrics of {product}, which this version does not read")
            }
            Self::UnknownEngine { seen, looks_like: None } if seen.is_empty() => {
                f.write_str("no series of a known inference server; check the port and the metrics path")
            }
            Self::UnknownEngine { seen, looks_like: None } if seen.iter().all(|name| is_of_the_runtime(name)) => {
                write!(
                    f,
                    "no series of an inference server, only {}; if this is vLLM it runs with --disable-log-stats: \
                     start it without that flag",
                    seen.join(", ")
                )
            }
            Self::UnknownEngine { seen, looks_like: None } => {
                write!(
                    f,
                    "no series of a known inference server, only {}; check the port and the metrics path",
                    seen.join(", ")
                )
            }
            Self::WrongEngine { expected, found } => {
                write!(
                    f,
                    "spec.engine is {}, and the metrics are those of {found}: correct spec.engine or set it to Auto",
                    expected.as_str()
                )
            }
            Self::NoMappedSeries { expected, similar } => {
                let named = expected.iter().take(EXPECTED_LIMIT).map(String::as_str);
                let named = named.collect::<Vec<_>>().join(", ");
                write!(f, "none of the series that spec.custom maps is there ({named}")?;
                match expected.len().saturating_sub(EXPECTED_LIMIT) {
                    0 => f.write_str(")")?,
                    more => write!(f, ", and {more} more)")?,
                }
                if !similar.is_empty() {
                    write!(f, "; similar names are: {}", similar.join(", "))?;
                }
                f.write_str("; correct spec.custom, or check the port and the metrics path")
            }
            Self::NoMapping => f.write_str(
                "the engine is Custom, and no mapping of spec.custom came with it that this version understands: give spec.custom; \
                 update the node daemon if it is older than the operator",
            ),
            Self::TooManySeries => {
                write!(
                    f,
                    "the body holds more than {MAX_SERIES} series: is this an aggregated endpoint, not one server?"
                )
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// Prefixes that any Python HTTP server exposes, whatever it serves.
pub(crate) fn is_of_the_runtime(prefix: &str) -> bool {
    matches!(prefix, "python_" | "process_" | "http_")
}
