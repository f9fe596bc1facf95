//! From a spec and the cluster to endpoints.

use crate::scene::spec;
use infmon_crds::v1alpha1::{Endpoint, InferenceMonitorSpec, PodEndpoint, PodSelector, PortReference, ServiceEndpoint};
use infmon_evaluation::cluster::{Namespace, Pod, PodPort, ServiceAddress};
use infmon_evaluation::{AddressPolicy, Place, resolve};
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pods: Vec<Pod>,
    pub(crate) services: BTreeMap<String, Vec<ServiceAddress>>,
}

impl Namespace for Cluster {
    fn pods(&self) -> Box<dyn Iterator<Item = &Pod> + '_> {
        Box::new(self.pods.iter())
    }

    fn service(&self, name: &str) -> Option<Vec<ServiceAddress>> {
        self.services.get(name).cloned()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn port(name: &str, number: u16) -> PodPort {
    PodPort {
        name: name.into(),
        number,
    }
}

pub(crate) fn pod(name: &str, address: &str) -> Pod {
    Pod {
        name: name.into(),
        uid: format!("uid-{name}"),
        kubelet_uid: format!("kubelet-uid-{name}"),
        node: Some("n1".into()),
        ip: Some(ip(address)),
        labels: BTreeMap::from([("app".into(), "vllm".into())]),
        ports: vec![port("http", 8000), port("", 9000)],
        ready: true,
        ..Pod::default()
    }
}

pub(crate) fn address(pod: Option<&str>, address: &str) -> ServiceAddress {
    ServiceAddress {
        ip: ip(address),
        pod: pod.map(Into::into),
        node: Some("n1".into()),
        ready: true,
        ports: vec![port("http", 8000)],
    }
}

pub(crate) fn by_label(port: PortReference) -> Endpoint {
    Endpoint {
        name: "servers".into(),
        pods: Some(PodEndpoint {
            selector: PodSelector {
                match_labels: BTreeMap::from([("app".into(), "vllm".into())]),
                match_expressions: Vec::new(),
            },
            port,
        }),
        ..Endpoint::default()
    }
}

pub(crate) fn by_service(name: &str) -> Endpoint {
    Endpoint {
        name: "service".into(),
        service: Some(ServiceEndpoint {
            name: name.into(),
            port: PortReference::Name("http".into()),
        }),
        ..Endpoint::default()
    }
}

pub(crate) fn by_url(url: &str) -> Endpoint {
    Endpoint {
        name: "box".into(),
        url: Some(url.into()),
        ..Endpoint::default()
    }
}

pub(crate) fn with(endpoints: Vec<Endpoint>) -> InferenceMonitorSpec {
    InferenceMonitorSpec { endpoints, ..spec() }
}

pub(crate) fn http() -> PortReference {
    PortReference::Name("http".into())
}

/// Addresses found, and the first problem.
fn found(endpoints: Vec<Endpoint>, cluster: &Cluster, policy: &AddressPolicy) -> (Vec<String>, Option<String>) {
    let resolution = resolve(&with(endpoints), cluster, policy);
    let addresses = resolution
        .endpoints
        .iter()
        .map(|endpoint| {
            endpoint
                .target
                .as_ref()
                .map_or_else(|| format!("{}?", endpoint.name), |target| target.address.clone())
        })
        .collect();
    (addresses, resolution.problems.first().cloned())
}

pub(crate) fn cluster(pods: Vec<Pod>) -> Cluster {
    Cluster {
        pods,
        ..Cluster::default()
    }
}

#[test]
fn pods_follow_the_table() {
    let open = AddressPolicy {
        allow_loopback: true,
        allow_host_network: true,
        ..AddressPolicy::default()
    };
    let edited = |edit: fn(&mut Pod)| {
        let mut one = pod("a", "10.0.0.1");
        edit(&mut one);
        vec![one]
    };
    type Case = (
        &'static str,
        Vec<Pod>,
        PortReference,
        &'static [&'static str],
        Option<&'static str>,
    );
    let cases: Vec<Case> = vec![
        ("by name", vec![pod("a", "10.0.0.1")], http(), &["10.0.0.1:8000"], None),
        (
            "by number",
            vec![pod("a", "10.0.0.1")],
            PortReference::Number(9000),
            &["10.0.0.1:9000"],
            None,
        ),
        ("IPv6", vec![pod("a", "fd00::1")], http(), &["[fd00::1]:8000"], None),
        (
            "in order",
            vec![pod("b", "10.0.0.2"), pod("a", "10.0.0.1")],
            http(),
            &["10.0.0.1:8000", "10.0.0.2:8000"],
            None,
        ),
        ("another label", edited(|pod| pod.labels.clear()), http(), &[], None),
        ("ended", edited(|pod| pod.ended = true), http(), &[], None),
        (
            "ended, without the port",
            edited(|pod| {
                pod.ended = true;
                pod.ports.clear();
            }),
            http(),
            &[],
            None,
        ),
        ("no address yet", edited(|pod| pod.ip = None), http(), &["a?"], None),
        ("no node yet", edited(|pod| pod.node = None), http(), &["a?"], None),
        (
            "a port that is not declared",
            vec![pod("a", "10.0.0.1")],
            PortReference::Number(10250),
            &[],
            Some("endpoint servers: pod a declares no TCP container port 10250; declared: http (8000), 9000"),
        ),
        (
            "no port at all",
            edited(|pod| pod.ports.clear()),
            http(),
            &[],
            Some("endpoint servers: pod a declares no TCP container port http; declared: none"),
        ),
        (
            "host network",
            edited(|pod| pod.host_network = true),
            http(),
            &[],
            Some("podAddresses.allowHostNetwork"),
        ),
        (
            "loopback",
            vec![pod("a", "127.0.0.1")],
            http(),
            &[],
            Some("127.0.0.1 is a loopback, link-local or multicast address"),
        ),
        (
            "mapped loopback",
            vec![pod("a", "::ffff:127.0.0.1")],
            http(),
            &[],
            Some("loopback"),
        ),
        (
            "metadata service",
            vec![pod("a", "169.254.169.254")],
            http(),
            &[],
            Some("link-local"),
        ),
        (
            "mapped metadata service",
            vec![pod("a", "::ffff:169.254.169.254")],
            http(),
            &[],
            Some("link-local"),
        ),
        (
            "IPv6 link-local",
            vec![pod("a", "fe80::1")],
            http(),
            &[],
            Some("link-local"),
        ),
        ("IPv6 loopback", vec![pod("a", "::1")], http(), &[], Some("loopback")),
        ("unspecified", vec![pod("a", "0.0.0.0")], http(), &[], Some("loopback")),
        (
            "broadcast",
            vec![pod("a", "255.255.255.255")],
            http(),
            &[],
            Some("loopback"),
        ),
        ("multicast", vec![pod("a", "224.0.0.1")], http(), &[], Some("multicast")),
    ];
    for (name, pods, port, addresses, problem) in cases {
        let (got, words) = found(vec![by_label(port)], &cluster(pods), &AddressPolicy::default());
        assert_eq!(got, addresses, "{name}");
        match (words, problem) {
            (Some(words), Some(problem)) => assert!(words.contains(problem), "{name}: {words}"),
            (words, problem) => assert_eq!(words.as_deref(), problem, "{name}"),
        }
    }
    let (got, _) = found(
        vec![by_label(http())],
        &cluster(edited(|pod| pod.host_network = true)),
        &open,
    );
    assert_eq!(got, ["10.0.0.1:8000"]);
    let (got, _) = found(vec![by_label(http())], &cluster(vec![pod("a", "127.0.0.1")]), &open);
    assert_eq!(got, ["127.0.0.1:8000"]);
}

