//! Which target is shown what, and what is said where nothing may be shown.

use crate::resolve::by_url;
use crate::scene::{spec, target};
use infmon_crds::v1alpha1::{Endpoint, InferenceMonitorSpec, SecretReference};
use infmon_evaluation::cluster::{Namespace, Pod, SecretReading, ServiceAddress};
use infmon_evaluation::credentials::{HOSTS, LABEL, Missing, SecretData, not_got, secrets_named};
use infmon_evaluation::{AddressPolicy, NamedCredentials, Place, Resolution, ResolvedEndpoint, plan, resolve};
use infmon_samples::{Access, Credentials, Hidden, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CANARY: &str = "canary-5d41402a";

/// A namespace with one Secret, `access`, as it is known.
struct Tenant(SecretReading);

impl Namespace for Tenant {
    fn pods(&self) -> Box<dyn Iterator<Item = &Pod> + '_> {
        Box::new(std::iter::empty())
    }

    fn service(&self, _: &str) -> Option<Vec<ServiceAddress>> {
        None
    }

    fn secret(&self, name: &str) -> SecretReading {
        assert_eq!(name, "access");
        self.0.clone()
    }
}

fn secret_of(namespace: &str, token: &str) -> SecretReading {
    let named = NamedCredentials::read(&SecretData {
        namespace: namespace.into(),
        name: "access".into(),
        kind: String::new(),
        labels: BTreeMap::from([(LABEL.into(), "true".into())]),
        annotations: BTreeMap::from([(HOSTS.into(), "llm.test".into())]),
        data: BTreeMap::from([("token".into(), token.as_bytes().to_vec())]),
    });
    SecretReading::Usable(Arc::new(named.unwrap()))
}

fn guarded(url: &str) -> Endpoint {
    Endpoint {
        credentials_secret_ref: Some(SecretReference { name: "access".into() }),
        labels: BTreeMap::from([("site".into(), "fra".into())]),
        ..by_url(url)
    }
}

fn of(endpoints: Vec<Endpoint>) -> InferenceMonitorSpec {
    InferenceMonitorSpec { endpoints, ..spec() }
}

fn policy() -> AddressPolicy {
    AddressPolicy {
        allowed_hosts: vec!["llm.test".into(), "other.test".into()],
        ..AddressPolicy::default()
    }
}

fn found(endpoint: Endpoint, secret: SecretReading) -> Resolution {
    resolve(&of(vec![endpoint]), &Tenant(secret), &policy())
}

#[test]
fn a_url_is_shown_what_its_secret_holds_and_keeps_its_labels() {
    let found = found(guarded("https://LLM.test"), secret_of("prod", CANARY));
    let [endpoint] = &found.endpoints[..] else {
        panic!("{found:?}")
    };
    let target = endpoint.target.as_ref().unwrap();
    assert!(target.access.verify_certificate);
    let shown = target.access.credentials.as_ref().unwrap();
    assert_eq!(
        shown.authorization.as_ref().unwrap().reveal(),
        format!("Bearer {CANARY}")
    );
    assert_eq!(endpoint.labels["site"], "fra");
    assert_eq!(target.id.0, "prod/access/https://llm.test:443/metrics#Auto");
    assert!(!format!("{found:?}").contains(CANARY));
}

#[test]
fn no_two_tenants_share_a_target_and_a_new_value_is_no_new_target() {
    let id = |endpoint, secret| {
        let found = found(endpoint, secret);
        found.endpoints[0].target.as_ref().unwrap().id.clone()
    };
    let url = "https://llm.test";
    let (prod, dev) = (
        id(guarded(url), secret_of("prod", "a")),
        id(guarded(url), secret_of("dev", "a")),
    );
    let open = id(by_url(url), SecretReading::NotYet);
    assert_eq!(BTreeSet::from([&prod, &dev, &open]).len(), 3);
    assert_eq!(id(guarded(url), secret_of("prod", "b")), prod);
}

#[test]
fn a_server_that_is_named_twice_is_asked_in_the_first_way_only() {
    let resolve = |endpoints, secret| resolve(&of(endpoints), &Tenant(secret), &policy());
    let (url, clear) = ("https://llm.test", "http://llm.test:443");
    let gone = || SecretReading::Unusable(not_got("prod", "access", Missing::Secret));
    // An unusable Secret first, and no way around it; then a usable one, and one that is awaited.
    for (secret, measured) in [(gone(), 0), (secret_of("prod", CANARY), 1), (SecretReading::NotYet, 1)] {
        for second in [by_url(url), by_url(clear)] {
            let found = resolve(vec![guarded(url), second], secret.clone());
            assert_eq!(found.endpoints.len(), measured, "{found:?}");
            assert!(found.endpoints.iter().all(|endpoint| endpoint.labels["site"] == "fra"));
            let told = |words: &str| found.problems.iter().any(|problem| problem.contains(words));
            assert!(found.partial && told("llm.test:443 is named twice with different credentials or scheme"));
        }
    }
    let twice = resolve(
        vec![guarded(url), guarded("https://LLM.test:443")],
        secret_of("prod", "a"),
    );
    assert!(twice.endpoints.len() == 1 && twice.problems.is_empty() && !twice.partial);
    let twice = resolve(vec![guarded(url), guarded(url)], gone());
    assert!(twice.endpoints.is_empty() && twice.problems.len() == 1);
}

