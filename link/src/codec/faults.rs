//! Faults of GPUs: what the driver says of their state, those that do not answer, and what happened.

use super::microseconds;
use crate::wire;
use infmon_gpu::{GpuFailure, GpuHealth, IncidentKind, RecoveryAction};
use infmon_samples::{GpuIncident, GpuOutage, SwitchIncident};
use std::time::Duration;

pub(super) fn encode_health(health: &GpuHealth) -> wire::GpuHealth {
    let GpuHealth {
        recovery_action,
        ecc_uncorrectable_volatile,
        ecc_uncorrectable_aggregate,
        remapped_rows_uncorrectable,
        row_remap_pending,
        row_remap_failed,
        retired_pages,
        page_retirement_pending,
        xid_events,
    } = *health;
    wire::GpuHealth {
        recovery_action: recovery_action.map(RecoveryAction::code),
        ecc_uncorrectable_volatile,
        ecc_uncorrectable_aggregate,
        remapped_rows_uncorrectable,
        row_remap_pending,
        row_remap_failed,
        retired_pages,
        page_retirement_pending,
        xid_events,
    }
}

/// Absent from an older daemon: nothing is known then.
pub(super) fn decode_health(health: Option<wire::GpuHealth>) -> GpuHealth {
    let health = health.unwrap_or_default();
    GpuHealth {
        recovery_action: health.recovery_action.map(RecoveryAction::from_code),
        ecc_uncorrectable_volatile: health.ecc_uncorrectable_volatile,
        ecc_uncorrectable_aggregate: health.ecc_uncorrectable_aggregate,
        remapped_rows_uncorrectable: health.remapped_rows_uncorrectable,
        row_remap_pending: health.row_remap_pending,
        row_remap_failed: health.row_remap_failed,
        retired_pages: health.retired_pages,
        page_retirement_pending: health.page_retirement_pending,
        xid_events: health.xid_events,
    }
}

pub(super) fn encode_outage(outage: &GpuOutage) -> wire::GpuOutage {
    let GpuOutage {
        index,
        uuid,
        minor_number,
        failure,
        message,
        since,
    } = outage;
    wire::GpuOutage {
        index: *index,
        uuid: uuid.clone().unwrap_or_default(),
        minor_number: *minor_number,
        failure: failure.as_str().to_owned(),
        message: message.clone(),
        since_microseconds: microseconds(*since),
    }
}

pub(super) fn decode_outage(outage: wire::GpuOutage) -> GpuOutage {
    GpuOutage {
        index: outage.index,
        uuid: Some(outage.uuid).filter(|uuid| !uuid.is_empty()),
        minor_number: outage.minor_number,
        // A failure that only the daemon knows concludes nothing; its message still tells.
        failure: GpuFailure::ALL
            .into_iter()
            .find(|failure| failure.as_str() == outage.failure)
            .unwrap_or(GpuFailure::Refused),
        message: outage.message,
        since: Duration::from_micros(outage.since_microseconds),
    }
}

pub(super) fn encode_incident(incident: &GpuIncident) -> wire::GpuIncident {
    use wire::gpu_incident::{EccUncorrectable, Kind};
    let GpuIncident {
        index,
        uuid,
        kind,
        gpu_instance,
        compute_instance,
        pid,
        process_name,
        count,
        first,
        last,
    } = incident;
    wire::GpuIncident {
        index: *index,
        uuid: uuid.clone(),
        kind: Some(match kind {
            IncidentKind::Xid { number } => Kind::Xid(*number),
            IncidentKind::EccUncorrectable => Kind::EccUncorrectable(EccUncorrectable {}),
        }),
        gpu_instance: *gpu_instance,
        compute_instance: *compute_instance,
        count: *count,
        first_microseconds: microseconds(*first),
        last_microseconds: microseconds(*last),
        pid: *pid,
        process_name: process_name.clone().unwrap_or_default(),
    }
}

/// `None` for a kind that only the sender knows.
pub(super) fn decode_incident(incident: wire::GpuIncident) -> Option<GpuIncident> {
    use wire::gpu_incident::Kind;
    Some(GpuIncident {
        index: incident.index,
        uuid: incident.uuid,
        kind: match incident.kind? {
            Kind::Xid(number) => IncidentKind::Xid { number },
            Kind::EccUncorrectable(_) => IncidentKind::EccUncorrectable,
        },
        gpu_instance: incident.gpu_instance,
        compute_instance: incident.compute_instance,
        pid: incident.pid,
        process_name: Some(incident.process_name).filter(|name| !name.is_empty()),
        count: incident.count,
        first: Duration::from_micros(incident.first_microseconds),
        last: Duration::from_micros(incident.last_microseconds),
    })
}

pub(super) fn encode_switch_incident(incident: &SwitchIncident) -> wire::SwitchIncident {
    let SwitchIncident {
        pci,
        number,
        fatal,
        text,
        count,
        first,
        last,
    } = incident;
    wire::SwitchIncident {
        pci: pci.clone(),
        number: *number,
        fatal: *fatal,
        text: text.clone(),
        count: *count,
        first_microseconds: microseconds(*first),
        last_microseconds: microseconds(*last),
    }
}

pub(super) fn decode_switch_incident(incident: wire::SwitchIncident) -> SwitchIncident {
    SwitchIncident {
        pci: incident.pci,
        number: incident.number,
        fatal: incident.fatal,
        text: incident.text,
        count: incident.count,
        first: Duration::from_micros(incident.first_microseconds),
        last: Duration::from_micros(incident.last_microseconds),
    }
}
