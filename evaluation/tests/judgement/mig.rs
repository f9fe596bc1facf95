//! GPUs that are divided by MIG: whose parts they are, and what is told of whom.

use crate::ownership::{list, owner, serving};
use crate::processes::pods_of;
use crate::scene::{Gpu, Scene, Server, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::{GpusHealthy, OomRisk, Throttled, Underutilized};
use infmon_engines::Engine;
use infmon_gpu::ThrottleCause::HardwareThermal;
use infmon_gpu::{IncidentKind, RecoveryAction};
use infmon_samples::GpuIncident;
use std::time::Duration;

const UUID: &str = "GPU-10000000-x";
const FINE: &str = "False BelowThreshold";

/// GPU 0 with a full and an empty instance; it loses clocks.
fn divided() -> Gpu {
    gpu("n1", 0, UUID)
        .loses(HardwareThermal, 0.5)
        .with(|sample| sample.minor_number = Some(0))
        .mig(3, "MIG-aaaaaaaa-1", 9600)
        .mig(4, "MIG-bbbbbbbb-1", 120)
}

/// GPU 1, whole and cool.
fn whole() -> Gpu {
    gpu("n1", 1, "GPU-20000000-x").with(|sample| sample.minor_number = Some(1))
}

fn with(id: &str) -> Scene {
    scene([server("a").device(id)]).gpu(divided()).gpu(whole())
}

#[test]
fn an_id_of_a_part_names_the_gpu_that_it_is_a_part_of() {
    let cases = [
        ("MIG-aaaaaaaa-1", "GPU-10000000-x: a"),
        ("MIG-bbbbbbbb-1::2", "GPU-10000000-x: a"),
        ("nvidia.com/gpu=MIG-bbbbbbbb-1", "GPU-10000000-x: a"),
        ("MIG-GPU-10000000-x/4/0", "GPU-10000000-x: a"),
        ("nvidia0/gi4", "GPU-10000000-x: a"),
        ("gpu.nvidia.com/n1/gpu-0-mig-1g10gb-19-0", "GPU-10000000-x: a"),
        ("GPU-20000000-x", "GPU-20000000-x: a"),
        // An instance that was destroyed: nobody can say of which GPU it was.
        ("MIG-cccccccc-1", "GPU-10000000-x ~ a; GPU-20000000-x ~ a"),
    ];
    for (id, expected) in cases {
        let verdict = with(id).run(70);
        assert_eq!(serving(&verdict), expected, "{id}");
        assert_presentable(&verdict);
    }
}

#[test]
fn lost_clocks_of_the_gpu_are_told_to_every_pod_on_it() {
    let mut scene = scene([
        server("a").device("MIG-aaaaaaaa-1"),
        server("b").device("MIG-bbbbbbbb-1"),
    ])
    .gpu(divided())
    .gpu(whole());
    let verdict = scene.run(70);
    let message = &finding(&verdict, Throttled).message;
    assert_eq!(short(&verdict, Throttled), "True HardwareThermal");
    let words = " It serves pod a, b (by MIG, a part of it; others may have others). Next: ";
    assert!(message.contains(words), "{message}");

    let message = finding(&with_kubelet().run(70), Throttled).message.clone();
    let words = " It serves pod a (by MIG, which divides it among 2 pods). Next: ";
    assert!(message.contains(words), "{message}");
}

/// The kubelet gives the other part to a pod of somebody else.
/// A server that does not reserve its memory ahead, so that little of it free is no design.
fn grows(name: &str) -> Server {
    server(name).says(|sample| sample.engine = Some(Engine::LlamaCpp))
}

fn with_kubelet() -> Scene {
    let mut owners = list(&[("a", &["MIG-aaaaaaaa-1"])]);
    owners.owners.push(owner("other", "b", &["MIG-bbbbbbbb-1"]));
    scene([grows("a")]).gpu(divided()).gpu(whole()).kubelet("n1", owners)
}

/// XID `number` in GPU instance 3.
fn xid(number: u32) -> GpuIncident {
    GpuIncident {
        index: 0,
        uuid: UUID.into(),
        kind: IncidentKind::Xid { number },
        gpu_instance: Some(3),
        compute_instance: Some(0),
        pid: None,
        process_name: None,
        count: 1,
        first: Duration::from_secs(4),
        last: Duration::from_secs(4),
    }
}

#[test]
fn an_xid_in_a_part_is_told_to_who_has_it_and_to_who_may_have_it() {
    const CALM: &str = "True NoFaults";
    const HIT: &str = "False Xid";
    let unnamed = |number| GpuIncident {
        gpu_instance: None,
        compute_instance: None,
        ..xid(number)
    };
    let cases = [
        ("the pod of the part", "MIG-aaaaaaaa-1", xid(31), HIT),
        ("by its older name", "MIG-GPU-10000000-x/3/0", xid(31), HIT),
        ("by its device file", "nvidia0/gi3", xid(31), HIT),
        ("its neighbour", "MIG-bbbbbbbb-1", xid(31), CALM),
        ("its neighbour, of what is contained", "MIG-bbbbbbbb-1", xid(94), CALM),
        (
            "nobody knows which part",
            "gpu.nvidia.com/n1/gpu-0-mig-1g10gb-19-0",
            xid(31),
            HIT,
        ),
        ("another GPU", "GPU-20000000-x", xid(31), CALM),
        ("a neighbour, of what resets the GPU", "MIG-bbbbbbbb-1", xid(119), HIT),
        ("a neighbour, of a lost GPU", "MIG-bbbbbbbb-1", xid(79), HIT),
        ("a neighbour, of uncontained errors", "MIG-bbbbbbbb-1", xid(95), HIT),
        (
            "a neighbour, of an XID that nobody knows",
            "MIG-bbbbbbbb-1",
            xid(4_000),
            HIT,
        ),
        (
            "a neighbour, of one that the driver does not place",
            "MIG-bbbbbbbb-1",
            unnamed(31),
            HIT,
        ),
    ];
    for (name, id, incident, expected) in cases {
        let mut scene = with(id);
        for gpu in &mut scene.gpus {
            gpu.sample.health.recovery_action = Some(RecoveryAction::None);
            gpu.sample.health.xid_events = Some(true);
        }
        scene.incidents.push(("n1".into(), incident));
        let verdict = scene.look();
        let message = &finding(&verdict, GpusHealthy).message;
        assert_eq!(short(&verdict, GpusHealthy), expected, "{name}: {message}");
        assert_presentable(&verdict);
    }
}

#[test]
fn the_message_names_the_part_and_only_its_pods() {
    let told = |mut scene: Scene, number| {
        scene.incidents.push(("n1".into(), xid(number)));
        let verdict = scene.look();
        assert_presentable(&verdict);
        finding(&verdict, GpusHealthy).message.clone()
    };
    let both = || {
        scene([
            server("a").device("MIG-aaaaaaaa-1"),
            server("b").device("MIG-bbbbbbbb-1"),
        ])
        .gpu(divided())
    };
    assert_eq!(
        told(both(), 31),
        "GPU 0 (GPU-10000000) on node n1: XID 31 (GPU memory page fault) in MIG instance 3/0, 4 s ago. That instance serves pod a. \
         Next: restart the pod if it does not serve; if it happens again on this GPU, run dcgmi diag on n1. docs/conditions.md#xid"
    );
    let message = told(both(), 119);
    let words = "XID 119 (GSP call timeout) in MIG instance 3/0, which concerns the whole GPU, 4 s ago. It serves pod a, b (by MIG, ";
    assert!(message.contains(words), "{message}");
    // Of b nobody knows which part it has.
    let message = told(
        scene([
            server("a").device("MIG-aaaaaaaa-1"),
            server("b").device("gpu.nvidia.com/n1/gpu-0-mig-1g10gb-19-0"),
        ])
        .gpu(divided()),
        31,
    );
    assert!(message.contains(" 4 s ago. It serves pod a"), "{message}");
    // By their processes.
    let computes = divided()
        .process(7, "a", 9000)
        .on_instance(3)
        .process(8, "b", 50)
        .on_instance(4);
    let message = told(scene([server("a"), server("b")]).gpu(computes).looks_up("n1"), 31);
    assert!(
        message.contains(" 4 s ago. Processes of pod a were seen on it. Next: "),
        "{message}"
    );
}

#[test]
fn memory_of_a_part_is_told_only_to_who_has_it() {
    let cases = [
        ("the full one", "MIG-aaaaaaaa-1", "True LowHeadroom"),
        (
            "the full one by its older name",
            "MIG-GPU-10000000-x/3/0",
            "True LowHeadroom",
        ),
        ("the full one by its device file", "nvidia0/gi3", "True LowHeadroom"),
        ("the empty one", "MIG-bbbbbbbb-1", FINE),
        (
            "which one is not known",
            "gpu.nvidia.com/n1/gpu-0-mig-1g10gb-19-0",
            FINE,
        ),
    ];
    for (name, id, expected) in cases {
        // The memory of the whole GPU says nothing of a part.
        let low = divided().with(|sample| sample.memory_free_bytes = Some(1 << 20));
        let mut scene = scene([grows("a").device(id)]).gpu(low);
        let verdict = scene.run(40);
        let message = &finding(&verdict, OomRisk).message;
        assert_eq!(short(&verdict, OomRisk), expected, "{name}: {message}");
        assert_presentable(&verdict);
    }
    let mut scene = with_kubelet();
    let message = finding(&scene.run(40), OomRisk).message.clone();
    assert_eq!(
        message,
        "MIG instance 3 (MIG-aaaaaaaa) of GPU 0 (GPU-10000000) on node n1 has 256 MiB free of 9856 MiB (threshold 512 MiB for 30 s). \
         It serves pod a. Next: see what else allocates there (nvidia-smi); vLLM: lower --gpu-memory-utilization. \
         docs/conditions.md#lowheadroom"
    );
}

#[test]
fn memory_of_a_part_that_fills_is_foretold_to_who_has_it() {
    // The other instance is full, and that of somebody else.
    let mut with = scene([server("a").device("MIG-bbbbbbbb-1")]).gpu(divided());
    let mut take = |mib: u64, seconds: u64| {
        for _ in 0..seconds {
            let part = &mut with.gpus[0].sample.mig_instances.as_mut().unwrap()[1];
            part.memory_free_bytes = part.memory_free_bytes.map(|free| free - (mib << 20));
            with.look();
            with.now += 1;
        }
        with.judge()
    };
    assert_eq!(short(&take(0, 300), OomRisk), FINE);
    let verdict = take(6, 250);
    let message = &finding(&verdict, OomRisk).message;
    assert_eq!(short(&verdict, OomRisk), "True DeviceMemoryGrowth", "{message}");
    let words = "MIG instance 4 (MIG-bbbbbbbb) of GPU 0 (GPU-10000000) on node n1 fills beyond what was in use before, by 360 MiB/min";
    assert!(message.starts_with(words), "{message}");
    assert_presentable(&verdict);
}

#[test]
fn processes_tell_which_part_it_is() {
    let mut by_process = scene([grows("a")])
        .gpu(
            divided()
                .process(7, "a", 9000)
                .on_instance(3)
                .process(8, "b", 50)
                .on_instance(4),
        )
        .gpu(whole().without_processes())
        .looks_up("n1");
    let verdict = by_process.run(70);
    assert_eq!(serving(&verdict), "GPU-10000000-x by process: a");
    assert_eq!(short(&verdict, OomRisk), "True LowHeadroom");
    let message = &finding(&verdict, Throttled).message;
    let words = " Processes of pod a were seen on it (by MIG, which divides it among 2 pods). Next: ";
    assert!(message.contains(words), "{message}");
    assert_presentable(&verdict);
}

/// The use of both instances.
fn used(first: Option<u32>, second: Option<u32>) -> Gpu {
    divided().with(|sample| {
        let instances = sample.mig_instances.iter_mut().flatten();
        for (instance, share) in instances.zip([first, second]) {
            instance.utilization_percent = share;
        }
    })
}

#[test]
fn use_is_that_of_the_part() {
    let on_first = |gpu| scene([server("a").device("MIG-aaaaaaaa-1")]).gpu(gpu);
    let cases = [
        ("busy beside an idle one", on_first(used(Some(90), Some(0))), FINE),
        (
            "idle beside a busy one",
            on_first(used(Some(10), Some(99))),
            "True LowUtilization",
        ),
        (
            "before Hopper nobody tells",
            on_first(used(None, None)),
            "Unknown NoGpuData",
        ),
        (
            "120 MiB are more than an instance has that nobody uses",
            scene([server("a").device("MIG-bbbbbbbb-1")]).gpu(used(None, None)),
            "Unknown NoGpuData",
        ),
    ];
    for (name, mut scene, expected) in cases {
        let verdict = scene.run(601);
        let message = &finding(&verdict, Underutilized).message;
        assert_eq!(short(&verdict, Underutilized), expected, "{name}: {message}");
        assert_presentable(&verdict);
    }
    let message = finding(&on_first(used(Some(10), Some(99))).run(601), Underutilized)
        .message
        .clone();
    let words = "1 MIG instance computes 10% of the time while requests run (threshold 50% for 600 s), least MIG instance 3 (MIG-aaaaaaaa) \
                 of GPU 0 (GPU-10000000) on node n1 with 10%. It serves pod a. Next: ";
    assert!(message.starts_with(words), "{message}");
}

#[test]
fn a_server_that_is_not_on_its_part_is_found() {
    let empty = |gpu: Gpu| gpu.mig(5, "MIG-cccccccc-1", 13);
    let mut on_cpu = scene([server("a").device("MIG-cccccccc-1").running(1.0)]).gpu(empty(used(Some(90), Some(90))));
    let verdict = on_cpu.run(61);
    assert_eq!(short(&verdict, Underutilized), "True GpuNotUsed");
    let message = &finding(&verdict, Underutilized).message;
    let words = "1 request runs on pod a, and its GPU is empty: MIG instance 5 (MIG-cccccccc) of GPU 0 (GPU-10000000) on node n1 has 13 MiB \
                 in use and computes nothing. Next: ";
    assert!(message.starts_with(words), "{message}");
    assert_presentable(&verdict);
    // The driver names a process on it.
    let busy = empty(used(Some(90), Some(90))).process(7, "?", 10).on_instance(5);
    let mut in_use = scene([server("a").device("MIG-cccccccc-1")]).gpu(busy);
    assert_ne!(short(&in_use.run(61), Underutilized), "True GpuNotUsed");
}

#[test]
fn the_status_has_the_instances_of_each_pod() {
    let mut scene = scene([server("a").device("MIG-aaaaaaaa-1"), server("b").device("nvidia0/gi4")])
        .gpu(divided().process(7, "a", 9000).on_instance(3))
        .looks_up("n1");
    let told: Vec<_> = pods_of(&scene.run(1))
        .into_iter()
        .map(|pod| (pod.target, pod.memory_mib, pod.mig_gpu_instances))
        .collect();
    let expected = [
        ("a".to_owned(), Some(9000), vec![3]),
        ("b".to_owned(), Some(0), vec![4]),
    ];
    assert_eq!(told, expected);
    let mut unknown = with("gpu.nvidia.com/n1/gpu-0-mig-1g10gb-19-0");
    assert!(
        pods_of(&unknown.run(1))
            .iter()
            .all(|pod| pod.mig_gpu_instances.is_empty())
    );
}
