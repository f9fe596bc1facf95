use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderName, HeaderValue};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};

use super::*;
use crate::metrics_api::{identity::AUTHENTICATED, review_cache::ReviewError};

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("ca"))
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("key");
        vec![params.signed_by(&key, &self.0).expect("certificate").der().clone()]
    }
}

#[derive(Default)]
struct Scripted {
    calls: AtomicUsize,
}

impl TokenReviewer for Scripted {
    fn review(&self, token: String) -> BoxFuture<'static, Result<Option<Identity>, ReviewError>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        async move {
            match token.as_str() {
                "jane" => Ok(Some(Identity {
                    name: "jane".into(),
                    ..Identity::default()
                })),
                "down" => Err(ReviewError::new("no route")),
                _ => Ok(None),
            }
        }
        .boxed()
    }
}

fn config_map(proxy: &Ca, clients: &Ca, allowed: &str) -> BTreeMap<String, String> {
    [
        ("client-ca-file", clients.0.pem().as_str()),
        ("requestheader-client-ca-file", proxy.0.pem().as_str()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ("requestheader-allowed-names", allowed),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn trust(data: &BTreeMap<String, String>) -> Trust {
    Trust::parse(data, &provider()).expect("trust")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("name"),
            HeaderValue::from_static(value),
        );
    }
    headers
}

/// What is looked at, the certificates, the headers, and the outcome.
type Case<'a> = (
    &'a str,
    &'a [CertificateDer<'static>],
    &'a [(&'static str, &'static str)],
    Outcome,
);
/// The name and the groups, or the kind of the refusal.
type Outcome = Result<(String, Vec<String>), &'static str>;

