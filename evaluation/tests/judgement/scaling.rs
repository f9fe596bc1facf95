//! What an HPA reads while servers go to zero and come back, from the pods of the cluster to the number. A gateway holds the requests
//! for which no server is there.

use crate::scene::{NAMESPACE, spec};
use infmon_crds::v1alpha1::{Endpoint, InferenceMonitorSpec, PodEndpoint, PodSelector, PortReference, ServiceEndpoint};
use infmon_engines::EngineSample;
use infmon_evaluation::cluster::{Namespace, Pod, PodPort, ServiceAddress};
use infmon_evaluation::metric::Metric::{InFlightRequests, QueueDepth, RunningRequests};
use infmon_evaluation::{AddressPolicy, Input, Memory, Moment, Observations, Resolution, evaluate, metric, resolve};
use infmon_samples::{Failure, FailureKind, NodeIdentity, Observation, Recognition, Report, TargetId, TargetReport};
use std::collections::BTreeMap;
use std::time::Duration;

const NOW: Moment = Moment::from_secs(1000);

/// A pod of the service and what its daemon says of it.
struct Server {
    pod: Pod,
    report: Heard,
}

enum Heard {
    /// Waiting and running requests.
    Numbers(f64, f64),
    /// It does not answer.
    Refused,
    /// Its last sample is too old.
    Stale(f64),
    /// No scrape has been made yet, or no daemon runs there.
    Nothing,
}

fn pod(app: &str, name: &str, number: u8) -> Pod {
    Pod {
        name: name.into(),
        uid: format!("uid-{name}"),
        node: Some("n1".into()),
        ip: Some([10, 0, 0, number].into()),
        labels: BTreeMap::from([("app".into(), app.into())]),
        ports: vec![PodPort {
            name: "http".into(),
            number: 8000,
        }],
        ready: true,
        ..Pod::default()
    }
}

fn gateway(report: Heard) -> Server {
    let pod = pod("gateway", "gateway-0", 1);
    Server { pod, report }
}

fn vllm(number: u8, report: Heard) -> Server {
    let pod = pod("vllm", &format!("vllm-{number}"), 10 + number);
    Server { pod, report }
}

impl Server {
    fn with(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        change(&mut self.pod);
        self
    }

    /// It loads its model.
    fn starting(self) -> Self {
        self.with(|pod| pod.ready = false)
    }

    /// It waits for a node with a free GPU.
    fn pending(self) -> Self {
        self.with(|pod| (pod.ready, pod.node, pod.ip) = (false, None, None))
    }

    /// It has been deleted and ends.
    fn ending(self) -> Self {
        self.with(|pod| pod.terminating = true)
    }
}

struct Cluster(Vec<Pod>, Option<Vec<ServiceAddress>>);

impl Namespace for Cluster {
    fn pods(&self) -> Box<dyn Iterator<Item = &Pod> + '_> {
        Box::new(self.0.iter())
    }

    fn service(&self, _: &str) -> Option<Vec<ServiceAddress>> {
        self.1.clone()
    }
}

fn by_label(name: &str, app: &str) -> Endpoint {
    Endpoint {
        name: name.into(),
        pods: Some(PodEndpoint {
            selector: PodSelector {
                match_labels: BTreeMap::from([("app".into(), app.into())]),
                match_expressions: Vec::new(),
            },
            port: PortReference::Name("http".into()),
        }),
        ..Endpoint::default()
    }
}

fn monitor(endpoints: Vec<Endpoint>) -> InferenceMonitorSpec {
    InferenceMonitorSpec { endpoints, ..spec() }
}

fn servers_only() -> InferenceMonitorSpec {
    monitor(vec![by_label("servers", "vllm")])
}

fn with_gateway() -> InferenceMonitorSpec {
    monitor(vec![by_label("servers", "vllm"), by_label("gateway", "gateway")])
}

fn reported(id: TargetId, heard: &Heard) -> Option<TargetReport> {
    let sample = |age, waiting, running| {
        Some(Observation {
            age: Duration::from_secs(age),
            took: Duration::from_millis(3),
            sample: EngineSample {
                waiting: Some(waiting),
                running: Some(running),
                ..EngineSample::default()
            },
            recognition: Recognition::default(),
        })
    };
    let refused = Failure {
        kind: FailureKind::Unreachable,
        message: "connection refused".into(),
        since: Duration::from_secs(30),
    };
    let (last, failure) = match heard {
        Heard::Numbers(waiting, running) => (sample(1, *waiting, *running), None),
        Heard::Stale(waiting) => (sample(30, *waiting, 0.0), Some(refused)),
        Heard::Refused => (None, Some(refused)),
        Heard::Nothing => return None,
    };
    Some(TargetReport {
        id,
        last,
        failure,
        host_memory: None,
    })
}

fn observed(
    spec: &InferenceMonitorSpec,
    servers: &[Server],
    slices: Option<Vec<ServiceAddress>>,
) -> (Resolution, Observations) {
    let cluster = Cluster(servers.iter().map(|server| server.pod.clone()).collect(), slices);
    let resolution = resolve(spec, &cluster, &AddressPolicy::default());
    let mut observations = Observations::default();
    observations.connected(NodeIdentity {
        node: "n1".into(),
        ..NodeIdentity::default()
    });
    let targets = resolution.endpoints.iter().filter_map(|endpoint| {
        let server = servers.iter().find(|server| server.pod.name == endpoint.name)?;
        reported(endpoint.target.clone()?.id, &server.report)
    });
    let report = Report {
        targets: targets.collect(),
        ..Report::default()
    };
    observations.report("n1", report, NOW);
    (resolution, observations)
}

