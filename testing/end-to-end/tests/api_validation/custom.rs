//! The rules of `spec.custom`.

use serde_json::{Value, json};

use crate::cases::{Case, case};
use crate::monitors::{labels, merge, minimal};

const LATENCIES: [&str; 5] = [
    "TimeToFirstToken",
    "InterToken",
    "PerOutputToken",
    "EndToEnd",
    "QueueTime",
];
const RATIOS: [&str; 3] = ["KVCacheUsage", "HostCacheUsage", "PrefixCacheHitRatio"];
const COUNTS: [&str; 11] = [
    "Waiting",
    "Running",
    "MaxConcurrency",
    "KVCacheCapacityTokens",
    "PromptTokensTotal",
    "GeneratedTokensTotal",
    "PreemptionsTotal",
    "PrefixCacheHitTokensTotal",
    "PrefixCacheQueryTokensTotal",
    "RequestsSucceededTotal",
    "RequestsFailedTotal",
];

fn mapped(fields: &[Value]) -> Value {
    json!({ "engine": "Custom", "custom": { "fields": fields } })
}

/// A monitor with one field, which is a plain one with a merge patch.
fn field(patch: &Value) -> Value {
    let mut field = json!({ "field": "Waiting", "series": "queue_depth" });
    merge(&mut field, patch);
    mapped(&[field])
}

fn each(fields: &[&str], patch: &Value) -> Vec<Value> {
    let with = |name: &&str| {
        let mut all = json!({ "field": name });
        merge(&mut all, patch);
        field(&all)
    };
    fields.iter().map(with).collect()
}

fn model_label(label: &str) -> Value {
    let mut monitor = field(&json!({}));
    monitor["custom"]["modelLabel"] = label.into();
    monitor
}

pub(crate) fn custom_cases() -> Vec<Case> {
    let mut cases = list_cases();
    cases.extend(field_cases());
    cases.extend(unit_cases());
    cases
}

fn list_cases() -> Vec<Case> {
    let all: Vec<Value> = [&LATENCIES[..], &RATIOS, &COUNTS]
        .concat()
        .iter()
        .map(|name| json!({ "field": name, "series": "x", "matchLabels": labels(4) }))
        .collect();
    let waiting = json!({ "field": "Waiting", "series": "x" });
    vec![
        case(
            "a mapping goes with engine Custom",
            vec![minimal(), field(&json!({}))],
            vec![
                json!({ "engine": "Custom" }),
                json!({ "custom": { "fields": [waiting.clone()] } }),
                json!({ "engine": "VLLM", "custom": { "fields": [waiting.clone()] } }),
            ],
            &["give spec.custom exactly when spec.engine is Custom"],
        ),
        case(
            "a mapping maps something",
            vec![mapped(&all)],
            vec![mapped(&[])],
            &["spec.custom.fields in body should have at least 1 items"],
        ),
        case(
            "number of fields",
            vec![mapped(&all)],
            vec![mapped(&vec![waiting.clone(); 33])],
            &["spec.custom.fields: Too many: 33: must have at most 32 items"],
        ),
        case(
            "each field once",
            vec![mapped(&all)],
            vec![mapped(&[waiting.clone(), waiting])],
            &["spec.custom.fields[1]: Duplicate value"],
        ),
        case(
            "there is a label of the model",
            vec![model_label("m")],
            vec![model_label("")],
            &["spec.custom.modelLabel in body should be at least 1 chars long"],
        ),
        case(
            "length of the label of the model",
            vec![model_label(&"m".repeat(63))],
            vec![model_label(&"m".repeat(64))],
            &["spec.custom.modelLabel: Too long: may not be more than 63 bytes"],
        ),
        case(
            "form of the label of the model",
            vec![model_label("model_name2")],
            vec![model_label("model-name"), model_label("2m"), model_label("a:b")],
            &["spec.custom.modelLabel in body should match '^[a-zA-Z_][a-zA-Z0-9_]*$'"],
        ),
    ]
}

