//! GPUs that do not exist: the NVML stand-in where a driver container would put the library, and a device plugin that offers the
//! same ids to the kubelet.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use infmon_nvml_stand_in::{Profile, STATE_NAME, Scenario, StandIn};

use crate::Node;

/// Where a node has the driver's files, as the GPU Operator's driver container puts them: the `gpuAccess.driverRoot` of a node profile.
pub const DRIVER_ROOT: &str = "/run/nvidia/driver";
/// Below the driver root.
const LIBRARY_FOLDER: &str = "usr/lib64";

/// Ids of a node's GPUs: the same for every cluster, so that a test can name them.
#[must_use]
pub fn ids(node: u8, count: u8) -> Vec<String> {
    (0..count)
        .map(|gpu| format!("GPU-{node:08x}-1f00-4000-8000-{gpu:012x}"))
        .collect()
}

pub(crate) fn install(node_folder: &Path, node: u8, count: u8) -> anyhow::Result<()> {
    let mut scenario = Scenario::of(Profile::H100, u32::from(count));
    for (gpu, id) in scenario.gpus.iter_mut().zip(ids(node, count)) {
        gpu.uuid = id;
    }
    let folder = library_folder(node_folder);
    StandIn::install(&folder, &scenario)
        .map(drop)
        .with_context(|| format!("failed to install simulated GPUs in {}", folder.display()))
}

/// Changes what a node's GPUs do; whoever reads them sees it within about 20 ms.
///
/// # Errors
///
/// When the node has no simulated GPUs, or their state cannot be read or written.
pub fn change(node: &Node, edit: impl FnOnce(&mut Scenario)) -> anyhow::Result<()> {
    let folder = library_folder(node.folder());
    let state = folder.join(STATE_NAME);
    let text = fs::read_to_string(&state)
        .with_context(|| format!("{} has no simulated GPUs: start the cluster with --gpus", node.name()))?;
    let mut scenario: Scenario = text
        .parse()
        .with_context(|| format!("{} is damaged", state.display()))?;
    edit(&mut scenario);
    StandIn::at(&folder)
        .and_then(|gpus| gpus.write(&scenario))
        .with_context(|| format!("failed to write {}", state.display()))
}

fn library_folder(node_folder: &Path) -> PathBuf {
    node_folder.join("driver").join(LIBRARY_FOLDER)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_differ_by_node_and_gpu() {
        let mut all: Vec<String> = (1..=3).flat_map(|node| super::ids(node, 2)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
        assert_eq!(all[0], "GPU-00000001-1f00-4000-8000-000000000000");
    }
}
