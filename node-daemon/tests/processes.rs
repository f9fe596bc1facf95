//! Whose the processes on the GPUs are, in reports: with the NVML stand-in and a folder in the place of `/proc`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::Core;
use infmon_gpu::{MonitorOptions, ProcessOwner};
use infmon_node_daemon::{GpuOptions, ProcessOptions};
use infmon_nvml_stand_in::{Profile, Scenario, StandIn};
use infmon_samples::{ProcessLookup, Report};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SERVER: &str = "6f1c9e52-0b7e-4f8e-9d6b-2f1f3c1d0a11";
const TRAINER: &str = "11111111-0b7e-4f8e-9d6b-2f1f3c1d0a11";

fn nvml(library: PathBuf) -> GpuOptions {
    GpuOptions::Nvml(MonitorOptions {
        library_path: Some(library),
        process_period: Duration::from_millis(100),
        ..MonitorOptions::default()
    })
}

fn looking(root: &Path) -> ProcessOptions {
    ProcessOptions {
        period: Duration::from_millis(200),
        ..ProcessOptions::new(root.to_owned())
    }
}

fn put(root: &Path, process: &str, started: u64, path: &str) {
    let folder = root.join(process);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("cgroup"), format!("0::{path}\n")).unwrap();
    fs::write(folder.join("comm"), "python3\n").unwrap();
    fs::write(
        folder.join("stat"),
        format!("7 (python3) S {}{started} 0", "0 ".repeat(18)),
    )
    .unwrap();
}

/// As seen by a daemon in the PID namespace of its node and a cgroup namespace of its own.
fn proc_of_a_node(root: &Path) {
    put(root, "1", 1, "/../../../../init.scope");
    put(root, "self", 1, "/");
}

fn container(uid: &str, digit: &str) -> String {
    let (uid, container) = (uid.replace('-', "_"), digit.repeat(64));
    format!("/../../kubepods-burstable-pod{uid}.slice/cri-containerd-{container}.scope")
}

/// `pid: uid` of each process of the first GPU.
fn told(report: &Report) -> Option<String> {
    let processes = report.gpus.samples.first()?.processes.as_ref()?;
    let mut told: Vec<String> = processes
        .iter()
        .map(|process| {
            let owner = match &process.owner {
                Some(ProcessOwner::Pod { uid, container }) => {
                    format!(
                        "{uid}/{}",
                        container.as_deref().unwrap_or_default().get(..1).unwrap_or_default()
                    )
                }
                Some(ProcessOwner::Machine) => "machine".to_owned(),
                None => "?".to_owned(),
            };
            format!("{}: {owner}", process.pid)
        })
        .collect();
    told.sort();
    Some(told.join(", "))
}

#[tokio::test]
async fn each_process_is_reported_with_its_pod_and_container() {
    let (library, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    proc_of_a_node(proc.path());
    put(proc.path(), "10", 100, &container(SERVER, "a"));
    put(proc.path(), "20", 100, &container(TRAINER, "b"));
    put(
        proc.path(),
        "30",
        100,
        "/../../../../user.slice/user-1000.slice/session-3.scope",
    );
    let mut scenario = Scenario::of(Profile::H100, 1);
    scenario.gpus[0] = [10, 20, 30, 40]
        .iter()
        .fold(scenario.gpus[0].clone(), |gpu, pid| gpu.process(*pid, 1000));
    let stand_in = StandIn::install(library.path(), &scenario).unwrap();
    let mut core = Core::start_looking(nvml(stand_in.library_path()), looking(proc.path()));
    let expected = format!("10: {SERVER}/a, 20: {TRAINER}/b, 30: machine, 40: ?");
    core.report("owners", |report| {
        let lookup = report.gpus.process_lookup.as_ref();
        (told(report)? == expected && *lookup? == ProcessLookup::default()).then_some(())
    })
    .await;

    // A server that starts again, under an id that was another's.
    scenario.gpus[0].processes.retain(|process| process.pid == 20);
    put(proc.path(), "20", 101, &container(SERVER, "c"));
    stand_in.write(&scenario).unwrap();
    let expected = format!("20: {SERVER}/c");
    core.report("the new owner", |report| (told(report)? == expected).then_some(()))
        .await;
}

#[tokio::test]
async fn a_daemon_that_sees_only_itself_lays_no_process_to_anybody() {
    let (library, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    proc_of_a_node(proc.path());
    put(proc.path(), "1", 1, "/");
    put(proc.path(), "10", 100, &container(SERVER, "a"));
    let mut scenario = Scenario::of(Profile::H100, 1);
    scenario.gpus[0] = scenario.gpus[0].clone().process(10, 1000);
    let stand_in = StandIn::install(library.path(), &scenario).unwrap();
    let mut core = Core::start_looking(nvml(stand_in.library_path()), looking(proc.path()));
    core.report("why not", |report| {
        let failure = report.gpus.process_lookup.as_ref()?.failure.as_ref()?;
        (told(report)? == "10: ?" && failure.contains("hostPID")).then_some(())
    })
    .await;
    // Somebody mended the profile.
    put(proc.path(), "1", 1, "/init.scope");
    let expected = format!("10: {SERVER}/a");
    core.report("the owner", |report| {
        let lookup = report.gpus.process_lookup.as_ref()?;
        (told(report)? == expected && lookup.failure.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_does_not_look_says_nothing_of_owners() {
    let library = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::of(Profile::H100, 1);
    scenario.gpus[0] = scenario.gpus[0].clone().process(std::process::id(), 1000);
    let stand_in = StandIn::install(library.path(), &scenario).unwrap();
    let mut core = Core::start(nvml(stand_in.library_path()), Vec::new());
    let expected = format!("{}: ?", std::process::id());
    core.report("a process", |report| {
        (told(report)? == expected && report.gpus.process_lookup.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_hangs_holds_up_no_report() {
    let (library, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    proc_of_a_node(proc.path());
    put(proc.path(), "10", 100, &container(SERVER, "a"));
    // Nobody writes to it, so that opening it waits.
    let pipe = proc.path().join("10/cgroup");
    fs::remove_file(&pipe).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut scenario = Scenario::of(Profile::H100, 1);
    scenario.gpus[0] = scenario.gpus[0].clone().process(10, 1000);
    let stand_in = StandIn::install(library.path(), &scenario).unwrap();
    let mut core = Core::start_looking(nvml(stand_in.library_path()), looking(proc.path()));
    let mut late = 0;
    core.report("reports without owners", |report| {
        let failure = report.gpus.process_lookup.as_ref()?.failure.as_ref()?;
        late += usize::from(failure.contains("was not read within 250 ms") && told(report)? == "10: ?");
        (late >= 3).then_some(())
    })
    .await;
    // The wait ends, and so does the failure.
    fs::write(&pipe, format!("0::{}\n", container(SERVER, "a"))).unwrap();
    let expected = format!("10: {SERVER}/a");
    core.report("the owner", |report| (told(report)? == expected).then_some(()))
        .await;
}
