//! Trees of each version and driver, as folders.

use super::*;
use crate::cgroup::tree::{Tree, TreeError};
use std::os::unix::fs::symlink;
use tempfile::TempDir;

const UID: &str = "6fc4a17a-9b0a-4ab4-833e-7004a16f89ce";
const OTHER: &str = "11111111-2222-3333-4444-555555555555";
const GIB: u64 = 1 << 30;

/// Writes the files of one group.
fn group(version: Version, folder: &Path, usage: u64, files: (u64, u64), limit: Option<u64>, kills: u64) {
    fs::create_dir_all(folder).unwrap();
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    let names = names(version);
    let (inactive, active) = files;
    write(names.usage, format!("{usage}\n"));
    match version {
        Version::V1 => {
            write(
                "memory.stat",
                format!(
                    "cache 1\ninactive_file 1\nactive_file 1\ntotal_inactive_file {inactive}\ntotal_active_file {active}\n"
                ),
            );
            write(names.limit, format!("{}\n", limit.unwrap_or(9_223_372_036_854_771_712)));
            write(
                names.kills,
                format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"),
            );
        }
        Version::V2 => {
            write(
                "memory.stat",
                format!("anon 1\nfile 1\ninactive_file {inactive}\nactive_file {active}\n"),
            );
            write(
                names.limit,
                limit.map_or_else(|| "max\n".to_owned(), |limit| format!("{limit}\n")),
            );
            write(names.kills, format!("low 0\nmax 0\noom 0\noom_kill {kills}\n"));
        }
    }
}

/// A mount of a version, with what tells which it is.
fn mount(version: Version) -> (TempDir, Tree) {
    let mount = TempDir::new().unwrap();
    match version {
        Version::V1 => {
            fs::create_dir(mount.path().join("memory")).unwrap();
            fs::write(mount.path().join("memory/memory.stat"), "cache 0\n").unwrap();
        }
        Version::V2 => fs::write(mount.path().join("cgroup.controllers"), "memory\n").unwrap(),
    }
    let tree = Tree::at(mount.path()).unwrap();
    assert_eq!(tree.version, version);
    (mount, tree)
}

#[test]
fn a_pod_is_found_below_every_driver_and_read_in_both_versions() {
    let low = UID.replace('-', "_");
    let id = "c".repeat(64);
    let places = [
        (format!("kubepods/burstable/pod{UID}"), id.clone()),
        (format!("kubepods/pod{UID}"), id.clone()),
        (
            format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice"),
            format!("cri-containerd-{id}.scope"),
        ),
        (
            format!("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{low}.slice"),
            format!("crio-{id}.scope"),
        ),
        (
            format!("system.slice/docker-{id}.scope/kubelet/kubepods/besteffort/pod{UID}"),
            id.clone(),
        ),
        (format!("nodes/dev/node1/kubepods/burstable/pod{UID}"), id.clone()),
    ];
    for version in [Version::V1, Version::V2] {
        for (pod, container) in &places {
            let (_mount, tree) = mount(version);
            let folder = tree.root.join(pod);
            group(version, &folder, 9 * GIB, (GIB, 2 * GIB), None, 1);
            group(
                version,
                &folder.join(container),
                8 * GIB,
                (GIB, 3 * GIB),
                Some(10 * GIB),
                1,
            );
            group(
                version,
                &folder.join(format!("crio-conmon-{id}.scope")),
                GIB,
                (0, 0),
                Some(GIB),
                7,
            );
            let found = tree.pods();
            assert_eq!(found.get(UID), Some(&folder), "{pod}");
            let memory = read(version, &folder).unwrap();
            let expected = PodMemory {
                working_set_bytes: 7 * GIB,
                active_file_bytes: Some(3 * GIB),
                limit_bytes: Some(10 * GIB),
                pressure_full_percent: None,
                oom_kills_total: Some(if version == Version::V1 { 2 } else { 1 }),
            };
            assert_eq!(memory, expected, "{version:?} {pod}");
        }
    }
}

