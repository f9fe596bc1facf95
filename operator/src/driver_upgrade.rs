//! Whether a node's GPU driver is about to be replaced, by the labels that NVIDIA's GPU Operator sets: pure.
//!
//! A program that has the driver open is in the way of `rmmod`, and node daemons are neither drained nor evicted. So they are told in
//! their plan to let go, and take the driver up again when the labels say that it is there.
//!
//! Sources: the states of the upgrade controller, <https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/gpu-driver-upgrades.html>;
//! the paused labels, `cmd/driver-manager/main.go` of NVIDIA/k8s-driver-manager.

use std::collections::BTreeMap;

/// State of the upgrade controller.
const UPGRADE_STATE: &str = "nvidia.com/gpu-driver-upgrade-state";
/// The state in which the driver's pod is replaced: its old one unloads the modules.
const POD_RESTART: &str = "pod-restart-required";
/// Labels by which the driver's init container sends away what uses the driver, whether the upgrade controller is on or not.
const DEPLOY: &str = "nvidia.com/gpu.deploy.";
/// What it sets them to meanwhile.
const PAUSED: &str = "paused-for-driver-upgrade";

/// Whether whoever has the driver of this node open is to let go of it.
#[must_use]
pub fn wants_release(labels: &BTreeMap<String, String>) -> bool {
    labels.get(UPGRADE_STATE).is_some_and(|state| state == POD_RESTART)
        || labels
            .iter()
            .any(|(key, value)| key.starts_with(DEPLOY) && value == PAUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_decide() {
        let cases: [(&[(&str, &str)], bool); 8] = [
            (&[], false),
            (&[("nvidia.com/gpu-driver-upgrade-state", "upgrade-done")], false),
            (&[("nvidia.com/gpu-driver-upgrade-state", "upgrade-required")], false),
            (&[("nvidia.com/gpu-driver-upgrade-state", "pod-restart-required")], true),
            (&[("nvidia.com/gpu-driver-upgrade-state", "validation-required")], false),
            (
                &[
                    ("nvidia.com/gpu.deploy.driver", "true"),
                    ("nvidia.com/gpu.deploy.device-plugin", "true"),
                ],
                false,
            ),
            (
                &[
                    ("nvidia.com/gpu.deploy.driver", "true"),
                    ("nvidia.com/gpu.deploy.device-plugin", "paused-for-driver-upgrade"),
                ],
                true,
            ),
            (
                &[("example.com/gpu.deploy.device-plugin", "paused-for-driver-upgrade")],
                false,
            ),
        ];
        for (labels, expected) in cases {
            let labels = labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(wants_release(&labels), expected, "{labels:?}");
        }
    }
}
