//! Which pods had processes on which GPUs of a node.

use crate::Moment;
use infmon_gpu::GpuSample;
use std::collections::BTreeMap;
use std::time::Duration;

/// For so long after its last process a pod counts as a user of a GPU: a server that an XID ended, and that starts again, is told of it.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// Pods remembered of one GPU. GPUs are shared by at most 48; more would be a daemon that makes them up.
const MOST_PODS: usize = 256;

/// Pods by uid, of each GPU, with the moment at which a process was seen last.
#[derive(Clone, Debug, Default)]
pub struct GpuUsers(BTreeMap<String, BTreeMap<String, Moment>>);

impl GpuUsers {
    /// Takes samples in. What is remembered is measured by the time of samples: while there are none, nothing is forgotten.
    pub(crate) fn push(&mut self, taken: Moment, samples: &[GpuSample]) {
        for sample in samples {
            for process in sample.processes.iter().flatten() {
                if let Some(uid) = process.owner.as_ref().and_then(|owner| owner.pod_uid()) {
                    let pods = self.0.entry(sample.uuid.clone()).or_default();
                    pods.insert(uid.to_owned(), taken);
                    while pods.len() > MOST_PODS {
                        let oldest = pods.iter().min_by_key(|(_, seen)| **seen).map(|(uid, _)| uid.clone());
                        oldest.and_then(|uid| pods.remove(&uid));
                    }
                }
            }
        }
        self.0.retain(|_, pods| {
            pods.retain(|_, seen| taken.since(*seen) <= REMEMBERED_FOR);
            !pods.is_empty()
        });
    }

    /// Whether a process of this pod was seen on this GPU.
    pub(crate) fn has(&self, gpu: &str, pod_uid: &str) -> bool {
        self.0.get(gpu).is_some_and(|pods| pods.contains_key(pod_uid))
    }

    /// Whether a process of this pod was seen on any GPU.
    pub(crate) fn knows(&self, pod_uid: &str) -> bool {
        self.0.values().any(|pods| pods.contains_key(pod_uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_gpu::{GpuProcess, ProcessOwner};

    fn sample(uids: &[String]) -> GpuSample {
        let process = |uid: &String| GpuProcess {
            owner: Some(ProcessOwner::Pod {
                uid: uid.clone(),
                container: None,
            }),
            ..GpuProcess::default()
        };
        GpuSample {
            uuid: "GPU-1".to_owned(),
            processes: Some(uids.iter().map(process).collect()),
            ..GpuSample::default()
        }
    }

    #[test]
    fn a_pod_is_remembered_for_ten_minutes_of_samples() {
        let mut users = GpuUsers::default();
        users.push(Moment::from_secs(100), &[sample(&["a".to_owned()])]);
        users.push(Moment::from_secs(700), &[sample(&[])]);
        assert!(users.has("GPU-1", "a") && users.knows("a"));
        assert!(!users.has("GPU-2", "a") && !users.has("GPU-1", "b") && !users.knows("b"));
        users.push(Moment::from_secs(701), &[sample(&[])]);
        assert!(!users.knows("a"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut users = GpuUsers::default();
        for second in 0..300 {
            users.push(Moment::from_secs(second), &[sample(&[format!("pod-{second}")])]);
        }
        assert_eq!(users.0["GPU-1"].len(), MOST_PODS);
        assert!(users.knows("pod-299") && !users.knows("pod-0"));
    }
}
