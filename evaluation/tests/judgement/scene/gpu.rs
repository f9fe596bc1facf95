//! GPUs of a scene.

use infmon_gpu::{GpuProcess, GpuSample, MigDevice, MigInstance, ProcessOwner, ThrottleCause, ThrottleCounter};
use std::collections::BTreeMap;

/// One GPU, with the share of time that it loses by cause.
#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    pub(super) node: String,
    pub(crate) sample: GpuSample,
    pub(super) duty: BTreeMap<ThrottleCause, f64>,
}

pub(crate) fn gpu(node: &str, index: u32, uuid: &str) -> Gpu {
    let gib = 1_u64 << 30;
    let counter = |cause| ThrottleCounter { cause, nanoseconds: 0 };
    Gpu {
        node: node.into(),
        sample: GpuSample {
            index,
            uuid: uuid.into(),
            name: "NVIDIA H100".into(),
            memory_total_bytes: Some(80 * gib),
            memory_free_bytes: Some(6 * gib),
            utilization_percent: Some(97),
            sm_clock_mhz: Some(1065),
            sm_clock_max_mhz: Some(1980),
            power_milliwatts: Some(650_000),
            power_limit_milliwatts: Some(700_000),
            power_limit_default_milliwatts: Some(700_000),
            temperature_celsius: Some(91),
            temperature_margin_celsius: Some(-2),
            throttle: ThrottleCause::ALL.map(counter).to_vec(),
            ..GpuSample::default()
        },
        duty: BTreeMap::new(),
    }
}

impl Gpu {
    pub(crate) fn loses(mut self, cause: ThrottleCause, share: f64) -> Self {
        self.duty.insert(cause, share);
        self
    }

    /// A process holds so much; `owner` is the name of a server, `machine` or `?`.
    pub(crate) fn process(self, pid: u32, owner: &str, mib: u64) -> Self {
        let owner = match owner {
            "?" => None,
            "machine" => Some(ProcessOwner::Machine),
            pod => Some(ProcessOwner::Pod {
                uid: format!("uid-{pod}"),
                container: None,
            }),
        };
        self.with(|sample| {
            sample.processes.get_or_insert_default().push(GpuProcess {
                pid,
                used_bytes: Some(mib << 20),
                owner,
                ..GpuProcess::default()
            });
        })
    }

    /// It is divided: a GPU instance with one compute instance, of 9856 MiB.
    pub(crate) fn mig(self, gpu_instance: u32, uuid: &str, used_mib: u64) -> Self {
        self.with(|sample| {
            sample.utilization_percent = None;
            sample.mig_instances.get_or_insert_default().push(MigInstance {
                gpu_instance,
                devices: vec![MigDevice {
                    uuid: uuid.into(),
                    compute_instance: Some(0),
                }],
                memory_total_bytes: Some(9856 << 20),
                memory_free_bytes: Some((9856 - used_mib) << 20),
                memory_used_bytes: Some(used_mib << 20),
                utilization_percent: None,
            });
        })
    }

    /// The last process is on this GPU instance.
    pub(crate) fn on_instance(self, gpu_instance: u32) -> Self {
        self.with(|sample| {
            if let Some(process) = sample.processes.iter_mut().flatten().last() {
                process.gpu_instance = Some(gpu_instance);
            }
        })
    }

    /// Nobody computes on it.
    pub(crate) fn without_processes(self) -> Self {
        self.with(|sample| sample.processes = Some(Vec::new()))
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut GpuSample)) -> Self {
        change(&mut self.sample);
        self
    }
}
