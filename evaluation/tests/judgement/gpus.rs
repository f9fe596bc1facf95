//! Throttled: whose GPU, how much, and what is not known.

use crate::scene::{Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::Throttled;
use infmon_crds::v1alpha1::InferenceMonitorStatus;
use infmon_evaluation::{Memory, status};
use infmon_gpu::ThrottleCause::{self, BoardLimit, HardwareThermal, PowerCap, SoftwareThermal, SyncBoost};
use infmon_gpu::{DriverProblem, DriverState};

const COOL: &str = "False BelowThreshold";

fn uuid(number: u32) -> String {
    format!("GPU-{number}0000000-0000-0000-0000-000000000000")
}

fn one(cause: ThrottleCause, share: f64) -> Scene {
    scene([server("a").device(&uuid(1))]).gpu(gpu("n1", 3, &uuid(1)).loses(cause, share))
}

#[test]
fn throttling_follows_the_table() {
    let lowered = |scene: Scene| {
        let mut scene = scene;
        for gpu in &mut scene.gpus {
            gpu.sample.power_limit_milliwatts = Some(400_000);
            gpu.sample.power_milliwatts = Some(399_000);
        }
        scene
    };
    let cases = [
        ("no loss", one(HardwareThermal, 0.0), COOL),
        ("at the threshold", one(HardwareThermal, 0.01), COOL),
        (
            "above the threshold",
            one(HardwareThermal, 0.011),
            "True HardwareThermal",
        ),
        ("driver heat", one(SoftwareThermal, 0.4), "True SoftwareThermal"),
        ("board limit", one(BoardLimit, 0.4), "True BoardLimit"),
        ("a power cap alone is GPU Boost", one(PowerCap, 0.9), COOL),
        ("a lowered power limit", lowered(one(PowerCap, 0.9)), "True PowerCap"),
        ("sync boost repeats another cause", one(SyncBoost, 0.9), COOL),
        (
            "the more severe cause is told",
            scene([server("a")]).gpu(
                gpu("n1", 0, "GPU-1")
                    .loses(SoftwareThermal, 0.9)
                    .loses(HardwareThermal, 0.02),
            ),
            "True HardwareThermal",
        ),
        (
            "the GPU of another pod",
            scene([server("a").device(&uuid(1))])
                .gpu(gpu("n1", 0, &uuid(1)))
                .gpu(gpu("n1", 1, &uuid(2)).loses(HardwareThermal, 0.5)),
            COOL,
        ),
        (
            "a GPU on a node without endpoints",
            scene([server("a")])
                .gpu(gpu("n1", 0, "GPU-1"))
                .gpu(gpu("n2", 0, "GPU-2").loses(HardwareThermal, 0.5)),
            COOL,
        ),
        (
            "a time-slicing replica",
            scene([server("a").device(&format!("{}::3", uuid(1)))])
                .gpu(gpu("n1", 0, &uuid(1)).loses(HardwareThermal, 0.5))
                .gpu(gpu("n1", 1, &uuid(2))),
            "True HardwareThermal",
        ),
        (
            "a MIG device does not name its GPU: the node's GPUs count",
            scene([server("a").device("MIG-7f0a")]).gpu(gpu("n1", 0, &uuid(1)).loses(HardwareThermal, 0.5)),
            "True HardwareThermal",
        ),
        (
            "devices that are no GPUs",
            scene([server("a").device("mlx5_0")]).gpu(gpu("n1", 0, &uuid(1)).loses(HardwareThermal, 0.5)),
            "True HardwareThermal",
        ),
        (
            "a GPU that is not there",
            scene([server("a").device(&uuid(7))]).gpu(gpu("n1", 0, &uuid(1)).loses(HardwareThermal, 0.5)),
            "Unknown NoGpuData",
        ),
        (
            "a pod that is not Ready, on another node",
            scene([server("a"), server("b").on("n2").not_ready()])
                .gpu(gpu("n1", 0, "GPU-1"))
                .gpu(gpu("n2", 0, "GPU-2").loses(HardwareThermal, 0.5)),
            COOL,
        ),
        (
            "a server of the same machine (standalone)",
            scene([server("127.0.0.1:8000").anywhere()]).gpu(gpu("n1", 0, "GPU-1").loses(HardwareThermal, 0.5)),
            "True HardwareThermal",
        ),
        (
            "a server elsewhere has no GPU that we see",
            scene([server("127.evil.example:8000").anywhere()]).gpu(gpu("n1", 0, "GPU-1").loses(HardwareThermal, 0.5)),
            "Unknown NoGpuData",
        ),
        ("no GPU", scene([server("a")]), "Unknown NoGpuData"),
        (
            "a driver that counts nothing is not a GPU that loses nothing",
            scene([server("a")]).gpu(gpu("n1", 0, "GPU-1").with(|sample| sample.throttle.clear())),
            "Unknown NoGpuData",
        ),
    ];
    for (name, mut scene, expected) in cases {
        let verdict = scene.run(70);
        assert_eq!(
            short(&verdict, Throttled),
            expected,
            "{name}: {}",
            finding(&verdict, Throttled).message
        );
        assert_presentable(&verdict);
    }
}

#[test]
fn the_message_has_everything() {
    let mut scene =
        scene([server("vllm-0").device(&uuid(5))]).gpu(gpu("gpu-a7", 3, &uuid(5)).loses(HardwareThermal, 0.124));
    scene.servers[0] = scene.servers[0].clone().on("gpu-a7");
    let verdict = scene.run(120);
    let message = &finding(&verdict, Throttled).message;
    let (start, end) = message.split_once("% of the last ").unwrap();
    assert!(
        start.starts_with("GPU 3 (GPU-50000000) on node gpu-a7 lost clocks to heat (hardware) for 12."),
        "{message}"
    );
    assert!(
        end.ends_with(
            "s (threshold 1%): 91 C, margin -2 C, 650 of 700 W, SM 1065 of 1980 MHz. It serves pod vllm-0. Next: check airflow and fans of gpu-a7. docs/conditions.md#hardwarethermal"
        ),
        "{message}"
    );
}

#[test]
fn without_device_ids_the_words_say_so() {
    let mut scene = scene([server("a"), server("b"), server("far:80").anywhere()])
        .gpu(gpu("n1", 0, "GPU-1").loses(HardwareThermal, 0.5))
        .gpu(gpu("n1", 1, "GPU-2").loses(HardwareThermal, 0.6))
        .gpu(gpu("n1", 2, "GPU-3").loses(HardwareThermal, 0.4));
    let verdict = scene.run(70);
    let message = &finding(&verdict, Throttled).message;
    assert!(message.starts_with("GPU 1 (GPU-2)"), "worst first: {message}");
    assert!(
        message.contains(
            "On that node: pod a, b (the cluster does not tell which pod has which GPU). 2 more GPUs are throttled."
        ),
        "{message}"
    );
    assert_eq!(
        (verdict.throttled_gpus(), verdict.throttled_gpus_of_all()),
        (3, Some(3))
    );
}

#[test]
fn problems_of_the_driver_are_told() {
    let unavailable = DriverState::Unavailable {
        category: DriverProblem::LibraryNotFound,
        message: "libnvidia-ml.so.1 was not found in the daemon's container.".into(),
    };
    let cases = [
        (
            unavailable,
            "No GPU data from node n1: libnvidia-ml.so.1 was not found in the daemon's container. docs/",
        ),
        (
            DriverState::Unresponsive { for_seconds: 12 },
            "No GPU data from node n1: a driver call has not returned for 12 s. docs/",
        ),
        (
            DriverState::Starting,
            "No GPU data from node n1: the GPU session is starting. docs/",
        ),
    ];
    for (state, expected) in cases {
        let verdict = scene([server("a")]).driver("n1", state.clone()).look();
        assert!(
            finding(&verdict, Throttled).message.starts_with(expected),
            "{:?}",
            finding(&verdict, Throttled)
        );
        assert_presentable(&verdict);
        // One node's trouble does not hide the GPUs of another.
        let mut two = scene([server("a"), server("b").on("n2")])
            .driver("n1", state)
            .gpu(gpu("n2", 0, "GPU-2"));
        let verdict = two.run(30);
        assert_eq!(short(&verdict, Throttled), COOL);
        assert!(
            finding(&verdict, Throttled)
                .message
                .contains("1 GPU kept its clocks (threshold 1% of 60 s). No GPU data from node n1:")
        );
    }
}

#[test]
fn gpu_data_turns_stale_on_its_own_time() {
    let mut scene = one(HardwareThermal, 0.5);
    // The server is measured by another node, so its data stays young.
    scene.servers.push(server("b").on("n2"));
    scene.run(30);
    scene.silent.insert("n1".into());
    scene.now += 5;
    assert_eq!(short(&scene.look(), Throttled), "True HardwareThermal");
    scene.now += 6;
    let verdict = scene.look();
    assert_eq!(short(&verdict, Throttled), "Unknown NoGpuData");
    assert_eq!((verdict.gpu_age, verdict.throttled_gpus_of_all()), (None, None));
}

#[test]
fn due_comes_when_gpu_data_turns_stale() {
    let mut scene = scene([server("a").age(0)]).gpu(gpu("n1", 0, "GPU-1"));
    scene.run(30);
    let due = scene.judge().due.unwrap();
    assert!(
        due < infmon_evaluation::Moment::from_secs(scene.now + 10),
        "200 ms old already: {due:?}"
    );
}

#[test]
fn one_hiccup_after_the_start_is_no_finding() {
    let mut scene = one(HardwareThermal, 0.3);
    assert_eq!(short(&scene.run(1), Throttled), "Unknown WaitingForData");
    scene.gpus[0] = scene.gpus[0].clone().loses(HardwareThermal, 0.0);
    scene.now += 1;
    assert_eq!(short(&scene.run(20), Throttled), COOL);
}

#[test]
fn much_loss_after_the_start_is_found_before_the_window_is_full() {
    // Half of 3 s is more than 1 % of 60 s.
    assert_eq!(
        short(&one(HardwareThermal, 0.5).run(3), Throttled),
        "True HardwareThermal"
    );
}

#[test]
fn it_clears_when_the_window_is_clean_and_that_has_held() {
    let mut scene = one(HardwareThermal, 0.5);
    scene.run(70);
    let cooled = scene.gpus[0].clone().loses(HardwareThermal, 0.0);
    scene.gpus[0] = cooled.with(|sample| sample.temperature_margin_celsius = Some(30));
    let mut cleared = None;
    for second in 1..140 {
        scene.now += 1;
        let verdict = scene.look();
        assert_presentable(&verdict);
        if short(&verdict, Throttled) == COOL {
            cleared = Some(second);
            break;
        }
        assert_eq!(short(&verdict, Throttled), "True HardwareThermal");
    }
    // 60 s of window, a second of its grain, 30 s to clear.
    assert!(cleared.is_some_and(|second| (88..=92).contains(&second)), "{cleared:?}");
}

#[test]
fn a_restart_does_not_clear_what_stands() {
    let verdict = one(HardwareThermal, 0.5).run(70);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let written = status::status(&verdict, &InferenceMonitorStatus::default(), Some(1), Vec::new(), now);
    let mut after = one(HardwareThermal, 0.5).watched_for(1);
    after.memory = Memory::from_status(&written);
    let verdict = after.look();
    assert!(!verdict.settled, "the first sample says nothing of throttling");
    for _ in 0..10 {
        let verdict = after.look();
        after.now += 1;
        assert!(!verdict.settled || short(&verdict, Throttled) == "True HardwareThermal");
    }
}

#[test]
fn a_short_window_is_measured_as_one() {
    let mut scene = one(HardwareThermal, 0.5).spec(|spec| spec.thresholds.throttled_percent.for_seconds = 5);
    let verdict = scene.run(70);
    let (_, duty, over) = verdict.gpus[0].throttled.unwrap();
    assert!(
        (duty - 0.5).abs() < 0.01 && (5..=6).contains(&over.as_secs()),
        "{duty} over {over:?}"
    );
    scene.gpus[0] = scene.gpus[0].clone().loses(HardwareThermal, 0.0);
    // 5 s of window, 5 s to clear.
    scene.now += 1;
    assert_eq!(short(&scene.run(13), Throttled), COOL);
}
