//! What must hold whatever the servers and GPUs say.

use crate::latency::{answer, vllm};
use crate::scene::{Scene, Server, assert_presentable, gpu, scene, server};
use infmon_crds::v1alpha1::InferenceMonitorStatus;
use infmon_evaluation::metric::Metric;
use infmon_evaluation::status::{Change, change, status};
use infmon_evaluation::{Hold, Memory, Moment};
use infmon_gpu::{GpuFailure, GpuHealth, IncidentKind, RecoveryAction, ThrottleCause};
use infmon_samples::{FailureKind, GpuIncident, GpuOutage};
use proptest::option::of;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn any_server() -> impl Strategy<Value = Server> {
    let number = || of(prop_oneof![0.0..50.0, any::<f64>()]);
    let failure = of((0_usize..FailureKind::ALL.len(), "\\PC{0,30}", 0_u64..100));
    let data = (
        of(0_u64..20_000),
        number(),
        number(),
        number(),
        number(),
        of("\\PC{0,12}"),
    );
    (0_u8..6, 0_u8..4, any::<(bool, bool)>(), data, failure).prop_map(
        |(name, place, (ready, reported), data, failure)| {
            let (age, waiting, running, usage, preemptions, missing) = data;
            let mut server = server(&format!("s{name}"));
            server = match place {
                0 => server.anywhere(),
                node => server.on(&format!("n{node}")),
            };
            server = match age {
                Some(age) => server.age(age),
                None => server.no_sample(),
            };
            server = server.says(|sample| {
                sample.waiting = waiting;
                sample.running = running;
                sample.kv_cache_usage = usage;
                sample.preemptions_total = preemptions;
            });
            if let Some(missing) = missing {
                server = server.lacks(&[&missing], &missing);
            }
            if let Some((kind, message, since)) = failure {
                server = server.failing(FailureKind::ALL[kind], &message, since);
            }
            if !ready {
                server = server.not_ready();
            }
            if reported { server } else { server.unreported() }
        },
    )
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let gpus = proptest::collection::vec(
        (1_u8..4, 0_usize..8, 0.0..1.2_f64, of(any::<u64>()), any::<bool>()),
        0..4,
    );
    let servers = proptest::collection::vec(any_server(), 0..6);
    let incidents = proptest::collection::vec((1_u8..4, 0_usize..4, of(any::<u32>()), any::<u64>()), 0..4);
    let outages = proptest::collection::vec((1_u8..4, of(0_usize..4), 0_usize..4, "\\PC{0,30}"), 0..3);
    let faults = (incidents, outages, any::<Option<u32>>(), any::<Option<bool>>());
    (servers, gpus, of(1_u8..4), 0_u64..40, faults).prop_map(|(servers, gpus, silent, watched, faults)| {
        let (incidents, outages, action, flag) = faults;
        let mut scene = scene(servers).watched_for(watched);
        for (index, (node, cause, share, free, counts)) in gpus.into_iter().enumerate() {
            let uuid = format!("GPU-{index}");
            let gpu = gpu(&format!("n{node}"), index as u32, &uuid).loses(ThrottleCause::ALL[cause], share);
            scene.gpus.push(gpu.with(|sample| {
                sample.memory_free_bytes = free;
                sample.memory_used_bytes = free;
                sample.health = GpuHealth {
                    recovery_action: action.map(RecoveryAction::from_code),
                    row_remap_pending: flag,
                    row_remap_failed: flag.map(|flag| !flag),
                    remapped_rows_uncorrectable: action,
                    ..GpuHealth::default()
                };
                if !counts {
                    sample.throttle.clear();
                }
            }));
        }
        for (node, gpu, number, ago) in incidents {
            let incident = GpuIncident {
                index: gpu as u32,
                uuid: format!("GPU-{gpu}"),
                kind: number.map_or(IncidentKind::EccUncorrectable, |number| IncidentKind::Xid { number }),
                gpu_instance: action,
                compute_instance: action,
                pid: action,
                process_name: number.map(|number| format!("p{number}\n.")),
                count: ago,
                first: Duration::from_secs(ago),
                last: Duration::from_secs(ago % 1_000),
            };
            scene.incidents.push((format!("n{node}"), incident));
        }
        for (node, gpu, failure, message) in outages {
            let outage = GpuOutage {
                index: failure as u32,
                uuid: gpu.map(|gpu| format!("GPU-{gpu}")),
                minor_number: action,
                failure: GpuFailure::ALL[failure],
                message,
                since: Duration::from_secs(watched),
            };
            scene.outages.push((format!("n{node}"), outage));
        }
        match silent {
            Some(node) => scene.silent(&format!("n{node}")),
            None => scene,
        }
    })
}

