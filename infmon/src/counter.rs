//! Counts samples as the reports bring them.

use crate::summary::Samples;
use infmon_samples::{Report, TargetId};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Counts samples as the reports bring them.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    samples: Samples,
    bodies: HashMap<TargetId, Instant>,
    gpus: BTreeSet<String>,
    gpus_taken: Option<Instant>,
}

impl Counter {
    /// A sample that an earlier report brought is the same one; ages are rounded on their way.
    pub(crate) fn count(&mut self, report: &Report, now: Instant) {
        let is_newer = |known: Option<Instant>, taken: Instant| {
            known.is_none_or(|known| taken > known + Duration::from_millis(20))
        };
        for target in &report.targets {
            let Some(taken) = target.last.as_ref().and_then(|last| now.checked_sub(last.age)) else {
                continue;
            };
            if is_newer(self.bodies.get(&target.id).copied(), taken) {
                self.bodies.insert(target.id.clone(), taken);
                self.samples.bodies += 1;
            }
        }
        if let Some(taken) = report.gpus.age.and_then(|age| now.checked_sub(age))
            && is_newer(self.gpus_taken, taken)
        {
            self.gpus_taken = Some(taken);
            self.samples.gpu += report.gpus.samples.len() as u64;
            self.gpus
                .extend(report.gpus.samples.iter().map(|sample| sample.uuid.clone()));
        }
    }

    pub(crate) fn samples(&self) -> Samples {
        Samples {
            servers: self.bodies.len(),
            gpus: self.gpus.len(),
            ..self.samples
        }
    }
}
