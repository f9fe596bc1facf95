//! A day of normal operation of each GPU model without a finding, and the same day with faults, each of which is found.
//!
//! `cargo test --release -p infmon-evaluation --test normal_day -- --nocapture` prints the figures. A debug build looks at three hours
//! of the morning.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod day;

use day::{Day, MODELS, Model, Second, uuid};
use infmon_crds::v1alpha1::{ConditionType, EngineChoice, InferenceMonitorSpec, Scheme as SpecScheme, Thresholds};
use infmon_engines::Mapping;
use infmon_evaluation::{
    Finding, Input, Memory, Moment, Observations, Outcome, Place, Resolution, ResolvedEndpoint, Verdict, evaluate,
};
use infmon_gpu::{IncidentKind, RecoveryAction, ThrottleCause};
use infmon_samples::{Access, GpuIncident, NodeIdentity, Scheme, Target, TargetId};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The process has been watching for an hour when the day begins.
const START: u64 = 3_600;
const WATCHED: [ConditionType; 4] = [
    ConditionType::Throttled,
    ConditionType::GpusHealthy,
    ConditionType::Underutilized,
    ConditionType::OomRisk,
];

/// Seconds of the day.
fn looked_at() -> Range<u64> {
    if cfg!(debug_assertions) {
        6 * 3_600..9 * 3_600
    } else {
        0..86_400
    }
}

/// One monitor with one server on one GPU.
struct Watched {
    spec: InferenceMonitorSpec,
    resolution: Resolution,
    observations: Observations,
    memory: Memory,
    day: Day,
}

impl Watched {
    fn new(model: Model, seed: u64) -> Self {
        let mut observations = Observations::default();
        observations.connected(NodeIdentity {
            node: "n1".to_owned(),
            ..NodeIdentity::default()
        });
        let target = Target {
            id: TargetId("server".to_owned()),
            scheme: Scheme::Http,
            address: "10.0.0.1:8000".to_owned(),
            metrics_path: "/metrics".to_owned(),
            engine: None,
            mapping: Mapping::default(),
            period: Duration::from_secs(1),
            deadline: Duration::from_millis(900),
            body_limit_bytes: 1 << 20,
            access: Access::default(),
            pod_uid: None,
        };
        let endpoint = ResolvedEndpoint {
            group: "servers".to_owned(),
            name: "vllm-0".to_owned(),
            place: Place::Node("n1".to_owned()),
            serving: true,
            pod_uid: "6fc4a17a-9b0a-4ab4-833e-7004a16f89ce".to_owned(),
            labels: BTreeMap::new(),
            devices: vec![uuid()],
            target: Some(target),
        };
        Self {
            spec: InferenceMonitorSpec {
                engine: EngineChoice::Auto,
                custom: None,
                endpoints: Vec::new(),
                metrics_path: None,
                scheme: SpecScheme::Http,
                sample_period_milliseconds: 1_000,
                stale_after_seconds: 10,
                thresholds: Thresholds::default(),
            },
            resolution: Resolution {
                endpoints: vec![endpoint],
                ..Resolution::default()
            },
            observations,
            memory: Memory::default(),
            day: Day::new(model, seed),
        }
    }

    fn second(&mut self, second: u64, change: impl FnOnce(&mut Second)) -> Verdict {
        let report = self.day.report(second, change);
        let now = Moment::from_secs(START + second);
        self.observations.report("n1", report, now);
        let input = Input {
            namespace: "prod",
            spec: &self.spec,
            resolution: &self.resolution,
            observations: &self.observations,
            watched_since: Moment::default(),
            now,
        };
        let (verdict, memory) = evaluate(input, self.memory);
        self.memory = memory;
        verdict
    }
}

/// A condition that says that something is wrong, and a warning.
fn is_found(finding: &Finding) -> bool {
    let bad = if finding.kind.true_is_good() {
        Outcome::False
    } else {
        Outcome::True
    };
    finding.outcome == bad || finding.reason == "NearSlowdown"
}

