//! A report carries the host memory of the pods that the plan names, from a tree of control groups.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::{Core, LOCAL, target};
use infmon_node_daemon::HostMemoryOptions;
use infmon_samples::Target;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const UID: &str = "6fc4a17a-9b0a-4ab4-833e-7004a16f89ce";

fn write_pod(mount: &Path, usage: u64, kills: u64) {
    let pod = mount.join(format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
        UID.replace('-', "_")
    ));
    fs::create_dir_all(&pod).unwrap();
    fs::write(mount.join("cgroup.controllers"), "cpu memory\n").unwrap();
    for (file, text) in [
        ("memory.current", format!("{usage}\n")),
        ("memory.max", "1000\n".to_owned()),
        ("memory.stat", "inactive_file 100\nactive_file 50\n".to_owned()),
        ("memory.events", format!("oom_kill {kills}\n")),
        (
            "memory.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=0\n"
                .to_owned(),
        ),
    ] {
        fs::write(pod.join(file), text).unwrap();
    }
}

fn pod(id: &str, uid: Option<&str>) -> Target {
    Target {
        pod_uid: uid.map(str::to_owned),
        ..target(id, LOCAL)
    }
}

#[tokio::test]
async fn reports_carry_the_host_memory_of_planned_pods_even_where_their_server_does_not_answer() {
    let mount = TempDir::new().unwrap();
    write_pod(mount.path(), 900, 2);
    let reading = HostMemoryOptions {
        period: Duration::from_millis(50),
        search_period: Duration::from_millis(100),
        ..HostMemoryOptions::new(mount.path().to_owned())
    };
    let mut core = Core::start_with_host_memory(reading, vec![pod("a", Some(UID)), pod("b", None)]);
    let memory = core.target("a", "a reading", |target| target.host_memory).await;
    assert_eq!(
        (memory.working_set_bytes, memory.held_bytes(), memory.limit_bytes),
        (800, 750, Some(1000))
    );
    assert_eq!(
        (memory.pressure_full_percent, memory.oom_kills_total),
        (Some(0.5), Some(2))
    );
    assert!(memory.age < Duration::from_secs(10), "{memory:?}");
    let of_other = core.target("b", "a report", |target| Some(target.host_memory)).await;
    assert_eq!(of_other, None);

    write_pod(mount.path(), 990, 3);
    let changed = |memory: infmon_samples::HostMemory| (memory.oom_kills_total == Some(3)).then_some(memory);
    let memory = core
        .target("a", "the next reading", |target| target.host_memory.and_then(changed))
        .await;
    assert_eq!(memory.working_set_bytes, 890);

    // A pod that is gone is not reported as it was.
    fs::remove_dir_all(mount.path().join("kubepods.slice")).unwrap();
    core.target("a", "no reading", |target| target.host_memory.is_none().then_some(()))
        .await;
    core.shutdown.request();
}

#[tokio::test]
async fn without_a_tree_everything_else_goes_on() {
    let empty = TempDir::new().unwrap();
    let mut core = Core::start_with_host_memory(
        HostMemoryOptions::new(empty.path().to_owned()),
        vec![pod("a", Some(UID))],
    );
    let failure = core.failure("a").await;
    assert!(!failure.message.is_empty());
    let memory = core.target("a", "a report", |target| Some(target.host_memory)).await;
    assert_eq!(memory, None);
}
