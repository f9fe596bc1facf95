//! The table: each bound and each rule of the schema, with specs on both sides of it.

use serde_json::{Value, json};

use crate::credentials;
use crate::custom::custom_cases;
use crate::monitors::{endpoint, expression, labels, minimal, pods, port, selector, service, url};
use crate::thresholds::threshold_cases;

/// One bound or rule: specs on the good side of it, specs on the bad side, and the words of the answer that tell what to change.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) accepted: Vec<Value>,
    pub(crate) rejected: Vec<Value>,
    pub(crate) says: &'static [&'static str],
}

pub(crate) fn case(
    name: &'static str,
    accepted: Vec<Value>,
    rejected: Vec<Value>,
    says: &'static [&'static str],
) -> Case {
    Case {
        name,
        accepted,
        rejected,
        says,
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = endpoint_cases();
    cases.extend(selector_cases());
    cases.extend(address_cases());
    cases.extend(credentials::cases());
    cases.extend(setting_cases());
    cases.extend(threshold_cases());
    cases.extend(custom_cases());
    cases
}

fn endpoint_cases() -> Vec<Case> {
    let many =
        |count: usize| json!({ "endpoints": (0..count).map(|n| pods(&format!("group-{n}"))).collect::<Vec<_>>() });
    vec![
        case(
            "kind of endpoint",
            vec![minimal(), service("chat", "http"), url("http://10.1.2.3:8000")],
            vec![
                endpoint(&json!({ "url": "http://10.1.2.3:8000" })),
                endpoint(&json!({ "service": { "name": "chat", "port": 8000 } })),
                json!({ "endpoints": [{ "name": "servers" }] }),
            ],
            &[
                "spec.endpoints[0]",
                "give exactly one of pods, service and url in each endpoint",
            ],
        ),
        case(
            "no endpoint",
            vec![many(1)],
            vec![many(0)],
            &["spec.endpoints in body should have at least 1 items"],
        ),
        case(
            "too many endpoints",
            vec![many(16)],
            vec![many(17)],
            &["spec.endpoints: Too many: 17: must have at most 16 items"],
        ),
        case(
            "names are unique",
            vec![json!({ "endpoints": [pods("a"), pods("b")] })],
            vec![json!({ "endpoints": [pods("a"), pods("a")] })],
            &["spec.endpoints[1]: Duplicate value", r#""name":"a""#],
        ),
        case(
            "name is there",
            vec![endpoint(&json!({ "name": "a" }))],
            vec![endpoint(&json!({ "name": "" }))],
            &["spec.endpoints[0].name in body should be at least 1 chars long"],
        ),
        case(
            "length of the name",
            vec![endpoint(&json!({ "name": "a".repeat(63) }))],
            vec![endpoint(&json!({ "name": "a".repeat(64) }))],
            &["spec.endpoints[0].name: Too long: may not be more than 63 bytes"],
        ),
        case(
            "form of the name",
            vec![endpoint(&json!({ "name": "a-1" }))],
            vec![
                endpoint(&json!({ "name": "A" })),
                endpoint(&json!({ "name": "a-" })),
                endpoint(&json!({ "name": "a.b" })),
            ],
            &["spec.endpoints[0].name in body should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'"],
        ),
    ]
}

fn selector_cases() -> Vec<Case> {
    let operator =
        |operator: &str, values: Value| expression(&json!({ "key": "app", "operator": operator, "values": values }));
    let many = |count: usize| {
        let expression = json!({ "key": "app", "operator": "Exists" });
        selector(&json!({ "matchExpressions": vec![expression; count] }))
    };
    vec![
        case(
            "empty selector",
            vec![selector(&json!({ "matchLabels": { "app": "chat" } })), many(1)],
            vec![
                selector(&json!({})),
                selector(&json!({ "matchLabels": {} })),
                selector(&json!({ "matchLabels": {}, "matchExpressions": [] })),
            ],
            &[
                "spec.endpoints[0].pods.selector",
                "selector must not be empty",
                "give matchLabels or matchExpressions",
            ],
        ),
        case(
            "number of labels",
            vec![selector(&json!({ "matchLabels": labels(16) }))],
            vec![selector(&json!({ "matchLabels": labels(17) }))],
            &["spec.endpoints[0].pods.selector.matchLabels: Too many: 17: must have at most 16 items"],
        ),
        case(
            "form of a label value",
            vec![selector(
                &json!({ "matchLabels": { "app.kubernetes.io/name": "Chat_70b.v1", "canary": "" } }),
            )],
            vec![
                selector(&json!({ "matchLabels": { "app": "chat 70b" } })),
                selector(&json!({ "matchLabels": { "app": "chat-" } })),
            ],
            &["pods.selector.matchLabels.app in body should match '^([A-Za-z0-9]"],
        ),
        case(
            "length of a label value",
            vec![selector(&json!({ "matchLabels": { "app": "a".repeat(63) } }))],
            vec![selector(&json!({ "matchLabels": { "app": "a".repeat(64) } }))],
            &["pods.selector.matchLabels.app: Too long: may not be more than 63 bytes"],
        ),
        case(
            "length of a label key",
            vec![selector(&json!({ "matchLabels": { "a".repeat(317): "chat" } }))],
            vec![
                selector(&json!({ "matchLabels": { "a".repeat(318): "chat" } })),
                selector(&json!({ "matchLabels": { "": "chat" } })),
            ],
            &[
                "pods.selector.matchLabels: Invalid value",
                "each key of matchLabels must have 1 to 317 characters",
            ],
        ),
        case(
            "form of a key",
            vec![expression(
                &json!({ "key": "app.kubernetes.io/name", "operator": "Exists" }),
            )],
            vec![
                expression(&json!({ "key": "app name", "operator": "Exists" })),
                expression(&json!({ "key": "a/b/c", "operator": "Exists" })),
                expression(&json!({ "key": "/a", "operator": "Exists" })),
            ],
            &["matchExpressions[0].key in body should match '^([a-z0-9]"],
        ),
        case(
            "form of a value",
            vec![operator("In", json!(["Chat_70b.v1", ""]))],
            vec![operator("In", json!(["chat 70b"]))],
            &["matchExpressions[0].values[0] in body should match '^([A-Za-z0-9]"],
        ),
        case(
            "number of expressions",
            vec![many(16)],
            vec![many(17)],
            &["spec.endpoints[0].pods.selector.matchExpressions: Too many: 17: must have at most 16 items"],
        ),
        case(
            "values of an expression",
            vec![
                operator("In", json!(["a", "b"])),
                operator("NotIn", json!(["a"])),
                operator("Exists", json!([])),
                expression(&json!({ "key": "app", "operator": "DoesNotExist" })),
            ],
            vec![
                operator("In", json!([])),
                expression(&json!({ "key": "app", "operator": "NotIn" })),
                operator("Exists", json!(["a"])),
                operator("DoesNotExist", json!(["a"])),
            ],
            &[
                "matchExpressions[0]",
                "In and NotIn need values; Exists and DoesNotExist take none",
            ],
        ),
        case(
            "operator",
            vec![operator("In", json!(["a"]))],
            vec![operator("Equals", json!(["a"]))],
            &[
                "matchExpressions[0].operator: Unsupported value: \"Equals\"",
                "\"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"",
            ],
        ),
        case(
            "number of values",
            vec![operator("In", json!(vec!["a"; 32]))],
            vec![operator("In", json!(vec!["a"; 33]))],
            &["matchExpressions[0].values: Too many: 33: must have at most 32 items"],
        ),
        case(
            "length of a value",
            vec![operator("In", json!(["a".repeat(63)]))],
            vec![operator("In", json!(["a".repeat(64)]))],
            &["matchExpressions[0].values[0]: Too long: may not be more than 63 bytes"],
        ),
        case(
            "a key",
            vec![expression(&json!({ "key": "a", "operator": "Exists" }))],
            vec![expression(&json!({ "key": "", "operator": "Exists" }))],
            &["matchExpressions[0].key in body should be at least 1 chars long"],
        ),
        case(
            "length of a key",
            vec![expression(
                &json!({ "key": format!("{0}.{0}.{0}.{1}/{0}", "a".repeat(63), "a".repeat(61)), "operator": "Exists" }),
            )],
            vec![expression(&json!({ "key": "a".repeat(318), "operator": "Exists" }))],
            &["matchExpressions[0].key: Too long: may not be more than 317 bytes"],
        ),
    ]
}

fn address_cases() -> Vec<Case> {
    const PORT: &[&str] = &["port", "port must be a number from 1 to 65535 or the name of a port"];
    vec![
        case(
            "port of pods",
            vec![
                port(1),
                port(65535),
                port("http"),
                port("a".repeat(15)),
                port("8080-tcp"),
            ],
            vec![
                port(0),
                port(-1),
                port(65536),
                port(""),
                port("Http"),
                port("http_"),
                port("-http"),
            ],
            PORT,
        ),
        case(
            "length of a port name of pods",
            vec![port("a".repeat(15))],
            vec![port("a".repeat(16))],
            &["spec.endpoints[0].pods.port: Too long: may not be more than 15 bytes"],
        ),
        case(
            "port of a service",
            vec![service("chat", 8000), service("chat", "http")],
            vec![service("chat", 0), service("chat", 65536), service("chat", "HTTP")],
            PORT,
        ),
        case(
            "length of a port name of a service",
            vec![service("chat", "a".repeat(15))],
            vec![service("chat", "a".repeat(16))],
            &["spec.endpoints[0].service.port: Too long: may not be more than 15 bytes"],
        ),
        case(
            "a service name",
            vec![service("a", 80)],
            vec![service("", 80)],
            &["spec.endpoints[0].service.name in body should be at least 1 chars long"],
        ),
        case(
            "length of a service name",
            vec![service("a".repeat(63), 80)],
            vec![service("a".repeat(64), 80)],
            &["spec.endpoints[0].service.name: Too long: may not be more than 63 bytes"],
        ),
        case(
            "form of a service name",
            vec![service("chat-1", 80)],
            vec![service("1chat", 80), service("chat.prod", 80), service("Chat", 80)],
            &["spec.endpoints[0].service.name in body should match '^[a-z]([-a-z0-9]*[a-z0-9])?$'"],
        ),
        case(
            "url",
            vec![
                url("http://10.1.2.3:8000"),
                url("http://10.1.2.3:8000/"),
                url("https://gpu-box.example.com"),
                url("https://gpu-box.example.com:65535"),
                url("http://[fd00::1]:8000"),
            ],
            vec![
                url("http://gpu-box:8000/metrics"),
                url("http://user:secret@gpu-box:8000"),
                url("http://user@gpu-box:8000"),
                url("ftp://gpu-box"),
                url("file:///etc/passwd"),
                url("http://:8000"),
                url("http://gpu-box?target=x"),
                url("http://gpu-box/#part"),
                url("gpu-box:8000"),
                url("//gpu-box:8000"),
                url("http://gpu box:8000"),
                url("http://gpu-box:http"),
            ],
            &[
                "spec.endpoints[0].url",
                "url must be http:// or https:// with a host and, if need be, a port, and nothing else",
                "put the path into spec.metricsPath; credentials belong into credentialsSecretRef",
            ],
        ),
        case(
            "an empty url",
            vec![url("http://a")],
            vec![url("")],
            &["spec.endpoints[0].url in body should be at least 1 chars long"],
        ),
        case(
            "length of a url",
            vec![url(format!("http://{}", "a".repeat(505)))],
            vec![url(format!("http://{}", "a".repeat(506)))],
            &["spec.endpoints[0].url: Too long: may not be more than 512 bytes"],
        ),
    ]
}

fn setting_cases() -> Vec<Case> {
    let engine = |engine: &str| json!({ "engine": engine });
    let path = |path: String| json!({ "metricsPath": path });
    let period =
        |milliseconds: i32, stale: i32| json!({ "samplePeriodMilliseconds": milliseconds, "staleAfterSeconds": stale });
    vec![
        case(
            "engine",
            vec![
                engine("Auto"),
                engine("VLLM"),
                engine("LlamaCpp"),
                engine("SGLang"),
                engine("Triton"),
                engine("TensorRTLLM"),
                engine("TGI"),
                engine("LMDeploy"),
                engine("NIM"),
                engine("Ollama"),
            ],
            vec![engine("vllm"), engine("Turbine"), engine("custom")],
            &[
                "spec.engine: Unsupported value",
                "supported values: \"Auto\", \"VLLM\", \"LlamaCpp\", \"SGLang\", \"Triton\", \"TensorRTLLM\", \"TGI\", \"LMDeploy\", \"NIM\", \"Ollama\", \"Custom\"",
            ],
        ),
        case(
            "scheme",
            vec![json!({ "scheme": "HTTP" }), json!({ "scheme": "HTTPS" })],
            vec![json!({ "scheme": "https" })],
            &["spec.scheme: Unsupported value: \"https\": supported values: \"HTTP\", \"HTTPS\""],
        ),
        case(
            "form of metricsPath",
            vec![path("/".into()), path("/engine/metrics".into())],
            vec![
                path("metrics".into()),
                path("/metrics?all=1".into()),
                path("/a b".into()),
                path("/#a".into()),
            ],
            &["spec.metricsPath in body should match '^/[^?#\\s]*$'"],
        ),
        case(
            "an empty metricsPath",
            vec![path("/".into())],
            vec![path(String::new())],
            &["spec.metricsPath in body should be at least 1 chars long"],
        ),
        case(
            "length of metricsPath",
            vec![path(format!("/{}", "a".repeat(255)))],
            vec![path(format!("/{}", "a".repeat(256)))],
            &["spec.metricsPath: Too long: may not be more than 256 bytes"],
        ),
        case(
            "shortest period",
            vec![period(250, 10)],
            vec![period(249, 10), period(0, 10), period(-1000, 10)],
            &["spec.samplePeriodMilliseconds in body should be greater than or equal to 250"],
        ),
        case(
            "longest period",
            vec![period(60000, 120)],
            vec![period(60001, 300)],
            &["spec.samplePeriodMilliseconds in body should be less than or equal to 60000"],
        ),
        case(
            "shortest staleAfter",
            vec![period(1000, 2)],
            vec![period(250, 1)],
            &["spec.staleAfterSeconds in body should be greater than or equal to 2"],
        ),
        case(
            "longest staleAfter",
            vec![period(1000, 300)],
            vec![period(1000, 301)],
            &["spec.staleAfterSeconds in body should be less than or equal to 300"],
        ),
        case(
            "staleAfter for the period",
            vec![period(5000, 10), period(1000, 2)],
            vec![
                period(5001, 10),
                period(60000, 119),
                json!({ "samplePeriodMilliseconds": 6000 }),
            ],
            &[
                "spec.staleAfterSeconds: Invalid value",
                "staleAfterSeconds must be at least twice samplePeriodMilliseconds",
                "raise staleAfterSeconds or lower samplePeriodMilliseconds",
            ],
        ),
    ]
}
