//! XIDs from the kernel's log beside those of the driver library, with a pipe in place of `/dev/kmsg`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::Core;
use infmon_gpu::{IncidentKind, MonitorOptions};
use infmon_node_daemon::GpuOptions;
use infmon_nvml_stand_in::{Profile, Scenario, StandIn};
use infmon_samples::{GpuIncident, Report};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn nvml(stand_in: &StandIn) -> GpuOptions {
    GpuOptions::Nvml(MonitorOptions {
        library_path: Some(stand_in.library_path()),
        ..MonitorOptions::default()
    })
}

/// A pipe that is open on both sides, so that its reader never sees an end.
fn pipe(folder: &Path) -> (std::path::PathBuf, File) {
    let path = folder.join("kmsg");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let writer = File::options().read(true).write(true).open(&path).unwrap();
    (path, writer)
}

fn told(report: &Report, number: u32) -> Option<GpuIncident> {
    let incidents = &report.gpus.incidents;
    let found = incidents
        .iter()
        .find(|incident| incident.kind == IncidentKind::Xid { number });
    found.cloned()
}

#[tokio::test]
async fn an_xid_is_told_once_and_with_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::of(Profile::H100, 2);
    let stand_in = StandIn::install(folder.path(), &scenario).unwrap();
    let (path, mut log) = pipe(folder.path());
    let mut core = Core::start_with_kernel_log(nvml(&stand_in), path);
    core.report("2 GPUs", |report| (report.gpus.samples.len() == 2).then_some(()))
        .await;

    // The stand-in has its GPUs at 0000:10:00 and 0000:11:00. The library and the log tell of the same XID.
    scenario.gpus[1] = scenario.gpus[1].clone().xid(31);
    stand_in.write(&scenario).unwrap();
    writeln!(
        log,
        "4,812,99,-;NVRM: Xid (PCI:0000:11:00): 31, pid=79749, name=python3, Ch 0000000a, intr 00000000."
    )
    .unwrap();
    let blamed = core
        .report("the XID with its process", |report| {
            told(report, 31).filter(|xid| xid.pid.is_some())
        })
        .await;
    assert_eq!((blamed.index, &blamed.uuid), (1, &scenario.gpus[1].uuid));
    assert_eq!(
        (blamed.pid, blamed.process_name.as_deref()),
        (Some(79_749), Some("python3"))
    );

    // One that the library does not tell; its cleanup is folded into it, and what is not of the kernel is no XID.
    for line in [
        "4,813,99,-;NVRM: Xid (PCI:0000:10:00): 119, pid=4711, name=nvidia-smi, Timeout after 6s of waiting for RPC response",
        "4,814,99,-;NVRM: Xid (PCI:0000:10:00): 45, pid=4711, name=nvidia-smi, Ch 00000010",
        "12,815,99,-;NVRM: Xid (PCI:0000:10:00): 79, pid=1, name=liar, GPU has fallen off the bus.",
        "4,816,99,-;NVRM: Xid (PCI:0000:ff:00): 62, pid=1, name=a, of a GPU that nobody knows",
        "3,817,99,-;nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 63 LTSSM Fault Up",
        "3,818,99,-;nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Severity 1 Engine instance 63 Sub-engine instance 00",
        "3,819,99,-;nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Data {0x00000001, 0x00000001}",
    ] {
        writeln!(log, "{line}").unwrap();
    }
    core.report("the XID of the log alone", |report| told(report, 119))
        .await;
    let switches = core
        .report("the SXid", |report| {
            let switches = &report.gpus.switch_incidents;
            (!switches.is_empty()).then(|| switches.clone())
        })
        .await;
    let sxid = &switches[0];
    assert_eq!(
        (
            sxid.pci.as_str(),
            sxid.number,
            sxid.fatal,
            sxid.count,
            sxid.text.as_str()
        ),
        ("0000:05:00", 20_034, true, 1, "Link 63 LTSSM Fault Up")
    );

    // A GPU that is off the bus, as a driver says it that tells no XID of it, and again a moment later.
    for _ in 0..2 {
        writeln!(log, "3,820,99,-;NVRM: GPU 0000:11:00.0: GPU has fallen off the bus.").unwrap();
    }
    core.report("a GPU off the bus", |report| told(report, 79)).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let report = core.report("a later report", |report| Some(report.clone())).await;
    let all: Vec<_> = report
        .gpus
        .incidents
        .iter()
        .map(|incident| (incident.kind, incident.index, incident.count))
        .collect();
    let xid = |number| IncidentKind::Xid { number };
    assert_eq!(all, [(xid(31), 1, 1), (xid(119), 0, 1), (xid(79), 1, 1)]);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = StandIn::install(folder.path(), &Scenario::of(Profile::H100, 1)).unwrap();
    // A folder opens, and reads of it fail; the other is not there.
    for path in [folder.path().to_owned(), folder.path().join("missing")] {
        let mut core = Core::start_with_kernel_log(nvml(&stand_in), path);
        let report = core
            .report("a GPU", |report| {
                (report.gpus.samples.len() == 1).then(|| report.clone())
            })
            .await;
        assert_eq!(report.gpus.incidents, []);
        core.shutdown.finish(Duration::from_secs(5)).await.unwrap();
    }
}
