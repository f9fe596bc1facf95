//! The GPUs that were seen since the monitor started: what names a GPU that is lost, and what tells that one is back.

use std::collections::BTreeMap;
use std::time::Instant;

use nvml_wrapper::error::NvmlError;

use super::failure::Failure;
use crate::health::{GpuHealth, ecc_growth};
use crate::snapshot::{FailedGpu, GpuFailure};

/// By uuid. A node has as many GPUs as it has; one that never comes back stays known until the monitor ends.
#[derive(Debug, Default)]
pub(super) struct KnownGpus(BTreeMap<String, KnownGpu>);

#[derive(Debug)]
struct KnownGpu {
    index: u32,
    minor_number: Option<u32>,
    /// As last read, to see what grows.
    health: Option<GpuHealth>,
    failing_since: Option<Instant>,
    /// It was lost, wanted a reset, or its driver was unloaded, so that it begins anew when it answers again.
    gone: bool,
    /// The driver was loaded anew and did not enumerate it in one session: it may not be ready yet.
    awaited: bool,
}

impl KnownGpus {
    /// A GPU was opened by a new session.
    pub(super) fn opened(&mut self, index: u32, uuid: &str, minor_number: Option<u32>) {
        match self.0.get_mut(uuid) {
            Some(gpu) => (gpu.index, gpu.minor_number) = (index, minor_number),
            None => {
                let gpu = KnownGpu {
                    index,
                    minor_number,
                    health: None,
                    failing_since: None,
                    gone: false,
                    awaited: false,
                };
                self.0.insert(uuid.to_owned(), gpu);
            }
        }
    }

    /// A GPU was read. By how much its uncorrectable errors grew since it was read before.
    pub(super) fn works(&mut self, uuid: &str, health: GpuHealth) -> u64 {
        let Some(gpu) = self.0.get_mut(uuid) else { return 0 };
        (gpu.failing_since, gpu.awaited) = (None, false);
        let Some(before) = gpu.health.replace(health) else {
            return 0;
        };
        if let Some(kept) = &mut gpu.health {
            // A count that is refused once is compared with when it is told again.
            kept.ecc_uncorrectable_volatile = health.ecc_uncorrectable_volatile.or(before.ecc_uncorrectable_volatile);
            kept.ecc_uncorrectable_aggregate = health
                .ecc_uncorrectable_aggregate
                .or(before.ecc_uncorrectable_aggregate);
        }
        ecc_growth(&before, &health)
    }

    /// As last read; nothing of a GPU that begins anew.
    pub(super) fn health(&self, uuid: &str) -> Option<&GpuHealth> {
        self.0.get(uuid).filter(|gpu| !gpu.gone)?.health.as_ref()
    }

    /// Whether a GPU that answers begins anew.
    pub(super) fn is_back(&mut self, uuid: &str) -> bool {
        self.0
            .get_mut(uuid)
            .is_some_and(|gpu| std::mem::replace(&mut gpu.gone, false))
    }

    /// The kernel module was unloaded.
    pub(super) fn driver_gone(&mut self) {
        for gpu in self.0.values_mut() {
            (gpu.gone, gpu.awaited) = (true, false);
        }
    }

    /// A GPU answered with an error.
    pub(super) fn fails(&mut self, index: u32, uuid: Option<&str>, error: &NvmlError) -> FailedGpu {
        let failure = Failure::of_gpu(error);
        self.failed(index, uuid, failure, error.to_string())
    }

    /// The uuid of a GPU that did not open: what was at its index before, unless that one was found elsewhere.
    pub(super) fn unopened_at(&self, index: u32, opened: &[&str]) -> Option<String> {
        let at = |(_, gpu): &(&String, &KnownGpu)| gpu.index == index;
        let (uuid, _) = self.0.iter().find(at)?;
        (!opened.contains(&uuid.as_str())).then(|| uuid.clone())
    }

    /// GPUs that were there before and are neither opened nor among the `failed` now.
    pub(super) fn not_enumerated(&mut self, opened: &[&str], failed: &[FailedGpu]) -> Vec<FailedGpu> {
        // One that fails without a name may be any of those that are missed.
        let unnamed = failed.iter().filter(|gpu| gpu.uuid.is_none()).count();
        let missed: Vec<(u32, String)> = self
            .0
            .iter()
            .filter(|(uuid, _)| {
                let fails = failed.iter().any(|gpu| gpu.uuid.as_ref() == Some(uuid));
                !fails && !opened.contains(&uuid.as_str())
            })
            .map(|(uuid, gpu)| (gpu.index, uuid.clone()))
            .collect();
        if missed.len() <= unnamed {
            return Vec::new();
        }
        missed
            .into_iter()
            .filter(|(_, uuid)| !self.awaits(uuid))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(index, uuid)| {
                let message = "the driver does not enumerate it any more".to_owned();
                self.failed(index, Some(&uuid), GpuFailure::NotEnumerated, message)
            })
            .collect()
    }

    /// Whether a GPU that is not enumerated may still come, since the driver was just loaded anew: a second session tells.
    fn awaits(&mut self, uuid: &str) -> bool {
        self.0.get_mut(uuid).is_some_and(|gpu| {
            let loaded_anew = gpu.gone && gpu.failing_since.is_none();
            loaded_anew && !std::mem::replace(&mut gpu.awaited, true)
        })
    }

    /// Whether a second session is to tell of a GPU.
    pub(super) fn awaits_any(&self) -> bool {
        self.0.values().any(|gpu| gpu.awaited && gpu.failing_since.is_none())
    }

    fn failed(&mut self, index: u32, uuid: Option<&str>, failure: GpuFailure, message: String) -> FailedGpu {
        let now = Instant::now();
        let known = uuid.and_then(|uuid| self.0.get_mut(uuid));
        let (minor_number, since) = known.map_or((None, now), |gpu| {
            gpu.gone |= failure != GpuFailure::Refused;
            (gpu.minor_number, *gpu.failing_since.get_or_insert(now))
        });
        FailedGpu {
            index,
            uuid: uuid.map(str::to_owned),
            minor_number,
            failure,
            message,
            since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> KnownGpus {
        let mut known = KnownGpus::default();
        for (index, uuid) in [(0, "GPU-a"), (1, "GPU-b")] {
            known.opened(index, uuid, Some(index));
            known.works(uuid, GpuHealth::default());
        }
        known
    }

    fn missed(known: &mut KnownGpus) -> Vec<(u32, GpuFailure)> {
        let failed = known.not_enumerated(&["GPU-a"], &[]);
        failed.iter().map(|gpu| (gpu.index, gpu.failure)).collect()
    }

    #[test]
    fn a_second_session_tells_what_a_driver_that_was_loaded_anew_does_not_enumerate() {
        let lost = [(1, GpuFailure::NotEnumerated)];
        let mut known = two();
        assert_eq!(missed(&mut known), lost, "the same driver");
        known.driver_gone();
        assert_eq!(missed(&mut known), lost, "lost before");

        let mut known = two();
        for _ in 0..2 {
            known.driver_gone();
            assert_eq!(missed(&mut known), [], "each time it is loaded anew");
            assert!(known.awaits_any());
        }
        assert_eq!(missed(&mut known), lost);
        assert!(!known.awaits_any());

        let mut known = two();
        known.driver_gone();
        assert_eq!(missed(&mut known), []);
        known.works("GPU-b", GpuHealth::default());
        assert!(!known.awaits_any() && known.is_back("GPU-b"));
        assert_eq!(missed(&mut known), lost, "it had come, and is gone again");
    }
}
