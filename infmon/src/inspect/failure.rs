//! Why there is nothing to show, and the exit code that says so.

use std::process::ExitCode;

/// Wrong use of the command line, as `EX_USAGE` of sysexits.h. Not clap's 2, which says something else here.
pub const USAGE: u8 = 64;

/// Why a body shows no inference server. The text is for people, with the place and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments do not go together.
    #[error("{0}")]
    Usage(&'static str),
    /// The file of `--mapping` says no mapping that can be used.
    #[error("{0}")]
    Mapping(String),
    /// There is no body: the file cannot be read, or the server does not answer with one.
    #[error("{0}")]
    Unread(String),
    /// The body can be read, and is not that of an inference server, or of another one than `--engine` names.
    #[error("{0}")]
    NotAServer(String),
    /// The body cannot be read.
    #[error("{0}")]
    Malformed(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::Mapping(_) => USAGE,
            Self::Unread(_) => 1,
            Self::NotAServer(_) => 2,
            Self::Malformed(_) => 3,
        })
    }
}
