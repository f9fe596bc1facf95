//! OOMRisk: KV cache, preemptions, free GPU memory.

use crate::scene::{Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::OomRisk as Condition;
use infmon_crds::v1alpha1::OomRisk::{self, High, Low, Medium, Unknown};
use infmon_engines::Engine;

const FULL: &str = "True KVCacheExhaustion";
const EVICTING: &str = "True Preemptions";
const CALM: &str = "False BelowThreshold";

fn free(mib: u64) -> crate::scene::Gpu {
    gpu("n1", 0, "GPU-1").with(|sample| sample.memory_free_bytes = Some(mib << 20))
}

/// A server of an engine that does not reserve its memory ahead.
fn growing_server(name: &str) -> crate::scene::Server {
    server(name).says(|sample| sample.engine = Some(Engine::Tgi))
}

fn quiet(scene: Scene) -> Scene {
    let mut scene = scene;
    scene.server_mut(|server| server.says(|sample| sample.preemptions_total = None));
    scene
}

#[test]
fn the_level_follows_the_table() {
    let no_kv = || scene([server("a").says(|sample| sample.kv_cache_usage = None)]);
    let stale = || scene([server("a").age(60_000), server("b").age(60_000).on("n2")]);
    let cases: Vec<(&str, Scene, &str, OomRisk)> = vec![
        ("calm", scene([server("a")]), CALM, Low),
        ("at the threshold", scene([server("a").kv(0.90)]), CALM, Low),
        ("above the threshold", scene([server("a").kv(0.91)]), FULL, Medium),
        (
            "one of two is full",
            scene([server("a"), server("b").kv(0.99)]),
            FULL,
            High,
        ),
        (
            "a pod that is not Ready is full",
            scene([server("a"), server("b").kv(0.99).not_ready()]),
            CALM,
            Low,
        ),
        (
            "little GPU memory free",
            scene([growing_server("a")]).gpu(free(511)),
            "True LowHeadroom",
            Medium,
        ),
        (
            "little GPU memory left by an engine that reserves it",
            scene([server("a")]).gpu(free(1)),
            CALM,
            Low,
        ),
        (
            "one of two engines on it does not reserve",
            scene([server("a"), growing_server("b")]).gpu(free(511)),
            "True LowHeadroom",
            Medium,
        ),
        (
            "just enough GPU memory free",
            scene([server("a")]).gpu(free(512)),
            CALM,
            Low,
        ),
        (
            "headroom switched off",
            scene([growing_server("a")])
                .gpu(free(0))
                .spec(|spec| spec.thresholds.gpu_memory_headroom_mib.below = 0),
            CALM,
            Low,
        ),
        (
            "the cache goes before the headroom",
            scene([growing_server("a").kv(0.95)]).gpu(free(1)),
            FULL,
            Medium,
        ),
        ("no KV series, GPU memory known", no_kv().gpu(free(9000)), CALM, Low),
        ("no KV series, no GPU", quiet(no_kv()), "Unknown SeriesMissing", Unknown),
        (
            "GPU memory not told",
            scene([server("a")]).gpu(gpu("n1", 0, "GPU-1").with(|s| s.memory_free_bytes = None)),
            CALM,
            Low,
        ),
        ("no data", stale(), "Unknown StaleData", Unknown),
        (
            "no data from servers, GPUs calm",
            stale().gpu(free(9000)),
            "Unknown StaleData",
            Unknown,
        ),
        (
            "no data from servers, GPU full",
            scene([growing_server("a").age(60_000)]).gpu(free(9)),
            "True LowHeadroom",
            Medium,
        ),
        (
            "no data from servers that reserve memory, GPU full",
            stale().gpu(free(9)),
            "Unknown StaleData",
            Unknown,
        ),
        ("no endpoint", scene([]), "Unknown NoEndpoints", Unknown),
        (
            "nonsense",
            quiet(scene([server("a").kv(f64::NAN)])),
            "Unknown SeriesMissing",
            Unknown,
        ),
    ];
    for (name, mut scene, expected, risk) in cases {
        let verdict = scene.run(40);
        assert_eq!(
            (short(&verdict, Condition).as_str(), verdict.oom_risk),
            (expected, risk),
            "{name}"
        );
        assert_presentable(&verdict);
    }
}

#[test]
fn the_cache_must_stay_above_for_its_time() {
    let mut scene = scene([server("a").kv(0.95)]);
    assert_eq!(short(&scene.run(29), Condition), CALM);
    scene.now += 1;
    assert_eq!(short(&scene.look(), Condition), FULL);
    scene.server_mut(|server| server.kv(0.4));
    scene.now += 1;
    let verdict = scene.run(29);
    assert_eq!(
        finding(&verdict, Condition).message,
        "KV cache at 40% (threshold 90%): back within the threshold; the condition clears when that has held for 30 s. docs/conditions.md#kvcacheexhaustion"
    );
    scene.now += 1;
    assert_eq!(short(&scene.look(), Condition), CALM);
}

#[test]
fn a_cache_that_was_full_and_is_unknown_is_not_called_calm() {
    let mut scene = scene([server("a").kv(0.95)]).gpu(free(9000));
    scene.run(30);
    scene.server_mut(|server| server.says(|sample| sample.kv_cache_usage = None));
    scene.now += 1;
    let verdict = scene.look();
    assert_eq!(
        (short(&verdict, Condition).as_str(), verdict.oom_risk),
        ("Unknown SeriesMissing", Unknown)
    );
    assert_presentable(&verdict);
}

/// Runs with so many preemptions every `every` seconds, from a counter that starts at `from`.
fn preempt(scene: &mut Scene, from: f64, each: f64, every: u64, seconds: u64) -> f64 {
    let mut total = from;
    for second in 1..=seconds {
        if second % every == 0 {
            total += each;
        }
        scene.server_mut(|server| server.says(|sample| sample.preemptions_total = Some(total)));
        scene.look();
        scene.now += 1;
    }
    total
}

#[test]
fn preemptions_count_by_their_rate() {
    for (name, each, every, expected, risk) in [
        ("none", 0.0, 1, CALM, Low),
        ("one every 20 s", 1.0, 20, CALM, Low),
        ("one every 5 s", 1.0, 5, EVICTING, High),
        ("three a second", 3.0, 1, EVICTING, High),
    ] {
        let mut scene = scene([server("a")]);
        preempt(&mut scene, 100.0, each, every, 90);
        let verdict = scene.judge();
        assert_eq!(
            (short(&verdict, Condition).as_str(), verdict.oom_risk),
            (expected, risk),
            "{name}"
        );
        assert_presentable(&verdict);
    }
}

#[test]
fn a_single_preemption_after_the_start_is_no_storm() {
    let mut scene = scene([server("a")]);
    for _ in 0..40 {
        preempt(&mut scene, 0.0, 0.0, 1, 1);
        scene.server_mut(|server| server.says(|sample| sample.preemptions_total = Some(1.0)));
        assert_eq!(short(&scene.look(), Condition), CALM);
        scene.now += 1;
    }
}

#[test]
fn a_restart_of_the_server_is_neither_a_storm_nor_calm_by_subtraction() {
    let mut scene = scene([server("a")]);
    preempt(&mut scene, 1000.0, 3.0, 1, 60);
    assert_eq!(short(&scene.judge(), Condition), EVICTING);
    // The counter starts at 0 again, and nothing is evicted any more.
    preempt(&mut scene, 0.0, 0.0, 1, 10);
    let verdict = scene.judge();
    assert_eq!(
        short(&verdict, Condition),
        "Unknown SeriesMissing",
        "too young to tell, and the finding stood"
    );
    preempt(&mut scene, 0.0, 0.0, 1, 60);
    assert_eq!(short(&scene.judge(), Condition), CALM);
}

#[test]
fn messages_tell_number_bound_place_and_next_step() {
    let mut full = scene([server("a").kv(0.97), server("b"), server("c")]);
    preempt(&mut full, 0.0, 3.0, 1, 71);
    let message = finding(&full.judge(), Condition).message.clone();
    assert_eq!(
        message,
        "KV cache at 97%, above 90% on 1 of 3 endpoints for 71 s, and 9.0 preemptions/s: running requests are evicted and recomputed. Next: add replicas or lower the number of concurrent requests (vLLM: --max-num-seqs; llama-server: --parallel). docs/conditions.md#kvcacheexhaustion"
    );
    let mut tight = scene([growing_server("a")]).gpu(free(300));
    assert_eq!(
        finding(&tight.run(40), Condition).message,
        "GPU 0 (GPU-1) on node n1 has 300 MiB free of 81920 MiB (threshold 512 MiB for 30 s). On that node: pod a (the cluster does not tell which pod has which GPU). Next: see what else allocates there (nvidia-smi); vLLM: lower --gpu-memory-utilization. docs/conditions.md#lowheadroom"
    );
    assert_eq!(
        finding(&scene([server("a")]).gpu(free(6144)).run(40), Condition).message,
        "KV cache at 20% (threshold 90%), 6144 MiB of GPU memory free (threshold 512 MiB)."
    );
}
