use jiff::SignedDuration;
use k8s_openapi::{
    ByteString,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kube_aggregator::pkg::apis::apiregistration::v1::{APIServiceSpec, ServiceReference},
};

use super::*;
use crate::certificates::{decision::PROPAGATION, issue::carry_out};

fn now() -> Timestamp {
    "2026-11-22T00:00:00Z".parse().expect("time")
}

fn names() -> Vec<String> {
    vec!["inference-monitor.monitoring.svc".to_owned()]
}

fn service() -> ServiceName {
    ServiceName {
        namespace: "monitoring".into(),
        name: "inference-monitor".into(),
    }
}

fn created() -> Bundle {
    carry_out(&Decision::Create { why: String::new() }, None, &names(), now())
        .expect("issued")
        .expect("bundle")
}

fn secret(bundle: &Bundle) -> Known<Secret> {
    Known::Present(Secret {
        data: Some(bundle.to_secret()),
        ..Secret::default()
    })
}

fn config_map(trusted: &str) -> Known<ConfigMap> {
    let data = Some([(CA.to_owned(), trusted.to_owned())].into());
    Known::Present(ConfigMap {
        data,
        ..ConfigMap::default()
    })
}

fn api_service(service: Option<(&str, &str)>, ca_bundle: &str) -> Known<APIService> {
    let service = service.map(|(namespace, name)| ServiceReference {
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        port: None,
    });
    let ca_bundle = (!ca_bundle.is_empty()).then(|| ByteString(ca_bundle.as_bytes().to_vec()));
    let spec = Some(APIServiceSpec {
        service,
        ca_bundle,
        ..APIServiceSpec::default()
    });
    let metadata = ObjectMeta {
        resource_version: Some("7".into()),
        ..ObjectMeta::default()
    };
    Known::Present(APIService {
        metadata,
        spec,
        status: None,
    })
}

const OURS: Option<(&str, &str)> = Some(("monitoring", "inference-monitor"));

fn view(secret: Known<Secret>, config_map: Known<ConfigMap>, api_service: Known<APIService>) -> View {
    View {
        secret,
        config_map,
        api_services: [("v1beta2.custom.metrics.k8s.io".to_owned(), api_service)].into(),
    }
}

/// The actions in short.
fn actions(view: &View, now: Timestamp) -> Vec<&'static str> {
    let kind = |action: &Action| match action {
        Action::PublishTrust { .. } => "config map",
        Action::PublishCaBundle { .. } => "API service",
        Action::ChangeSecret(_) => "secret",
    };
    plan(view, &service(), &names(), now).actions.iter().map(kind).collect()
}

#[test]
fn what_differs_is_written_and_nothing_else() {
    let bundle = created();
    let trusted = bundle.trusted();
    let settled = || config_map(&trusted);
    let broken = Known::Present(Secret {
        data: Some([].into()),
        ..Secret::default()
    });
    let foreign = Some(("keda", "keda-metrics-apiserver"));
    for (case, view, expected) in [
        (
            "nothing known",
            view(Known::NotYet, Known::NotYet, Known::NotYet),
            &[][..],
        ),
        (
            "Secret not known",
            view(Known::NotYet, Known::Absent, api_service(OURS, "")),
            &[],
        ),
        (
            "first start",
            view(Known::Absent, Known::Absent, api_service(OURS, "")),
            &["secret"],
        ),
        (
            "first start, the rest not known",
            view(Known::Absent, Known::NotYet, Known::NotYet),
            &["secret"],
        ),
        (
            "broken Secret",
            view(broken, settled(), api_service(OURS, &trusted)),
            &["secret"],
        ),
        (
            "to be published",
            view(secret(&bundle), Known::Absent, api_service(OURS, "")),
            &["config map", "API service"],
        ),
        (
            "settled",
            view(secret(&bundle), settled(), api_service(OURS, &trusted)),
            &[],
        ),
        (
            "ConfigMap changed",
            view(secret(&bundle), config_map("x"), api_service(OURS, &trusted)),
            &["config map"],
        ),
        (
            "caBundle changed",
            view(secret(&bundle), settled(), api_service(OURS, "x")),
            &["API service"],
        ),
        ("APIService gone", view(secret(&bundle), settled(), Known::Absent), &[]),
        (
            "APIService not known",
            view(secret(&bundle), settled(), Known::NotYet),
            &[],
        ),
        (
            "another's APIService",
            view(secret(&bundle), settled(), api_service(foreign, "")),
            &[],
        ),
        (
            "the same name elsewhere",
            view(
                secret(&bundle),
                settled(),
                api_service(Some(("dev", "inference-monitor")), ""),
            ),
            &[],
        ),
        (
            "local APIService",
            view(secret(&bundle), settled(), api_service(None, "")),
            &[],
        ),
    ] {
        assert_eq!(actions(&view, now()), expected, "{case}");
    }
}

#[test]
fn an_authority_does_not_sign_before_it_is_published() {
    let bundle = carry_out(&Decision::AddNextAuthority, Some(&created()), &names(), now())
        .expect("issued")
        .expect("bundle");
    let trusted = bundle.trusted();
    let settled = || config_map(&trusted);
    let ours = |ca_bundle: &str| api_service(OURS, ca_bundle);
    let later = now() + PROPAGATION + SignedDuration::from_secs(1);
    for (case, view, expected) in [
        (
            "published",
            view(secret(&bundle), settled(), ours(&trusted)),
            &["secret"][..],
        ),
        (
            "not in the ConfigMap",
            view(secret(&bundle), config_map("old"), ours(&trusted)),
            &["config map"],
        ),
        (
            "not in the APIService",
            view(secret(&bundle), settled(), ours("old")),
            &["API service"],
        ),
        (
            "ConfigMap not known",
            view(secret(&bundle), Known::NotYet, ours(&trusted)),
            &[],
        ),
        (
            "APIService not known",
            view(secret(&bundle), settled(), Known::NotYet),
            &[],
        ),
        (
            "another's APIService",
            view(secret(&bundle), settled(), api_service(Some(("a", "b")), "")),
            &["secret"],
        ),
    ] {
        assert_eq!(actions(&view, later), expected, "{case}");
    }
}

#[test]
fn owners_are_told_apart() {
    for (api_service, expected) in [
        (Known::NotYet, Ownership::Unknown),
        (Known::Absent, Ownership::Absent),
        (api_service(OURS, ""), Ownership::Ours),
        (
            api_service(Some(("keda", "adapter")), ""),
            Ownership::Other("Service keda/adapter".into()),
        ),
        (api_service(None, ""), Ownership::Other("the API server itself".into())),
    ] {
        assert_eq!(ownership(&api_service, &service()), expected);
    }
}

#[test]
fn the_next_look_is_when_the_leaf_is_due() {
    let bundle = created();
    let trusted = bundle.trusted();
    let settled = view(secret(&bundle), config_map(&trusted), api_service(OURS, &trusted));
    let until = plan(&settled, &service(), &names(), now()).until.expect("until");
    let days = until.duration_since(now()).as_hours() / 24;
    assert!((59..=60).contains(&days), "{days}");
}
