//! Whether the endpoints found are all that take requests: a sum over a part of them is no sum.

use crate::resolve::{Cluster, address, by_label, by_service, by_url, cluster, http, pod, with};
use infmon_evaluation::cluster::{Pod, ServiceAddress};
use infmon_evaluation::{AddressPolicy, resolve};

#[test]
fn what_takes_requests_and_is_left_out_makes_the_rest_a_part() {
    let without_port = |name: &str, ready, terminating| Pod {
        ports: Vec::new(),
        ready,
        terminating,
        ..pod(name, "10.0.0.2")
    };
    let pods = |other: Pod| (vec![by_label(http())], cluster(vec![pod("a", "10.0.0.1"), other]));
    let of_service = |addresses: Option<Vec<ServiceAddress>>| {
        let mut cluster = cluster(vec![pod("a", "10.0.0.1"), without_port("b", true, false)]);
        if let Some(addresses) = addresses {
            cluster.services.insert("llm".into(), addresses);
        }
        (vec![by_service("llm")], cluster)
    };
    let unready = |address: ServiceAddress| ServiceAddress {
        ready: false,
        ..address
    };
    let many = (0..1001).map(|number| pod(&number.to_string(), &format!("10.1.{}.{}", number / 250, number % 250)));
    let cases = [
        ("nothing is left out", pods(pod("b", "10.0.0.2")), false),
        ("no pod at all", (vec![by_label(http())], Cluster::default()), false),
        ("a Service without pods", of_service(Some(vec![])), false),
        ("a pod without the port", pods(without_port("b", true, false)), true),
        ("one that is not Ready", pods(without_port("b", false, false)), false),
        ("one that is being deleted", pods(without_port("b", true, true)), false),
        ("a Service that nobody knows", of_service(None), true),
        (
            "an address of nobody",
            of_service(Some(vec![address(None, "10.0.0.9")])),
            true,
        ),
        (
            "one that takes no requests",
            of_service(Some(vec![unready(address(None, "10.0.0.9"))])),
            false,
        ),
        (
            "a url that is not allowed",
            (vec![by_url("http://gpu-box:8000")], Cluster::default()),
            true,
        ),
        ("too many pods", (vec![by_label(http())], cluster(many.collect())), true),
    ];
    for (name, (endpoints, cluster), partial) in cases {
        let resolution = resolve(&with(endpoints), &cluster, &AddressPolicy::default());
        assert_eq!(resolution.partial, partial, "{name}: {:?}", resolution.problems);
    }
}
