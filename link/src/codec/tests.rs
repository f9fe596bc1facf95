//! Round trips over full samples, and peers that are newer or broken.

mod plan;

use super::*;
use infmon_engines::{Engine, EngineSample, Histogram, Latency};
use infmon_gpu::{
    DriverProblem, DriverState, GpuFailure, GpuHealth, GpuProcess, GpuSample, IncidentKind, MigDevice, MigInstance,
    ProcessOwner, RecoveryAction, ThrottleCause, ThrottleCounter,
};
use infmon_samples::{
    Failure, FailureKind, GpuIncident, GpuOutage, GpuOwner, GpuOwners, GpuOwnersFailure, GpuReport, HostMemory,
    Observation, ProcessLookup, Recognition, Report, Scheme, SwitchIncident, TargetId, TargetReport,
};
use proptest::prelude::*;
use prost::Message;

pub(super) fn through_bytes<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn report_trip(report: &Report) -> Report {
    let sent = Duration::from_micros(123_456);
    let (back, back_sent) = decode_report(through_bytes(&encode_report(report, sent))).unwrap();
    assert_eq!(back_sent, sent);
    back
}

pub(crate) fn full_engine_sample() -> EngineSample {
    let histogram = |scale: f64| Histogram {
        count: 40.0,
        sum_seconds: 1.5 * scale,
        buckets: vec![(Some(0.001 * scale), 0.0), (Some(0.25 * scale), 31.0), (None, 40.0)],
    };
    EngineSample {
        engine: Some(Engine::Vllm),
        generation: "v1-0.12+".to_owned(),
        models: vec!["llama-70b".to_owned(), "ünïcode".to_owned()],
        waiting: Some(12.0),
        running: Some(0.0),
        max_concurrency: Some(256.0),
        kv_cache_usage: Some(0.875),
        kv_cache_capacity_tokens: Some(1e9),
        host_cache_usage: Some(f64::MIN_POSITIVE),
        prompt_tokens_total: Some(9_007_199_254_740_993.0),
        generated_tokens_total: Some(1.0),
        preemptions_total: Some(2.0),
        prefix_cache_hit_tokens_total: Some(3.0),
        prefix_cache_query_tokens_total: Some(4.0),
        prefix_cache_hit_ratio: Some(0.75),
        requests_succeeded_total: Some(5.0),
        requests_failed_total: Some(6.0),
        request_outcomes: [("stop".to_owned(), 5.0), ("abort".to_owned(), 0.0)].into(),
        lora_adapters: vec!["sql".to_owned()],
        sleeping: Some(false),
        model_gpu_share: Some(0.25),
        latency: Latency {
            time_to_first_token: Some(histogram(1.0)),
            inter_token: Some(histogram(0.1)),
            per_output_token: Some(histogram(0.1)),
            end_to_end: Some(histogram(10.0)),
            queue_time: Some(Histogram::default()),
        },
    }
}

