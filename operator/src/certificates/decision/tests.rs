use super::*;
use crate::certificates::{bundle::Pair, issue::carry_out};

fn names() -> Vec<String> {
    vec![
        "inference-monitor.monitoring.svc".to_owned(),
        "inference-monitor-link".to_owned(),
    ]
}

fn start() -> Timestamp {
    "2026-11-22T00:00:00Z".parse().expect("time")
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(days * 24)
}

fn created() -> Bundle {
    let create = Decision::Create { why: String::new() };
    carry_out(&create, None, &names(), start())
        .expect("issued")
        .expect("bundle")
}

fn after(bundle: &Bundle, decision: &Decision, now: Timestamp) -> Bundle {
    carry_out(decision, Some(bundle), &names(), now)
        .expect("issued")
        .expect("bundle")
}

/// The decision without the words.
fn kind(decision: &Decision) -> &'static str {
    match decision {
        Decision::Keep { .. } => "keep",
        Decision::Create { .. } => "create",
        Decision::IssueLeaf { .. } => "issue leaf",
        Decision::AddNextAuthority => "add next",
        Decision::SwitchAuthority => "switch",
        Decision::DropPreviousAuthorities => "drop previous",
    }
}

#[test]
fn what_is_due_is_done() {
    let fresh = created();
    let other = created();
    let with_next = after(&fresh, &Decision::AddNextAuthority, start() + days(250));
    let switched = after(&with_next, &Decision::SwitchAuthority, start() + days(251));
    let leaf_late = after(&fresh, &Decision::IssueLeaf { why: String::new() }, start() + days(240));
    let text = || "-----".to_owned();
    let change = |change: fn(&mut Bundle, &Bundle, String)| {
        let mut bundle = fresh.clone();
        change(&mut bundle, &other, text());
        bundle
    };
    let cases: [(&str, Result<&Bundle, &str>, i64, &str); 21] = [
        ("none", Err("there is none"), 0, "create"),
        ("fresh", Ok(&fresh), 0, "keep"),
        ("a month old", Ok(&fresh), 30, "keep"),
        ("leaf at two thirds", Ok(&fresh), 61, "issue leaf"),
        ("leaf expired", Ok(&fresh), 91, "issue leaf"),
        ("authority at two thirds", Ok(&leaf_late), 245, "add next"),
        ("authority expired", Ok(&leaf_late), 366, "create"),
        ("not valid yet", Ok(&fresh), -1, "create"),
        ("next added a day ago", Ok(&with_next), 251, "switch"),
        ("next added, the first expired", Ok(&with_next), 370, "switch"),
        ("next expired", Ok(&with_next), 250 + 366, "create"),
        ("switched", Ok(&switched), 251, "keep"),
        ("switched a day ago", Ok(&switched), 252, "drop previous"),
        (
            "leaf of another authority",
            Ok(&change(|bundle, other, _| bundle.leaf = other.leaf.clone())),
            1,
            "issue leaf",
        ),
        (
            "key of another leaf",
            Ok(&change(|bundle, other, _| bundle.leaf.key = other.leaf.key.clone())),
            1,
            "issue leaf",
        ),
        (
            "leaf damaged",
            Ok(&change(|bundle, _, text| bundle.leaf.certificate = text)),
            1,
            "issue leaf",
        ),
        (
            "leaf key damaged",
            Ok(&change(|bundle, _, text| bundle.leaf.key = text)),
            1,
            "issue leaf",
        ),
        (
            "authority damaged",
            Ok(&change(|bundle, _, text| bundle.signing.certificate = text)),
            1,
            "create",
        ),
        (
            "authority key damaged",
            Ok(&change(|bundle, _, text| bundle.signing.key = text)),
            1,
            "create",
        ),
        (
            "key of another authority",
            Ok(&change(|bundle, other, _| {
                bundle.signing.key = other.signing.key.clone();
            })),
            1,
            "create",
        ),
        (
            "next damaged",
            Ok(&change(|bundle, _, text| {
                bundle.next = Some(Pair {
                    certificate: text.clone(),
                    key: text,
                });
            })),
            1,
            "create",
        ),
    ];
    for (case, bundle, day, expected) in cases {
        // A moment after midnight, so that what is due at midnight is due.
        let now = start() + days(day) + SignedDuration::from_mins(1);
        let decision = decide(bundle, &names(), now);
        assert_eq!(kind(&decision), expected, "{case}: {decision:?}");
    }
    let added = start() + days(250);
    for (minutes, expected) in [(10, "issue leaf"), (59, "issue leaf"), (60, "switch")] {
        let decision = decide(Ok(&with_next), &names(), added + SignedDuration::from_mins(minutes));
        assert_eq!(kind(&decision), expected, "{minutes} minutes");
    }
}

