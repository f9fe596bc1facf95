//! Puts a report together. Pure: everything, the time included, comes from the caller.

use crate::scrape::TargetState;
use infmon_gpu::Snapshot;
use infmon_samples::{Failure, GpuReport, Observation, Report, TargetId, TargetReport};
use std::time::Instant;

/// The report at `now`.
pub(crate) fn assemble<'a>(
    now: Instant,
    plan_revision: u64,
    snapshot: &Snapshot,
    targets: impl Iterator<Item = (&'a TargetId, TargetState)>,
) -> Report {
    Report {
        plan_revision,
        gpus: GpuReport {
            driver: snapshot.driver.clone(),
            age: snapshot.taken.map(|taken| now.saturating_duration_since(taken)),
            samples: snapshot.samples.clone(),
        },
        targets: targets.map(|(id, state)| target(now, id, &state)).collect(),
    }
}

fn target(now: Instant, id: &TargetId, state: &TargetState) -> TargetReport {
    TargetReport {
        id: id.clone(),
        last: state.last.as_ref().map(|good| Observation {
            age: now.saturating_duration_since(good.at),
            took: good.took,
            sample: good.sample.clone(),
            recognition: good.recognition.clone(),
        }),
        failure: state.failing.as_ref().map(|(failing, since)| Failure {
            kind: failing.kind,
            message: failing.message.clone(),
            since: now.saturating_duration_since(*since),
        }),
    }
}
