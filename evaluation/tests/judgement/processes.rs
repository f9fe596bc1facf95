//! Whose GPU it is, by the processes on it; and a server that is not on the GPU that it was given.

use crate::ownership::{list, owner, serving};
use crate::scene::{Gpu, Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::{GpusHealthy, Throttled, Underutilized};
use infmon_crds::v1alpha1::{GpuPodStatus, InferenceMonitorStatus};
use infmon_evaluation::{Verdict, status};
use infmon_gpu::GpuFailure;
use infmon_gpu::ThrottleCause::HardwareThermal;
use infmon_samples::{GpuOutage, ProcessLookup};
use std::time::Duration;

fn cool() -> Gpu {
    gpu("n1", 0, "GPU-cool").without_processes()
}

fn hot() -> Gpu {
    gpu("n1", 1, "GPU-hot").loses(HardwareThermal, 0.5).without_processes()
}

fn two(cool: Gpu, hot: Gpu) -> Scene {
    scene([server("a")]).gpu(cool).gpu(hot).looks_up("n1")
}

/// Name, scene, Throttled, and whom the GPUs serve.
type Case = (&'static str, Scene, &'static str, &'static str);

fn cases() -> Vec<Case> {
    const COOL: &str = "False BelowThreshold";
    const HOT: &str = "True HardwareThermal";
    const NONE: &str = "Unknown NoGpuData";
    vec![
        (
            "its process is on the cool one",
            two(cool().process(7, "a", 100), hot().process(8, "other", 100)),
            COOL,
            "GPU-cool by process: a",
        ),
        (
            "on the hot one, beside another's",
            two(cool(), hot().process(7, "a", 100).process(8, "other", 100)),
            HOT,
            "GPU-hot by process: a",
        ),
        (
            "on both",
            two(cool().process(7, "a", 100), hot().process(7, "a", 100)),
            HOT,
            "GPU-cool by process: a; GPU-hot by process: a",
        ),
        (
            "a server without a process on a node where all are known",
            two(cool().process(7, "other", 100), hot().process(8, "machine", 100)),
            NONE,
            "",
        ),
        (
            "a server without a process, and one process is nobody's that is known: it may be there",
            two(cool().process(7, "other", 100), hot().process(8, "?", 100)),
            HOT,
            "GPU-hot ~ a",
        ),
        (
            "one whose process is known is not looked for elsewhere",
            two(cool().process(7, "a", 100), hot().process(8, "?", 100)),
            COOL,
            "GPU-cool by process: a",
        ),
        (
            "the processes of one GPU are not told",
            two(
                cool().process(7, "other", 100),
                hot().with(|sample| sample.processes = None),
            ),
            HOT,
            "GPU-hot ~ a",
        ),
        (
            "the daemon does not look",
            scene([server("a")])
                .gpu(cool().process(7, "a", 100))
                .gpu(hot().process(8, "other", 100)),
            HOT,
            "GPU-cool ~ a; GPU-hot ~ a",
        ),
        (
            "the ids in the status of the pod come first",
            scene([server("a").device("GPU-hot")])
                .gpu(cool().process(7, "a", 100))
                .gpu(hot())
                .looks_up("n1"),
            HOT,
            "GPU-hot: a",
        ),
        (
            "the kubelet's list comes first",
            two(cool(), hot().process(7, "a", 100)).kubelet("n1", list(&[("a", &["GPU-cool"])])),
            COOL,
            "GPU-cool: a",
        ),
        (
            "a server that uses a GPU that nobody gave it",
            two(cool(), hot().process(7, "a", 100)).kubelet(
                "n1",
                infmon_samples::GpuOwners {
                    owners: vec![owner("other", "b", &["GPU-cool"])],
                    ..list(&[])
                },
            ),
            HOT,
            "GPU-hot by process: a",
        ),
        (
            "a sidecar server without ids beside one with ids",
            scene([server("a").device("GPU-cool"), server("b")])
                .gpu(cool())
                .gpu(hot().process(7, "b", 100))
                .looks_up("n1"),
            HOT,
            "GPU-cool: a; GPU-hot by process: b",
        ),
        (
            "a part does not name its GPU, and the process does",
            two(cool(), hot().process(7, "a", 100)).kubelet("n1", list(&[("a", &["7"])])),
            HOT,
            "GPU-hot by process: a",
        ),
    ]
}

#[test]
fn processes_tell_where_no_id_does() {
    for (name, mut scene, throttled, expected) in cases() {
        let verdict = scene.run(70);
        assert_eq!(serving(&verdict), expected, "{name}");
        let message = &finding(&verdict, Throttled).message;
        assert_eq!(short(&verdict, Throttled), throttled, "{name}: {message}");
        assert_presentable(&verdict);
    }
}

#[test]
fn words_say_how_it_is_known() {
    let message = |mut scene: Scene| finding(&scene.run(70), Throttled).message.clone();
    let cases = [
        (
            two(cool(), hot().process(7, "a", 100)),
            " Processes of pod a were seen on it. Next: ",
        ),
        (
            two(cool(), hot().process(7, "a", 100).process(8, "other", 100)),
            " Processes of pod a were seen on it (shared by 2 pods). Next: ",
        ),
        (
            two(cool(), hot().process(8, "?", 100)),
            " On that node: pod a (the cluster does not tell which pod has which GPU; of a process on it nobody can say whose it is).",
        ),
        (
            two(cool(), hot().with(|sample| sample.processes = None)),
            " On that node: pod a (the cluster does not tell which pod has which GPU; the processes on it are not known).",
        ),
        (
            two(cool(), hot()),
            "No GPU serves this monitor: no process of its pods is on a GPU of node n1. docs/",
        ),
        (
            two(cool(), hot()).kubelet("n1", list(&[])),
            "No GPU serves this monitor: the kubelet of node n1 has given none to its pods. docs/",
        ),
    ];
    for (scene, expected) in cases {
        let message = message(scene);
        assert!(message.contains(expected), "{message}");
    }
    let mut failing = two(cool(), hot().process(7, "a", 100));
    let failure = Some("the pod lacks hostPID.".to_owned());
    failing.lookups.insert("n1".into(), ProcessLookup { failure });
    let verdict = failing.run(70);
    let words =
        "(the cluster does not tell which pod has which GPU; nor do the processes on it: the pod lacks hostPID).";
    assert!(finding(&verdict, Throttled).message.contains(words), "{verdict:?}");
    assert_presentable(&verdict);
}

#[test]
fn a_server_that_starts_again_keeps_its_gpu_for_ten_minutes() {
    let mut scene = two(cool(), hot().process(7, "a", 100));
    scene.run(5);
    scene.gpus[1] = hot();
    assert_eq!(serving(&scene.run(590)), "GPU-hot by process: a");
    assert_eq!(serving(&scene.run(20)), "");
}

#[test]
fn a_lost_gpu_is_laid_to_the_pod_whose_process_was_on_it() {
    let mut scene = two(cool().process(8, "b", 100), hot().process(7, "a", 100));
    scene.servers.push(server("b"));
    scene.run(5);
    scene.gpus.pop();
    scene.outages.push((
        "n1".into(),
        GpuOutage {
            index: 1,
            uuid: Some("GPU-hot".into()),
            minor_number: None,
            failure: GpuFailure::Lost,
            message: "GPU is lost".into(),
            since: Duration::from_secs(1),
        },
    ));
    let verdict = scene.run(10);
    let message = &finding(&verdict, GpusHealthy).message;
    assert_eq!(short(&verdict, GpusHealthy), "False GpuLost", "{message}");
    assert!(message.contains("Processes of pod a were seen on it."), "{message}");
    assert_presentable(&verdict);
}

/// A server that was given `GPU-10000000`, and what is on it.
fn given(id: &str, on_it: Gpu) -> Scene {
    scene([server("a").device(id).running(3.0)]).gpu(on_it).looks_up("n1")
}

fn one() -> Gpu {
    gpu("n1", 1, "GPU-10000000-x").without_processes().with(|sample| {
        sample.memory_used_bytes = Some(70_000 << 20);
        sample.utilization_percent = Some(90);
    })
}

#[test]
fn a_server_that_is_not_on_its_gpu_is_found_beside_others() {
    const FINE: &str = "False BelowThreshold";
    const NOT_USED: &str = "True GpuNotUsed";
    let id = "GPU-10000000-x";
    let share = "GPU-10000000-x::2";
    let cases = [
        ("it is on it", given(id, one().process(7, "a", 100)), FINE),
        (
            "it is on it beside others",
            given(share, one().process(7, "a", 100).process(8, "b", 100)),
            FINE,
        ),
        (
            "only another is on a shared one",
            given(share, one().process(8, "b", 100)),
            NOT_USED,
        ),
        (
            "only another is on its own",
            given(id, one().process(8, "b", 100)),
            NOT_USED,
        ),
        (
            "only a process of the machine is on it",
            given(id, one().process(8, "machine", 100)),
            NOT_USED,
        ),
        (
            "a process on it is nobody's that is known: it may be of the server",
            given(share, one().process(8, "b", 100).process(9, "?", 100)),
            FINE,
        ),
        (
            "the driver does not tell the processes",
            given(share, one().with(|sample| sample.processes = None)),
            FINE,
        ),
        (
            "the daemon does not look",
            scene([server("a").device(share).running(3.0)]).gpu(one().process(8, "b", 100)),
            FINE,
        ),
        (
            "one of its two GPUs is in use",
            scene([server("a").device(id).device("GPU-2").running(3.0)])
                .gpu(one().process(8, "b", 100))
                .gpu(one().process(7, "a", 100).with(|sample| sample.uuid = "GPU-2".into()))
                .looks_up("n1"),
            FINE,
        ),
        (
            "nothing runs",
            scene([server("a").device(id).running(0.0)])
                .gpu(one().process(8, "b", 100))
                .looks_up("n1"),
            FINE,
        ),
    ];
    for (name, mut scene, expected) in cases {
        let verdict = scene.run(90);
        assert_eq!(
            short(&verdict, Underutilized),
            expected,
            "{name}: {}",
            finding(&verdict, Underutilized).message
        );
        assert_presentable(&verdict);
    }
}

#[test]
fn the_message_says_what_the_server_does_not_use() {
    let told = |id: &str, gpu: Gpu| finding(&given(id, gpu).run(60), Underutilized).message.clone();
    let next = "Next: see in the log of the server why it computes on the CPU (an image without CUDA; llama-server: --n-gpu-layers). \
                docs/conditions.md#gpunotused";
    let label = "GPU 1 (GPU-10000000) on node n1";
    assert_eq!(
        told("GPU-10000000-x", one().process(8, "b", 100)),
        format!("3 requests run on pod a, and no process of it holds memory on {label}, which it was given. {next}")
    );
    assert_eq!(
        told("GPU-10000000-x::2", one().process(8, "b", 100)),
        format!(
            "3 requests run on pod a, and no process of it holds memory on {label}, of which it was given a share. {next}"
        )
    );
    assert_eq!(
        told("GPU-10000000-x::2", one().process(8, "b", 100).process(9, "c", 100)),
        format!("3 requests run on pod a, and no process of it holds memory on {label}, which 2 pods share. {next}")
    );
}

#[test]
fn what_is_not_seen_any_more_clears_nothing() {
    let share = "GPU-10000000-x::2";
    let mut scene = given(share, one().process(8, "b", 100));
    assert_eq!(short(&scene.run(60), Underutilized), "True GpuNotUsed");
    // The daemon is replaced by one that does not look: nobody can say whose memory it is.
    scene.lookups.clear();
    scene.now += 1;
    let verdict = scene.run(90);
    assert_eq!(short(&verdict, Underutilized), "Unknown NoGpuData");
    let words = "Nobody tells whose memory is in use on GPU 1 (GPU-10000000) on node n1, which pods share.";
    assert!(finding(&verdict, Underutilized).message.contains(words), "{verdict:?}");
    assert_presentable(&verdict);
    scene = scene.looks_up("n1");
    scene.gpus[0] = one().process(7, "a", 100);
    scene.now += 1;
    assert_eq!(short(&scene.run(61), Underutilized), "False BelowThreshold");
}

pub(crate) fn pods_of(verdict: &Verdict) -> Vec<GpuPodStatus> {
    let status = status::status(
        verdict,
        &InferenceMonitorStatus::default(),
        Some(1),
        Vec::new(),
        jiff::Timestamp::UNIX_EPOCH,
    );
    status.gpus.into_iter().flat_map(|gpu| gpu.pods).collect()
}

#[test]
fn the_memory_of_a_pod_is_that_of_its_processes() {
    let pod = |target: &str, memory_mib| GpuPodStatus {
        target: target.to_owned(),
        memory_mib,
        ..GpuPodStatus::default()
    };
    let mut scene = given(
        "GPU-10000000-x::1",
        one().process(7, "a", 100).process(8, "a", 50).process(9, "b", 4000),
    );
    assert_eq!(pods_of(&scene.run(5)), [pod("a", Some(150))], "not that of the device");
    scene.gpus[0] = one().process(9, "b", 4000);
    assert_eq!(pods_of(&scene.run(5)), [pod("a", Some(0))]);
    // What is not known is no number.
    scene.gpus[0] = one().process(9, "?", 4000);
    assert_eq!(pods_of(&scene.run(5)), [pod("a", None)]);
    scene.gpus[0] = one().process(7, "a", 100).with(|sample| {
        for process in sample.processes.iter_mut().flatten() {
            process.used_bytes = None;
        }
    });
    assert_eq!(pods_of(&scene.run(5)), [pod("a", None)]);
    scene.lookups.clear();
    scene.gpus[0] = one().process(7, "a", 100);
    assert_eq!(pods_of(&scene.run(5)), [pod("a", None)]);
}
