//! The processes under `/proc` that were looked at, with whom they belong to.

use crate::cgroup::path::pod_of_process;
use infmon_gpu::ProcessOwner;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Processes looked up at once. GPUs in shares of 48 with several processes each stay below it; the owners of more are not known.
const MOST_PROCESSES: usize = 2048;
/// The files that are read are some hundred bytes long.
const MOST_BYTES: u64 = 64 * 1024;
/// The programs of NVIDIA's Multi-Process Service hold memory for their clients: that of a pod may be in theirs. The kernel cuts names
/// off after 15 bytes, so this is both `nvidia-cuda-mps-server` and `nvidia-cuda-mps-control`.
const MPS: &str = "nvidia-cuda-mps";

/// Whose each process is that was asked for; none where nobody can say.
pub(super) type Owners = BTreeMap<u32, Option<ProcessOwner>>;

/// Why nothing can be said of any process.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error("cannot read {0}: {1}")]
    Unreadable(String, io::Error),
    /// The driver leaves out processes that the reader cannot see: to conclude anything from such a list would be wrong.
    #[error(
        "the daemon sees only the processes of its own container: its pod does not share the PID namespace of the node (hostPID)"
    )]
    OwnProcessesOnly,
}

/// What is known of processes. A process id is used again, so that each goes with the time at which its process began.
#[derive(Debug)]
pub(super) struct ProcessTable {
    root: PathBuf,
    known: BTreeMap<u32, (u64, Option<ProcessOwner>)>,
}

