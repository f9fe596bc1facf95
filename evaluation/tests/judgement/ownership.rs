//! Whose GPU it is: the kubelet's list, the status of the pod, or the node.

use crate::scene::{NAMESPACE, Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::Throttled;
use infmon_crds::v1alpha1::InferenceMonitorStatus;
use infmon_evaluation::metric::Metric::ThrottledGpus;
use infmon_evaluation::{Attribution, Moment, Verdict, status};
use infmon_gpu::ThrottleCause::HardwareThermal;
use infmon_samples::{GpuOwner, GpuOwners, GpuOwnersFailure};
use std::time::Duration;

const COOL: &str = "False BelowThreshold";
const HOT: &str = "True HardwareThermal";
const NONE: &str = "Unknown NoGpuData";

pub(crate) fn owner(namespace: &str, pod: &str, devices: &[&str]) -> GpuOwner {
    GpuOwner {
        namespace: namespace.into(),
        pod: pod.into(),
        container: "server".into(),
        resource: "nvidia.com/gpu".into(),
        devices: devices.iter().map(|id| (*id).to_owned()).collect(),
    }
}

/// A list of the pods of the monitor's own namespace.
pub(crate) fn list(owners: &[(&str, &[&str])]) -> GpuOwners {
    GpuOwners {
        age: Some(Duration::from_secs(3)),
        owners: owners.iter().map(|(pod, ids)| owner(NAMESPACE, pod, ids)).collect(),
        failure: None,
    }
}

fn with(mut list: GpuOwners, more: GpuOwner) -> GpuOwners {
    list.owners.push(more);
    list
}

fn aged(list: GpuOwners, seconds: u64) -> GpuOwners {
    GpuOwners {
        age: Some(Duration::from_secs(seconds)),
        ..list
    }
}

fn failing(list: GpuOwners, seconds: u64) -> GpuOwners {
    GpuOwners {
        failure: Some(GpuOwnersFailure {
            message: "nobody listens on kubelet.sock.".into(),
            since: Duration::from_secs(seconds),
        }),
        ..list
    }
}

/// GPU-cool and GPU-hot on node n1.
fn two_gpus(scene: Scene) -> Scene {
    scene
        .gpu(gpu("n1", 0, "GPU-cool"))
        .gpu(gpu("n1", 1, "GPU-hot").loses(HardwareThermal, 0.5))
}

/// The monitor's GPUs and whom they serve, by device (`GPU-cool: a; GPU-hot: a, b`), by process or by node (`GPU-hot ~ a`).
pub(crate) fn serving(verdict: &Verdict) -> String {
    let mut gpus: Vec<String> = verdict
        .gpus
        .iter()
        .map(|gpu| {
            let how = match gpu.attribution {
                Attribution::Device => ":",
                Attribution::Process => " by process:",
                Attribution::Node { .. } => " ~",
            };
            format!("{}{how} {}", gpu.sample.uuid, gpu.pods.join(", "))
        })
        .collect();
    gpus.sort();
    gpus.join("; ")
}

/// Name, scene, Throttled, and whom the GPUs serve.
type Case = (&'static str, Scene, &'static str, &'static str);

fn of_the_kubelet() -> Vec<Case> {
    vec![
        (
            "the GPU of a neighbour is hot",
            two_gpus(scene([server("a")])).kubelet(
                "n1",
                with(list(&[("a", &["GPU-cool"])]), owner("other", "b", &["GPU-hot"])),
            ),
            COOL,
            "GPU-cool: a",
        ),
        (
            "its own is hot",
            two_gpus(scene([server("a")])).kubelet(
                "n1",
                with(list(&[("a", &["GPU-hot"])]), owner("other", "b", &["GPU-cool"])),
            ),
            HOT,
            "GPU-hot: a",
        ),
        (
            "a hot GPU that nobody has",
            two_gpus(scene([server("a")])).kubelet("n1", list(&[("a", &["GPU-cool"])])),
            COOL,
            "GPU-cool: a",
        ),
        (
            "shared with a neighbour",
            two_gpus(scene([server("a")])).kubelet(
                "n1",
                with(list(&[("a", &["GPU-hot::0"])]), owner("other", "b", &["GPU-hot::1"])),
            ),
            HOT,
            "GPU-hot: a",
        ),
        (
            "shared by two pods of the monitor",
            two_gpus(scene([server("a"), server("b")])).kubelet(
                "n1",
                list(&[("a", &["GPU-hot::0"]), ("b", &["GPU-hot::1", "GPU-cool::0"])]),
            ),
            HOT,
            "GPU-cool: b; GPU-hot: a, b",
        ),
        (
            "a gateway without a GPU beside a server with one",
            two_gpus(scene([server("a"), server("gateway")])).kubelet("n1", list(&[("a", &["GPU-cool"])])),
            COOL,
            "GPU-cool: a",
        ),
        (
            "two containers of one pod",
            two_gpus(scene([server("a")])).kubelet("n1", list(&[("a", &["GPU-cool"]), ("a", &["GPU-hot"])])),
            HOT,
            "GPU-cool: a; GPU-hot: a",
        ),
        (
            "a pod of the same name in another namespace",
            two_gpus(scene([server("a")])).kubelet("n1", with(list(&[]), owner("other", "a", &["GPU-hot"]))),
            NONE,
            "",
        ),
        (
            "the kubelet of another node says nothing of this one",
            two_gpus(scene([server("a"), server("b").on("n2")])).kubelet("n2", list(&[("a", &["GPU-cool"])])),
            HOT,
            "GPU-cool ~ a; GPU-hot ~ a",
        ),
        (
            "a GPU that is not read",
            two_gpus(scene([server("a")])).kubelet("n1", list(&[("a", &["GPU-lost"])])),
            NONE,
            "",
        ),
        (
            "a part does not name its GPU: all that others have not for themselves",
            two_gpus(scene([server("a")])).kubelet(
                "n1",
                with(list(&[("a", &["MIG-7"])]), owner("other", "b", &["GPU-hot"])),
            ),
            COOL,
            "GPU-cool ~ a",
        ),
        (
            "a minor number, and nobody knows those of the GPUs",
            two_gpus(scene([server("a"), server("b")])).kubelet("n1", list(&[("a", &["nvidia1"])])),
            HOT,
            "GPU-cool ~ a, b; GPU-hot ~ a, b",
        ),
        (
            "an id of no known form",
            numbered(scene([server("a")])).kubelet("n1", list(&[("a", &["7"])])),
            HOT,
            "GPU-cool ~ a; GPU-hot ~ a",
        ),
    ]
}

/// Minor numbers the other way round than the indices.
fn numbered(scene: Scene) -> Scene {
    scene
        .gpu(gpu("n1", 0, "GPU-cool").with(|gpu| gpu.minor_number = Some(1)))
        .gpu(
            gpu("n1", 1, "GPU-hot")
                .loses(HardwareThermal, 0.5)
                .with(|gpu| gpu.minor_number = Some(0)),
        )
}

fn by_minor_number() -> Vec<Case> {
    let given = |id: &str| numbered(scene([server("a")])).kubelet("n1", list(&[("a", &[id])]));
    let mut cases: Vec<Case> = ["nvidia0", "nvidia0/gi2/vgpu1", "gpu.nvidia.com/n1/gpu-0"]
        .map(|id| ("the hot one by its minor number", given(id), HOT, "GPU-hot: a"))
        .into();
    cases.extend([
        ("the cool one", given("nvidia1/vgpu0"), COOL, "GPU-cool: a"),
        (
            "told by the status",
            numbered(scene([server("a").device("k8s.gpu.nvidia.com/claim=6f1c-gpu-1")])),
            COOL,
            "GPU-cool: a",
        ),
        ("a number that no GPU has", given("nvidia7"), NONE, ""),
    ]);
    cases
}

fn precedence() -> Vec<Case> {
    let told = |id: &str| two_gpus(scene([server("a").device(id)]));
    vec![
        (
            "kubelet and pod status disagree: the kubelet",
            told("GPU-hot").kubelet("n1", list(&[("a", &["GPU-cool"])])),
            COOL,
            "GPU-cool: a",
        ),
        (
            "a pod that is younger than the list: its status",
            told("GPU-cool").kubelet("n1", with(list(&[]), owner("other", "ended", &["GPU-cool"]))),
            COOL,
            "GPU-cool: a",
        ),
        (
            "a list just young enough",
            told("GPU-hot").kubelet("n1", failing(aged(list(&[("a", &["GPU-cool"])]), 60), 50)),
            COOL,
            "GPU-cool: a",
        ),
        (
            "a list just too old: the status",
            told("GPU-hot").kubelet("n1", failing(aged(list(&[("a", &["GPU-cool"])]), 61), 50)),
            HOT,
            "GPU-hot: a",
        ),
        (
            "no list yet: the status",
            told("GPU-cool").kubelet("n1", failing(GpuOwners::default(), 5)),
            COOL,
            "GPU-cool: a",
        ),
        (
            "no list yet and no status: the node",
            two_gpus(scene([server("a")])).kubelet("n1", failing(GpuOwners::default(), 5)),
            HOT,
            "GPU-cool ~ a; GPU-hot ~ a",
        ),
        (
            "a list too old and no status: the node",
            two_gpus(scene([server("a")])).kubelet("n1", failing(aged(list(&[("a", &["GPU-cool"])]), 300), 290)),
            HOT,
            "GPU-cool ~ a; GPU-hot ~ a",
        ),
        ("nobody is asked: the status", told("GPU-cool"), COOL, "GPU-cool: a"),
        (
            "nobody is asked and no status: the node",
            two_gpus(scene([server("a")])),
            HOT,
            "GPU-cool ~ a; GPU-hot ~ a",
        ),
    ]
}

#[test]
fn gpus_belong_to_whom_the_best_source_names() {
    for (name, mut scene, throttled, expected) in of_the_kubelet()
        .into_iter()
        .chain(by_minor_number())
        .chain(precedence())
    {
        let verdict = scene.run(70);
        assert_eq!(serving(&verdict), expected, "{name}");
        let message = &finding(&verdict, Throttled).message;
        assert_eq!(short(&verdict, Throttled), throttled, "{name}: {message}");
        assert_presentable(&verdict);
        if throttled == HOT {
            // Where the knowledge is from is told only where it is the node.
            let by_node = expected.contains('~');
            assert_eq!(message.contains(" On that node: pod a"), by_node, "{name}: {message}");
            assert_eq!(message.contains(" It serves pod a"), !by_node, "{name}: {message}");
        }
    }
}

#[test]
fn words_say_why_it_is_only_the_node() {
    let cases = [
        (None, "(the cluster does not tell which pod has which GPU)"),
        (
            Some(GpuOwners::default()),
            "(the cluster does not tell which pod has which GPU; the kubelet has not answered yet)",
        ),
        (
            Some(failing(aged(list(&[]), 300), 290)),
            "(the cluster does not tell which pod has which GPU; for 5 min the kubelet has not told it: nobody listens on kubelet.sock)",
        ),
        (
            Some(aged(list(&[]), 75)),
            "(the cluster does not tell which pod has which GPU; the kubelet's last list is 75 s old)",
        ),
        (
            Some(list(&[("a", &["MIG-7f0a"])])),
            "(their devices do not name a GPU: MIG-7f0a)",
        ),
    ];
    for (says, words) in cases {
        let mut scene = two_gpus(scene([server("a")]));
        if let Some(says) = says {
            scene = scene.kubelet("n1", says);
        }
        let verdict = scene.run(70);
        let message = &finding(&verdict, Throttled).message;
        assert!(
            message.contains(&format!(" On that node: pod a {words}. Next: ")),
            "{message}"
        );
        assert_presentable(&verdict);
    }
}

#[test]
fn numbers_of_a_shared_gpu_are_said_to_be_those_of_all() {
    let pods = |ids: &[(&str, &str)]| {
        let owners = ids.iter().map(|(pod, id)| owner(NAMESPACE, pod, &[id])).collect();
        GpuOwners { owners, ..list(&[]) }
    };
    let cases = [
        (pods(&[("a", "GPU-hot")]), "It serves pod a."),
        (pods(&[("a", "GPU-hot"), ("x", "GPU-cool")]), "It serves pod a."),
        (pods(&[("a", "GPU-hot::0")]), "It serves pod a."),
        (
            pods(&[("a", "GPU-hot::0"), ("x", "GPU-hot::1"), ("y", "GPU-hot::2")]),
            "It serves pod a (shared by 3 pods).",
        ),
        // Two containers, or two shares, of one pod.
        (pods(&[("a", "GPU-hot::0"), ("a", "GPU-hot::1")]), "It serves pod a."),
    ];
    for (says, words) in cases {
        let verdict = two_gpus(scene([server("a")])).kubelet("n1", says).run(70);
        let message = &finding(&verdict, Throttled).message;
        assert!(message.contains(words), "{words}: {message}");
        assert_presentable(&verdict);
    }
    let told = |scene: Scene, words: &str| {
        let verdict = two_gpus(scene).run(70);
        let message = &finding(&verdict, Throttled).message;
        assert!(message.contains(words), "{words}: {message}");
        assert_presentable(&verdict);
    };
    told(scene([server("a").device("GPU-hot")]), "It serves pod a.");
    told(
        scene([server("a").device("GPU-hot::4")]),
        "It serves pod a (a share of it; others may have it too).",
    );
    told(
        scene([server("a").device("GPU-hot"), server("b").device("GPU-hot")]),
        "It serves pod a, b (shared by 2 pods).",
    );
}

#[test]
fn the_status_lists_and_counts_only_what_belongs_to_the_monitor() {
    let mut scene = two_gpus(scene([server("a"), server("b").on("n2")]))
        .gpu(gpu("n2", 0, "GPU-far").loses(HardwareThermal, 0.5))
        .kubelet(
            "n1",
            with(list(&[("a", &["GPU-cool"])]), owner("other", "x", &["GPU-hot"])),
        )
        .kubelet("n2", list(&[("b", &["GPU-far"])]));
    let verdict = scene.run(70);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let written = status::status(&verdict, &InferenceMonitorStatus::default(), Some(1), Vec::new(), now);
    let summary = written.summary.unwrap();
    assert_eq!((summary.gpus, summary.throttled.as_deref()), (Some(2), Some("1/2")));
    let listed: Vec<&str> = written.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
    assert_eq!(listed, ["GPU-far", "GPU-cool"]);
    assert_eq!(scene.metric(ThrottledGpus).map(|reading| reading.value), Ok(1.0));
}

#[test]
fn a_node_where_no_gpu_was_given_is_known_and_no_hole() {
    let servers = || scene([server("a"), server("gateway").on("n2")]);
    let with_gpus = |scene: Scene| two_gpus(scene).kubelet("n1", list(&[("a", &["GPU-hot"])]));
    let mut known = with_gpus(servers()).kubelet("n2", list(&[]));
    let verdict = known.run(70);
    assert_eq!(serving(&verdict), "GPU-hot: a");
    assert_eq!(known.metric(ThrottledGpus).map(|reading| reading.value), Ok(1.0));
    // Nobody knows whether the gateway has a GPU.
    let mut unknown = with_gpus(servers()).kubelet("n2", failing(GpuOwners::default(), 5));
    unknown.run(70);
    assert!(unknown.metric(ThrottledGpus).is_err());

    let mut none = two_gpus(scene([server("a")])).kubelet("n1", with(list(&[]), owner("other", "b", &["GPU-hot"])));
    let verdict = none.run(70);
    let message = &finding(&verdict, Throttled).message;
    assert_eq!(
        message,
        "No GPU serves this monitor: the kubelet of node n1 has given none to its pods. docs/conditions.md#nogpudata"
    );
    assert!(none.metric(ThrottledGpus).is_err(), "no GPU is not 0 throttled GPUs");
}

#[test]
fn a_gpu_that_is_given_and_not_read_is_a_hole() {
    let mut scene = two_gpus(scene([server("a"), server("b")]))
        .kubelet("n1", list(&[("a", &["GPU-cool"]), ("b", &["GPU-5f2c91e0-0000"])]));
    let verdict = scene.run(70);
    assert_eq!(short(&verdict, Throttled), COOL);
    let message = &finding(&verdict, Throttled).message;
    assert!(
        message.ends_with("No GPU data from node n1: GPU-5f2c91e0 of pod b is not among the GPUs that are read."),
        "{message}"
    );
    assert!(scene.metric(ThrottledGpus).is_err());
}

#[test]
fn a_daemon_that_restarts_does_not_lose_the_list_and_one_that_stops_asking_does() {
    let mut scene = two_gpus(scene([server("a")])).kubelet("n1", list(&[("a", &["GPU-cool"])]));
    assert_eq!(short(&scene.run(70), Throttled), COOL);
    scene = scene.kubelet("n1", GpuOwners::default());
    scene.now += 1;
    // 3 s old when it came.
    assert_eq!(serving(&scene.run(56)), "GPU-cool: a");
    scene.now += 1;
    assert_eq!(serving(&scene.look()), "GPU-cool ~ a; GPU-hot ~ a", "61 s are too many");

    let mut scene = two_gpus(crate::scene::scene([server("a")])).kubelet("n1", list(&[("a", &["GPU-cool"])]));
    scene.look();
    scene.owners.clear();
    assert_eq!(serving(&scene.look()), "GPU-cool ~ a; GPU-hot ~ a");
}

#[test]
fn a_list_from_before_the_start_of_this_process_counts() {
    let mut scene = two_gpus(scene([server("a").age(100)])).kubelet("n1", aged(list(&[("a", &["GPU-cool"])]), 9));
    scene.now = 2;
    assert_eq!(serving(&scene.look()), "GPU-cool: a");
}

#[test]
fn due_comes_when_the_list_turns_stale() {
    let mut scene = two_gpus(scene([server("a")]))
        .spec(|spec| spec.stale_after_seconds = 300)
        .kubelet("n1", aged(list(&[("a", &["GPU-cool"])]), 40));
    scene.run(30);
    let due = scene.judge().due.unwrap();
    assert!(
        due > Moment::from_secs(scene.now + 19) && due < Moment::from_secs(scene.now + 21),
        "{due:?}"
    );
}
