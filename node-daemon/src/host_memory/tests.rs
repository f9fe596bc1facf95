use super::*;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const FIRST: &str = "6fc4a17a-9b0a-4ab4-833e-7004a16f89ce";
const SECOND: &str = "11111111-2222-3333-4444-555555555555";

fn pod(mount: &Path, uid: &str, usage: u64) {
    let folder = mount.join(format!("kubepods/burstable/pod{uid}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(mount.join("cgroup.controllers"), "memory\n").unwrap();
    fs::write(folder.join("memory.current"), format!("{usage}\n")).unwrap();
    fs::write(folder.join("memory.max"), "max\n").unwrap();
    fs::write(folder.join("memory.stat"), "inactive_file 0\nactive_file 0\n").unwrap();
}

fn wanted(uids: &[&str]) -> BTreeSet<String> {
    uids.iter().map(|uid| (*uid).to_owned()).collect()
}

fn found(looker: &mut Looker, uids: &[&str], now: Instant) -> Vec<(String, u64)> {
    let readings = looker.look(&wanted(uids), now);
    let mut found: Vec<_> = readings
        .0
        .iter()
        .map(|(uid, (_, memory))| (uid.clone(), memory.working_set_bytes))
        .collect();
    found.sort();
    found
}

#[test]
fn pods_come_and_go_and_only_those_of_the_plan_are_read() {
    let mount = TempDir::new().unwrap();
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut looker = Looker::new(HostMemoryOptions::new(mount.path().to_owned()));
    assert_eq!(found(&mut looker, &[FIRST], after(0)), [], "nothing is mounted yet");
    assert!(looker.said.contains("nodeProfiles[].hostMemory"), "{}", looker.said);

    pod(mount.path(), FIRST, 5);
    pod(mount.path(), SECOND, 7);
    assert_eq!(found(&mut looker, &[FIRST], after(1)), [(FIRST.to_owned(), 5)]);
    assert_eq!(looker.said, "");
    pod(mount.path(), FIRST, 6);
    assert_eq!(found(&mut looker, &[FIRST], after(2)), [(FIRST.to_owned(), 6)]);

    // Not searched for again at once.
    assert_eq!(found(&mut looker, &[FIRST, SECOND], after(3)), [(FIRST.to_owned(), 6)]);
    let both = [(SECOND.to_owned(), 7), (FIRST.to_owned(), 6)];
    assert_eq!(found(&mut looker, &[FIRST, SECOND], after(20)), both);

    fs::remove_dir_all(mount.path().join(format!("kubepods/burstable/pod{FIRST}"))).unwrap();
    assert_eq!(
        found(&mut looker, &[FIRST, SECOND], after(25)),
        [(SECOND.to_owned(), 7)]
    );
    assert!(looker.said.contains(FIRST), "{}", looker.said);
}

#[test]
fn a_static_pod_is_found_by_the_uid_of_its_kubelet() {
    const HASH: &str = "0123456789abcdef0123456789abcdef";
    let mount = TempDir::new().unwrap();
    pod(mount.path(), HASH, 5);
    let mut looker = Looker::new(HostMemoryOptions::new(mount.path().to_owned()));
    let read = found(&mut looker, &[HASH], Instant::now());
    assert_eq!(read, [(HASH.to_owned(), 5)]);
}

#[test]
fn a_reading_grows_old() {
    let mount = TempDir::new().unwrap();
    pod(mount.path(), FIRST, 5);
    let mut looker = Looker::new(HostMemoryOptions::new(mount.path().to_owned()));
    let readings = looker.look(&wanted(&[FIRST]), Instant::now());
    let later = Instant::now() + Duration::from_secs(9);
    let memory = readings.report(FIRST, later).unwrap();
    assert!(
        memory.age >= Duration::from_secs(9) && memory.age < Duration::from_secs(60),
        "{memory:?}"
    );
    assert_eq!(
        (memory.working_set_bytes, memory.limit_bytes, memory.oom_kills_total),
        (5, None, None)
    );
    assert_eq!(readings.report(SECOND, later), None);
}