#[test]
fn readiness_decides_whether_an_endpoint_serves() {
    for (ready, terminating, serving) in [(true, false, true), (false, false, false), (true, true, false)] {
        let mut one = pod("a", "10.0.0.1");
        (one.ready, one.terminating) = (ready, terminating);
        let resolution = resolve(
            &with(vec![by_label(http())]),
            &cluster(vec![one]),
            &AddressPolicy::default(),
        );
        assert_eq!(resolution.endpoints[0].serving, serving);
        assert_eq!(resolution.endpoints[0].place, Place::Node("n1".into()));
    }
}

#[test]
fn services_lead_to_pods_and_nowhere_else() {
    let cases: Vec<(&str, Vec<ServiceAddress>, &[&str], Option<&str>)> = vec![
        ("a pod", vec![address(Some("a"), "10.0.0.1")], &["10.0.0.1:8000"], None),
        (
            "both IP families",
            vec![address(Some("a"), "fd00::9"), address(Some("a"), "10.0.0.1")],
            &["10.0.0.1:8000"],
            None,
        ),
        (
            "two slices with different ports",
            vec![
                ServiceAddress {
                    ports: vec![port("metrics", 9090)],
                    ..address(Some("a"), "10.0.0.1")
                },
                address(Some("a"), "10.0.0.1"),
            ],
            &["10.0.0.1:8000"],
            None,
        ),
        (
            "a forged address",
            vec![address(Some("a"), "10.96.0.1")],
            &[],
            Some("address 10.96.0.1 of Service llm is not the primary address of pod a (10.0.0.1)"),
        ),
        (
            "no pod",
            vec![address(None, "10.96.0.1")],
            &[],
            Some("belongs to no pod of this namespace: use a url endpoint"),
        ),
        (
            "a pod of nobody",
            vec![address(Some("z"), "10.96.0.1")],
            &[],
            Some("belongs to no pod of this namespace"),
        ),
        (
            "no such port",
            vec![ServiceAddress {
                ports: vec![port("grpc", 9000)],
                ..address(Some("a"), "10.0.0.1")
            }],
            &[],
            Some("Service llm has no port http for pod a; it has: grpc (9000)"),
        ),
        ("no address", vec![], &[], None),
    ];
    for (name, addresses, expected, problem) in cases {
        let mut cluster = cluster(vec![pod("a", "10.0.0.1")]);
        cluster.services.insert("llm".into(), addresses);
        let (got, words) = found(vec![by_service("llm")], &cluster, &AddressPolicy::default());
        assert_eq!(got, expected, "{name}");
        assert!(
            words
                .as_deref()
                .unwrap_or_default()
                .contains(problem.unwrap_or_default()),
            "{name}: {words:?}"
        );
        assert_eq!(words.is_some(), problem.is_some(), "{name}: {words:?}");
    }
    let (_, words) = found(vec![by_service("typo")], &Cluster::default(), &AddressPolicy::default());
    assert!(words.unwrap().contains("no EndpointSlice belongs to Service typo"));
}