fn field_cases() -> Vec<Case> {
    let series = |name: &str| field(&json!({ "series": name }));
    let label = |name: &str, value: &str| field(&json!({ "matchLabels": { name: value } }));
    vec![
        case(
            "names of fields",
            each(&COUNTS, &json!({})),
            each(&["Sleeping", "waiting"], &json!({})),
            &["spec.custom.fields[0].field: Unsupported value"],
        ),
        case(
            "there is a series",
            vec![series("x")],
            vec![series("")],
            &["spec.custom.fields[0].series in body should be at least 1 chars long"],
        ),
        case(
            "length of the name of a series",
            vec![series(&"x".repeat(128))],
            vec![series(&"x".repeat(129))],
            &["spec.custom.fields[0].series: Too long: may not be more than 128 bytes"],
        ),
        case(
            "form of the name of a series",
            vec![series("my:server_queue_2"), series("_x")],
            vec![series("my-queue"), series("2x"), series("x{state=\"queued\"}")],
            &["spec.custom.fields[0].series in body should match '^[a-zA-Z_:][a-zA-Z0-9_:]*$'"],
        ),
        case(
            "number of labels of a series",
            vec![field(&json!({ "matchLabels": labels(4) }))],
            vec![field(&json!({ "matchLabels": labels(5) }))],
            &["spec.custom.fields[0].matchLabels: Too many: 5: must have at most 4 items"],
        ),
        case(
            "length of a label value of a series",
            vec![
                label("app", &"x".repeat(128)),
                label("app", ""),
                label("app", "a \"b\"/c"),
            ],
            vec![label("app", &"x".repeat(129))],
            &["spec.custom.fields[0].matchLabels.app: Too long: may not be more than 128 bytes"],
        ),
        case(
            "length of a label name of a series",
            vec![label(&"x".repeat(63), "a")],
            vec![label(&"x".repeat(64), "a"), label("", "a")],
            &["each key of the matchLabels of a series must have 1 to 63 characters"],
        ),
    ]
}

fn unit_cases() -> Vec<Case> {
    let unit = |fields: &[&str], unit: &str| each(fields, &json!({ "unit": unit }));
    let aggregation = |fields: &[&str], aggregation: &str| each(fields, &json!({ "aggregation": aggregation }));
    vec![
        case(
            "names of units",
            unit(&["EndToEnd"], "Seconds"),
            unit(&["EndToEnd"], "Minutes"),
            &["spec.custom.fields[0].unit: Unsupported value"],
        ),
        case(
            "units fit their fields",
            [
                unit(&LATENCIES, "Seconds"),
                unit(&LATENCIES, "Milliseconds"),
                unit(&LATENCIES, "Microseconds"),
                unit(&RATIOS, "Ratio"),
                unit(&RATIOS, "Percent"),
            ]
            .concat(),
            [
                unit(&LATENCIES, "Percent"),
                unit(&LATENCIES, "Ratio"),
                unit(&RATIOS, "Milliseconds"),
                unit(&COUNTS, "Seconds"),
                unit(&COUNTS, "Ratio"),
            ]
            .concat(),
            &["spec.custom.fields[0].unit", "unit must fit the field"],
        ),
        case(
            "names of aggregations",
            aggregation(&["Waiting"], "Max"),
            aggregation(&["Waiting"], "Average"),
            &["spec.custom.fields[0].aggregation: Unsupported value"],
        ),
        case(
            "histograms are added up",
            [
                aggregation(&COUNTS, "Sum"),
                aggregation(&COUNTS, "Max"),
                aggregation(&RATIOS, "Sum"),
            ]
            .concat(),
            aggregation(&LATENCIES, "Max"),
            &[
                "spec.custom.fields[0].aggregation",
                "their histograms are always added up",
            ],
        ),
    ]
}
