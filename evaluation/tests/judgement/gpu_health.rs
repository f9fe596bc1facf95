//! GPUsHealthy: what is a fault, which one is told, what clears it, and what nobody knows.

use crate::scene::{Gpu, Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::GpusHealthy;
use infmon_crds::v1alpha1::InferenceMonitorStatus;
use infmon_evaluation::{Memory, Outcome, Verdict, status};
use infmon_gpu::{DriverProblem, DriverState, GpuFailure, GpuHealth, IncidentKind, RecoveryAction};
use infmon_samples::{GpuIncident, GpuOutage};
use std::time::Duration;

const WELL: &str = "True NoFaults";

fn uuid(number: u32) -> String {
    format!("GPU-{number}0000000-0000-0000-0000-000000000000")
}

fn well() -> GpuHealth {
    GpuHealth {
        recovery_action: Some(RecoveryAction::None),
        ecc_uncorrectable_volatile: Some(0),
        ecc_uncorrectable_aggregate: Some(0),
        remapped_rows_uncorrectable: Some(0),
        row_remap_pending: Some(false),
        row_remap_failed: Some(false),
        retired_pages: None,
        page_retirement_pending: None,
        xid_events: Some(true),
    }
}

/// GPU 3 of pod `a`, with the health that `change` leaves.
fn one(change: impl FnOnce(&mut GpuHealth)) -> Scene {
    scene([server("a").device(&uuid(1))]).gpu(healthy(3, 1).with(|sample| change(&mut sample.health)))
}

fn healthy(index: u32, number: u32) -> Gpu {
    gpu("n1", index, &uuid(number)).with(|sample| sample.health = well())
}

fn xid(number: u32, ago: u64) -> GpuIncident {
    GpuIncident {
        index: 3,
        uuid: uuid(1),
        kind: IncidentKind::Xid { number },
        gpu_instance: None,
        compute_instance: None,
        pid: None,
        process_name: None,
        count: 1,
        first: Duration::from_secs(ago),
        last: Duration::from_secs(ago),
    }
}

fn ecc(ago: u64) -> GpuIncident {
    GpuIncident {
        kind: IncidentKind::EccUncorrectable,
        count: 2,
        ..xid(0, ago)
    }
}

fn outage(number: u32, failure: GpuFailure) -> GpuOutage {
    GpuOutage {
        index: 3,
        uuid: Some(uuid(number)),
        minor_number: Some(3),
        failure,
        message: "the GPU has fallen off the bus or has otherwise become inaccessible.".into(),
        since: Duration::from_secs(7),
    }
}

fn happened(mut scene: Scene, incidents: &[GpuIncident]) -> Scene {
    let here = |incident: &GpuIncident| ("n1".to_owned(), incident.clone());
    scene.incidents.extend(incidents.iter().map(here));
    scene
}

fn fails(mut scene: Scene, outage: GpuOutage) -> Scene {
    scene.gpus.retain(|gpu| Some(&gpu.sample.uuid) != outage.uuid.as_ref());
    scene.outages.push(("n1".into(), outage));
    scene
}

fn no_session(mut scene: Scene) -> Scene {
    scene.gpus.clear();
    let state = DriverState::Unavailable {
        category: DriverProblem::Unknown,
        message: "every GPU refuses to be read".into(),
    };
    scene.driver("n1", state)
}

fn message(verdict: &Verdict) -> &str {
    &finding(verdict, GpusHealthy).message
}

#[test]
fn the_process_that_the_kernels_log_names_is_told() {
    let cases = [
        (
            Some(4_711),
            Some("python3"),
            "XID 31 (GPU memory page fault) of pid 4711 (python3), 4 s ago.",
        ),
        (
            Some(4_711),
            None,
            "XID 31 (GPU memory page fault) of pid 4711, 4 s ago.",
        ),
        (
            None,
            Some("python3"),
            "XID 31 (GPU memory page fault) of python3, 4 s ago.",
        ),
        (None, None, "XID 31 (GPU memory page fault), 4 s ago."),
        (None, Some(" . "), "XID 31 (GPU memory page fault), 4 s ago."),
    ];
    for (pid, name, words) in cases {
        let blamed = GpuIncident {
            pid,
            process_name: name.map(str::to_owned),
            ..xid(31, 4)
        };
        let verdict = happened(one(|_| {}), &[blamed]).look();
        assert!(message(&verdict).contains(words), "{}", message(&verdict));
        assert_presentable(&verdict);
    }
}

#[test]
fn faults_follow_the_table() {
    let action = |action| one(|health| health.recovery_action = Some(action));
    let unavailable = |category| DriverState::Unavailable {
        category,
        message: "the driver was upgraded".into(),
    };
    let cases = [
        ("all is well", one(|_| {}), WELL),
        (
            "a reset is asked for",
            action(RecoveryAction::Reset),
            "False RecoveryActionNeeded",
        ),
        (
            "an action that only a newer driver knows",
            action(RecoveryAction::Other(6)),
            "False RecoveryActionNeeded",
        ),
        ("no action known", one(|health| health.recovery_action = None), WELL),
        (
            "a row that waits",
            one(|health| health.row_remap_pending = Some(true)),
            "False MemoryRepairPending",
        ),
        (
            "a page that waits",
            one(|health| health.page_retirement_pending = Some(true)),
            "False MemoryRepairPending",
        ),
        (
            "a row that failed",
            one(|health| health.row_remap_failed = Some(true)),
            "False RowRemapFailed",
        ),
        (
            "errors of long ago",
            one(|health| {
                health.ecc_uncorrectable_volatile = Some(9);
                health.ecc_uncorrectable_aggregate = Some(99);
                health.remapped_rows_uncorrectable = Some(4);
                health.retired_pages = Some(12);
            }),
            WELL,
        ),
        ("new errors", happened(one(|_| {}), &[ecc(2)]), "False EccUncorrectable"),
        ("an XID", happened(one(|_| {}), &[xid(31, 2)]), "False Xid"),
        ("an unknown XID", happened(one(|_| {}), &[xid(4711, 2)]), "False Xid"),
        (
            "an XID that informs",
            happened(one(|_| {}), &[xid(43, 2), xid(63, 2)]),
            WELL,
        ),
        ("an XID long ago", happened(one(|_| {}), &[xid(119, 700)]), WELL),
        (
            "an XID long ago, and nobody says that the GPU is in order",
            happened(one(|health| health.recovery_action = None), &[xid(119, 700)]),
            "False Xid",
        ),
        (
            "an XID of another pod's GPU",
            happened(
                scene([server("a").device(&uuid(2))])
                    .gpu(healthy(3, 1))
                    .gpu(healthy(4, 2)),
                &[xid(31, 2)],
            ),
            WELL,
        ),
        ("lost", fails(one(|_| {}), outage(1, GpuFailure::Lost)), "False GpuLost"),
        (
            "not enumerated",
            fails(one(|_| {}), outage(1, GpuFailure::NotEnumerated)),
            "False GpuLost",
        ),
        (
            "wants a reset",
            fails(one(|_| {}), outage(1, GpuFailure::ResetRequired)),
            "False RecoveryActionNeeded",
        ),
        (
            "merely refuses",
            fails(one(|_| {}), outage(1, GpuFailure::Refused)),
            "Unknown NoGpuData",
        ),
        (
            "refuses, with XID 119",
            fails(happened(one(|_| {}), &[xid(119, 2)]), outage(1, GpuFailure::Refused)),
            "False Xid",
        ),
        (
            "the session has ended after XID 119",
            no_session(happened(one(|_| {}), &[xid(119, 2)])),
            "False Xid",
        ),
        (
            "the session has ended after an XID of another pod's GPU",
            no_session(happened(
                scene([server("a").device(&uuid(2))]).gpu(healthy(4, 2)),
                &[xid(119, 2)],
            )),
            "Unknown NoGpuData",
        ),
        (
            "one of two refuses",
            fails(
                scene([server("a").device(&uuid(1)).device(&uuid(2))])
                    .gpu(healthy(3, 1))
                    .gpu(healthy(4, 2)),
                outage(1, GpuFailure::Refused),
            ),
            WELL,
        ),
        (
            "somebody else's GPU is lost",
            fails(
                scene([server("a").device(&uuid(2))])
                    .gpu(healthy(3, 1))
                    .gpu(healthy(4, 2)),
                outage(1, GpuFailure::Lost),
            ),
            WELL,
        ),
        (
            "lost, and nobody tells whose it was",
            fails(
                scene([server("a")]).gpu(healthy(3, 1)).gpu(healthy(4, 2)),
                outage(1, GpuFailure::Lost),
            ),
            "False GpuLost",
        ),
        (
            "the driver hangs",
            scene([server("a")]).driver("n1", DriverState::Unresponsive { for_seconds: 9 }),
            "False DriverUnresponsive",
        ),
        (
            "the versions differ",
            scene([server("a")]).driver("n1", unavailable(DriverProblem::DriverVersionMismatch)),
            "False DriverVersionMismatch",
        ),
        (
            "no driver",
            scene([server("a")]).driver("n1", unavailable(DriverProblem::DriverNotLoaded)),
            "Unknown NoGpuData",
        ),
        (
            "no permission",
            scene([server("a")]).driver("n1", unavailable(DriverProblem::NoPermission)),
            "Unknown NoGpuData",
        ),
        ("no GPU", scene([server("a")]), "Unknown NoGpuData"),
        (
            "a driver that tells nothing of health",
            scene([server("a")]).gpu(gpu("n1", 0, "GPU-1")),
            "Unknown NoGpuData",
        ),
        (
            "the driver of a node without endpoints",
            scene([server("a")])
                .gpu(healthy(0, 1))
                .gpu(gpu("n2", 0, "GPU-2"))
                .driver("n2", DriverState::Unresponsive { for_seconds: 9 }),
            WELL,
        ),
    ];
    for (name, mut scene, expected) in cases {
        let verdict = scene.look();
        assert_eq!(short(&verdict, GpusHealthy), expected, "{name}: {}", message(&verdict));
        assert_presentable(&verdict);
    }
}

#[test]
fn the_message_has_everything() {
    let mut scene = happened(one(|_| {}), &[]);
    scene.incidents.push((
        "n1".into(),
        GpuIncident {
            count: 3,
            first: Duration::from_secs(95),
            gpu_instance: Some(2),
            ..xid(119, 4)
        },
    ));
    assert_eq!(
        message(&scene.look()),
        "GPU 3 (GPU-10000000) on node n1: XID 119 (GSP call timeout) in MIG instance 2, which concerns the whole GPU, 3 times, first 95 s and last 4 s ago. It serves pod a. \
         Next: drain n1 and reset GPU 3 (nvidia-smi --gpu-reset -i 3) or reboot. docs/conditions.md#xid"
    );

    let mut scene = fails(
        happened(one(|_| {}), &[xid(79, 8), ecc(9)]),
        outage(1, GpuFailure::Lost),
    );
    assert_eq!(
        message(&scene.look()),
        "GPU 3 (GPU-10000000) on node n1: it does not answer, for 7 s: the GPU has fallen off the bus or has otherwise become inaccessible. \
         Also: XID 79 (GPU has fallen off the bus), 8 s ago; 2 uncorrectable errors of its memory, 9 s ago. It serves pod a. \
         Next: drain n1, see its dmesg and reboot it; if the GPU stays away, check its seat and power. docs/conditions.md#gpulost"
    );

    let mut scene = scene_of_two();
    let verdict = scene.look();
    assert!(
        message(&verdict).contains(
            "GPU 4 (GPU-20000000) on node n1: the driver asks for a reset, for 0.2 s. It serves pod a. Also faulty: GPU 3 (GPU-10000000) on node n1. Next:"
        ),
        "the worst is told first: {}",
        message(&verdict)
    );
    scene.now += 45;
    assert!(message(&scene.look()).contains("asks for a reset, for 45 s."));

    let mut scene = one(|health| health.xid_events = Some(false));
    assert_eq!(
        message(&scene.look()),
        "1 GPU shows no fault. The driver does not tell of XIDs."
    );
}

/// Pod `a` has two GPUs: an XID of a program on one, a reset is asked for on the other.
fn scene_of_two() -> Scene {
    let scene = scene([server("a").device(&uuid(1)).device(&uuid(2))])
        .gpu(healthy(3, 1))
        .gpu(healthy(4, 2).with(|sample| sample.health.recovery_action = Some(RecoveryAction::Reset)));
    happened(scene, &[xid(31, 2)])
}

#[test]
fn a_node_that_is_not_seen_is_named_and_hides_no_fault() {
    let unavailable = DriverState::Unavailable {
        category: DriverProblem::LibraryNotFound,
        message: "not found".into(),
    };
    let both = |fault: bool| {
        let scene = scene([server("a").device(&uuid(1)), server("b").on("n2")])
            .gpu(healthy(3, 1))
            .driver("n2", unavailable.clone());
        if fault { happened(scene, &[xid(31, 1)]) } else { scene }
    };
    let verdict = both(false).look();
    assert_eq!(short(&verdict, GpusHealthy), WELL);
    assert_eq!(
        message(&verdict),
        "1 GPU shows no fault. No GPU data from node n2: not found."
    );
    assert_eq!(short(&both(true).look(), GpusHealthy), "False Xid");
}

#[test]
fn a_fault_is_told_at_once_and_clears_when_all_was_well_for_half_a_minute() {
    let mut scene = one(|_| {});
    assert_eq!(short(&scene.run(5), GpusHealthy), WELL);
    scene.gpus[0].sample.health.recovery_action = Some(RecoveryAction::Reset);
    scene.now += 1;
    assert_eq!(short(&scene.look(), GpusHealthy), "False RecoveryActionNeeded");
    scene.gpus[0].sample.health.recovery_action = Some(RecoveryAction::None);
    scene.now += 1;
    let verdict = scene.run(29);
    assert_eq!(short(&verdict, GpusHealthy), "False RecoveryActionNeeded");
    assert!(
        message(&verdict).contains("clears when that has held for 30 s"),
        "{}",
        message(&verdict)
    );
    assert_presentable(&verdict);
    scene.now += 1;
    assert_eq!(short(&scene.look(), GpusHealthy), WELL);
}

#[test]
fn a_fault_does_not_clear_while_what_had_it_is_not_seen() {
    let faulty = || {
        scene([server("a").device(&uuid(1)), server("b").on("n2").device(&uuid(2))])
            .gpu(gpu("n2", 0, &uuid(2)).with(|sample| sample.health = well()))
            .gpu(healthy(3, 1).with(|sample| sample.health.row_remap_failed = Some(true)))
    };
    let mut silent = faulty();
    assert_eq!(short(&silent.look(), GpusHealthy), "False RowRemapFailed");
    silent.silent.insert("n1".into());
    silent.now += 11;
    let verdict = silent.run(60);
    assert_eq!(short(&verdict, GpusHealthy), "Unknown NoGpuData");
    assert!(message(&verdict).starts_with("1 GPU shows no fault. No GPU data from node n1: "));
    assert_presentable(&verdict);

    let mut refusing = faulty();
    refusing.look();
    let mut refusing = fails(refusing, outage(1, GpuFailure::Refused));
    refusing.now += 1;
    assert_eq!(short(&refusing.run(60), GpusHealthy), "Unknown NoGpuData");
    refusing.outages.clear();
    refusing.gpus.push(healthy(3, 1));
    refusing.now += 1;
    assert_eq!(short(&refusing.run(29), GpusHealthy), "False RowRemapFailed");
    refusing.now += 1;
    assert_eq!(short(&refusing.look(), GpusHealthy), WELL);
}

#[test]
fn an_xid_is_over_by_its_time_though_nothing_new_is_reported() {
    let mut scene = happened(one(|_| {}), &[xid(31, 595)]);
    scene.spec.stale_after_seconds = 60;
    let verdict = scene.look();
    assert_eq!(short(&verdict, GpusHealthy), "False Xid");
    let due = verdict.due.unwrap();
    assert_eq!(due, infmon_evaluation::Moment::from_secs(scene.now + 5));
    scene.now += 5;
    let verdict = scene.judge();
    assert!(message(&verdict).contains("clears when"), "{}", message(&verdict));
}

#[test]
fn what_is_stale_is_neither_healthy_nor_faulty() {
    for incidents in [&[][..], &[xid(119, 1)]] {
        let mut scene = happened(one(|_| {}), incidents);
        scene.servers.push(server("b").on("n2"));
        scene.look();
        scene.silent.insert("n1".into());
        scene.now += 11;
        let verdict = scene.look();
        assert_eq!(short(&verdict, GpusHealthy), "Unknown NoGpuData");
    }
}

#[test]
fn a_fault_outlives_a_driver_that_hangs() {
    let mut scene = happened(one(|_| {}), &[xid(119, 1)]);
    scene.look();
    scene
        .drivers
        .insert("n1".into(), DriverState::Unresponsive { for_seconds: 9 });
    scene.now += 1;
    assert_eq!(short(&scene.look(), GpusHealthy), "False DriverUnresponsive");
}

#[test]
fn a_restart_of_the_operator_does_not_clear_what_stands() {
    let verdict = happened(one(|_| {}), &[xid(119, 1)]).look();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let written = status::status(&verdict, &InferenceMonitorStatus::default(), Some(1), Vec::new(), now);
    let mut after = one(|_| {}).watched_for(1);
    after.memory = Memory::from_status(&written);
    let verdict = after.judge();
    assert_eq!(finding(&verdict, GpusHealthy).outcome, Outcome::Unknown);
    assert!(!verdict.settled, "nothing was reported yet");
    assert_eq!(
        short(&after.look(), GpusHealthy),
        "False Xid",
        "good news have to hold for their time"
    );
}

#[test]
fn a_turn_is_an_event() {
    let verdict = happened(one(|_| {}), &[xid(119, 1)]).look();
    let events = status::transitions(&verdict, &InferenceMonitorStatus::default());
    let event = events.iter().find(|event| event.kind == "GPUsHealthy").unwrap();
    assert!(event.warning && event.reason == "Xid" && event.message.contains("XID 119"));
}
