//! Memory that a server can run out of: that of a GPU, or of a MIG instance.

use crate::evaluate::gpus::{GpuVerdict, Subject, serves};
use crate::evaluate::{Attribution, Input, Part, Sharing};
use crate::memory::{GrowthTrend, part_key};

/// Memory of a GPU, or of a MIG instance that a pod of the monitor has.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    gpu: &'a GpuVerdict,
    part: Option<&'a Part>,
}

impl<'a> Room<'a> {
    /// With MIG only the parts of the monitor's pods: the rest of the GPU is of no use to them.
    pub(super) fn of(gpu: &'a GpuVerdict) -> impl Iterator<Item = Self> {
        let whole = gpu.sample.mig_instances.is_none().then_some(Self { gpu, part: None });
        let part = move |part| Self { gpu, part: Some(part) };
        whole.into_iter().chain(gpu.parts.iter().map(part))
    }

    /// Bytes free.
    pub(super) fn free(self) -> Option<u64> {
        match self.part {
            Some(part) => part.instance.memory_free_bytes,
            None => self.gpu.sample.memory_free_bytes,
        }
    }

    /// Bytes in all.
    pub(super) fn total(self) -> Option<u64> {
        match self.part {
            Some(part) => part.instance.memory_total_bytes,
            None => self.gpu.sample.memory_total_bytes,
        }
    }

    /// What is known of it over time.
    pub(super) fn trend<'o>(self, input: &Input<'o>) -> Option<&'o GrowthTrend> {
        let trends = &input.observations.node(&self.gpu.node)?.memory;
        match self.part {
            Some(part) => trends.get(&part_key(&self.gpu.sample, &part.instance)),
            None => trends.get(&self.gpu.sample.uuid),
        }
    }

    /// The pods of the monitor that have it.
    pub(super) fn pods(self) -> &'a [String] {
        match self.part {
            Some(part) => &part.pods,
            None => &self.gpu.pods,
        }
    }

    pub(super) fn label(self) -> String {
        match self.part {
            Some(part) => self.gpu.part_label(part),
            None => self.gpu.label(),
        }
    }

    /// The sentence that says whom it serves.
    pub(super) fn serves(self) -> String {
        match self.part {
            Some(part) => serves(Subject::Gpu, &part.pods, &Attribution::Device, Sharing::NotTold),
            None => self.gpu.serves(),
        }
    }
}
