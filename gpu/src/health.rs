//! What the driver says of the state of a GPU and its memory. Unknown is `None`, and never a fault.

use serde::{Deserialize, Serialize};

/// State of one GPU at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GpuHealth {
    /// What the driver asks for to bring the GPU back to order; read with each sample.
    pub recovery_action: Option<RecoveryAction>,
    /// Uncorrectable ECC errors since the driver loaded.
    pub ecc_uncorrectable_volatile: Option<u64>,
    /// Uncorrectable ECC errors of the GPU's whole life.
    pub ecc_uncorrectable_aggregate: Option<u64>,
    /// Rows of memory that were replaced after uncorrectable errors, in the GPU's whole life (Ampere and newer).
    pub remapped_rows_uncorrectable: Option<u32>,
    /// A row waits to be replaced by the next reset.
    pub row_remap_pending: Option<bool>,
    /// A row could not be replaced.
    pub row_remap_failed: Option<bool>,
    /// Pages of memory that were taken out of use after double-bit errors, in the GPU's whole life (before Ampere).
    pub retired_pages: Option<u32>,
    /// A page waits to be taken out of use by the next reset.
    pub page_retirement_pending: Option<bool>,
    /// The driver tells of XIDs of this GPU as they happen; `None` as long as that was not tried.
    pub xid_events: Option<bool>,
}

/// A fault that stands for as long as the driver says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StandingFault {
    /// The driver asks for a recovery action.
    RecoveryAction,
    /// A row of memory could not be replaced.
    RowRemapFailed,
    /// A row of memory waits to be replaced.
    RowRemapPending,
    /// A page of memory waits to be taken out of use.
    PageRetirementPending,
}

impl GpuHealth {
    /// Whether the driver tells anything of its state. That it would tell of XIDs says nothing of it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let silent = Self {
            xid_events: self.xid_events,
            ..Self::default()
        };
        *self != silent
    }

    /// Only what stands: what to keep where the driver refuses to say more. What was in order may not be any more.
    #[must_use]
    pub fn only_faults(&self) -> Self {
        Self {
            recovery_action: self.recovery_action.filter(|action| *action != RecoveryAction::None),
            row_remap_pending: self.row_remap_pending.filter(|pending| *pending),
            row_remap_failed: self.row_remap_failed.filter(|failed| *failed),
            page_retirement_pending: self.page_retirement_pending.filter(|pending| *pending),
            ..Self::default()
        }
    }

    /// The faults that stand now. What is not known is no fault.
    pub fn standing(&self) -> impl Iterator<Item = StandingFault> {
        let asks = self
            .recovery_action
            .is_some_and(|action| action != RecoveryAction::None);
        [
            asks.then_some(StandingFault::RecoveryAction),
            (self.row_remap_failed == Some(true)).then_some(StandingFault::RowRemapFailed),
            (self.row_remap_pending == Some(true)).then_some(StandingFault::RowRemapPending),
            (self.page_retirement_pending == Some(true)).then_some(StandingFault::PageRetirementPending),
        ]
        .into_iter()
        .flatten()
    }
}

/// What the driver asks for to bring a GPU back to order (`NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`, codes of `nvmlDeviceGpuRecoveryAction_t`
/// up to NVML 610; of the two that 615 adds, a bus reset and a system reboot, the documents give no number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecoveryAction {
    /// Nothing: the GPU is in order.
    None,
    /// Reset the GPU.
    Reset,
    /// Reboot the node.
    Reboot,
    /// Drain the GPUs that it talks to.
    DrainPeers,
    /// Drain and reset the GPU.
    DrainAndReset,
    /// Recover the IMEX domain, which shares memory between nodes (NVML 595 and newer).
    RecoverImexDomain,
    /// A code that this version does not know.
    Other(u32),
}

impl RecoveryAction {
    /// Reads the driver's code.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        match code {
            0 => Self::None,
            1 => Self::Reset,
            2 => Self::Reboot,
            3 => Self::DrainPeers,
            4 => Self::DrainAndReset,
            5 => Self::RecoverImexDomain,
            other => Self::Other(other),
        }
    }

    /// The driver's code.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Reset => 1,
            Self::Reboot => 2,
            Self::DrainPeers => 3,
            Self::DrainAndReset => 4,
            Self::RecoverImexDomain => 5,
            Self::Other(code) => code,
        }
    }
}

/// By how much the uncorrectable errors of a GPU grew between two looks at it; 0 where nothing is counted.
///
/// The volatile counter begins anew when the driver is loaded: what it shows then happened since. The aggregate counter only grows, and
/// tells what happened while nobody looked; where it goes backwards it says nothing.
#[must_use]
pub fn ecc_growth(before: &GpuHealth, now: &GpuHealth) -> u64 {
    let volatile = match (before.ecc_uncorrectable_volatile, now.ecc_uncorrectable_volatile) {
        (Some(before), Some(now)) => now.checked_sub(before).unwrap_or(now),
        _ => 0,
    };
    let aggregate = match (before.ecc_uncorrectable_aggregate, now.ecc_uncorrectable_aggregate) {
        (Some(before), Some(now)) => now.saturating_sub(before),
        _ => 0,
    };
    volatile.max(aggregate)
}