pub(crate) fn full_gpu_sample() -> GpuSample {
    let throttle = |(cause, nanoseconds)| ThrottleCounter { cause, nanoseconds };
    GpuSample {
        index: 7,
        uuid: "GPU-4e5b".to_owned(),
        minor_number: Some(3),
        name: "NVIDIA H200".to_owned(),
        memory_total_bytes: Some(150_754_820_096),
        memory_free_bytes: Some(0),
        memory_used_bytes: Some(150_754_820_095),
        utilization_percent: Some(100),
        memory_utilization_percent: Some(41),
        sm_clock_mhz: Some(1980),
        sm_clock_max_mhz: Some(1981),
        memory_clock_mhz: Some(3201),
        power_milliwatts: Some(698_123),
        power_limit_milliwatts: Some(700_000),
        power_limit_default_milliwatts: Some(700_001),
        energy_millijoules: Some(u64::MAX),
        temperature_celsius: Some(64),
        temperature_margin_celsius: Some(-3),
        memory_temperature_celsius: Some(82),
        throttle: ThrottleCause::ALL.into_iter().zip(1..).map(throttle).collect(),
        clocks_event_reasons: Some(1 << 63),
        processes: Some(vec![
            GpuProcess {
                pid: 4711,
                used_bytes: Some(1),
                gpu_instance: Some(3),
                compute_instance: Some(0),
                owner: Some(ProcessOwner::Pod {
                    uid: "6f1c9e52-0b7e-4f8e-9d6b-2f1f3c1d0a11".to_owned(),
                    container: Some("c0".to_owned()),
                }),
            },
            GpuProcess {
                pid: 4712,
                used_bytes: Some(2),
                gpu_instance: None,
                compute_instance: None,
                owner: Some(ProcessOwner::Pod {
                    uid: "0123".to_owned(),
                    container: None,
                }),
            },
            GpuProcess {
                pid: 1,
                used_bytes: Some(0),
                gpu_instance: None,
                compute_instance: None,
                owner: Some(ProcessOwner::Machine),
            },
            GpuProcess {
                pid: u32::MAX,
                used_bytes: None,
                gpu_instance: None,
                compute_instance: None,
                owner: None,
            },
        ]),
        health: GpuHealth {
            recovery_action: Some(RecoveryAction::DrainAndReset),
            ecc_uncorrectable_volatile: Some(u64::MAX),
            ecc_uncorrectable_aggregate: Some(0),
            remapped_rows_uncorrectable: Some(7),
            row_remap_pending: Some(true),
            row_remap_failed: Some(false),
            retired_pages: Some(u32::MAX),
            page_retirement_pending: Some(false),
            xid_events: Some(true),
        },
        mig_instances: Some(vec![
            MigInstance {
                gpu_instance: 3,
                devices: vec![
                    MigDevice {
                        uuid: "MIG-7f0a".to_owned(),
                        compute_instance: Some(0),
                    },
                    MigDevice {
                        uuid: "MIG-7f0b".to_owned(),
                        compute_instance: None,
                    },
                ],
                memory_total_bytes: Some(4),
                memory_free_bytes: Some(0),
                memory_used_bytes: Some(3),
                utilization_percent: Some(100),
            },
            MigInstance::default(),
        ]),
    }
}

fn outages() -> Vec<GpuOutage> {
    let outage = |failure| GpuOutage {
        index: 3,
        uuid: Some("GPU-77".to_owned()),
        minor_number: Some(0),
        failure,
        message: "the GPU has fallen off the bus".to_owned(),
        since: Duration::from_micros(61_000_001),
    };
    let unnamed = GpuOutage {
        uuid: None,
        minor_number: None,
        ..outage(GpuFailure::Refused)
    };
    GpuFailure::ALL.into_iter().map(outage).chain([unnamed]).collect()
}

fn incidents() -> Vec<GpuIncident> {
    let xid = GpuIncident {
        index: 2,
        uuid: "GPU-77".to_owned(),
        kind: IncidentKind::Xid { number: 119 },
        gpu_instance: Some(0),
        compute_instance: Some(1),
        pid: Some(4_711),
        process_name: Some("python3".to_owned()),
        count: u64::MAX,
        first: Duration::from_micros(9_000_001),
        last: Duration::ZERO,
    };
    let ecc = GpuIncident {
        kind: IncidentKind::EccUncorrectable,
        gpu_instance: None,
        compute_instance: None,
        pid: None,
        process_name: None,
        ..xid.clone()
    };
    vec![xid, ecc]
}

