//! Where the control groups of pods are below a mount of the tree.

use super::path::pod_uid_in;
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders looked into per search. A node has some hundreds; what comes first is below names of Kubernetes.
const FOLDERS_MAX: usize = 4096;
/// Folders between the mount and a pod; a kubelet in a container of another node has six.
const DEPTH_MAX: usize = 10;
/// Pods remembered; a node runs 110 by default.
const PODS_MAX: usize = 2048;

/// Which interface the memory counters have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One tree per controller.
    V1,
    /// One tree.
    V2,
}

/// Why a mount cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error(
        "{0} is no cgroup tree with memory counters: mount the node's /sys/fs/cgroup there (nodeProfiles[].hostMemory does)"
    )]
    NoTree(PathBuf),
}

/// The tree of the memory controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) version: Version,
}

impl Tree {
    /// Looks what is mounted at `mount`.
    pub(crate) fn at(mount: &Path) -> Result<Self, TreeError> {
        let unreadable = |error| TreeError::Unreadable(mount.to_owned(), error);
        fs::read_dir(mount).map_err(unreadable)?;
        let is = |name: &str, folder: bool| {
            fs::symlink_metadata(mount.join(name))
                .is_ok_and(|found| if folder { found.is_dir() } else { found.is_file() })
        };
        // With both, the memory controller is where it has a tree of its own.
        if is("memory", true) && is("memory/memory.stat", false) {
            return Ok(Self {
                root: mount.join("memory"),
                version: Version::V1,
            });
        }
        if is("cgroup.controllers", false) {
            return Ok(Self {
                root: mount.to_owned(),
                version: Version::V2,
            });
        }
        Err(TreeError::NoTree(mount.to_owned()))
    }

    /// The folders of all pods, by uid. Links are not followed, and what cannot be read is passed over.
    pub(crate) fn pods(&self) -> HashMap<String, PathBuf> {
        let mut pods = HashMap::new();
        let mut ahead = VecDeque::from([(self.root.clone(), 0)]);
        for _ in 0..FOLDERS_MAX {
            let Some((folder, depth)) = ahead.pop_front() else {
                break;
            };
            for child in folders(&folder) {
                let Some(name) = child.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                if let Some(uid) = pod_uid_in(name) {
                    if pods.len() < PODS_MAX {
                        pods.entry(uid).or_insert(child);
                    }
                } else if depth + 1 < DEPTH_MAX {
                    let likely = name.contains("kube");
                    let next = (child, depth + 1);
                    if likely {
                        ahead.push_front(next);
                    } else {
                        ahead.push_back(next);
                    }
                }
            }
        }
        pods
    }
}

/// The folders in a folder.
pub(crate) fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        // The type of the entry itself: a link to a folder is none.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}