#[test]
fn a_normal_day_has_no_finding() {
    let begun = Instant::now();
    let mut judged = 0_u64;
    println!("model     busy h  idle h  power cap h  hottest C  least margin C  reloads  unknown s  findings");
    for (model, seed) in MODELS.into_iter().zip(41..) {
        let mut watched = Watched::new(model, seed * 0x9e37_79b9);
        let (mut findings, mut unknown) = (0, 0);
        for second in looked_at() {
            let verdict = watched.second(second, |_| {});
            judged += 1;
            for finding in verdict
                .findings
                .iter()
                .filter(|finding| WATCHED.contains(&finding.kind))
            {
                assert!(!is_found(finding), "{} after {second} s: {finding:?}", model.name);
                findings += u32::from(is_found(finding));
                unknown += u32::from(finding.kind == ConditionType::Throttled && finding.outcome == Outcome::Unknown);
            }
        }
        let seen = watched.day.seen;
        let hours = |seconds: f64| seconds / 3_600.0;
        let margin = if seen.least_margin == i32::MAX {
            "-".to_owned()
        } else {
            seen.least_margin.to_string()
        };
        println!(
            "{:9} {:6.1}  {:6.1}  {:11.1}  {:9}  {:>14}  {:7}  {:9}  {:8}",
            model.name,
            hours(f64::from(seen.busy_seconds)),
            hours(f64::from(seen.idle_seconds)),
            hours(seen.power_cap_seconds),
            seen.hottest,
            margin,
            seen.reloads,
            unknown,
            findings,
        );
        // A day in which nothing happened would prove nothing.
        assert!(seen.busy_seconds > 900 && seen.idle_seconds > 900, "{seen:?}");
        assert!(seen.power_cap_seconds > 300.0, "{seen:?}");
        assert!(seen.least_margin > 5, "{seen:?}");
        assert!(
            unknown < 120 * (seen.reloads + 1),
            "{unknown} s in which nothing was known: {seen:?}"
        );
    }
    println!(
        "{judged} judgements of {} s each model in {:.1} s",
        looked_at().count(),
        begun.elapsed().as_secs_f64()
    );
}

/// Until when a fault goes on, and how long it may take to be told.
struct Fault {
    name: &'static str,
    kind: ConditionType,
    reason: &'static str,
    /// Seconds from its begin.
    lasts: u64,
    told_within: u64,
    change: fn(&mut Second),
}