pub(crate) fn full_report() -> Report {
    let failed = |kind: FailureKind| TargetReport {
        id: TargetId(format!("failed/{}", kind.as_str())),
        last: None,
        failure: Some(Failure {
            kind,
            message: "10.0.0.7:8000 refused the connection: is the server still starting?".to_owned(),
            since: Duration::from_millis(1500),
        }),
        host_memory: None,
    };
    let good = TargetReport {
        id: TargetId("prod/vllm-0".to_owned()),
        last: Some(Observation {
            age: Duration::from_micros(250_001),
            took: Duration::from_micros(1900),
            sample: full_engine_sample(),
            recognition: Recognition {
                missing: vec!["vllm:kv_cache_usage_perc".to_owned()],
                hint: "remove --disable-log-stats".to_owned(),
            },
        }),
        failure: None,
        host_memory: Some(HostMemory {
            age: Duration::from_micros(4_000_001),
            working_set_bytes: 0,
            active_file_bytes: Some(0),
            limit_bytes: Some(u64::MAX),
            pressure_full_percent: Some(0.25),
            oom_kills_total: Some(3),
        }),
    };
    let bare = TargetReport {
        id: TargetId("new".to_owned()),
        last: None,
        failure: None,
        host_memory: Some(HostMemory {
            age: Duration::ZERO,
            working_set_bytes: 1,
            active_file_bytes: None,
            limit_bytes: None,
            pressure_full_percent: None,
            oom_kills_total: None,
        }),
    };
    Report {
        plan_revision: u64::MAX,
        gpus: GpuReport {
            driver: DriverState::Ready {
                driver_version: "580.95.05".to_owned(),
            },
            age: Some(Duration::ZERO),
            samples: vec![
                full_gpu_sample(),
                GpuSample::default(),
                GpuSample {
                    processes: Some(Vec::new()),
                    mig_instances: Some(Vec::new()),
                    ..GpuSample::default()
                },
            ],
            outages: outages(),
            incidents: incidents(),
            switch_incidents: vec![SwitchIncident {
                pci: "0000:05:00".to_owned(),
                number: 20_034,
                fatal: true,
                text: "Link 30 LTSSM Fault Up".to_owned(),
                count: 2,
                first: Duration::from_micros(12_000_001),
                last: Duration::from_micros(7),
            }],
            owners: Some(GpuOwners {
                age: Some(Duration::from_micros(9_000_001)),
                owners: vec![
                    GpuOwner {
                        namespace: "prod".to_owned(),
                        pod: "vllm-0".to_owned(),
                        container: "server".to_owned(),
                        resource: "nvidia.com/gpu".to_owned(),
                        devices: vec!["GPU-1".to_owned(), "GPU-2::3".to_owned()],
                    },
                    GpuOwner::default(),
                ],
                failure: Some(GpuOwnersFailure {
                    message: "List did not end within 2000 ms".to_owned(),
                    since: Duration::from_micros(12_000_001),
                }),
            }),
            process_lookup: Some(ProcessLookup {
                failure: Some("the pod lacks hostPID".to_owned()),
            }),
        },
        targets: [good, bare].into_iter().chain(FailureKind::ALL.map(failed)).collect(),
    }
}

#[test]
fn a_full_report_comes_back_as_it_was() {
    let report = full_report();
    assert_eq!(report_trip(&report), report);
    assert_eq!(report_trip(&Report::default()), Report::default());
}

#[test]
fn owners_that_are_not_known_are_not_an_empty_list() {
    let unknown = [
        None,
        Some(GpuOwners::default()),
        Some(GpuOwners {
            age: Some(Duration::ZERO),
            ..GpuOwners::default()
        }),
    ];
    for owners in unknown {
        let report = Report {
            gpus: GpuReport {
                owners,
                process_lookup: Some(ProcessLookup::default()),
                ..GpuReport::default()
            },
            ..Report::default()
        };
        assert_eq!(report_trip(&report), report);
    }
    // A daemon from before the fields.
    let (report, _) = decode_report(wire::Report::default()).unwrap();
    assert_eq!((report.gpus.owners, report.gpus.process_lookup), (None, None));
}

#[test]
fn every_driver_state_comes_back() {
    let unavailable = |category| DriverState::Unavailable {
        category,
        message: "cannot open shared object file".to_owned(),
    };
    let states = [
        DriverState::Starting,
        DriverState::Unresponsive { for_seconds: 31 },
        unavailable(DriverProblem::LibraryNotFound),
        unavailable(DriverProblem::DriverNotLoaded),
        unavailable(DriverProblem::NoPermission),
        unavailable(DriverProblem::DriverVersionMismatch),
        unavailable(DriverProblem::NoDevices),
        unavailable(DriverProblem::DriverUpgrade),
        unavailable(DriverProblem::Unknown),
    ];
    for driver in states {
        let report = Report {
            gpus: GpuReport {
                driver,
                ..GpuReport::default()
            },
            ..Report::default()
        };
        assert_eq!(report_trip(&report), report);
    }
}

