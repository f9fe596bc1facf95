//! Each fault in words: what, how bad, and what to do.

use super::{quoted, standing_for};
use crate::words::{clause, count, seconds};
use infmon_crds::v1alpha1::reason;
use infmon_gpu::xid::{self, XidClass};
use infmon_gpu::{GpuFailure, GpuHealth, IncidentKind, RecoveryAction, StandingFault, breaks_the_fabric};
use infmon_samples::{GpuIncident, GpuOutage, SwitchIncident};
use std::time::Duration;

/// How bad a fault is; the first is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    DriverUnresponsive,
    DriverVersionMismatch,
    Lost,
    RecoveryAction,
    RemapFailed,
    Switch,
    LastingXid,
    Ecc,
    OtherXid,
    RepairPending,
    ProgramXid,
    TemperatureHigh,
}

/// A fault in words.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) rank: Rank,
    pub(super) reason: &'static str,
    /// What, without a period.
    pub(super) what: String,
    /// What to do next, without a period.
    pub(super) next: String,
}

pub(super) fn unresponsive(for_seconds: u32, node: &str) -> Words {
    Words {
        rank: Rank::DriverUnresponsive,
        reason: reason::DRIVER_UNRESPONSIVE,
        what: format!("a call has not returned for {for_seconds} s"),
        next: format!("see dmesg of {node}; a reset of the GPU or a reboot usually is needed"),
    }
}

pub(super) fn version_mismatch(message: &str, node: &str) -> Words {
    Words {
        rank: Rank::DriverVersionMismatch,
        reason: reason::DRIVER_VERSION_MISMATCH,
        what: format!("library and kernel module differ in version{}", quoted(message)),
        next: format!("finish the update of the driver on {node}: reload its kernel module or reboot"),
    }
}

pub(super) fn outage(outage: &GpuOutage, since: Duration, node: &str) -> Words {
    let since = standing_for(Some(since));
    let said = quoted(&outage.message);
    match outage.failure {
        GpuFailure::ResetRequired => Words {
            rank: Rank::RecoveryAction,
            reason: reason::RECOVERY_ACTION_NEEDED,
            what: format!("the driver refuses to use it before a reset{since}{said}"),
            next: reset(outage.index, node),
        },
        GpuFailure::NotEnumerated => Words {
            rank: Rank::Lost,
            reason: reason::GPU_LOST,
            what: format!("the driver does not enumerate it any more{since}"),
            next: format!("drain {node}, see its dmesg and reboot it; if the GPU stays away, check its seat and power"),
        },
        // One that merely refuses is no fault, and does not come here.
        GpuFailure::Lost | GpuFailure::Refused => Words {
            rank: Rank::Lost,
            reason: reason::GPU_LOST,
            what: format!("it does not answer{since}{said}"),
            next: format!("drain {node}, see its dmesg and reboot it; if the GPU stays away, check its seat and power"),
        },
    }
}

pub(super) fn standing(
    fault: StandingFault,
    health: &GpuHealth,
    since: Option<Duration>,
    index: u32,
    node: &str,
) -> Words {
    let since = standing_for(since);
    match fault {
        StandingFault::RecoveryAction => recovery_action(health.recovery_action, &since, index, node),
        StandingFault::RowRemapFailed => Words {
            rank: Rank::RemapFailed,
            reason: reason::ROW_REMAP_FAILED,
            what: format!("a faulty row of its memory could not be replaced{since}"),
            next: format!("drain {node} and have the GPU replaced"),
        },
        StandingFault::RowRemapPending => {
            let rows = health.remapped_rows_uncorrectable.filter(|rows| *rows > 0);
            let rows = rows.map_or_else(String::new, |rows| {
                format!(", {} marked in its life", count(rows as usize, "row"))
            });
            Words {
                rank: Rank::RepairPending,
                reason: reason::MEMORY_REPAIR_PENDING,
                what: format!("a faulty row of its memory waits for a reset to be replaced{since}{rows}"),
                next: format!("{} when it suits", reset(index, node)),
            }
        }
        StandingFault::PageRetirementPending => {
            let pages = health.retired_pages.filter(|pages| *pages > 0);
            let pages = pages.map_or_else(String::new, |pages| {
                format!(", {} retired in its life", count(pages as usize, "page"))
            });
            Words {
                rank: Rank::RepairPending,
                reason: reason::MEMORY_REPAIR_PENDING,
                what: format!("a faulty page of its memory waits for a reset to be retired{since}{pages}"),
                next: format!("{} when it suits", reset(index, node)),
            }
        }
    }
}

