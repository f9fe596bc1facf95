//! XIDs and uncorrectable errors: what is folded, what counts, and for how long.

use infmon_gpu::kernel_log::XidProcess;
use infmon_gpu::xid::{self, XidClass};
use infmon_gpu::{
    GpuHealth, IncidentKind, IncidentLog, MigDevice, MigInstance, MigPlace, RecoveryAction, StandingFault, counts,
    ecc_growth,
};
use std::time::{Duration, Instant};

const GPU: (u32, &str) = (3, "GPU-3");
/// The driver names no instance of MIG.
const WHOLE: MigPlace = MigPlace {
    gpu_instance: None,
    compute_instance: None,
};
const OTHER: (u32, &str) = (4, "GPU-4");

/// An XID of a GPU, so many seconds after the start.
type At = (u64, (u32, &'static str), u32);
/// GPU index, XID and count.
type Logged = (u32, u32, u64);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What is left of these.
fn logged(xids: &[At]) -> Vec<Logged> {
    let start = Instant::now();
    let mut log = IncidentLog::default();
    for (at, gpu, number) in xids {
        log.xid(*gpu, *number, WHOLE, start + seconds(*at));
    }
    log.incidents().iter().map(tell).collect()
}

fn tell(incident: &infmon_gpu::Incident) -> Logged {
    match incident.kind {
        IncidentKind::Xid { number } => (incident.index, number, incident.count),
        IncidentKind::EccUncorrectable => (incident.index, 0, incident.count),
    }
}

#[test]
fn xids_are_folded_by_the_table() {
    let cases: [(&str, &[At], &[Logged]); 8] = [
        ("repeated", &[(0, GPU, 31), (5, GPU, 31)], &[(3, 31, 2)]),
        ("two GPUs", &[(0, GPU, 31), (0, OTHER, 31)], &[(3, 31, 1), (4, 31, 1)]),
        ("45 after its cause", &[(0, GPU, 31), (3, GPU, 45)], &[(3, 31, 1)]),
        ("45 before its cause", &[(0, GPU, 45), (1, GPU, 79)], &[(3, 79, 1)]),
        (
            "a storm of 45 is one chain",
            &[(0, GPU, 31), (9, GPU, 45), (18, GPU, 45), (27, GPU, 45)],
            &[(3, 31, 1)],
        ),
        ("45 alone", &[(0, GPU, 45), (1, GPU, 45)], &[(3, 45, 2)]),
        (
            "45 long after",
            &[(0, GPU, 31), (11, GPU, 45)],
            &[(3, 31, 1), (3, 45, 1)],
        ),
        (
            "45 of another GPU",
            &[(0, GPU, 31), (1, OTHER, 45)],
            &[(3, 31, 1), (4, 45, 1)],
        ),
    ];
    for (name, xids, expected) in cases {
        assert_eq!(logged(xids), expected, "{name}");
    }
}

#[test]
fn what_the_library_and_the_kernels_log_tell_counts_once() {
    enum Told {
        Library(u64, u32),
        Log(u64, u32),
        Gone(u64),
    }
    use Told::{Gone, Library, Log};
    let cases: [(&str, &[Told], &[Logged]); 13] = [
        ("library first", &[Library(0, 31), Log(1, 31)], &[(3, 31, 1)]),
        ("log first", &[Log(0, 31), Library(1, 31)], &[(3, 31, 1)]),
        ("far apart", &[Library(0, 31), Log(6, 31)], &[(3, 31, 2)]),
        (
            "another number",
            &[Library(0, 31), Log(0, 13)],
            &[(3, 31, 1), (3, 13, 1)],
        ),
        ("the log alone", &[Log(0, 79)], &[(3, 79, 1)]),
        (
            "three in the log of which the library tells the last",
            &[Log(0, 31), Log(0, 31), Log(0, 31), Library(0, 31)],
            &[(3, 31, 3)],
        ),
        (
            "each told twice",
            &[Library(0, 31), Log(0, 31), Library(1, 31), Log(1, 31)],
            &[(3, 31, 2)],
        ),
        ("off the bus, without an XID", &[Gone(0)], &[(3, 79, 1)]),
        (
            "off the bus, again and again",
            &[Gone(0), Gone(1), Gone(4_000)],
            &[(3, 79, 1)],
        ),
        (
            "off the bus, told three ways",
            &[Library(0, 79), Log(0, 79), Gone(0)],
            &[(3, 79, 1)],
        ),
        (
            "off the bus, told three ways from the end",
            &[Gone(0), Log(1, 79), Library(2, 79), Gone(3)],
            &[(3, 79, 1)],
        ),
        (
            "off the bus, and other trouble",
            &[Gone(0), Log(0, 31)],
            &[(3, 79, 1), (3, 31, 1)],
        ),
        (
            "their cleanup",
            &[Log(0, 31), Log(0, 45), Library(0, 31), Library(0, 45)],
            &[(3, 31, 1)],
        ),
    ];
    let process = || XidProcess {
        pid: Some(4_711),
        name: Some("python3".to_owned()),
    };
    for (name, told, expected) in cases {
        let start = Instant::now();
        let mut log = IncidentLog::default();
        for told in told {
            match *told {
                Library(at, number) => log.xid(GPU, number, WHOLE, start + seconds(at)),
                Gone(at) => log.off_the_bus(GPU, start + seconds(at)),
                Log(at, number) => log.kernel_xid(GPU, number, WHOLE, process(), start + seconds(at)),
            }
        }
        let found: Vec<Logged> = log.incidents().iter().map(tell).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_gpu_that_came_back_may_go_again() {
    let start = Instant::now();
    let mut log = IncidentLog::default();
    log.off_the_bus(GPU, start);
    log.begins_anew("GPU-3");
    log.off_the_bus(GPU, start + seconds(60));
    assert_eq!(log.incidents().len(), 1);
    assert_eq!(log.incidents()[0].first, start + seconds(60));
}

#[test]
fn an_xid_keeps_the_process_of_the_last_one() {
    let start = Instant::now();
    let mut log = IncidentLog::default();
    let process = |pid| XidProcess {
        pid: Some(pid),
        name: None,
    };
    let blamed = |log: &IncidentLog| log.incidents()[0].process.pid;
    log.kernel_xid(GPU, 31, WHOLE, process(1), start);
    log.xid(GPU, 31, WHOLE, start);
    assert_eq!(
        blamed(&log),
        Some(1),
        "the library knows no process and takes none away"
    );
    log.xid(GPU, 31, WHOLE, start + seconds(60));
    assert_eq!(blamed(&log), None, "of the next one nobody has told yet");
    log.kernel_xid(GPU, 31, WHOLE, process(2), start + seconds(60));
    assert_eq!((blamed(&log), log.incidents()[0].count), (Some(2), 2));
}

#[test]
fn an_incident_that_comes_back_after_it_was_over_is_a_new_one() {
    let start = Instant::now();
    let mut log = IncidentLog::default();
    log.xid(GPU, 31, WHOLE, start);
    log.xid(GPU, 31, WHOLE, start + seconds(3_000));
    let [incident] = log.incidents() else { panic!("{log:?}") };
    assert_eq!((incident.count, incident.place), (1, WHOLE));
    assert_eq!(incident.first, start + seconds(3_000));
}

#[test]
fn the_log_is_bounded_and_forgets() {
    let start = Instant::now();
    let mut log = IncidentLog::default();
    for number in 1_000..2_000 {
        log.xid(GPU, number, WHOLE, start + seconds(u64::from(number)));
    }
    assert_eq!(log.incidents().len(), 128);
    assert_eq!(log.incidents()[0].kind, IncidentKind::Xid { number: 1_872 });
    log.ecc(OTHER, 0, start);
    assert_eq!(log.incidents().len(), 128, "no error is no incident");
    log.ecc(OTHER, 2, start + seconds(2_000));
    log.begins_anew("GPU-3");
    assert_eq!(log.incidents().len(), 1);
    log.forget(start + seconds(2_000 + 24 * 3_600));
    assert_eq!(log.incidents().len(), 1);
    log.forget(start + seconds(2_001 + 24 * 3_600));
    assert_eq!(log.incidents(), []);
}

#[test]
fn incidents_count_by_the_table() {
    let asks = |action| {
        Some(GpuHealth {
            recovery_action: action,
            ..GpuHealth::default()
        })
    };
    let nothing = asks(Some(RecoveryAction::None));
    let reset = asks(Some(RecoveryAction::Reset));
    let silent = asks(None);
    // XID (0: ECC), seconds ago, health, counts.
    let cases = [
        (31, 0, nothing, true),
        (31, 599, silent, true),
        (31, 600, silent, false),
        (31, 600, reset, false),
        (119, 0, nothing, true),
        (119, 599, nothing, true),
        (119, 600, nothing, false),
        (119, 600, reset, true),
        (119, 80_000, silent, true),
        (119, 80_000, None, true),
        (43, 0, silent, false),
        (63, 0, None, false),
        (154, 0, nothing, false),
        (154, 0, reset, false),
        (154, 0, silent, true),
        (154, 600, silent, false),
        (40_000, 0, nothing, true),
        (40_000, 600, nothing, false),
        (0, 599, nothing, true),
        (0, 600, nothing, false),
    ];
    for (number, ago, health, expected) in cases {
        let kind = match number {
            0 => IncidentKind::EccUncorrectable,
            number => IncidentKind::Xid { number },
        };
        assert_eq!(
            counts(kind, seconds(ago), health.as_ref()),
            expected,
            "{kind:?} {ago} s ago, {health:?}"
        );
    }
}

#[test]
fn the_catalogue_has_a_class_for_every_number() {
    let cases = [
        (13, XidClass::RestartProgram),
        (31, XidClass::RestartProgram),
        (43, XidClass::Ignore),
        (45, XidClass::RestartProgram),
        (48, XidClass::ResetGpu),
        (54, XidClass::CheckBoard),
        (63, XidClass::Ignore),
        (64, XidClass::ResetGpu),
        (74, XidClass::CheckLink),
        (78, XidClass::UpdateSoftware),
        (79, XidClass::RebootNode),
        (94, XidClass::RestartProgram),
        (95, XidClass::ResetGpu),
        (109, XidClass::ResetGpu),
        (119, XidClass::ResetGpu),
        (149, XidClass::CheckLink),
        (151, XidClass::RestartMachine),
        (154, XidClass::FollowRecoveryAction),
        (152, XidClass::Ignore),
        (159, XidClass::CheckManagedMemory),
        (162, XidClass::Ignore),
        (163, XidClass::NoActionStated),
        (167, XidClass::NoActionStated),
        (168, XidClass::NoActionStated),
        (171, XidClass::ResetGpu),
        (172, XidClass::ResetGpu),
        (173, XidClass::NoActionStated),
        (1, XidClass::ContactVendor),
        (174, XidClass::Unknown),
        (0, XidClass::Unknown),
        (u32::MAX, XidClass::Unknown),
    ];
    for (number, class) in cases {
        assert_eq!(xid::class(number), class, "{number}");
    }
    for number in 1..=173 {
        assert_ne!(xid::class(number), XidClass::Unknown, "{number}");
    }
    // What asks for a step of its own is called by name.
    let named =
        |class: XidClass| class.lasts() || matches!(class, XidClass::NoActionStated | XidClass::CheckManagedMemory);
    for number in (1..=173).filter(|number| named(xid::class(*number))) {
        assert!(xid::name(number).is_some(), "{number}");
    }
}

#[test]
fn errors_grow_by_the_table() {
    let health = |volatile, aggregate| GpuHealth {
        ecc_uncorrectable_volatile: volatile,
        ecc_uncorrectable_aggregate: aggregate,
        ..GpuHealth::default()
    };
    let cases = [
        ("nothing", health(Some(0), Some(0)), health(Some(0), Some(0)), 0),
        ("both", health(Some(1), Some(5)), health(Some(3), Some(7)), 2),
        ("before a reload", health(Some(9), Some(9)), health(Some(0), Some(9)), 0),
        ("after a reload", health(Some(9), Some(9)), health(Some(2), Some(11)), 2),
        ("aggregate alone", health(None, Some(9)), health(None, Some(10)), 1),
        (
            "aggregate goes back",
            health(Some(0), Some(9)),
            health(Some(0), Some(1)),
            0,
        ),
        ("known from now on", health(None, None), health(Some(4), Some(4)), 0),
        ("no longer known", health(Some(4), None), health(None, None), 0),
    ];
    for (name, before, now, growth) in cases {
        assert_eq!(ecc_growth(&before, &now), growth, "{name}");
    }
}

#[test]
fn what_is_not_known_is_no_fault_and_no_health() {
    let silent = GpuHealth {
        xid_events: Some(false),
        ..GpuHealth::default()
    };
    let listening = GpuHealth {
        xid_events: Some(true),
        ..GpuHealth::default()
    };
    for health in [GpuHealth::default(), silent, listening] {
        assert!(!health.is_known());
        assert_eq!(health.standing().count(), 0);
    }
    let well = GpuHealth {
        recovery_action: Some(RecoveryAction::None),
        row_remap_pending: Some(false),
        ..GpuHealth::default()
    };
    assert!(well.is_known());
    assert_eq!(well.standing().count(), 0);
    assert!(!well.only_faults().is_known());
    let unknown_action = GpuHealth {
        recovery_action: Some(RecoveryAction::from_code(6)),
        ..GpuHealth::default()
    };
    assert_eq!(
        unknown_action.standing().collect::<Vec<_>>(),
        [StandingFault::RecoveryAction]
    );
    assert_eq!(unknown_action.only_faults(), unknown_action);
    for code in 0..8 {
        assert_eq!(RecoveryAction::from_code(code).code(), code);
    }
}

/// A GPU instance, without the compute instance in it.
fn inside(gpu_instance: u32) -> MigPlace {
    MigPlace {
        gpu_instance: Some(gpu_instance),
        ..WHOLE
    }
}

/// An XID and where the driver places it.
type InPlace = (u32, MigPlace);
/// XID, GPU instance and count.
type Placed = (u32, Option<u32>, u64);

/// What is noted.
fn placed(log: &IncidentLog) -> Vec<Placed> {
    let told = |incident: &infmon_gpu::Incident| (tell(incident).1, incident.place.gpu_instance, incident.count);
    log.incidents().iter().map(told).collect()
}

#[test]
fn instances_of_mig_are_told_apart_where_that_matters() {
    let cases: [(&str, &[InPlace], &[Placed]); 8] = [
        (
            "programs on two instances",
            &[(31, inside(1)), (31, inside(2)), (31, inside(1))],
            &[(31, Some(1), 2), (31, Some(2), 1)],
        ),
        (
            "one that nobody places",
            &[(31, inside(1)), (31, WHOLE)],
            &[(31, Some(1), 1), (31, None, 1)],
        ),
        (
            "what resets the GPU is one, wherever it began",
            &[(119, inside(1)), (119, inside(2))],
            &[(119, Some(2), 2)],
        ),
        (
            "cleanup in the instance",
            &[(31, inside(1)), (45, inside(1))],
            &[(31, Some(1), 1)],
        ),
        (
            "cleanup in another instance",
            &[(31, inside(1)), (45, inside(2))],
            &[(31, Some(1), 1), (45, Some(2), 1)],
        ),
        (
            "cleanup everywhere after what resets the GPU",
            &[(119, inside(1)), (45, inside(1)), (45, inside(2)), (45, WHOLE)],
            &[(119, Some(1), 1)],
        ),
        (
            "cleanup before its cause",
            &[(45, inside(1)), (45, inside(2)), (31, inside(2))],
            &[(45, Some(1), 1), (31, Some(2), 1)],
        ),
        (
            "cleanup that nobody places",
            &[(31, inside(1)), (45, WHOLE)],
            &[(31, Some(1), 1)],
        ),
    ];
    for (name, told, expected) in cases {
        let start = Instant::now();
        let mut log = IncidentLog::default();
        for (number, place) in told {
            log.xid(GPU, *number, *place, start);
        }
        assert_eq!(placed(&log), expected, "{name}");
    }
}

#[test]
fn one_teller_names_the_instance_that_the_other_leaves_out() {
    let start = Instant::now();
    let process = || XidProcess {
        pid: Some(7),
        name: None,
    };
    let mut log = IncidentLog::default();
    log.kernel_xid(GPU, 31, WHOLE, process(), start);
    log.xid(GPU, 31, inside(2), start);
    assert_eq!(placed(&log), [(31, Some(2), 1)]);
    assert_eq!(log.incidents()[0].process, process());
    // Others of its kind, in the instance and of the whole GPU, stay what they are.
    log.kernel_xid(GPU, 31, WHOLE, process(), start + seconds(20));
    log.xid(GPU, 31, inside(2), start + seconds(21));
    assert_eq!(placed(&log), [(31, Some(2), 2)]);
    log.xid(GPU, 31, WHOLE, start + seconds(40));
    log.xid(GPU, 31, WHOLE, start + seconds(60));
    log.kernel_xid(GPU, 31, inside(3), process(), start + seconds(61));
    assert_eq!(placed(&log), [(31, Some(2), 2), (31, None, 1), (31, Some(3), 1)]);
    // What the library places elsewhere is another one.
    log.kernel_xid(GPU, 13, inside(1), process(), start);
    log.xid(GPU, 13, inside(2), start);
    assert_eq!(placed(&log)[3..], [(13, Some(1), 1), (13, Some(2), 1)]);
}

#[test]
fn an_instance_that_was_made_anew_has_no_past() {
    let instance = |gpu_instance, device: &str| MigInstance {
        gpu_instance,
        devices: vec![MigDevice {
            uuid: device.to_owned(),
            compute_instance: Some(0),
        }],
        ..MigInstance::default()
    };
    let start = Instant::now();
    let mut log = IncidentLog::default();
    log.xid(GPU, 31, inside(1), start);
    log.xid(GPU, 31, inside(2), start);
    log.xid(GPU, 119, inside(1), start);
    log.xid(OTHER, 31, inside(1), start);
    log.instances("GPU-3", &[instance(1, "MIG-a"), instance(2, "MIG-b")]);
    // One that the driver does not show for a moment is not gone.
    log.instances("GPU-3", &[instance(2, "MIG-b")]);
    assert_eq!(log.incidents().len(), 4);
    log.instances("GPU-3", &[instance(1, "MIG-c"), instance(2, "MIG-b")]);
    assert_eq!(placed(&log), [(31, Some(2), 1), (119, Some(1), 1), (31, Some(1), 1)]);
}
