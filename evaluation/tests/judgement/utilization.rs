//! Underutilized: GPUs that idle while requests run, and what nobody can say.

use crate::scene::{Gpu, Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::Underutilized;
use infmon_engines::{Engine, EngineSample};
use infmon_gpu::GpuProcess;

const FINE: &str = "False BelowThreshold";

fn uuid(number: u32) -> String {
    format!("GPU-{number}0000000-0000-0000-0000-000000000000")
}

fn used(number: u32, share: u32, mib: u64) -> Gpu {
    gpu("n1", number, &uuid(number)).with(|sample| {
        sample.utilization_percent = Some(share);
        sample.memory_used_bytes = Some(mib << 20);
    })
}

fn one(running: f64, share: u32) -> Scene {
    scene([server("a").device(&uuid(1)).running(running)]).gpu(used(1, share, 70_000))
}

#[test]
fn underuse_follows_the_table() {
    let cases = [
        ("busy", one(4.0, 90), FINE),
        ("at the threshold", one(4.0, 50), FINE),
        ("below it", one(4.0, 49), "True LowUtilization"),
        ("nothing runs", one(0.0, 0), FINE),
        (
            "switched off",
            one(4.0, 0).spec(|spec| spec.thresholds.gpu_utilization_percent.below = 0),
            FINE,
        ),
        (
            "the idle GPU is that of an idle server",
            scene([server("a").device(&uuid(1)), server("b").device(&uuid(2)).running(0.0)])
                .gpu(used(1, 90, 70_000))
                .gpu(used(2, 0, 70_000)),
            FINE,
        ),
        (
            "the mean of all counts",
            scene([server("a").device(&uuid(1)).device(&uuid(2))])
                .gpu(used(1, 90, 70_000))
                .gpu(used(2, 12, 70_000)),
            FINE,
        ),
        (
            "whose GPU it is is not known",
            scene([server("a")]).gpu(used(1, 0, 70_000)),
            "Unknown NoGpuData",
        ),
        (
            "MIG: the driver does not tell",
            scene([server("a").device(&uuid(1))])
                .gpu(used(1, 0, 70_000).with(|sample| sample.utilization_percent = None)),
            "Unknown NoGpuData",
        ),
        ("no GPU", scene([server("a")]), "Unknown NoGpuData"),
        (
            "running requests are not published",
            scene([server("a").device(&uuid(1)).says(|sample| sample.running = None)]).gpu(used(1, 0, 70_000)),
            "Unknown SeriesMissing",
        ),
        (
            "the GPU is empty",
            scene([server("a").device(&uuid(1))]).gpu(used(1, 0, 4)),
            "True GpuNotUsed",
        ),
        (
            "the GPU is empty and nothing runs",
            scene([server("a").device(&uuid(1)).running(0.0)]).gpu(used(1, 0, 4)),
            FINE,
        ),
        (
            "a context alone is in use",
            scene([server("a").device(&uuid(1))]).gpu(used(1, 90, 100)),
            FINE,
        ),
        (
            "something computes",
            scene([server("a").device(&uuid(1))]).gpu(used(1, 60, 4)),
            FINE,
        ),
        (
            "one of its two GPUs is in use",
            scene([server("a").device(&uuid(1)).device(&uuid(2))])
                .gpu(used(1, 99, 70_000))
                .gpu(used(2, 2, 4)),
            FINE,
        ),
        (
            "a GPU of its own that is not read may be in use",
            scene([server("a").device(&uuid(1)).device(&uuid(9))]).gpu(used(1, 0, 4)),
            "True LowUtilization",
        ),
        (
            "a process is seen on it",
            scene([server("a").device(&uuid(1))]).gpu(used(1, 0, 4).with(|sample| {
                sample.processes = Some(vec![GpuProcess {
                    pid: 7,
                    ..GpuProcess::default()
                }]);
            })),
            "True LowUtilization",
        ),
        (
            "the driver does not tell what is in use",
            scene([server("a").device(&uuid(1))]).gpu(used(1, 0, 4).with(|sample| sample.memory_used_bytes = None)),
            "True LowUtilization",
        ),
        (
            "an empty GPU on the node of a pod without ids",
            scene([server("a")]).gpu(used(1, 0, 4)),
            "Unknown NoGpuData",
        ),
    ];
    for (name, mut scene, expected) in cases {
        let verdict = scene.run(601);
        let found = finding(&verdict, Underutilized);
        assert_eq!(short(&verdict, Underutilized), expected, "{name}: {}", found.message);
        assert_presentable(&verdict);
    }
}

#[test]
fn the_messages_have_everything() {
    let mut low = scene([server("a").device(&uuid(1)), server("b").device(&uuid(2))])
        .gpu(used(1, 40, 70_000))
        .gpu(used(2, 3, 70_000));
    assert_eq!(
        finding(&low.run(600), Underutilized).message,
        "2 GPUs compute 22% of the time while requests run (threshold 50% for 600 s), least GPU 2 (GPU-20000000) on node n1 with 3%. \
         It serves pod b. Next: fewer replicas for the same requests, or see what the servers wait for (CPU, network, tokenizer). \
         docs/conditions.md#lowutilization"
    );
    let mut empty = scene([server("a").device(&uuid(1)).running(3.0)]).gpu(used(1, 0, 4));
    assert_eq!(
        finding(&empty.run(60), Underutilized).message,
        "3 requests run on pod a, and its GPU is empty: GPU 1 (GPU-10000000) on node n1 has 4 MiB in use and computes nothing. \
         Next: see in the log of the server why it computes on the CPU (an image without CUDA; llama-server: --n-gpu-layers). \
         docs/conditions.md#gpunotused"
    );
}

#[test]
fn it_takes_its_time_to_rise_and_to_clear() {
    let mut scene = one(4.0, 10);
    assert_eq!(short(&scene.run(599), Underutilized), FINE);
    scene.now += 1;
    assert_eq!(short(&scene.look(), Underutilized), "True LowUtilization");
    // The service idles: no finding, but that has to hold too.
    scene.server_mut(|server| server.running(0.0));
    scene.now += 1;
    let verdict = scene.run(599);
    assert_eq!(short(&verdict, Underutilized), "True LowUtilization");
    assert!(finding(&verdict, Underutilized).message.contains("clears when"));
    assert_presentable(&verdict);
    scene.now += 1;
    assert_eq!(short(&scene.look(), Underutilized), FINE);
}

#[test]
fn a_break_starts_the_time_anew() {
    let mut scene = one(4.0, 10);
    scene.run(599);
    scene.gpus[0].sample.utilization_percent = Some(80);
    scene.now += 1;
    scene.look();
    scene.gpus[0].sample.utilization_percent = Some(10);
    scene.now += 1;
    assert_eq!(short(&scene.run(599), Underutilized), FINE);
}

#[test]
fn a_server_that_takes_its_gpu_clears_what_was_said() {
    let mut scene = scene([server("a").device(&uuid(1))]).gpu(used(1, 0, 4));
    assert_eq!(short(&scene.run(60), Underutilized), "True GpuNotUsed");
    scene.gpus[0] = used(1, 95, 70_000);
    scene.now += 1;
    let verdict = scene.run(59);
    assert_eq!(short(&verdict, Underutilized), "True GpuNotUsed");
    assert_presentable(&verdict);
    scene.now += 1;
    assert_eq!(short(&scene.look(), Underutilized), FINE);
}

#[test]
fn an_empty_gpu_is_not_in_use_because_nobody_sees_it() {
    let raised = || {
        let mut scene = scene([server("a").device(&uuid(1))]).gpu(used(1, 0, 4));
        assert_eq!(short(&scene.run(60), Underutilized), "True GpuNotUsed");
        scene.now += 1;
        scene
    };
    type Change = fn(&mut Scene);
    let cases: [(&str, Change, &str); 3] = [
        (
            "the memory is not told",
            |scene| scene.gpus[0].sample.memory_used_bytes = None,
            "Unknown NoGpuData",
        ),
        (
            "the GPU is not read",
            |scene| scene.gpus[0] = used(9, 50, 70_000),
            "Unknown NoGpuData",
        ),
        (
            "no sample from the node",
            |scene| scene.gpus.clear(),
            "Unknown NoGpuData",
        ),
    ];
    for (name, change, expected) in cases {
        let mut scene = raised();
        change(&mut scene);
        let verdict = scene.run(90);
        assert_eq!(short(&verdict, Underutilized), expected, "{name}");
        assert_presentable(&verdict);
        // It was only not seen.
        scene.gpus = vec![used(1, 0, 4)];
        scene.now += 1;
        assert_eq!(short(&scene.look(), Underutilized), "True GpuNotUsed", "{name}");
        change(&mut scene);
        scene.server_mut(|server| server.running(0.0));
        scene.now += 1;
        assert_eq!(short(&scene.run(60), Underutilized), FINE, "{name}: nothing runs");
    }
}

/// Ollama tells neither requests nor queue.
fn ollama(share: Option<f64>) -> impl FnOnce(&mut EngineSample) {
    move |sample| {
        *sample = EngineSample {
            engine: Some(Engine::Ollama),
            models: vec!["llama3.1:8b".into()],
            model_gpu_share: share,
            ..EngineSample::default()
        };
    }
}

#[test]
fn an_engine_that_says_that_it_computes_on_the_cpu_is_believed() {
    let on = |share| scene([server("a").device(&uuid(1)).says(ollama(share))]).gpu(used(1, 0, 4));
    let mut scene = on(Some(0.0));
    assert_eq!(short(&scene.run(55), Underutilized), "Unknown SeriesMissing");
    let verdict = scene.run(10);
    assert_eq!(short(&verdict, Underutilized), "True GpuNotUsed");
    assert!(finding(&verdict, Underutilized).message.starts_with(
        "Ollama on a says that no part of its models is on a GPU, and it was given GPU 1 (GPU-10000000) on node n1. Next: "
    ));
    assert_presentable(&verdict);
    // Back on the GPU.
    scene.server_mut(|server| server.says(ollama(Some(0.5))));
    assert_eq!(short(&scene.run(30), Underutilized), "True GpuNotUsed");
    assert_eq!(short(&scene.run(40), Underutilized), "Unknown SeriesMissing");
    for share in [None, Some(1.0), Some(0.1)] {
        assert_eq!(
            short(&on(share).run(90), Underutilized),
            "Unknown SeriesMissing",
            "{share:?}"
        );
    }
    let mut without = scene_of_no_gpu();
    assert_ne!(
        short(&without.run(90), Underutilized),
        "True GpuNotUsed",
        "a machine without GPU"
    );
}

fn scene_of_no_gpu() -> Scene {
    scene([server("a").says(ollama(Some(0.0)))])
}
