//! Host memory of the pods that the plan names, read from the node's cgroup tree on a thread of its own: a file of the kernel may take
//! its time on a machine without memory. Opt-in.

use crate::cgroup::memory::{PodMemory, read};
use crate::cgroup::tree::Tree;
use crate::metrics::DaemonMetrics;
use infmon_samples::{HostMemory, Plan};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How the tree is read.
#[derive(Clone, Debug)]
pub struct HostMemoryOptions {
    /// Where the node's `/sys/fs/cgroup` is mounted.
    pub mount: PathBuf,
    /// Time between two readings.
    pub period: Duration,
    /// Least time between two searches for pods that are not known.
    pub search_period: Duration,
}

impl HostMemoryOptions {
    /// Options with the times that suit a node: a reading takes some ten system calls per pod, a search one per folder.
    #[must_use]
    pub fn new(mount: PathBuf) -> Self {
        Self {
            mount,
            period: Duration::from_secs(5),
            search_period: Duration::from_secs(10),
        }
    }
}

/// What was read, by uid of the pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings(HashMap<String, (Instant, PodMemory)>);

impl Readings {
    /// What a report made now says of a pod.
    pub(crate) fn report(&self, pod_uid: &str, now: Instant) -> Option<HostMemory> {
        let (taken, memory) = self.0.get(pod_uid)?;
        Some(HostMemory {
            age: now.saturating_duration_since(*taken),
            working_set_bytes: memory.working_set_bytes,
            active_file_bytes: memory.active_file_bytes,
            limit_bytes: memory.limit_bytes,
            pressure_full_percent: memory.pressure_full_percent,
            oom_kills_total: memory.oom_kills_total,
        })
    }
}

/// Reads until it is dropped.
#[derive(Debug)]
pub(crate) struct HostMemoryReader {
    readings: watch::Receiver<Arc<Readings>>,
    /// Its end tells the thread to end; nobody waits for that.
    _running: mpsc::Sender<()>,
}

impl HostMemoryReader {
    /// Starts the thread; `None` where the system gives none, which is logged.
    pub(crate) fn start(
        options: HostMemoryOptions,
        plan: watch::Receiver<Arc<Plan>>,
        metrics: DaemonMetrics,
    ) -> Option<Self> {
        let (sender, readings) = watch::channel(Arc::new(Readings::default()));
        let (running, ended) = mpsc::channel();
        let work = move || {
            let mut looker = Looker::new(options);
            loop {
                let wanted = pods(&plan.borrow());
                let found = looker.look(&wanted, Instant::now());
                metrics.read_host_memory(found.0.len(), wanted.len());
                sender.send_replace(Arc::new(found));
                match ended.recv_timeout(looker.options.period) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        match std::thread::Builder::new().name("host-memory".to_owned()).spawn(work) {
            Ok(_) => Some(Self {
                readings,
                _running: running,
            }),
            Err(error) => {
                tracing::error!(%error, "cannot start the thread that reads host memory; it is not read");
                None
            }
        }
    }

    /// What was read last.
    pub(crate) fn latest(&self) -> Arc<Readings> {
        Arc::clone(&self.readings.borrow())
    }
}

/// The pods of a plan.
fn pods(plan: &Plan) -> BTreeSet<String> {
    plan.targets
        .iter()
        .filter_map(|target| target.pod_uid.clone())
        .collect()
}

/// Finds pods and reads them.
struct Looker {
    options: HostMemoryOptions,
    tree: Option<Tree>,
    folders: HashMap<String, PathBuf>,
    searched: Option<Instant>,
    /// What was said last, so that it is not said each time.
    said: String,
}

impl Looker {
    fn new(options: HostMemoryOptions) -> Self {
        Self {
            options,
            tree: None,
            folders: HashMap::new(),
            searched: None,
            said: String::new(),
        }
    }

    fn look(&mut self, wanted: &BTreeSet<String>, now: Instant) -> Readings {
        let mut readings = Readings::default();
        if wanted.is_empty() {
            return readings;
        }
        if self.tree.is_none() {
            match Tree::at(&self.options.mount) {
                Ok(tree) => self.tree = Some(tree),
                Err(error) => self.say(&error.to_string()),
            }
        }
        let Some(tree) = self.tree.clone() else { return readings };
        self.folders.retain(|uid, _| wanted.contains(uid));
        let unknown = wanted.iter().any(|uid| !self.folders.contains_key(uid));
        let rested = self
            .searched
            .is_none_or(|at| now.saturating_duration_since(at) >= self.options.search_period);
        if unknown && rested {
            self.searched = Some(now);
            self.folders = tree.pods();
            self.folders.retain(|uid, _| wanted.contains(uid));
        }
        let mut gone = Vec::new();
        for (uid, folder) in &self.folders {
            match read(tree.version, folder) {
                Ok(memory) => _ = readings.0.insert(uid.clone(), (Instant::now(), memory)),
                Err(error) => {
                    tracing::debug!(folder = %folder.display(), %error, "cannot read the memory of a pod");
                    gone.push(uid.clone());
                }
            }
        }
        // It is searched for again: a pod whose group is made anew may be elsewhere.
        self.folders.retain(|uid, _| !gone.contains(uid));
        let missing = wanted.iter().find(|uid| !readings.0.contains_key(*uid));
        match missing {
            None => self.said.clear(),
            Some(uid) => {
                let words = format!(
                    "the host memory of pod {uid} is not found below {}",
                    tree.root.display()
                );
                self.say(&words);
            }
        }
        readings
    }

    fn say(&mut self, words: &str) {
        if self.said != words {
            tracing::warn!("{words}");
            words.clone_into(&mut self.said);
        }
    }
}

#[cfg(test)]
mod tests;