#[test]
fn without_its_secret_a_url_is_a_problem_or_waits_and_is_never_asked() {
    let answer = |missing| SecretReading::Unusable(not_got("prod", "access", missing));
    for (url, secret, words) in [
        (
            "https://llm.test",
            answer(Missing::Secret),
            "kubectl create secret generic access -n prod",
        ),
        (
            "https://llm.test",
            answer(Missing::Permission),
            "Helm value credentials.namespaces",
        ),
        (
            "https://llm.test",
            answer(Missing::Answer("timeout")),
            "tried again: timeout",
        ),
        (
            "https://other.test",
            secret_of("prod", CANARY),
            "may be sent to llm.test and not to other.test:443",
        ),
        ("http://llm.test", secret_of("prod", CANARY), "in the clear"),
        (
            "https://elsewhere.test",
            secret_of("prod", CANARY),
            "host elsewhere.test is not among the hosts",
        ),
    ] {
        let found = found(guarded(url), secret);
        assert!(found.endpoints.is_empty() && found.partial, "{found:?}");
        assert!(found.problems[0].contains(words), "{found:?}");
        assert!(!format!("{found:?}").contains(CANARY));
    }
    let waiting = found(guarded("https://llm.test"), SecretReading::NotYet);
    assert!(waiting.problems.is_empty() && waiting.endpoints[0].target.is_none());
}

#[test]
fn every_https_url_is_verified_and_no_pod_is() {
    for (url, verified) in [("https://llm.test", true), ("http://llm.test", false)] {
        let found = found(by_url(url), SecretReading::NotYet);
        let access = &found.endpoints[0].target.as_ref().unwrap().access;
        assert_eq!(
            (access.verify_certificate, &access.credentials),
            (verified, &None),
            "{url}"
        );
    }
}

#[test]
fn only_secrets_for_servers_that_may_be_asked_are_read() {
    let named = |endpoint| secrets_named(&of(vec![endpoint]), &policy()).len();
    for (url, count) in [
        ("https://llm.test", 1),
        ("https://LLM.TEST:8443/", 1),
        ("http://llm.test", 0),
        ("https://elsewhere.test", 0),
        ("https://llm.test.evil", 0),
        ("nonsense", 0),
    ] {
        assert_eq!(named(guarded(url)), count, "{url}");
    }
    assert_eq!(named(by_url("https://llm.test")), 0);
    assert!(secrets_named(&of(vec![guarded("https://llm.test")]), &AddressPolicy::default()).is_empty());
}

#[test]
fn credentials_of_one_node_are_bounded_and_nobody_crowds_out_others() {
    let large = |owner: &str, number: usize| {
        let credentials = Credentials {
            authorization: Some(Hidden::new("x".repeat(60_000))),
            ..Credentials::default()
        };
        Target {
            access: Access {
                verify_certificate: true,
                credentials: Some(Arc::new(credentials)),
            },
            ..target(
                &format!("{owner}/s-{number}/https://llm.test:443/metrics"),
                "llm.test:443",
            )
        }
    };
    let targets = (0..100).map(|number| large("a-greedy", number));
    let targets = targets.chain([large("b-modest", 0), target("c/http://x:80", "x:80")]);
    let endpoints = targets.map(|target| ResolvedEndpoint {
        group: "g".into(),
        name: target.id.0.clone(),
        place: Place::Anywhere,
        serving: true,
        labels: BTreeMap::new(),
        devices: Vec::new(),
        pod_uid: String::new(),
        target: Some(target),
    });
    let monitor = Resolution {
        endpoints: endpoints.collect(),
        ..Resolution::default()
    };
    let plans = plan([&monitor], &BTreeSet::from(["node".to_owned()]));
    let planned = &plans["node"];
    let bytes: usize = planned
        .iter()
        .filter_map(|target| target.access.credentials.as_ref())
        .map(|credentials| credentials.bytes())
        .sum();
    assert!(bytes <= 3 << 20 && planned.len() > 30, "{} with {bytes}", planned.len());
    for name in ["b-modest/s-0/https://llm.test:443/metrics", "c/http://x:80"] {
        assert!(planned.iter().any(|target| target.id.0 == name), "{name}");
    }
}