fn recovery_action(action: Option<RecoveryAction>, since: &str, index: u32, node: &str) -> Words {
    let (asks, next) = match action {
        Some(RecoveryAction::Reset) => ("a reset".to_owned(), reset(index, node)),
        Some(RecoveryAction::Reboot) => ("a reboot".to_owned(), format!("drain and reboot {node}")),
        Some(RecoveryAction::DrainPeers) => (
            "a drain of the GPUs that it talks to".to_owned(),
            format!("end what uses several GPUs of {node}, then look again"),
        ),
        Some(RecoveryAction::DrainAndReset) => ("a drain and a reset".to_owned(), reset(index, node)),
        Some(RecoveryAction::RecoverImexDomain) => (
            "the recovery of its IMEX domain".to_owned(),
            format!("see nvidia-imex-ctl -N on {node}, and restart nvidia-imex on the nodes of its domain"),
        ),
        Some(RecoveryAction::Other(code)) => (
            format!("recovery action {code}, which this version does not know"),
            format!("run nvidia-smi -q on {node} and follow its GPU Recovery Action"),
        ),
        Some(RecoveryAction::None) | None => ("nothing".to_owned(), format!("run nvidia-smi -q on {node}")),
    };
    Words {
        rank: Rank::RecoveryAction,
        reason: reason::RECOVERY_ACTION_NEEDED,
        what: format!("the driver asks for {asks}{since}"),
        next,
    }
}

/// `on_the_way` is the time since the report that told of it.
pub(super) fn incident(incident: &GpuIncident, on_the_way: Duration, node: &str) -> Words {
    let times = when((incident.count, incident.first, incident.last), on_the_way);
    let number = match incident.kind {
        IncidentKind::Xid { number } => number,
        IncidentKind::EccUncorrectable => {
            let errors = usize::try_from(incident.count).unwrap_or(usize::MAX);
            return Words {
                rank: Rank::Ecc,
                reason: reason::ECC_UNCORRECTABLE,
                what: format!("{} of its memory{times}", count(errors, "uncorrectable error")),
                next: format!(
                    "restart the pod, since its program may have read wrong data; if it happens again, {}",
                    reset(incident.index, node)
                ),
            };
        }
    };
    let class = xid::class(number);
    let name = xid::name(number).map_or_else(String::new, |name| format!(" ({name})"));
    let instance = place(incident);
    let repeated = repeated(incident.count);
    Words {
        rank: match class {
            class if class.lasts() => Rank::LastingXid,
            XidClass::RestartProgram => Rank::ProgramXid,
            _ => Rank::OtherXid,
        },
        reason: reason::XID,
        what: format!("XID {number}{name}{instance}{}{repeated}{times}", blamed(incident)),
        next: next_of(class, incident.index, node),
    }
}

