//! OOMRisk: GPU memory and KV caches that fill.

use crate::scene::{Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::OomRisk as Condition;
use infmon_crds::v1alpha1::OomRisk::{High, Low, Medium, Unknown};
use infmon_crds::v1alpha1::{InferenceMonitorStatus, Load};
use infmon_evaluation::Memory;
use infmon_evaluation::status::status;
use std::time::Duration;

const CALM: &str = "False BelowThreshold";
const GROWS: &str = "True DeviceMemoryGrowth";
const MIB: u64 = 1 << 20;

fn with_gpu(free_mib: u64) -> Scene {
    scene([server("a")]).gpu(gpu("n1", 0, "GPU-1").with(|sample| sample.memory_free_bytes = Some(free_mib * MIB)))
}

/// So many MiB are taken each second; the last judgement.
fn take(scene: &mut Scene, mib: u64, seconds: u64) -> infmon_evaluation::Verdict {
    for _ in 0..seconds {
        let free = &mut scene.gpus[0].sample.memory_free_bytes;
        *free = free.map(|free| free.saturating_sub(mib * MIB));
        scene.look();
        scene.now += 1;
    }
    scene.judge()
}

#[test]
fn a_leak_is_told_with_its_rate_and_its_end_and_is_over_when_it_stops() {
    let mut scene = with_gpu(6144);
    take(&mut scene, 0, 300);
    let calm = take(&mut scene, 4, 100);
    assert_eq!(
        (short(&calm, Condition).as_str(), calm.oom_risk),
        (CALM, Low),
        "too short to tell"
    );
    let verdict = take(&mut scene, 4, 150);
    assert_eq!((short(&verdict, Condition).as_str(), verdict.oom_risk), (GROWS, Medium));
    assert_presentable(&verdict);
    let message = &finding(&verdict, Condition).message;
    assert_eq!(
        message,
        "GPU 0 (GPU-1) on node n1 fills beyond what was in use before, by 240 MiB/min: 5144 MiB free, full in about 21 min. On that node: pod a (the cluster does not tell which pod has which GPU). Next: see which process grows (nvidia-smi --query-compute-apps=pid,used_memory --format=csv) and restart it before that. docs/conditions.md#devicememorygrowth"
    );
    let left = verdict.memory_exhaustion.expect("a time");
    assert_eq!(left.as_secs(), 5144 / 4);
    // Memory that fills is no load.
    assert_eq!(verdict.load, Load::Healthy);

    let verdict = take(&mut scene, 20, 220);
    assert_eq!((short(&verdict, Condition).as_str(), verdict.oom_risk), (GROWS, High));
    assert!(verdict.memory_exhaustion.expect("a time") < Duration::from_secs(300));

    // It stops: after a pause longer than those between its steps, and the time to clear.
    let verdict = take(&mut scene, 0, 75);
    assert!(
        finding(&verdict, Condition).message.contains("clears when"),
        "{:?}",
        finding(&verdict, Condition)
    );
    assert_eq!(verdict.memory_exhaustion, None);
    let verdict = take(&mut scene, 0, 60);
    assert_eq!((short(&verdict, Condition).as_str(), verdict.oom_risk), (CALM, Low));
}

#[test]
fn a_slow_leak_is_no_finding_and_is_told() {
    let mut scene = with_gpu(60_000);
    take(&mut scene, 0, 300);
    let verdict = take(&mut scene, 2, 300);
    assert_eq!((short(&verdict, Condition).as_str(), verdict.oom_risk), (CALM, Low));
    let message = &finding(&verdict, Condition).message;
    assert!(
        message.contains(", GPU 0 (GPU-1) on node n1 fills by 1") && message.contains("(full in about 8 h)"),
        "{message}"
    );
    assert_presentable(&verdict);
}

#[test]
fn a_reservation_is_tight_only_when_more_is_taken() {
    let mut scene = with_gpu(300);
    let verdict = take(&mut scene, 0, 300);
    assert_eq!(
        finding(&verdict, Condition).message,
        "KV cache at 20% (threshold 90%), 300 MiB of GPU memory free (threshold 512 MiB), reserved ahead by the server and not growing."
    );
    // Noise of an allocation is nothing; a neighbour is.
    let verdict = take(&mut scene, 1, 40);
    assert_eq!(short(&verdict, Condition), CALM);
    let verdict = take(&mut scene, 50, 1);
    assert_eq!(short(&verdict, Condition), CALM, "not for long enough");
    let verdict = take(&mut scene, 0, 32);
    assert_eq!(
        (short(&verdict, Condition).as_str(), verdict.oom_risk),
        ("True LowHeadroom", Medium)
    );
    // It stands for as long as that is remembered; what has been still for so long is as good as reserved.
    let verdict = take(&mut scene, 0, 780);
    assert_eq!(short(&verdict, Condition), "True LowHeadroom");
    let verdict = take(&mut scene, 0, 160);
    assert_eq!((short(&verdict, Condition).as_str(), verdict.oom_risk), (CALM, Low));
}

#[test]
fn a_neighbour_that_leaves_a_reservation_ends_the_finding() {
    let mut scene = with_gpu(300);
    take(&mut scene, 0, 300);
    scene.gpus[0].sample.memory_free_bytes = Some(100 * MIB);
    let verdict = take(&mut scene, 0, 40);
    assert_eq!(short(&verdict, Condition), "True LowHeadroom");
    scene.gpus[0].sample.memory_free_bytes = Some(300 * MIB);
    let verdict = take(&mut scene, 0, 50);
    assert_eq!((short(&verdict, Condition).as_str(), verdict.oom_risk), (CALM, Low));
}

#[test]
fn the_start_of_a_server_is_no_growth() {
    let mut scene = with_gpu(70_000);
    let answering = scene.servers[0].clone();
    scene.servers[0] = answering.clone().no_sample();
    let verdict = take(&mut scene, 150, 420);
    assert_ne!(short(&verdict, Condition), GROWS);
    assert_eq!(verdict.memory_exhaustion, None);
    scene.servers[0] = answering;
    // Its first requests take some more.
    for (mib, seconds) in [(20, 60), (4, 60), (0, 300)] {
        let verdict = take(&mut scene, mib, seconds);
        assert_eq!(short(&verdict, Condition), CALM, "{mib} MiB a second");
    }
}

#[test]
fn a_finding_stands_over_a_restart_until_the_series_is_long_enough() {
    let mut before = with_gpu(6144);
    take(&mut before, 0, 300);
    let verdict = take(&mut before, 5, 250);
    assert_eq!(short(&verdict, Condition), GROWS);
    let (nothing, now) = (InferenceMonitorStatus::default(), jiff::Timestamp::UNIX_EPOCH);
    let written = status(&verdict, &nothing, Some(1), Vec::new(), now);
    let mut after = with_gpu(4000);
    after.memory = Memory::from_status(&written);
    let verdict = take(&mut after, 5, 60);
    assert_eq!(
        (short(&verdict, Condition).as_str(), verdict.oom_risk),
        ("Unknown SeriesMissing", Unknown)
    );
    assert_eq!(
        finding(&verdict, Condition).message,
        "Whether GPU memory still grows is no longer known. docs/conditions.md#seriesmissing"
    );
    let verdict = take(&mut after, 5, 300);
    assert_eq!(short(&verdict, Condition), GROWS);
}

#[test]
fn a_cache_that_fills_while_requests_wait_is_a_high_risk_before_it_is_full() {
    let run = |waiting: f64| {
        let mut scene = scene([server("a").waiting(waiting)]);
        let mut usage = 0.85;
        for _ in 0..80 {
            usage += 0.0016;
            scene.server_mut(|server| server.kv(usage).says(|sample| sample.preemptions_total = Some(0.0)));
            scene.look();
            scene.now += 1;
            if usage > 0.955 {
                break;
            }
        }
        scene.judge()
    };
    let verdict = run(3.0);
    assert_eq!(
        (short(&verdict, Condition).as_str(), verdict.oom_risk),
        ("True KVCacheExhaustion", High)
    );
    let message = &finding(&verdict, Condition).message;
    assert!(
        message.contains(", rising 0.2% a second while requests wait (full in 2"),
        "{message}"
    );
    assert_presentable(&verdict);
    let verdict = run(0.0);
    assert_eq!(
        (short(&verdict, Condition).as_str(), verdict.oom_risk),
        ("True KVCacheExhaustion", Medium)
    );
    assert!(!finding(&verdict, Condition).message.contains("rising"));
}