#[test]
fn what_is_nearest_to_its_limit_counts() {
    let (_mount, tree) = mount(Version::V2);
    let pod = tree.root.join(format!("kubepods/pod{UID}"));
    group(Version::V2, &pod, 19 * GIB, (0, 0), Some(20 * GIB), 0);
    for (name, usage, limit) in [("a", 4 * GIB, 16 * GIB), ("b", 3 * GIB, 4 * GIB)] {
        group(Version::V2, &pod.join(name.repeat(64)), usage, (0, 0), Some(limit), 0);
    }
    fs::write(
        pod.join("memory.pressure"),
        "some avg10=9.00 avg60=1 avg300=0 total=1\nfull avg10=4.50 avg60=1 avg300=0 total=1\n",
    )
    .unwrap();
    let memory = read(Version::V2, &pod).unwrap();
    assert_eq!(
        (memory.working_set_bytes, memory.limit_bytes),
        (19 * GIB, Some(20 * GIB))
    );
    assert_eq!(memory.pressure_full_percent, Some(4.5));
    group(
        Version::V2,
        &pod.join("a".repeat(64)),
        16 * GIB,
        (0, 0),
        Some(16 * GIB),
        0,
    );
    let memory = read(Version::V2, &pod).unwrap();
    assert_eq!(
        (memory.working_set_bytes, memory.limit_bytes),
        (16 * GIB, Some(16 * GIB))
    );
}

#[test]
fn a_failure_is_no_number() {
    let (_mount, tree) = mount(Version::V2);
    let pod = tree.root.join(format!("kubepods/pod{UID}"));
    assert!(read(Version::V2, &pod).is_err(), "no such pod");
    group(Version::V2, &pod, GIB, (0, 0), None, 0);
    assert!(read(Version::V2, &pod).is_ok());
    for (file, text) in [
        ("memory.current", "many"),
        ("memory.max", ""),
        ("memory.stat", "anon 1\n"),
    ] {
        let before = fs::read_to_string(pod.join(file)).unwrap();
        fs::write(pod.join(file), text).unwrap();
        assert!(read(Version::V2, &pod).is_err(), "{file}");
        fs::write(pod.join(file), before).unwrap();
    }
    fs::remove_file(pod.join("memory.events")).unwrap();
    assert_eq!(read(Version::V2, &pod).unwrap().oom_kills_total, None);
}

#[test]
fn links_lead_nowhere() {
    let (mount, tree) = mount(Version::V2);
    let outside = TempDir::new().unwrap();
    let foreign = outside.path().join(format!("pod{OTHER}"));
    group(Version::V2, &foreign, GIB, (0, 0), None, 0);
    fs::create_dir(mount.path().join("kubepods")).unwrap();
    symlink(&foreign, mount.path().join("kubepods").join(format!("pod{OTHER}"))).unwrap();
    symlink(outside.path(), mount.path().join("elsewhere")).unwrap();
    let pod = mount.path().join(format!("kubepods/pod{UID}"));
    group(Version::V2, &pod, GIB, (0, 0), None, 0);
    assert_eq!(tree.pods().into_keys().collect::<Vec<_>>(), [UID]);
    fs::remove_file(pod.join("memory.current")).unwrap();
    symlink(foreign.join("memory.current"), pod.join("memory.current")).unwrap();
    assert!(read(Version::V2, &pod).is_err());
}

#[test]
fn what_is_no_tree_is_told() {
    let empty = TempDir::new().unwrap();
    assert!(matches!(Tree::at(empty.path()), Err(TreeError::NoTree(_))));
    let gone = empty.path().join("gone");
    assert!(matches!(Tree::at(&gone), Err(TreeError::Unreadable(..))));
}

/// The kernel's own files, where this machine shows them: whatever group this test runs in has them all.
#[test]
fn the_kernel_of_this_machine_is_understood() {
    let Ok(tree) = Tree::at(Path::new("/sys/fs/cgroup")) else {
        println!("SKIPPED: no cgroup tree at /sys/fs/cgroup");
        return;
    };
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let wanted = match tree.version {
            Version::V1 => controllers.split(',').any(|controller| controller == "memory"),
            Version::V2 => controllers.is_empty(),
        };
        wanted.then(|| tree.root.join(path.trim_start_matches('/')))
    });
    let own = own.unwrap();
    // The root group of version 2 has no memory.current, and a namespace may hide the folder.
    if !own.join(names(tree.version).usage).try_exists().unwrap() {
        println!("SKIPPED: {} has no memory counters", own.display());
        return;
    }
    let memory = read(tree.version, &own).unwrap();
    assert!(
        memory.working_set_bytes > 1 << 20,
        "this very process needs more: {memory:?}"
    );
    assert!(
        memory.active_file_bytes.is_some() && memory.oom_kills_total.is_some(),
        "{memory:?}"
    );
}
