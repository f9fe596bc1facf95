//! What goes with a url: the Secret and the labels of the endpoint.

use serde_json::{Value, json};

use crate::cases::{Case, case};

/// An endpoint with an https url and `more`.
fn guarded(more: &Value) -> Value {
    let mut endpoint = json!({ "name": "servers", "url": "https://llm.example.com" });
    crate::monitors::merge(&mut endpoint, more);
    json!({ "endpoints": [endpoint] })
}

fn secret(name: &str) -> Value {
    guarded(&json!({ "credentialsSecretRef": { "name": name } }))
}

fn labels(labels: &Value) -> Value {
    guarded(&json!({ "labels": labels }))
}

fn many(count: usize) -> Value {
    let labels: serde_json::Map<_, _> = (0..count).map(|n| (format!("label_{n}"), json!("x"))).collect();
    self::labels(&labels.into())
}

pub(crate) fn cases() -> Vec<Case> {
    let pods = |more: &Value| crate::monitors::endpoint(more);
    vec![
        case(
            "a Secret goes with https alone",
            vec![
                secret("access"),
                guarded(
                    &json!({ "url": "HTTPS://llm.example.com:8443", "credentialsSecretRef": { "name": "access" } }),
                ),
            ],
            vec![
                guarded(&json!({ "url": "http://llm.example.com", "credentialsSecretRef": { "name": "access" } })),
                pods(&json!({ "credentialsSecretRef": { "name": "access" } })),
            ],
            &[
                "spec.endpoints[0].credentialsSecretRef",
                "credentialsSecretRef goes with an https:// url and with nothing else",
            ],
        ),
        case(
            "the Secret has a name",
            vec![secret("a")],
            vec![secret("")],
            &["spec.endpoints[0].credentialsSecretRef.name in body should be at least 1 chars long"],
        ),
        case(
            "length of the name of the Secret",
            vec![secret(&"a".repeat(253))],
            vec![secret(&"a".repeat(254))],
            &["spec.endpoints[0].credentialsSecretRef.name: Too long: may not be more than 253 bytes"],
        ),
        case(
            "form of the name of the Secret",
            vec![secret("a.b-1")],
            vec![secret("A"), secret("a/b"), secret("a-"), secret("..")],
            &["spec.endpoints[0].credentialsSecretRef.name in body should match"],
        ),
        case(
            "labels go with a url",
            vec![labels(&json!({ "site": "fra" }))],
            vec![pods(&json!({ "labels": { "site": "fra" } }))],
            &[
                "spec.endpoints[0].labels",
                "labels go with a url: pods have labels of their own",
            ],
        ),
        case(
            "number of labels",
            vec![many(8)],
            vec![many(9)],
            &["spec.endpoints[0].labels: Too many: 9: must have at most 8 items"],
        ),
        case(
            "names of labels",
            vec![
                labels(&json!({ "Site_1": "x", "a": "x" })),
                labels(&json!({ "a".repeat(63): "x" })),
            ],
            vec![
                labels(&json!({ "": "x" })),
                labels(&json!({ "1a": "x" })),
                labels(&json!({ "__name": "x" })),
                labels(&json!({ "a-b": "x" })),
                labels(&json!({ "a".repeat(64): "x" })),
            ],
            &["each name of labels must begin with a letter and have 1 to 63 letters, digits and '_'"],
        ),
        case(
            "length of the value of a label",
            vec![
                labels(&json!({ "app": "x".repeat(128) })),
                labels(&json!({ "app": "" })),
            ],
            vec![labels(&json!({ "app": "x".repeat(129) }))],
            &["spec.endpoints[0].labels.app: Too long: may not be more than 128 bytes"],
        ),
        case(
            "form of the value of a label",
            vec![labels(&json!({ "app": "D\u{fc}sseldorf, rack 7" }))],
            vec![labels(&json!({ "app": "two\nlines" }))],
            &["spec.endpoints[0].labels.app in body should match"],
        ),
    ]
}