const fn fault(
    name: &'static str,
    (kind, reason): (ConditionType, &'static str),
    (lasts, told_within): (u64, u64),
    change: fn(&mut Second),
) -> Fault {
    Fault {
        name,
        kind,
        reason,
        lasts,
        told_within,
        change,
    }
}

fn happened(second: &mut Second, kind: IncidentKind) {
    second.incidents.push(GpuIncident {
        index: 0,
        uuid: uuid(),
        kind,
        gpu_instance: None,
        compute_instance: None,
        pid: None,
        process_name: None,
        count: 1,
        first: Duration::ZERO,
        last: Duration::ZERO,
    });
}

fn busy(second: &mut Second) {
    second.server.running = Some(16.0);
    second.gpu.utilization_percent = Some(95);
}

const FAULTS: [Fault; 13] = [
    fault(
        "hardware heat, 5 % of the time",
        (ConditionType::Throttled, "HardwareThermal"),
        (120, 20),
        |second| {
            second.lost.insert(ThrottleCause::HardwareThermal, 0.05);
        },
    ),
    fault(
        "power brake, a second long",
        (ConditionType::Throttled, "HardwarePowerBrake"),
        (1, 2),
        |second| {
            second.lost.insert(ThrottleCause::HardwarePowerBrake, 1.0);
        },
    ),
    fault(
        "driver heat, 3 % of the time",
        (ConditionType::Throttled, "SoftwareThermal"),
        (120, 25),
        |second| {
            second.lost.insert(ThrottleCause::SoftwareThermal, 0.03);
        },
    ),
    fault(
        "a power limit that somebody lowered",
        (ConditionType::Throttled, "PowerCap"),
        (120, 10),
        |second| {
            busy(second);
            let limit = second.gpu.power_limit_default_milliwatts.unwrap_or_default() / 2;
            second.gpu.power_limit_milliwatts = Some(limit);
            second.gpu.power_milliwatts = Some(limit);
            second.gpu.sm_clock_mhz = second.gpu.sm_clock_max_mhz.map(|clock| clock / 2);
            second.lost.insert(ThrottleCause::PowerCap, 1.0);
        },
    ),
    fault(
        "near its slowdown",
        (ConditionType::Throttled, "NearSlowdown"),
        (180, 122),
        |second| {
            second.gpu.temperature_margin_celsius = Some(4);
        },
    ),
    fault("an XID", (ConditionType::GpusHealthy, "Xid"), (1, 1), |second| {
        happened(second, IncidentKind::Xid { number: 119 });
    }),
    fault(
        "uncorrectable memory errors",
        (ConditionType::GpusHealthy, "EccUncorrectable"),
        (1, 1),
        |second| {
            happened(second, IncidentKind::EccUncorrectable);
        },
    ),
    fault(
        "a recovery action",
        (ConditionType::GpusHealthy, "RecoveryActionNeeded"),
        (60, 1),
        |second| {
            second.gpu.health.recovery_action = Some(RecoveryAction::Reset);
        },
    ),
    fault(
        "a row that waits",
        (ConditionType::GpusHealthy, "MemoryRepairPending"),
        (60, 1),
        |second| {
            second.gpu.health.row_remap_pending = Some(true);
        },
    ),
    fault(
        "a driver that hangs",
        (ConditionType::GpusHealthy, "DriverUnresponsive"),
        (60, 1),
        |second| {
            second.hung = Some(9);
        },
    ),
    fault(
        "GPUs that idle while requests run",
        (ConditionType::Underutilized, "LowUtilization"),
        (700, 602),
        |second| {
            second.server.running = Some(16.0);
            second.gpu.utilization_percent = Some(20);
        },
    ),
    fault(
        "a full KV cache",
        (ConditionType::OomRisk, "KVCacheExhaustion"),
        (120, 32),
        |second| {
            second.server.kv_cache_usage = Some(0.98);
        },
    ),
    fault(
        "no memory left",
        (ConditionType::OomRisk, "LowHeadroom"),
        (120, 32),
        |second| {
            second.gpu.memory_free_bytes = Some(300 << 20);
        },
    ),
];

#[test]
fn each_fault_of_the_same_day_is_found_and_is_over() {
    const AT: u64 = 1_800;
    for Fault {
        name,
        kind,
        reason,
        lasts,
        told_within,
        change,
    } in FAULTS
    {
        // The H100 has everything that a fault can show in.
        let mut watched = Watched::new(MODELS[1], 42 * 0x9e37_79b9);
        let mut told = None;
        let mut over = None;
        for second in 0..AT + lasts + 2_400 {
            let faulty = (AT..AT + lasts).contains(&second);
            let verdict = watched.second(second, |now| {
                if faulty {
                    change(now);
                }
            });
            let found = verdict.finding(kind).unwrap();
            let stands = is_found(found);
            assert!(!stands || second >= AT, "{name}: found before it was: {found:?}");
            if stands && told.is_none() {
                assert_eq!(found.reason, reason, "{name}: {found:?}");
                told = Some(second - AT);
            }
            if told.is_some() && !stands && over.is_none() && !faulty {
                over = Some(second - AT - lasts);
            }
        }
        let told = told.unwrap_or_else(|| panic!("{name} was not found"));
        let over = over.unwrap_or_else(|| panic!("{name} is never over"));
        println!("{name}: {reason} after {told} s, over {over} s after its end");
        assert!(told <= told_within, "{name}: only after {told} s");
    }
}
