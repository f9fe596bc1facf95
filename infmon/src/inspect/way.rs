//! How a body is to be read: as the command line says, or by what is in it.

use super::Inspect;
use super::failure::Failure;
use super::mapping;
use infmon_engines::{Engine, Inspection, Mapping, ReadError, inspect, inspect_custom};

/// How a body is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its content tells the engine.
    Content,
    /// As that of an engine, as `spec.engine` does.
    Engine(Engine),
    /// By a mapping, as `spec.custom` does.
    Custom(Mapping),
}

impl Way {
    /// What the command line says.
    ///
    /// # Errors
    /// When `--engine` and `--mapping` do not go together, or the file of the latter cannot be used.
    pub(super) async fn of(args: &Inspect) -> Result<Self, Failure> {
        match (args.engine, &args.mapping) {
            (None | Some(Engine::Custom), Some(source)) => mapping::read(source).await.map(Self::Custom),
            (Some(Engine::Custom), None) => Err(Failure::Usage(
                "--engine Custom needs --mapping FILE: an InferenceMonitor with spec.custom, or that part alone",
            )),
            (Some(_), Some(_)) => Err(Failure::Usage(
                "--mapping says what the series of a server mean whose engine is Custom: leave --engine out",
            )),
            (Some(engine), None) => Ok(Self::Engine(engine)),
            (None, None) => Ok(Self::Content),
        }
    }

    /// The engine that the command line names.
    pub(super) const fn engine(&self) -> Option<Engine> {
        match self {
            Self::Content => None,
            Self::Engine(engine) => Some(*engine),
            Self::Custom(_) => Some(Engine::Custom),
        }
    }

    /// Takes a body apart.
    pub(super) fn inspect(&self, body: &[u8]) -> Result<Inspection, ReadError> {
        match self {
            Self::Custom(mapping) => inspect_custom(mapping.clone(), body),
            Self::Content | Self::Engine(_) => inspect(self.engine(), body),
        }
    }
}