impl ProcessTable {
    /// `root` is `/proc`, or what a test puts in its place.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            known: BTreeMap::new(),
        }
    }

    /// Looks these processes up, and forgets all others.
    pub(super) fn look(&mut self, pids: &BTreeSet<u32>) -> Result<Owners, LookError> {
        self.sees_the_machine()?;
        let mut known = BTreeMap::new();
        let mut owners = Owners::new();
        for pid in pids.iter().take(MOST_PROCESSES) {
            let Some(started) = self.read(&pid.to_string(), "stat").ok().as_deref().and_then(start_time) else {
                continue;
            };
            let entry = match self.known.remove(pid) {
                // What could not be told may be now.
                Some(entry @ (of, Some(_))) if of == started => entry,
                _ => (started, self.owner(*pid)),
            };
            owners.insert(*pid, entry.1.clone());
            known.insert(*pid, entry);
        }
        self.known = known;
        Ok(owners)
    }

    /// In a PID namespace of its own, a container's first process is in the container's own control group.
    fn sees_the_machine(&self) -> Result<(), LookError> {
        let first = self.read("1", "cgroup");
        let first =
            first.map_err(|error| LookError::Unreadable(self.path("1", "cgroup").display().to_string(), error))?;
        let own = self.read("self", "cgroup");
        let own =
            own.map_err(|error| LookError::Unreadable(self.path("self", "cgroup").display().to_string(), error))?;
        if first == own || pod_of_process(&first).is_some() {
            return Err(LookError::OwnProcessesOnly);
        }
        Ok(())
    }

    fn owner(&self, pid: u32) -> Option<ProcessOwner> {
        let process = pid.to_string();
        let lines = self.read(&process, "cgroup").ok().filter(|lines| !lines.is_empty())?;
        if self.read(&process, "comm").ok()?.starts_with(MPS) {
            return None;
        }
        Some(match pod_of_process(&lines) {
            Some(pod) => ProcessOwner::Pod {
                uid: pod.uid.into_owned(),
                container: pod.container.map(str::to_owned),
            },
            None => ProcessOwner::Machine,
        })
    }

    fn path(&self, process: &str, file: &str) -> PathBuf {
        self.root.join(process).join(file)
    }

    fn read(&self, process: &str, file: &str) -> io::Result<String> {
        read_text(&self.path(process, file))
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    // The name of a program may be anything.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Field 22 of `/proc/PID/stat`, clock ticks since the machine started (proc_pid_stat(5)). The second field is the name of the program in
/// parentheses, and may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const UID: &str = "6f1c9e52-0b7e-4f8e-9d6b-2f1f3c1d0a11";

    struct Proc(tempfile::TempDir);

    impl Proc {
        fn new() -> Self {
            let proc = Self(tempfile::tempdir().unwrap());
            proc.put("1", "systemd", 1, "/../../../../init.scope");
            proc.put("self", "infmon-node-dae", 900, "/");
            proc
        }

        fn put(&self, process: &str, name: &str, started: u64, path: &str) {
            let folder = self.0.path().join(process);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup"), format!("0::{path}\n")).unwrap();
            fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
            let stat = format!("4711 ({name}) S 1 {}{started} 8 9\n", "0 ".repeat(17));
            fs::write(folder.join("stat"), stat).unwrap();
        }

        fn pod(&self, pid: u32, name: &str, started: u64, uid: &str) {
            self.put(
                &pid.to_string(),
                name,
                started,
                &format!("/../../pod{uid}/{}", "c".repeat(64)),
            );
        }

        fn table(&self) -> ProcessTable {
            ProcessTable::new(self.0.path().to_owned())
        }
    }

    fn pids(pids: &[u32]) -> BTreeSet<u32> {
        pids.iter().copied().collect()
    }

    fn of_pod(uid: &str) -> Option<ProcessOwner> {
        Some(ProcessOwner::Pod {
            uid: uid.to_owned(),
            container: Some("c".repeat(64)),
        })
    }

    #[test]
    fn each_process_has_its_owner() {
        let proc = Proc::new();
        proc.pod(10, "python3", 100, UID);
        proc.pod(11, "a) S 9 (b", 100, UID);
        proc.pod(12, "nvidia-cuda-mps", 100, UID);
        proc.put("13", "Xorg", 100, "/user.slice/user-1000.slice/session-3.scope");
        let owners = proc.table().look(&pids(&[10, 11, 12, 13, 14])).unwrap();
        let expected = BTreeMap::from([
            (10, of_pod(UID)),
            (11, of_pod(UID)),
            (12, None),
            (13, Some(ProcessOwner::Machine)),
        ]);
        assert_eq!(owners, expected, "14 has ended");
    }

    #[test]
    fn a_process_id_that_is_used_again_is_another_process() {
        let proc = Proc::new();
        let mut table = proc.table();
        let other = "11111111-0b7e-4f8e-9d6b-2f1f3c1d0a11";
        proc.pod(10, "python3", 100, UID);
        assert_eq!(table.look(&pids(&[10])).unwrap()[&10], of_pod(UID));
        // The same process: its control group is not read again.
        fs::remove_file(proc.0.path().join("10/cgroup")).unwrap();
        assert_eq!(table.look(&pids(&[10])).unwrap()[&10], of_pod(UID));
        proc.pod(10, "python3", 101, other);
        assert_eq!(table.look(&pids(&[10])).unwrap()[&10], of_pod(other));
        // What is not asked for is forgotten.
        table.look(&pids(&[])).unwrap();
        assert_eq!(table.known.len(), 0);
    }

    #[test]
    fn what_could_not_be_told_is_looked_up_again() {
        let proc = Proc::new();
        let mut table = proc.table();
        proc.put("10", "python3", 100, "");
        fs::write(proc.0.path().join("10/cgroup"), "").unwrap();
        assert_eq!(table.look(&pids(&[10])).unwrap()[&10], None);
        proc.pod(10, "python3", 100, UID);
        assert_eq!(table.look(&pids(&[10])).unwrap()[&10], of_pod(UID));
    }

    #[test]
    fn a_daemon_that_sees_only_itself_says_so() {
        let proc = Proc::new();
        proc.pod(10, "python3", 100, UID);
        let mut table = proc.table();
        let looks = |table: &mut ProcessTable| table.look(&pids(&[10])).map_err(|error| error.to_string());
        // Its own first process, the first process of its pod, and none at all.
        proc.put("1", "infmon-node-dae", 1, "/");
        assert!(looks(&mut table).unwrap_err().contains("hostPID"));
        proc.put("1", "pause", 1, &format!("/kubepods/pod{UID}/{}", "d".repeat(64)));
        assert!(looks(&mut table).unwrap_err().contains("hostPID"));
        fs::remove_dir_all(proc.0.path().join("1")).unwrap();
        assert!(looks(&mut table).unwrap_err().contains("1/cgroup"));
        proc.put("1", "systemd", 1, "/init.scope");
        assert_eq!(looks(&mut table).unwrap()[&10], of_pod(UID));
    }
}