#[test]
fn numbers_to_zero_and_back() {
    use Heard::{Nothing, Numbers, Refused, Stale};
    let idle = || gateway(Numbers(0.0, 0.0));
    let holds = || gateway(Numbers(3.0, 0.0));
    let cases: Vec<(&str, InferenceMonitorSpec, Vec<Server>, Result<f64, &str>)> = vec![
        (
            "no server, and the gateway holds requests",
            with_gateway(),
            vec![holds()],
            Ok(3.0),
        ),
        ("no server and nothing to do", with_gateway(), vec![idle()], Ok(0.0)),
        (
            "a server that has no node yet",
            with_gateway(),
            vec![holds(), vllm(0, Nothing).pending()],
            Ok(3.0),
        ),
        (
            "a server that starts and is silent",
            with_gateway(),
            vec![holds(), vllm(0, Refused).starting()],
            Ok(3.0),
        ),
        (
            "one on a node without a daemon",
            with_gateway(),
            vec![holds(), vllm(0, Nothing).starting()],
            Ok(3.0),
        ),
        (
            "one that answers before it is Ready",
            with_gateway(),
            vec![holds(), vllm(0, Numbers(1.0, 1.0)).starting()],
            Ok(5.0),
        ),
        (
            "a server that runs",
            with_gateway(),
            vec![idle(), vllm(0, Numbers(2.0, 4.0))],
            Ok(6.0),
        ),
        (
            "one runs, two more start",
            with_gateway(),
            vec![
                holds(),
                vllm(0, Numbers(2.0, 4.0)),
                vllm(1, Refused).starting(),
                vllm(2, Nothing).pending(),
            ],
            Ok(9.0),
        ),
        (
            "a server that ends with what it still runs",
            with_gateway(),
            vec![idle(), vllm(0, Numbers(0.0, 2.0)).ending()],
            Ok(2.0),
        ),
        (
            "a server that ends and is silent",
            with_gateway(),
            vec![holds(), vllm(0, Refused).ending()],
            Ok(3.0),
        ),
        (
            "a server that ended",
            with_gateway(),
            vec![holds(), vllm(0, Refused).with(|pod| pod.ended = true)],
            Ok(3.0),
        ),
        (
            "a Ready server that is silent may hold anything",
            with_gateway(),
            vec![holds(), vllm(0, Refused)],
            Err("1 of 2 endpoints has no sample younger than 10 s (vllm-0: connection refused for 30 s)"),
        ),
        (
            "a gateway that is silent may hold anything",
            with_gateway(),
            vec![gateway(Stale(3.0))],
            Err("1 of 1 endpoint has no sample younger than 10 s (gateway-0: connection refused for 30 s)"),
        ),
        (
            "a gateway that is not Ready and no server",
            with_gateway(),
            vec![gateway(Refused).starting()],
            Err("none of 1 endpoint takes requests"),
        ),
        (
            "servers without a gateway pod beside them",
            with_gateway(),
            vec![vllm(0, Numbers(2.0, 4.0))],
            Ok(6.0),
        ),
        (
            "no pod of any endpoint",
            with_gateway(),
            vec![],
            Err("nobody is left to see a queue"),
        ),
        (
            "no server, and nobody else",
            servers_only(),
            vec![],
            Err("nobody is left to see a queue"),
        ),
        (
            "a server that starts, and nobody else",
            servers_only(),
            vec![vllm(0, Refused).starting()],
            Err("none of 1 endpoint takes requests"),
        ),
        (
            "a server that cannot be measured",
            with_gateway(),
            vec![idle(), vllm(0, Nothing).with(|pod| pod.ports.clear())],
            Err("not every endpoint can be measured (endpoint servers: pod vllm-0 declares no TCP container port http"),
        ),
        (
            "one that starts and could not be measured either",
            with_gateway(),
            vec![holds(), vllm(0, Nothing).starting().with(|pod| pod.ports.clear())],
            Ok(3.0),
        ),
    ];
    for (name, spec, servers, expected) in cases {
        let (resolution, observations) = observed(&spec, &servers, None);
        let read = metric::read(InFlightRequests, &spec, &resolution, &observations, None, NOW);
        match (read, expected) {
            (Ok(reading), Ok(value)) => assert!((reading.value - value).abs() < 1e-9, "{name}: {reading:?}"),
            (Err(words), Err(expected)) => assert!(words.contains(expected), "{name}: {words}"),
            (read, _) => panic!("{name}: {read:?}"),
        }
        // The parts are known whenever their sum is.
        for part in [QueueDepth, RunningRequests] {
            let read = metric::read(part, &spec, &resolution, &observations, None, NOW);
            assert_eq!(read.is_ok(), expected.is_ok(), "{name}: {part:?}");
        }
        let input = Input {
            namespace: NAMESPACE,
            spec: &spec,
            resolution: &resolution,
            observations: &observations,
            watched_since: Moment::default(),
            now: NOW,
        };
        crate::scene::assert_presentable(&evaluate(input, Memory::default()).0);
    }
}

#[test]
fn a_service_scaled_to_zero_is_not_one_that_nobody_knows() {
    let of_service = Endpoint {
        name: "servers".into(),
        service: Some(ServiceEndpoint {
            name: "vllm".into(),
            port: PortReference::Name("http".into()),
        }),
        ..Endpoint::default()
    };
    let spec = monitor(vec![of_service, by_label("gateway", "gateway")]);
    for (slices, known) in [(Some(Vec::new()), true), (None, false)] {
        let (resolution, observations) = observed(&spec, &[gateway(Heard::Numbers(3.0, 0.0))], slices);
        let read = metric::read(QueueDepth, &spec, &resolution, &observations, None, NOW);
        assert_eq!(read.is_ok(), known, "{read:?}");
    }
}