#[test]
fn other_names_need_another_leaf() {
    let bundle = created();
    let renamed = vec!["other.monitoring.svc".to_owned()];
    assert_eq!(kind(&decide(Ok(&bundle), &renamed, start())), "issue leaf");
    let fewer = &names()[..1];
    assert_eq!(kind(&decide(Ok(&bundle), fewer, start())), "keep");
}

/// Whether a client that trusts `trusted` accepts `leaf`.
fn accepts(trusted: &str, leaf: &str, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    let authorities = rustls_pki_types::CertificateDer::pem_slice_iter(trusted.as_bytes());
    roots.add_parsable_certificates(authorities.map(|authority| authority.expect("PEM")));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .expect("verifier");
    let seconds = u64::try_from(now.as_second()).expect("time");
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let leaf = bundle::first(leaf).expect("leaf");
    names().iter().all(|name| {
        let name = ServerName::try_from(name.as_str()).expect("name");
        verifier.verify_server_cert(&leaf, &[], &name, &[], time).is_ok()
    })
}

/// Three years, a look each quarter of an hour: a client that learns of authorities half an hour late, and one that meets a
/// server that presents its leaf half an hour too long, are never turned away.
#[test]
fn a_rotation_never_turns_a_client_away() {
    let step = SignedDuration::from_mins(15);
    let mut now = start();
    let mut bundle = created();
    let mut past = std::collections::VecDeque::from(vec![bundle.clone(); 3]);
    let (mut leaves, mut authorities, mut wake) = (0, 0, now);
    while now < start() + days(3 * 365) {
        // Between what Keep says and now, nothing may be due: only looks at the times it names count.
        if now >= wake {
            let decision = decide(Ok(&bundle), &names(), now);
            match &decision {
                Decision::Keep { until } => {
                    assert!(*until > now);
                    wake = *until;
                }
                Decision::Create { why } => panic!("{now}: {why}"),
                decision => {
                    leaves += usize::from(matches!(decision, Decision::IssueLeaf { .. }));
                    authorities += usize::from(*decision == Decision::SwitchAuthority);
                    let before = bundle.leaf.certificate.clone();
                    bundle = after(&bundle, decision, now);
                    assert_eq!(
                        before == bundle.leaf.certificate,
                        matches!(decision, Decision::AddNextAuthority | Decision::DropPreviousAuthorities)
                    );
                }
            }
            let late = past.front().expect("past");
            assert!(accepts(&bundle.trusted(), &bundle.leaf.certificate, now), "{now}");
            assert!(
                accepts(&late.trusted(), &bundle.leaf.certificate, now),
                "{now}: late client"
            );
            assert!(
                accepts(&bundle.trusted(), &late.leaf.certificate, now),
                "{now}: late server"
            );
        }
        past.pop_front();
        past.push_back(bundle.clone());
        now += step;
    }
    assert!((16..=20).contains(&leaves), "{leaves} leaves");
    assert_eq!(authorities, 4);
    assert!(bundle.previous.is_empty() && bundle.next.is_none());
}

#[test]
fn a_secret_is_read_as_it_was_written() {
    let fresh = created();
    let with_next = after(&fresh, &Decision::AddNextAuthority, start());
    let switched = after(&with_next, &Decision::SwitchAuthority, start());
    for bundle in [&fresh, &with_next, &switched] {
        assert_eq!(Bundle::from_secret(&bundle.to_secret()).as_ref(), Ok(bundle));
    }
    assert_eq!(switched.trusted().matches("BEGIN CERTIFICATE").count(), 2);
    for key in ["ca.crt", "tls.crt", "tls.key", "signing-ca.crt", "signing-ca.key"] {
        let mut data = fresh.to_secret();
        data.remove(key);
        assert_eq!(Bundle::from_secret(&data), Err(bundle::BundleError::Missing(key)));
    }
    assert!(!format!("{fresh:?}").contains("PRIVATE KEY"));
}