#[test]
fn urls_need_an_administrator() {
    let policy = AddressPolicy {
        allowed_hosts: vec!["gpu-box.example.com".into(), "fd00::1".into()],
        ..AddressPolicy::default()
    };
    for (url, address) in [
        ("http://gpu-box.example.com:8000", Some("gpu-box.example.com:8000")),
        ("https://GPU-BOX.example.com", Some("gpu-box.example.com:443")),
        ("http://[fd00:0:0::1]:8000", Some("[fd00::1]:8000")),
        ("http://evil.example.com", None),
        ("http://gpu-box.example.com@evil.example.com", None),
        ("http://localhost:8000", None),
        ("http://127.0.0.1:8000", None),
        ("file:///etc/passwd", None),
    ] {
        let (got, problem) = found(vec![by_url(url)], &Cluster::default(), &policy);
        assert_eq!(got.first().map(String::as_str), address, "{url}");
        assert_eq!(problem.is_some(), address.is_none(), "{url}");
    }
    let standalone = AddressPolicy {
        allow_loopback: true,
        ..AddressPolicy::default()
    };
    for url in [
        "http://localhost:8000",
        "http://LOCALHOST:8000",
        "http://127.0.0.9",
        "http://[::1]:1",
        "http://[::ffff:127.0.0.1]",
    ] {
        assert_eq!(
            found(vec![by_url(url)], &Cluster::default(), &standalone).1,
            None,
            "{url}"
        );
    }
    assert!(
        found(vec![by_url("http://10.0.0.1")], &Cluster::default(), &standalone)
            .1
            .is_some()
    );
}

