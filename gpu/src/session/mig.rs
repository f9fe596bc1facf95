//! Reads the MIG instances of a GPU, with the slow calls.
//!
//! Handles of MIG devices "may be reused and their properties can change" (NVML, `nvmlDeviceGetMigDeviceHandleByIndex`), so that each is asked
//! for its uuid again before anything is believed of it: one call for each that is there, and one for each that could be.

use std::collections::BTreeMap;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::failure::{Failure, optional};
use super::gpm::Gpm;
use super::heart::Calls;
use super::raw;
use crate::mig::{MigDevice, MigInstance};
use crate::snapshot::CallClass;

/// `NVML_DEVICE_MIG_ENABLE`.
const ENABLED: u32 = 1;
/// More than any GPU has (7 up to Blackwell), should a driver answer nonsense.
const MOST_DEVICES: u32 = 32;

/// The MIG instances of a GPU.
pub(super) struct MigReader<'nvml> {
    nvml: &'nvml Nvml,
    /// By the index under which the driver enumerates them; none where there is none.
    slots: Vec<Option<Slot<'nvml>>>,
    gpm: Gpm<'nvml>,
    /// The GPU does not have MIG at all, so that nobody asks again.
    absent: bool,
    /// As read last; `None` while MIG is off, or nobody tells.
    instances: Option<Vec<MigInstance>>,
}

/// A MIG device.
struct Slot<'nvml> {
    device: Device<'nvml>,
    uuid: String,
    gpu_instance: u32,
    compute_instance: Option<u32>,
}

impl<'nvml> MigReader<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Self {
        Self {
            nvml,
            slots: Vec::new(),
            gpm: Gpm::new(nvml),
            absent: false,
            instances: None,
        }
    }

    /// The instances as read last; `None` while MIG is off, or nobody tells.
    pub(super) fn instances(&self) -> Option<&Vec<MigInstance>> {
        self.instances.as_ref()
    }

    /// Reads which instances there are, their memory and their use. Only what the GPU itself answers ends the session: a MIG device that
    /// was destroyed may answer anything.
    pub(super) fn read(&mut self, gpu: &Device<'nvml>, calls: &mut Calls<'_>) -> Result<(), NvmlError> {
        if self.absent {
            return Ok(());
        }
        let mode = calls.run(CallClass::Mig, || gpu.mig_mode());
        self.absent = mode
            .as_ref()
            .is_err_and(|error| Failure::of(error) == Failure::Unsupported);
        let mode = optional(mode)?;
        if mode.is_none_or(|mode| mode.current != ENABLED) {
            self.slots.clear();
            self.gpm.forget();
            self.instances = None;
            return Ok(());
        }
        if self.slots.is_empty() {
            let most = optional(calls.run(CallClass::Mig, || gpu.mig_device_count()))?.unwrap_or(0);
            self.slots.resize_with(most.min(MOST_DEVICES) as usize, || None);
        }
        for (index, slot) in (0..).zip(&mut self.slots) {
            if !slot.as_ref().is_some_and(|slot| slot.is_the_same(calls)) {
                *slot = Slot::open(self.nvml, gpu, index, calls)?;
            }
        }
        let mut instances: BTreeMap<u32, MigInstance> = BTreeMap::new();
        for slot in self.slots.iter().flatten() {
            let instance = instances.entry(slot.gpu_instance).or_default();
            if instance.devices.is_empty() {
                instance.gpu_instance = slot.gpu_instance;
                if let Ok(memory) = calls.run(CallClass::Memory, || slot.device.memory_info()) {
                    instance.memory_total_bytes = Some(memory.total);
                    instance.memory_free_bytes = Some(memory.free);
                    instance.memory_used_bytes = Some(memory.used);
                }
            }
            instance.devices.push(MigDevice {
                uuid: slot.uuid.clone(),
                compute_instance: slot.compute_instance,
            });
        }
        let mut instances: Vec<MigInstance> = instances.into_values().collect();
        self.gpm.read(gpu, &mut instances, calls)?;
        self.instances = Some(instances);
        Ok(())
    }
}

impl<'nvml> Slot<'nvml> {
    /// Whether the handle still names the device that it named before.
    fn is_the_same(&self, calls: &mut Calls<'_>) -> bool {
        let uuid = calls.run(CallClass::Mig, || self.device.uuid());
        uuid.is_ok_and(|uuid| uuid == self.uuid)
    }

    /// The MIG device at an index; `None` where there is none, which drivers say as "not found" or "invalid argument".
    fn open(
        nvml: &'nvml Nvml,
        gpu: &Device<'nvml>,
        index: u32,
        calls: &mut Calls<'_>,
    ) -> Result<Option<Self>, NvmlError> {
        let device = match calls.run(CallClass::Mig, || gpu.mig_device_by_index(index)) {
            Ok(device) => device,
            Err(error) if Failure::of(&error).ends_session() => return Err(error),
            Err(_) => return Ok(None),
        };
        let uuid = calls.run(CallClass::Mig, || device.uuid());
        let gpu_instance = calls.run(CallClass::Mig, || raw::gpu_instance_id(nvml, &device));
        let (Ok(uuid), Ok(gpu_instance)) = (uuid, gpu_instance) else {
            return Ok(None);
        };
        let compute_instance = calls.run(CallClass::Mig, || raw::compute_instance_id(nvml, &device));
        Ok(Some(Self {
            device,
            uuid,
            gpu_instance,
            compute_instance: compute_instance.ok(),
        }))
    }
}
