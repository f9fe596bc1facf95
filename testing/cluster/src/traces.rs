//! What a cluster may leave on a machine: the names of everything that the kernel shows of it.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use infmon_control_plane::process;

/// How long one listing may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Interfaces, routes, namespaces, mounts, firewall rules and control groups of this machine now. What two looks have apart was made
/// between them.
///
/// # Errors
///
/// When one of them cannot be listed.
pub fn look() -> anyhow::Result<BTreeSet<String>> {
    let mut traces = BTreeSet::new();
    for (what, program, arguments) in [
        ("interface", "ip", ["-brief", "link"].as_slice()),
        ("route", "ip", &["-4", "route", "show", "table", "all"]),
        ("network namespace", "ip", &["netns", "list"]),
        ("firewall rule", "nft", &["list", "ruleset"]),
    ] {
        let mut command = Command::new(program);
        command.args(arguments);
        for line in process::run(command, "", LIMIT)?.lines() {
            traces.insert(format!("{what}: {}", line.trim()));
        }
    }
    for line in fs::read_to_string("/proc/self/mounts")?.lines() {
        traces.insert(format!("mount: {line}"));
    }
    for tree in fs::read_dir("/sys/fs/cgroup")? {
        for group in groups(&tree?.path()) {
            traces.insert(format!("control group: {group}"));
        }
    }
    Ok(traces)
}

/// The groups right below a tree that bear our name; the machine's own come and go as they like.
fn groups(tree: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(tree) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .filter(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("infmon-")))
        .collect()
}
