//! The kubelets: they report pods and clear away what was deleted. Nothing runs in a pod here unless a test starts it.

use serde_json::{Value, json};
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::Api;

const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A thread that removes pods which the API server marked as deleted.
#[derive(Debug)]
pub struct Kubelet {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelet {
    /// Starts.
    pub fn start(api: Api) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A stopped API server is part of some tests: look again.
                let _ = clear(&api);
                thread::sleep(LOOK_EVERY);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

fn clear(api: &Api) -> anyhow::Result<()> {
    for pod in api.list("/api/v1/pods")? {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            let path = path_of(&pod);
            // Somebody else may have been faster.
            let _ = api.delete(&format!("{path}?gracePeriodSeconds=0"));
        }
    }
    Ok(())
}

/// The path of a pod.
pub fn path_of(pod: &Value) -> String {
    format!(
        "/api/v1/namespaces/{}/pods/{}",
        pod["metadata"]["namespace"].as_str().unwrap_or_default(),
        pod["metadata"]["name"].as_str().unwrap_or_default()
    )
}

/// The status of a pod whose containers run and are ready.
pub fn running(pod: &Value, ip: IpAddr) -> Value {
    let now = pod["metadata"]["creationTimestamp"].clone();
    let containers: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| {
            json!({
                "name": container["name"],
                "image": container["image"],
                "imageID": "none",
                "ready": true,
                "started": true,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            })
        })
        .collect();
    let conditions: Vec<Value> = ["Initialized", "PodScheduled", "ContainersReady", "Ready"]
        .into_iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
        .collect();
    json!({"status": {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": now,
        "conditions": conditions,
        "containerStatuses": containers,
    }})
}
