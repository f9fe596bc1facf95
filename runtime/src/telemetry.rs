//! Logs: `tracing` to standard error, as text for people or JSON lines for collectors.
//!
//! The filter comes from the environment variable `RUST_LOG`, for example `info,infmon_link=debug`; without it the binary's own default holds.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(TelemetryError::Format(other.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a log format.
    #[error("log format {0:?} is neither text nor json")]
    Format(String),
    /// The filter of the environment cannot be read.
    #[error("RUST_LOG is not a log filter")]
    Filter(#[source] tracing_subscriber::filter::FromEnvError),
    /// A subscriber was installed before.
    #[error("logs are set up twice")]
    Twice,
}

/// Sets up logs for the whole process.
///
/// # Errors
/// When `RUST_LOG` cannot be read, or logs were set up before.
pub fn install(format: LogFormat, default_level: LevelFilter) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder()
        .with_default_directive(default_level.into())
        .from_env()
        .map_err(TelemetryError::Filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
        }
        let error = "xml".parse::<LogFormat>().unwrap_err();
        assert_eq!(error.to_string(), "log format \"xml\" is neither text nor json");
    }
}
