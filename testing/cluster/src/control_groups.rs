//! The folders of control groups in which a node's pods run.
//!
//! Two kubelets on one machine need different roots. With version 1 there is one tree per controller, and a new group has no
//! processors until it is given some; with version 2 there is one tree, whose controllers are switched on for the groups below.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

const ROOT: &str = "/sys/fs/cgroup";
/// How long the kernel may take to end the processes of a group that was killed.
const EMPTY: Duration = Duration::from_secs(20);

/// Whether this machine has version 2 only.
#[must_use]
pub fn is_version_2() -> bool {
    matches!(Path::new(ROOT).join("cgroup.controllers").try_exists(), Ok(true))
}

/// Makes the group `name` in every tree.
///
/// # Errors
///
/// When a folder cannot be made or filled in.
pub fn create(name: &str) -> anyhow::Result<()> {
    if is_version_2() {
        for controller in ["+cpuset", "+cpu", "+io", "+memory", "+pids", "+hugetlb"] {
            // A controller that the machine does not have is one the kubelet does not need.
            let _ = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), controller);
        }
    }
    for tree in trees()? {
        let group = tree.join(name);
        fs::create_dir_all(&group).with_context(|| format!("failed to create {}", group.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let from = tree.join(file);
            if !is_version_2() && from.try_exists()? {
                fs::write(group.join(file), fs::read(&from)?)
                    .with_context(|| format!("failed to fill {}", group.join(file).display()))?;
            }
        }
    }
    Ok(())
}

/// Waits until the processes of a group have ended, and removes it.
///
/// # Errors
///
/// When processes are left after 20 s, or a folder cannot be removed.
pub fn remove(name: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + EMPTY;
    // Where both versions are mounted, the runtime makes a group in the tree of version 2 by itself.
    for tree in trees()?.into_iter().chain([Path::new(ROOT).join("unified")]) {
        let group = tree.join(name);
        if !group.try_exists()? {
            continue;
        }
        while let Err(error) = remove_tree(&group) {
            if Instant::now() > deadline {
                bail!("processes are left in the control group {}: {error}", group.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Removes a group and those below it; the files in them are the kernel's.
fn remove_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The trees of this machine that take processes.
fn trees() -> anyhow::Result<Vec<PathBuf>> {
    if is_version_2() {
        return Ok(vec![PathBuf::from(ROOT)]);
    }
    let mut trees = Vec::new();
    for entry in fs::read_dir(ROOT).with_context(|| format!("failed to read {ROOT}"))? {
        let entry = entry?;
        // cpu,cpuacct is often one tree with two links to it.
        if entry.file_type()?.is_dir()
            && entry.file_name() != "unified"
            && entry.path().join("cgroup.procs").try_exists()?
        {
            trees.push(entry.path());
        }
    }
    if trees.is_empty() {
        bail!("{ROOT} has no control groups");
    }
    Ok(trees)
}