#[tokio::test]
async fn callers_are_recognised_in_order_and_never_by_headers_alone() {
    let (proxy, clients, stranger) = (Ca::new("proxy-ca"), Ca::new("client-ca"), Ca::new("stranger"));
    let authentication = Authentication::new(Arc::new(Scripted::default()));
    authentication.set_trust(trust(&config_map(&proxy, &clients, r#"["front-proxy-client"]"#)));

    let front_proxy = proxy.issue("front-proxy-client", |_| {});
    let unlimited = proxy.issue("front-proxy-client", |params| params.extended_key_usages.clear());
    let not_allowed = proxy.issue("somebody", |_| {});
    let server_only = proxy.issue("front-proxy-client", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let expired = proxy.issue("front-proxy-client", |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let forged = stranger.issue("front-proxy-client", |_| {});
    let admin = clients.issue("admin", |params| {
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
    });
    let nameless = clients.issue("", |_| {});

    let remote = [
        ("X-Remote-User", "hpa"),
        ("X-Remote-Group", "controllers"),
        ("X-Remote-Extra-Scopes", "a"),
    ];
    let bearer = [("Authorization", "Bearer jane")];
    let both = [
        ("X-Remote-User", "hpa"),
        ("X-Remote-Group", "system:masters"),
        ("Authorization", "Bearer jane"),
    ];
    let known = |name: &str, groups: &[&str]| {
        let groups = groups
            .iter()
            .map(|group| (*group).to_owned())
            .chain([AUTHENTICATED.to_owned()])
            .collect();
        Ok((name.to_owned(), groups))
    };
    let anonymous = || Ok((Identity::anonymous().name, Identity::anonymous().groups));
    let cases: [Case<'_>; 19] = [
        ("front proxy", &front_proxy, &remote, known("hpa", &["controllers"])),
        (
            "front proxy for a caller without groups",
            &front_proxy,
            &remote[..1],
            known("hpa", &[]),
        ),
        (
            "front proxy, certificate without a limit of use",
            &unlimited,
            &remote,
            known("hpa", &["controllers"]),
        ),
        (
            "front proxy passes a token on",
            &front_proxy,
            &both,
            known("hpa", &["system:masters"]),
        ),
        ("front proxy without a user", &front_proxy, &[], Err("invalid")),
        ("name not allowed", &not_allowed, &remote, Err("invalid")),
        ("not for clients", &server_only, &remote, Err("invalid")),
        ("expired", &expired, &remote, Err("invalid")),
        ("forged", &forged, &remote, Err("invalid")),
        ("forged, with a token of its own", &forged, &both, known("jane", &[])),
        ("headers without a certificate", &[], &remote, anonymous()),
        ("headers with a token", &[], &both, known("jane", &[])),
        (
            "headers with an ordinary certificate",
            &admin,
            &remote,
            known("admin", &["system:masters"]),
        ),
        ("ordinary certificate without a name", &nameless, &[], Err("invalid")),
        ("token", &[], &bearer, known("jane", &[])),
        ("invalid token", &[], &[("Authorization", "Bearer joe")], Err("invalid")),
        (
            "token that cannot be reviewed",
            &[],
            &[("Authorization", "Bearer down")],
            Err("unavailable"),
        ),
        ("password", &[], &[("Authorization", "Basic amFuZQ==")], anonymous()),
        ("nothing", &[], &[], anonymous()),
    ];
    for (case, chain, sent, expected) in cases {
        let peer = PeerCertificates::new(chain.to_vec());
        let identity = authentication.authenticate(&peer, &headers(sent)).await;
        let outcome = match &identity {
            Ok(identity) => Ok((identity.name.clone(), identity.groups.clone())),
            Err(AuthenticationError::Invalid(_)) => Err("invalid"),
            Err(AuthenticationError::Unavailable(_)) => Err("unavailable"),
        };
        assert_eq!(outcome, expected, "{case}: {identity:?}");
    }
}

#[tokio::test]
async fn a_rotated_ca_counts_at_once_on_open_connections() {
    let (old, new, clients) = (Ca::new("old"), Ca::new("new"), Ca::new("client-ca"));
    let authentication = Authentication::new(Arc::new(Scripted::default()));
    let peer = PeerCertificates::new(old.issue("front-proxy-client", |_| {}));
    let sent = headers(&[("X-Remote-User", "hpa")]);
    assert!(!authentication.has_trust());
    assert_eq!(
        authentication.authenticate(&peer, &sent).await.expect("anonymous").name,
        "system:anonymous"
    );
    authentication.set_trust(trust(&config_map(&old, &clients, "[]")));
    assert!(authentication.has_trust());
    assert_eq!(
        authentication.authenticate(&peer, &sent).await.expect("identity").name,
        "hpa"
    );
    authentication.set_trust(trust(&config_map(&new, &clients, "[]")));
    assert!(matches!(
        authentication.authenticate(&peer, &sent).await,
        Err(AuthenticationError::Invalid(_))
    ));
}

#[tokio::test]
async fn a_token_is_reviewed_once_valid_or_not() {
    let reviewer = Arc::new(Scripted::default());
    let authentication = Authentication::new(reviewer.clone());
    let nobody = PeerCertificates::default();
    for (token, calls) in [
        ("Bearer jane", 1),
        ("Bearer jane", 1),
        ("Bearer joe", 2),
        ("Bearer joe", 2),
    ] {
        let _ = authentication
            .authenticate(&nobody, &headers(&[("Authorization", token)]))
            .await;
        assert_eq!(reviewer.calls.load(Ordering::SeqCst), calls);
    }
}

#[test]
fn a_config_map_is_taken_as_it_is_or_refused() {
    let (proxy, clients) = (Ca::new("proxy-ca"), Ca::new("client-ca"));
    let with = |change: &[(&str, Option<&str>)]| {
        let mut data = config_map(&proxy, &clients, r#"["front-proxy-client"]"#);
        for (key, value) in change {
            match value {
                Some(value) => data.insert((*key).to_owned(), (*value).to_owned()),
                None => data.remove(*key),
            };
        }
        Trust::parse(&data, &provider()).map(|trust| (trust.clients.is_some(), trust.front_proxy.is_some()))
    };
    let two = format!("{}{}", proxy.0.pem(), clients.0.pem());
    let partly_broken = format!(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}",
        proxy.0.pem()
    );
    for (change, expected) in [
        (&[][..], Some((true, true))),
        (&[("client-ca-file", None)], Some((false, true))),
        (&[("requestheader-client-ca-file", None)], Some((true, false))),
        (&[("requestheader-client-ca-file", Some(""))], Some((true, false))),
        (&[("requestheader-client-ca-file", Some(&two))], Some((true, true))),
        (
            &[("requestheader-client-ca-file", Some(&partly_broken))],
            Some((true, true)),
        ),
        (&[("requestheader-username-headers", None)], Some((true, false))),
        (&[("requestheader-allowed-names", None)], Some((true, true))),
        (&[("requestheader-allowed-names", Some("front-proxy-client"))], None),
        (&[("requestheader-group-headers", Some(r#"{"a":1}"#))], None),
        (&[("requestheader-client-ca-file", Some("no certificate"))], None),
        (
            &[(
                "client-ca-file",
                Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            )],
            None,
        ),
    ] {
        let outcome = with(change);
        assert_eq!(outcome.as_ref().ok(), expected.as_ref(), "{change:?}: {outcome:?}");
    }
    assert_eq!(
        Trust::parse(&BTreeMap::new(), &provider())
            .map(|trust| trust.clients.is_none())
            .ok(),
        Some(true)
    );
}
