//! Puts a report together. Pure: everything, the time included, comes from the caller.

use crate::scrape::TargetState;
use infmon_engines::{EngineSample, Histogram};
use infmon_gpu::{FailedGpu, Incident, Snapshot};
use infmon_samples::{
    Failure, FailureKind, GpuIncident, GpuOutage, GpuOwners, GpuReport, HostMemory, Observation, Report,
    SwitchIncident, Target, TargetReport,
};
use std::time::{Duration, Instant};

/// What samples may take in one report, by a rough count. The link refuses messages above 4 MiB, and a refused report would silence
/// the node; 64 servers with 5 full histograms each come to some 300 KiB.
const SAMPLES_LIMIT_BYTES: usize = 2 * 1024 * 1024;

/// The report at `now`. `host_memory` gives that of a pod, by uid.
pub(crate) fn assemble<'a>(
    now: Instant,
    plan_revision: u64,
    snapshot: &Snapshot,
    owners: Option<GpuOwners>,
    targets: impl Iterator<Item = (&'a Target, TargetState)>,
    host_memory: impl Fn(&str) -> Option<HostMemory>,
) -> Report {
    let mut report = Report {
        plan_revision,
        gpus: GpuReport {
            driver: snapshot.driver.clone(),
            age: snapshot.taken.map(|taken| now.saturating_duration_since(taken)),
            samples: snapshot.samples.clone(),
            outages: snapshot.failed.iter().map(|failed| outage(now, failed)).collect(),
            incidents: snapshot.incidents.iter().map(|past| incident(now, past)).collect(),
            switch_incidents: snapshot
                .switch_incidents
                .iter()
                .map(|past| switch_incident(now, past))
                .collect(),
            owners,
            process_lookup: None,
        },
        targets: targets
            .map(|(planned, state)| TargetReport {
                host_memory: planned.pod_uid.as_deref().and_then(&host_memory),
                ..target(now, planned, &state)
            })
            .collect(),
    };
    shed(&mut report.targets, SAMPLES_LIMIT_BYTES);
    report
}

fn outage(now: Instant, failed: &FailedGpu) -> GpuOutage {
    GpuOutage {
        index: failed.index,
        uuid: failed.uuid.clone(),
        minor_number: failed.minor_number,
        failure: failed.failure,
        message: failed.message.clone(),
        since: now.saturating_duration_since(failed.since),
    }
}

fn incident(now: Instant, incident: &Incident) -> GpuIncident {
    GpuIncident {
        index: incident.index,
        uuid: incident.uuid.clone(),
        kind: incident.kind,
        gpu_instance: incident.place.gpu_instance,
        compute_instance: incident.place.compute_instance,
        pid: incident.process.pid,
        process_name: incident.process.name.clone(),
        count: incident.count,
        first: now.saturating_duration_since(incident.first),
        last: now.saturating_duration_since(incident.last),
    }
}

fn switch_incident(now: Instant, incident: &infmon_gpu::SwitchIncident) -> SwitchIncident {
    SwitchIncident {
        pci: incident.pci.to_string(),
        number: incident.number,
        fatal: incident.fatal,
        text: incident.text.clone(),
        count: incident.count,
        first: now.saturating_duration_since(incident.first),
        last: now.saturating_duration_since(incident.last),
    }
}

/// Takes the largest samples out until the rest fits, so that servers that name thousands of things harm only themselves.
fn shed(targets: &mut [TargetReport], limit: usize) {
    let sizes = || {
        targets
            .iter()
            .filter_map(|target| Some(size(&target.last.as_ref()?.sample)))
    };
    let mut total: usize = sizes().sum();
    if total <= limit {
        return;
    }
    let mut by_size: Vec<_> = targets
        .iter_mut()
        .map(|target| (target.last.as_ref().map_or(0, |last| size(&last.sample)), target))
        .collect();
    by_size.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    for (size, target) in by_size {
        if total <= limit {
            break;
        }
        total -= size;
        target.last = None;
        target.failure = Some(Failure {
            kind: FailureKind::BodyTooLarge,
            message: format!(
                "the sample takes about {size} bytes, too many for a report with the others of this node; is it one server?"
            ),
            since: Duration::ZERO,
        });
    }
}

/// About what a sample takes in a message.
fn size(sample: &EngineSample) -> usize {
    let latency = &sample.latency;
    let histograms = [
        &latency.time_to_first_token,
        &latency.inter_token,
        &latency.per_output_token,
        &latency.end_to_end,
        &latency.queue_time,
    ];
    let histogram = |histogram: &Histogram| 30 + 16 * histogram.buckets.len();
    let names = sample.models.iter().chain(&sample.lora_adapters);
    let reasons = sample.request_outcomes.keys();
    200 + histograms.into_iter().flatten().map(histogram).sum::<usize>()
        + names.map(|name| name.len() + 4).sum::<usize>()
        + reasons.map(|reason| reason.len() + 13).sum::<usize>()
}

fn target(now: Instant, planned: &Target, state: &TargetState) -> TargetReport {
    TargetReport {
        id: planned.id.clone(),
        host_memory: None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_samples::{Recognition, TargetId};

    fn with_names(id: &str, names: usize) -> TargetReport {
        TargetReport {
            id: TargetId(id.to_owned()),
            last: Some(Observation {
                age: Duration::ZERO,
                took: Duration::ZERO,
                sample: EngineSample {
                    models: vec!["m".repeat(96); names],
                    ..EngineSample::default()
                },
                recognition: Recognition::default(),
            }),
            failure: None,
            host_memory: None,
        }
    }

    #[test]
    fn only_the_largest_samples_are_taken_out() {
        let mut targets = vec![
            with_names("a", 1),
            with_names("b", 900),
            with_names("c", 2),
            with_names("d", 800),
        ];
        shed(&mut targets, 90_000);
        let kept: Vec<bool> = targets.iter().map(|target| target.last.is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
        assert_eq!(targets[1].failure.as_ref().unwrap().kind, FailureKind::BodyTooLarge);

        let before = targets.clone();
        shed(&mut targets, 90_000);
        assert_eq!(targets, before);
    }
}