proptest! {
    #[test]
    fn any_samples_give_presentable_words(mut scene in any_scene(), later in 0_u64..40) {
        let mut written = InferenceMonitorStatus::default();
        for wait in [0, later, 3] {
            scene.now += wait;
            let endpoints = scene.endpoints();
            let verdict = scene.judge();
            assert_presentable(&verdict);
            prop_assert!(verdict.due.is_none_or(|due| due > Moment::from_secs(scene.now)));
            let known = [verdict.waiting, verdict.running, verdict.kv_cache_usage];
            prop_assert!(known.into_iter().flatten().all(|value| value.is_finite() && value >= 0.0));
            let next = status(&verdict, &written, Some(1), endpoints, jiff::Timestamp::UNIX_EPOCH);
            prop_assert_eq!(change(&next, &next), Change::None);
            prop_assert!(next.conditions.iter().all(|condition| !condition.message.is_empty()));
            written = next;
            scene.memory = Memory::from_status(&written);
        }
    }

    #[test]
    fn a_metric_is_a_number_only_with_fresh_data_from_all_that_serve(mut scene in any_scene()) {
        for metric in Metric::ALL {
            match scene.metric(metric) {
                Ok(reading) => {
                    prop_assert!(reading.value.is_finite() && reading.value >= 0.0);
                    prop_assert!(reading.age <= Duration::from_secs(10));
                    if metric != Metric::ThrottledGpus {
                        let states = scene.endpoints();
                        let silent = ["Stale", "Waiting", "NoNodeDaemon"];
                        prop_assert!(states.iter().all(|endpoint| !silent.contains(&endpoint.state.as_str())));
                    }
                }
                Err(words) => prop_assert!(words.starts_with(metric.name()) && words.ends_with("left as they are.")),
            }
        }
    }

    /// Against a plain model: raised at `t` if the value was known and beyond at every look of the last `hold` seconds.
    #[test]
    fn a_hold_agrees_with_its_model(looks in proptest::collection::vec((0_u64..4, of(any::<bool>())), 1..60), hold_for in 0_u64..8) {
        let hold_for = Duration::from_secs(hold_for);
        let (mut hold, mut now, mut raised, mut contrary) = (Hold::default(), 0, false, None);
        for (wait, beyond) in looks {
            now += wait;
            let moment = Moment::from_secs(now);
            hold = hold.update(beyond, moment, hold_for);
            contrary = match beyond {
                Some(beyond) if beyond != raised => contrary.or(Some(moment)),
                _ => None,
            };
            if contrary.is_some_and(|since| moment.since(since) >= hold_for) {
                (raised, contrary) = (!raised, None);
            }
            prop_assert_eq!(hold.is_raised(), raised);
            prop_assert_eq!(hold.due(hold_for), contrary.map(|since| since.after(hold_for)));
        }
    }

    #[test]
    fn a_hold_changes_at_its_due_moment_and_not_before(start in 0_u64..100, hold_for in 1_u64..100) {
        let hold_for = Duration::from_secs(hold_for);
        let hold = Hold::default().update(Some(true), Moment::from_secs(start), hold_for);
        let due = hold.due(hold_for).unwrap();
        let just_before = Moment(due.0 - Duration::from_nanos(1));
        prop_assert!(!hold.update(Some(true), just_before, hold_for).is_raised());
        prop_assert!(hold.update(Some(true), due, hold_for).is_raised());
    }
}

/// No bound: it prints, for whoever wonders. `cargo test --release -p infmon-evaluation how_long -- --nocapture`
#[test]
fn how_long_ten_thousand_monitors_take() {
    let mut scene =
        scene(["a", "b", "c"].map(vllm)).gpu(gpu("n1", 0, "GPU-1").loses(ThrottleCause::SoftwareThermal, 0.1));
    answer(&mut scene, 70, 0.2, 5);
    let start = Instant::now();
    for _ in 0..10_000 {
        std::hint::black_box(scene.judge());
    }
    println!("10000 monitors of 3 endpoints and 1 GPU: {:?}", start.elapsed());
}