/// A fatal SXid. `on_the_way` is the time since the report that told of it.
pub(super) fn switch(incident: &SwitchIncident, on_the_way: Duration, node: &str) -> Words {
    let text = clause(&incident.text);
    let text = if text.is_empty() { text } else { format!(" ({text})") };
    let repeated = repeated(incident.count);
    let times = when((incident.count, incident.first, incident.last), on_the_way);
    let number = incident.number;
    let (reach, next) = if breaks_the_fabric(number) {
        (
            ", which stops all NVLink traffic of the node",
            format!(
                "drain {node}, stop nvidia-fabricmanager, reset all GPUs and switches (nvidia-smi --gpu-reset, without -i) and start it again, or reboot"
            ),
        )
    } else {
        (
            "",
            format!(
                "see XID 74 in dmesg and the log of nvidia-fabricmanager on {node} for the GPU at that link; drain {node} and reset the GPUs that the pod uses \
                 (nvidia-smi --gpu-reset) or reboot"
            ),
        )
    };
    Words {
        rank: Rank::Switch,
        reason: reason::SXID,
        what: format!("fatal SXid {number}{text}{reach}{repeated}{times}"),
        next,
    }
}

/// `, 3 times`.
fn repeated(times: u64) -> String {
    if times > 1 {
        format!(", {times} times")
    } else {
        String::new()
    }
}

/// ` in MIG instance 3`, with the compute instance where that is named, and a word where the neighbours are concerned too.
fn place(incident: &GpuIncident) -> String {
    let Some(gpu) = incident.gpu_instance else {
        return String::new();
    };
    let compute = incident
        .compute_instance
        .map_or_else(String::new, |compute| format!("/{compute}"));
    let reach = if incident.kind.concerns_whole_gpu() {
        ", which concerns the whole GPU"
    } else {
        ""
    };
    format!(" in MIG instance {gpu}{compute}{reach}")
}

/// ` of pid 4711 (python3)`, where the kernel's log names it.
fn blamed(incident: &GpuIncident) -> String {
    let name = incident
        .process_name
        .as_deref()
        .map(clause)
        .filter(|name| !name.is_empty());
    match (incident.pid, name) {
        (Some(pid), Some(name)) => format!(" of pid {pid} ({name})"),
        (Some(pid), None) => format!(" of pid {pid}"),
        (None, Some(name)) => format!(" of {name}"),
        (None, None) => String::new(),
    }
}

/// `, 4 s ago`, `, first 3 min and last 4 s ago`.
fn when((times, first, last): (u64, Duration, Duration), on_the_way: Duration) -> String {
    let last = seconds(last.saturating_add(on_the_way));
    let first = seconds(first.saturating_add(on_the_way));
    if times > 1 && first != last {
        format!(", first {first} and last {last} ago")
    } else {
        format!(", {last} ago")
    }
}

fn next_of(class: XidClass, index: u32, node: &str) -> String {
    match class {
        XidClass::Ignore | XidClass::RestartProgram => {
            format!("restart the pod if it does not serve; if it happens again on this GPU, run dcgmi diag on {node}")
        }
        XidClass::ResetGpu => reset(index, node),
        XidClass::RebootNode => format!("drain and reboot {node}"),
        XidClass::RestartMachine => format!("restart the virtual machine of {node}"),
        XidClass::CheckBoard => format!("check the power cables and the seat of the GPU in {node}"),
        XidClass::UpdateSoftware => format!("update driver and firmware of {node}"),
        XidClass::CheckLink => format!(
            "see nvidia-smi nvlink -e on {node}; if requests fail, {}",
            reset(index, node)
        ),
        XidClass::FollowRecoveryAction => format!("run nvidia-smi -q on {node} and follow its GPU Recovery Action"),
        XidClass::CheckManagedMemory => format!(
            "see dmesg of {node} for the XIDs beside it and follow those; alone, run nvidia-bug-report.sh and ask the vendor"
        ),
        XidClass::NoActionStated => format!(
            "run nvidia-smi -q on {node} and follow its GPU Recovery Action; NVIDIA's catalogue of XIDs names no step for this one"
        ),
        XidClass::ContactVendor => format!("run nvidia-bug-report.sh on {node} and ask the vendor"),
        XidClass::Unknown => {
            format!("look the number up in NVIDIA's catalogue of XIDs, and run nvidia-smi -q on {node}")
        }
    }
}

fn reset(index: u32, node: &str) -> String {
    format!("drain {node} and reset GPU {index} (nvidia-smi --gpu-reset -i {index}) or reboot")
}
