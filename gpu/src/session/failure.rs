//! What the errors of the driver mean for a session.

use nvml_wrapper::error::NvmlError;

use crate::sample::DriverProblem;
use crate::snapshot::{FailedGpu, GpuFailure};

/// `NVML_ERROR_ARGUMENT_VERSION_MISMATCH`: the driver is older than the structure. Not in the wrapper's enum.
const ARGUMENT_VERSION_MISMATCH: u32 = 25;
/// `NVML_ERROR_DEPRECATED`: calls that a newer driver has dropped. Not in the wrapper's enum.
const DEPRECATED: u32 = 26;
/// `NVML_ERROR_GPU_NOT_FOUND`. Not in the wrapper's enum.
const GPU_NOT_FOUND: u32 = 28;

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// This GPU or this driver does not have the value: one answer for all the ways in which that is said.
    Unsupported,
    /// The value exists and was refused this time.
    Refused,
    /// The GPU is gone; the session ends, and the next one finds out what is left.
    GpuLost,
    /// The driver is gone or was replaced; the session ends.
    DriverGone,
}

impl Failure {
    pub(super) fn of(error: &NvmlError) -> Self {
        match error {
            NvmlError::NotSupported
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::UnexpectedVariant(ARGUMENT_VERSION_MISMATCH | DEPRECATED) => Self::Unsupported,
            NvmlError::GpuLost | NvmlError::UnexpectedVariant(GPU_NOT_FOUND) => Self::GpuLost,
            NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch => Self::DriverGone,
            _ => Self::Refused,
        }
    }

    /// How a GPU that answers so fails.
    pub(super) fn of_gpu(error: &NvmlError) -> GpuFailure {
        match error {
            NvmlError::ResetRequired => GpuFailure::ResetRequired,
            error if Self::of(error) == Self::GpuLost => GpuFailure::Lost,
            _ => GpuFailure::Refused,
        }
    }

    pub(super) fn ends_session(self) -> bool {
        matches!(self, Self::GpuLost | Self::DriverGone)
    }
}

/// A value that this GPU may not have; only what ends the session stays an error.
pub(super) fn optional<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if Failure::of(&error).ends_session() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Why there is no session, and whether only an administrator can change that.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) category: DriverProblem,
    pub(super) message: String,
    /// Worth trying again only rarely.
    pub(super) lasting: bool,
    /// GPUs that are known to fail, where that is why nothing can be read.
    pub(super) failed: Vec<FailedGpu>,
}

const LOST_DEVICES: &str = "; if this worked before, the container has lost its access to the device files: restart it";

impl Problem {
    /// A problem in words, for which there is no category.
    pub(super) fn unknown(message: String) -> Self {
        Self {
            category: DriverProblem::Unknown,
            message,
            lasting: false,
            failed: Vec::new(),
        }
    }

    /// No problem: the driver is left alone while it is replaced.
    pub(super) fn driver_upgrade() -> Self {
        Self {
            category: DriverProblem::DriverUpgrade,
            message: "the driver of this node is being upgraded, and the node daemon has let go of it".to_owned(),
            lasting: false,
            failed: Vec::new(),
        }
    }

    /// A problem that the driver named, met while doing `step`.
    pub(super) fn of(step: &str, error: &NvmlError) -> Self {
        let (category, lasting, advice) = match error {
            NvmlError::LibloadingError(_) => (DriverProblem::LibraryNotFound, true, ""),
            NvmlError::DriverNotLoaded => (DriverProblem::DriverNotLoaded, false, ""),
            NvmlError::NoPermission | NvmlError::OperatingSystem => (DriverProblem::NoPermission, false, LOST_DEVICES),
            // What a container gets whose device cgroup was written anew, as `systemctl daemon-reload` on its node makes runtimes do
            // (NVIDIA/nvidia-container-toolkit issue 48).
            NvmlError::Unknown => (DriverProblem::Unknown, false, LOST_DEVICES),
            NvmlError::LibRmVersionMismatch => (
                DriverProblem::DriverVersionMismatch,
                true,
                "; the driver was upgraded and the old kernel module is still loaded: reload it or reboot the node",
            ),
            _ => (DriverProblem::Unknown, false, ""),
        };
        Self {
            category,
            message: format!("{step}: {error}{advice}"),
            lasting,
            failed: Vec::new(),
        }
    }
}
