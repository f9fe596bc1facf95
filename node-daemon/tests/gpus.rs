//! GPUs in reports, with the NVML stand-in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::{Core, plan};
use infmon_gpu::{DriverProblem, DriverState, GpuFailure, IncidentKind, MonitorOptions};
use infmon_node_daemon::GpuOptions;
use infmon_nvml_stand_in::{Profile, ReturnCode, Scenario, StandIn};
use infmon_samples::Plan;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn nvml(library: PathBuf) -> GpuOptions {
    GpuOptions::Nvml(MonitorOptions {
        library_path: Some(library),
        unresponsive_after: Duration::from_millis(300),
        ..MonitorOptions::default()
    })
}

#[tokio::test]
async fn gpus_are_reported_with_their_age() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = StandIn::install(folder.path(), &Scenario::of(Profile::H100, 8)).unwrap();
    let mut core = Core::start(nvml(stand_in.library_path()), Vec::new());
    let gpus = core
        .report("8 GPUs", |report| {
            (report.gpus.samples.len() == 8).then(|| report.gpus.clone())
        })
        .await;
    assert!(matches!(gpus.driver, DriverState::Ready { .. }), "{gpus:?}");
    assert!(gpus.age.unwrap() < Duration::from_secs(1), "{gpus:?}");
}

#[tokio::test]
async fn a_driver_that_hangs_is_told_and_holds_up_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = StandIn::install(folder.path(), &Scenario::of(Profile::H100, 1)).unwrap();
    let mut core = Core::start(nvml(stand_in.library_path()), Vec::new());
    core.report("a GPU", |report| (report.gpus.samples.len() == 1).then_some(()))
        .await;
    stand_in
        .write(&Scenario::of(Profile::H100, 1).hang("nvmlDeviceGetMemoryInfo_v2"))
        .unwrap();
    let age = core
        .report("an unresponsive driver", |report| match report.gpus.driver {
            DriverState::Unresponsive { .. } => report.gpus.age,
            _ => None,
        })
        .await;
    assert!(age >= Duration::from_millis(300), "the samples grow old: {age:?}");
    let began = Instant::now();
    core.shutdown.finish(Duration::from_secs(5)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn faults_are_reported_with_their_ages() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::of(Profile::H100, 2);
    let stand_in = StandIn::install(folder.path(), &scenario).unwrap();
    let mut core = Core::start(nvml(stand_in.library_path()), Vec::new());
    core.report("2 GPUs", |report| (report.gpus.samples.len() == 2).then_some(()))
        .await;
    scenario.gpus[1] = scenario.gpus[1].clone().xid(79);
    stand_in.write(&scenario).unwrap();
    let begun = Instant::now();
    let told = core
        .report("the XID", |report| report.gpus.incidents.first().cloned())
        .await;
    assert_eq!(told.kind, IncidentKind::Xid { number: 79 });
    assert_eq!((told.index, &told.uuid), (1, &scenario.gpus[1].uuid));
    assert!(told.last <= told.first && told.first <= begun.elapsed(), "{told:?}");

    scenario.gpus[1] = scenario.gpus[1].clone().fail(ReturnCode::GPU_LOST);
    stand_in.write(&scenario).unwrap();
    let outage = core
        .report("the lost GPU", |report| report.gpus.outages.first().cloned())
        .await;
    assert_eq!(outage.failure, GpuFailure::Lost);
    assert_eq!(outage.uuid.as_ref(), Some(&scenario.gpus[1].uuid));
    assert_eq!(outage.minor_number, Some(1));
    let grows = core
        .report("the same later", |report| {
            let later = report.gpus.outages.first()?;
            (later.since > outage.since).then_some(later.since)
        })
        .await;
    assert!(grows <= begun.elapsed());
}

#[tokio::test]
async fn a_plan_can_make_it_let_go_of_the_driver() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = StandIn::install(folder.path(), &Scenario::of(Profile::H100, 1)).unwrap();
    let mut core = Core::start(nvml(stand_in.library_path()), Vec::new());
    core.report("a GPU", |report| (report.gpus.samples.len() == 1).then_some(()))
        .await;
    for (revision, release) in [(2, true), (3, false)] {
        let plan = Plan {
            release_gpus: release,
            ..plan(revision, Vec::new())
        };
        core.plan.send_replace(Arc::new(plan));
        core.report("the driver let go of, or taken up again", |report| {
            match &report.gpus.driver {
                DriverState::Unavailable { category, .. } if release => {
                    (*category == DriverProblem::DriverUpgrade && report.gpus.samples.is_empty()).then_some(())
                }
                DriverState::Ready { .. } if !release => (report.gpus.samples.len() == 1).then_some(()),
                _ => None,
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_without_gpus_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let table = [
        (
            nvml(folder.path().join("libnvidia-ml.so.1")),
            DriverProblem::LibraryNotFound,
        ),
        (GpuOptions::Off, DriverProblem::NoDevices),
    ];
    for (options, expected) in table {
        let mut core = Core::start(options, Vec::new());
        core.report("the reason", |report| match &report.gpus.driver {
            DriverState::Unavailable { category, message } if *category == expected && !message.is_empty() => Some(()),
            _ => None,
        })
        .await;
    }
}
