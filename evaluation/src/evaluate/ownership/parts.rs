//! Parts of GPUs under MIG, and who has them.

use super::ids::instance_of;
use crate::ResolvedEndpoint;
use infmon_gpu::{GpuSample, MigInstance};

/// A GPU instance of MIG that serves the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The instance.
    pub instance: MigInstance,
    /// Pods of the monitor that have it, or a compute instance of it.
    pub pods: Vec<String>,
    /// Processes on it, where the driver tells.
    pub processes: Option<usize>,
}

/// The parts that these endpoints have, each with the ids of its devices; `by_process` is whether the owners of processes are known.
pub(super) fn parts(gpu: &GpuSample, endpoints: &[(&ResolvedEndpoint, &[&str])], by_process: bool) -> Vec<Part> {
    let instances = gpu.mig_instances.iter().flatten();
    let parts = instances.map(|instance| {
        let has = |(endpoint, ids): &&(&ResolvedEndpoint, &[&str])| {
            let mut named = ids.iter().filter_map(|id| instance_of(id, gpu)).peekable();
            if named.peek().is_none() {
                return by_process && computes_on(endpoint, gpu, instance);
            }
            named.any(|of| of == instance.gpu_instance)
        };
        let on_it = |processes: &Vec<_>| processes.iter().filter(|process| is_on(process, instance)).count();
        Part {
            instance: instance.clone(),
            pods: endpoints
                .iter()
                .filter(has)
                .map(|(endpoint, _)| endpoint.name.clone())
                .collect(),
            processes: gpu.processes.as_ref().map(on_it),
        }
    });
    parts.filter(|part| !part.pods.is_empty()).collect()
}

fn is_on(process: &infmon_gpu::GpuProcess, instance: &MigInstance) -> bool {
    process.gpu_instance == Some(instance.gpu_instance)
}

fn computes_on(endpoint: &ResolvedEndpoint, gpu: &GpuSample, instance: &MigInstance) -> bool {
    let mut processes = gpu
        .processes
        .iter()
        .flatten()
        .filter(|process| is_on(process, instance));
    !endpoint.pod_uid.is_empty()
        && processes.any(|process| {
            let owner = process.owner.as_ref().and_then(|owner| owner.pod_uid());
            owner == Some(endpoint.pod_uid.as_str())
        })
}