#[test]
fn what_only_a_newer_peer_knows_becomes_something_safe() {
    let mut message = encode_report(&full_report(), Duration::ZERO);
    let gpus = message.gpus.as_mut().unwrap();
    gpus.driver = Some(wire::Driver { state: None });
    gpus.samples[0].throttle[0].cause = 999;
    gpus.samples[0].health.as_mut().unwrap().recovery_action = Some(77);
    gpus.samples[1].health = None;
    gpus.outages[0].failure = "Teapot".to_owned();
    gpus.incidents[0].kind = None;
    message.targets[0]
        .last
        .as_mut()
        .unwrap()
        .sample
        .as_mut()
        .unwrap()
        .engine = "Mojo".to_owned();
    message.targets[2].failure.as_mut().unwrap().kind = "Teapot".to_owned();
    let (report, _) = decode_report(through_bytes(&message)).unwrap();
    assert!(matches!(
        report.gpus.driver,
        DriverState::Unavailable {
            category: DriverProblem::Unknown,
            ..
        }
    ));
    assert_eq!(report.gpus.samples[0].throttle.len(), ThrottleCause::ALL.len() - 1);
    let action = report.gpus.samples[0].health.recovery_action;
    assert_eq!(action, Some(RecoveryAction::Other(77)));
    assert_eq!(report.gpus.samples[1].health, GpuHealth::default());
    assert_eq!(report.gpus.outages[0].failure, GpuFailure::Refused);
    assert_eq!(report.gpus.incidents, incidents()[1..]);
    assert_eq!(report.targets[0].last.as_ref().unwrap().sample.engine, None);
    assert_eq!(
        report.targets[2].failure.as_ref().unwrap().kind,
        FailureKind::HttpStatus
    );

    let plan = decode_plan(wire::Plan {
        targets: vec![wire::Target {
            scheme: 77,
            engine: "Mojo".to_owned(),
            ..wire::Target::default()
        }],
        ..wire::Plan::default()
    });
    assert_eq!((plan.targets[0].scheme, plan.targets[0].engine), (Scheme::Http, None));
}

#[test]
fn histograms_that_contradict_themselves_are_refused() {
    let broken = |change: fn(&mut wire::Histogram)| {
        let mut message = encode_report(&full_report(), Duration::ZERO);
        let sample = message.targets[0].last.as_mut().unwrap().sample.as_mut().unwrap();
        change(sample.time_to_first_token.as_mut().unwrap());
        decode_report(message).unwrap_err().to_string()
    };
    assert_eq!(
        broken(|histogram| histogram.per_bucket.push(1)),
        "a histogram has 4 counts for 3 bucket bounds"
    );
    assert_eq!(
        broken(|histogram| histogram.bounds = 99),
        "a histogram names bucket bounds 99, but the report has 4"
    );
}

#[test]
fn bounds_of_equal_servers_travel_once() {
    let mut report = full_report();
    let one = report.targets[0].clone();
    report.targets.extend(std::iter::repeat_n(one, 7));
    assert_eq!(encode_report(&report, Duration::ZERO).bucket_bounds.len(), 4);
}

#[test]
fn names_longer_than_kubernetes_allows_are_refused() {
    let hello = |node: &str, pod: &str| {
        decode_hello(wire::Hello {
            node: node.to_owned(),
            pod: pod.to_owned(),
            ..wire::Hello::default()
        })
    };
    assert!(hello("node-1", "").is_ok());
    assert_eq!(hello("", "pod"), Err(DecodeError::Name("node name")));
    assert_eq!(hello("node-1", &"p".repeat(254)), Err(DecodeError::Name("pod name")));
}

proptest! {
    #[test]
    fn any_histogram_comes_back(
        buckets in proptest::collection::vec((proptest::option::of(-1e9..1e9_f64), prop_oneof![
            (0..1_000_000_u32).prop_map(f64::from),
            proptest::num::f64::ANY.prop_filter("NaN is not equal to itself", |count| !count.is_nan()),
        ]), 0..30),
        sorted in any::<bool>(),
    ) {
        let mut buckets = buckets;
        if sorted {
            buckets.iter_mut().for_each(|(_, count)| *count = count.abs().min(1e12).trunc());
            buckets.sort_by(|a, b| a.1.total_cmp(&b.1));
        }
        let mut report = full_report();
        let last = report.targets[0].last.as_mut().unwrap();
        last.sample.latency.end_to_end = Some(Histogram { count: 7.0, sum_seconds: -0.5, buckets });
        prop_assert_eq!(report_trip(&report), report);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(report) = wire::Report::decode(bytes.as_slice()) {
            let _ = decode_report(report);
        }
        if let Ok(plan) = wire::Plan::decode(bytes.as_slice()) {
            let _ = decode_plan(plan);
        }
    }

    #[test]
    fn a_damaged_report_is_decoded_or_refused(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode_report(&full_report(), Duration::ZERO).encode_to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(report) = wire::Report::decode(bytes.as_slice()) {
            let _ = decode_report(report);
        }
    }
}
