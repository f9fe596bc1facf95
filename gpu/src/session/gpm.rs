//! How busy MIG instances are, by GPU Performance Monitoring (GPM, Hopper and newer): the mean between two samples that the driver keeps.
//!
//! GPM calls at the same time are said to crash. The session thread makes one after the other, and there is one session.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper::{Device, Nvml};

use super::failure::{Failure, optional};
use super::heart::Calls;
use crate::mig::MigInstance;
use crate::snapshot::CallClass;

/// Samples are taken with every so many rounds of the slow calls, half a minute apart, to stay below eight calls for each GPU and second;
/// a second one soon after the first.
const ROUNDS: u32 = 4;
/// Over a shorter time a share says little.
const SHORTEST: Duration = Duration::from_secs(1);

/// GPM of the MIG instances of a GPU.
pub(super) struct Gpm<'nvml> {
    nvml: &'nvml Nvml,
    /// Whether the GPU has it; `None` before it was asked.
    supported: Option<bool>,
    round: u32,
    /// By GPU instance.
    known: BTreeMap<u32, Known<'nvml>>,
}

/// What is known of a GPU instance.
struct Known<'nvml> {
    /// Uuids of its MIG devices: the number of an instance that is destroyed is given to another one at once.
    uuids: Vec<String>,
    sample: GpmSample<'nvml>,
    taken: Instant,
    share: Option<u32>,
}

impl<'nvml> Gpm<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Self {
        Self {
            nvml,
            supported: None,
            round: 0,
            known: BTreeMap::new(),
        }
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.round = 0;
    }

    /// Writes the use of the instances into them, and takes samples when they are due.
    pub(super) fn read(
        &mut self,
        gpu: &Device<'nvml>,
        instances: &mut [MigInstance],
        calls: &mut Calls<'_>,
    ) -> Result<(), NvmlError> {
        if self.supported.is_none() {
            let supported = optional(calls.run(CallClass::Gpm, || gpu.gpm_support()))?;
            // The wrapper frees a sample without looking whether it can.
            let frees = self.nvml.lib().nvmlGpmSampleFree.is_ok();
            self.supported = Some(supported.unwrap_or(false) && frees);
        }
        if self.supported != Some(true) {
            return Ok(());
        }
        let due = self.round <= 1 || self.round.is_multiple_of(ROUNDS);
        self.round = self.round.wrapping_add(1).max(1);
        let mut before = std::mem::take(&mut self.known);
        for instance in instances {
            let uuids: Vec<String> = instance.devices.iter().map(|device| device.uuid.clone()).collect();
            let known = before
                .remove(&instance.gpu_instance)
                .filter(|known| known.uuids == uuids);
            let known = match known {
                Some(known) if !due => Some(known),
                known => self.sample(gpu, instance.gpu_instance, uuids, known, calls)?,
            };
            if let Some(known) = known {
                instance.utilization_percent = known.share;
                self.known.insert(instance.gpu_instance, known);
            }
        }
        Ok(())
    }

    /// Takes a sample, and compares it with the one before.
    fn sample(
        &self,
        gpu: &Device<'nvml>,
        gpu_instance: u32,
        uuids: Vec<String>,
        before: Option<Known<'nvml>>,
        calls: &mut Calls<'_>,
    ) -> Result<Option<Known<'nvml>>, NvmlError> {
        let taken = Instant::now();
        let sample = match calls.run(CallClass::Gpm, || gpu.gpm_mig_sample(gpu_instance)) {
            Ok(sample) => sample,
            Err(error) if Failure::of(&error).ends_session() => return Err(error),
            // An instance that was just destroyed, or a missing permission: what was known before is over as well.
            Err(_) => return Ok(None),
        };
        let share = match before {
            Some(before) if taken.duration_since(before.taken) >= SHORTEST => {
                let metrics = [GpmMetricId::GraphicsUtil];
                let answer = calls.run(CallClass::Gpm, || {
                    gpm_metrics_get(self.nvml, &before.sample, &sample, &metrics)
                });
                optional(answer)?.and_then(|metrics| percent(metrics.into_iter().next()?.ok()?.value))
            }
            // Too soon: the older sample goes on to wait for its second one.
            Some(before) => return Ok(Some(before)),
            None => None,
        };
        Ok(Some(Known {
            uuids,
            sample,
            taken,
            share,
        }))
    }
}

/// A share as a whole number; `None` for what is no share.
fn percent(value: f64) -> Option<u32> {
    (value.is_finite() && (0.0..=100.5).contains(&value)).then(|| value.round().min(100.0) as u32)
}
