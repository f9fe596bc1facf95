//! Reports.

use super::histogram::BoundsTable;
use super::{DecodeError, engine, gpu, microseconds};
use crate::wire;
use infmon_samples::{Failure, FailureKind, HostMemory, Observation, Recognition, Report, TargetId, TargetReport};
use std::time::Duration;

/// `sent` is the time from opening the stream to now, see `Report.sent_microseconds`.
pub(crate) fn encode_report(report: &Report, sent: Duration) -> wire::Report {
    let Report {
        plan_revision,
        gpus,
        targets,
    } = report;
    let mut bounds = BoundsTable::default();
    let targets = targets
        .iter()
        .map(|target| encode_target(target, &mut bounds))
        .collect();
    wire::Report {
        plan_revision: *plan_revision,
        gpus: Some(gpu::encode_gpus(gpus)),
        targets,
        bucket_bounds: bounds.encode(),
        sent_microseconds: microseconds(sent),
    }
}

pub(crate) fn decode_report(report: wire::Report) -> Result<(Report, Duration), DecodeError> {
    let bounds = BoundsTable::decode(report.bucket_bounds);
    let targets = report
        .targets
        .into_iter()
        .map(|target| decode_target(target, &bounds))
        .collect::<Result<_, _>>()?;
    let plain = Report {
        plan_revision: report.plan_revision,
        gpus: gpu::decode_gpus(report.gpus.unwrap_or_default()),
        targets,
    };
    Ok((plain, Duration::from_micros(report.sent_microseconds)))
}

fn encode_target(target: &TargetReport, bounds: &mut BoundsTable) -> wire::TargetReport {
    let TargetReport {
        id,
        last,
        failure,
        host_memory,
    } = target;
    wire::TargetReport {
        id: id.0.clone(),
        last: last.as_ref().map(|last| encode_observation(last, bounds)),
        failure: failure.as_ref().map(encode_failure),
        host_memory: host_memory.as_ref().map(encode_host_memory),
    }
}

fn decode_target(target: wire::TargetReport, bounds: &BoundsTable) -> Result<TargetReport, DecodeError> {
    Ok(TargetReport {
        id: TargetId(target.id),
        last: target.last.map(|last| decode_observation(last, bounds)).transpose()?,
        failure: target.failure.map(decode_failure),
        host_memory: target.host_memory.as_ref().map(decode_host_memory),
    })
}

fn encode_host_memory(memory: &HostMemory) -> wire::HostMemory {
    let HostMemory {
        age,
        working_set_bytes,
        active_file_bytes,
        limit_bytes,
        pressure_full_percent,
        oom_kills_total,
    } = *memory;
    wire::HostMemory {
        age_microseconds: microseconds(age),
        working_set_bytes,
        active_file_bytes,
        limit_bytes,
        pressure_full_percent,
        oom_kills_total,
    }
}

fn decode_host_memory(memory: &wire::HostMemory) -> HostMemory {
    HostMemory {
        age: Duration::from_micros(memory.age_microseconds),
        working_set_bytes: memory.working_set_bytes,
        active_file_bytes: memory.active_file_bytes,
        limit_bytes: memory.limit_bytes,
        pressure_full_percent: memory.pressure_full_percent,
        oom_kills_total: memory.oom_kills_total,
    }
}

fn encode_observation(observation: &Observation, bounds: &mut BoundsTable) -> wire::Observation {
    let Observation {
        age,
        took,
        sample,
        recognition: Recognition { missing, hint },
    } = observation;
    wire::Observation {
        age_microseconds: microseconds(*age),
        took_microseconds: microseconds(*took),
        sample: Some(engine::encode_sample(sample, bounds)),
        missing: missing.clone(),
        hint: hint.clone(),
    }
}

fn decode_observation(observation: wire::Observation, bounds: &BoundsTable) -> Result<Observation, DecodeError> {
    Ok(Observation {
        age: Duration::from_micros(observation.age_microseconds),
        took: Duration::from_micros(observation.took_microseconds),
        sample: engine::decode_sample(observation.sample.unwrap_or_default(), bounds)?,
        recognition: Recognition {
            missing: observation.missing,
            hint: observation.hint,
        },
    })
}

fn encode_failure(failure: &Failure) -> wire::Failure {
    let Failure { kind, message, since } = failure;
    wire::Failure {
        kind: kind.as_str().to_owned(),
        message: message.clone(),
        since_microseconds: microseconds(*since),
    }
}

fn decode_failure(failure: wire::Failure) -> Failure {
    Failure {
        // A kind that only the daemon knows stays a failure, of the least specific kind; its message still tells.
        kind: FailureKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == failure.kind)
            .unwrap_or(FailureKind::HttpStatus),
        message: failure.message,
        since: Duration::from_micros(failure.since_microseconds),
    }
}