#[test]
fn a_server_that_is_selected_twice_counts_once() {
    let starting = Pod {
        ip: None,
        ready: false,
        ..pod("b", "10.0.0.2")
    };
    let mut cluster = cluster(vec![pod("a", "10.0.0.1"), starting]);
    cluster
        .services
        .insert("llm".into(), vec![address(Some("a"), "10.0.0.1")]);
    let policy = AddressPolicy {
        allowed_hosts: vec!["box".into()],
        ..AddressPolicy::default()
    };
    let endpoints = vec![
        by_label(http()),
        by_label(PortReference::Number(8000)),
        by_service("llm"),
        by_url("http://box"),
        by_url("http://BOX:80/"),
    ];
    let (got, problem) = found(endpoints, &cluster, &policy);
    assert_eq!(
        (got, problem),
        (vec!["10.0.0.1:8000".into(), "b?".into(), "box:80".into()], None)
    );
}

#[test]
fn another_pod_of_the_same_name_is_another_target() {
    let id = |uid: &str| {
        let pods = vec![Pod {
            uid: uid.into(),
            ..pod("a", "10.0.0.1")
        }];
        let resolution = resolve(&with(vec![by_label(http())]), &cluster(pods), &AddressPolicy::default());
        resolution.endpoints[0].target.as_ref().unwrap().id.clone()
    };
    let resolution = resolve(
        &with(vec![by_label(http()), by_url("http://box")]),
        &cluster(vec![pod("a", "10.0.0.1")]),
        &AddressPolicy {
            allowed_hosts: vec!["box".into()],
            ..AddressPolicy::default()
        },
    );
    let uids: Vec<&str> = resolution
        .endpoints
        .iter()
        .map(|endpoint| endpoint.pod_uid.as_str())
        .collect();
    assert_eq!(uids, ["kubelet-uid-a", ""], "the uid of control groups");
    let targets = resolution.endpoints.iter().map(|endpoint| endpoint.target.as_ref());
    let uids: Vec<Option<&str>> = targets.map(|target| target?.pod_uid.as_deref()).collect();
    assert_eq!(uids, [Some("kubelet-uid-a"), None], "host memory is found by the same");
    assert_ne!(id("one"), id("two"));
    assert_eq!(id("one"), id("one"));
}

#[test]
fn numbers_are_bounded() {
    let many = cluster(
        (0..1200)
            .map(|n| pod(&format!("p{n:04}"), &format!("10.0.{}.{}", n / 250, n % 250 + 1)))
            .collect(),
    );
    let resolution = resolve(&with(vec![by_label(http())]), &many, &AddressPolicy::default());
    assert_eq!(resolution.endpoints.len(), 1000);
    assert_eq!(
        resolution.problems,
        ["1200 endpoints are selected, 1000 at most are monitored: split the monitor"]
    );
    let resolution = resolve(
        &with(vec![by_label(PortReference::Number(1))]),
        &many,
        &AddressPolicy::default(),
    );
    assert_eq!((resolution.endpoints.len(), resolution.problems.len()), (0, 9));
    assert_eq!(resolution.problems[8], "and 1192 more of the kind");
}

#[test]
fn a_scrape_ends_before_the_next_one_starts() {
    for (period, deadline) in [(250, 225), (1000, 900), (60_000, 5000), (0, 225), (-5, 900)] {
        let mut spec = with(vec![by_label(http())]);
        spec.sample_period_milliseconds = period;
        let resolution = resolve(&spec, &cluster(vec![pod("a", "10.0.0.1")]), &AddressPolicy::default());
        let target = resolution.endpoints[0].target.as_ref().unwrap();
        assert_eq!(target.deadline.as_millis(), deadline, "{period}");
        assert!(target.deadline < target.period);
    }
}
