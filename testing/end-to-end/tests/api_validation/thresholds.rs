//! Thresholds: bounds and names.

use serde_json::json;

use crate::cases::{Case, case};
use crate::monitors::threshold;

pub(crate) fn threshold_cases() -> Vec<Case> {
    macro_rules! bounds {
        ($($threshold:literal $field:literal $low:literal $high:literal;)*) => {
            vec![$(
                case(
                    concat!($threshold, ".", $field, " low"),
                    vec![threshold($threshold, &json!({ $field: $low }))],
                    vec![threshold($threshold, &json!({ $field: $low - 1 }))],
                    &[concat!("spec.thresholds.", $threshold, ".", $field, " in body should be greater than or equal to ", $low)],
                ),
                case(
                    concat!($threshold, ".", $field, " high"),
                    vec![threshold($threshold, &json!({ $field: $high }))],
                    vec![threshold($threshold, &json!({ $field: $high + 1 }))],
                    &[concat!("spec.thresholds.", $threshold, ".", $field, " in body should be less than or equal to ", $high)],
                ),
            )*]
        };
    }
    let mut cases = bounds! {
        "queueDepth" "perEndpoint" 1 100000;
        "queueDepth" "forSeconds" 0 3600;
        "kvCacheUsagePercent" "above" 1 99;
        "kvCacheUsagePercent" "forSeconds" 0 3600;
        "throttledPercent" "above" 0 99;
        "throttledPercent" "forSeconds" 5 600;
        "gpuTemperatureMarginCelsius" "below" 0 50;
        "gpuTemperatureMarginCelsius" "forSeconds" 0 3600;
        "gpuTemperatureCelsius" "above" 1 150;
        "gpuMemoryHeadroomMiB" "below" 0 1000000;
        "gpuMemoryHeadroomMiB" "forSeconds" 0 3600;
        "gpuUtilizationPercent" "below" 0 100;
        "gpuUtilizationPercent" "forSeconds" 0 3600;
        "timeToFirstTokenMilliseconds" "above" 0 3600000;
        "timeToFirstTokenMilliseconds" "forSeconds" 0 3600;
        "interTokenMilliseconds" "above" 1 3600000;
        "endToEndMilliseconds" "above" 1 3600000;
        "queueTimeMilliseconds" "above" 1 3600000;
    };
    cases.extend(latency_cases());
    cases.extend(temperature_cases());
    cases.push(case(
        "whole numbers",
        vec![threshold("queueDepth", &json!({ "perEndpoint": 2 }))],
        vec![
            threshold("queueDepth", &json!({ "perEndpoint": 2.5 })),
            threshold("queueDepth", &json!({ "perEndpoint": "2" })),
        ],
        &[
            "spec.thresholds.queueDepth.perEndpoint: Invalid value",
            "must be of type integer",
        ],
    ));
    cases
}

fn temperature_cases() -> Vec<Case> {
    let hot = |fields: serde_json::Value| threshold("gpuTemperatureCelsius", &fields);
    vec![
        case(
            "gpuTemperatureCelsius.forSeconds low",
            vec![hot(json!({ "above": 85, "forSeconds": 0 }))],
            vec![hot(json!({ "above": 85, "forSeconds": -1 }))],
            &["spec.thresholds.gpuTemperatureCelsius.forSeconds in body should be greater than or equal to 0"],
        ),
        case(
            "gpuTemperatureCelsius.forSeconds high",
            vec![hot(json!({ "above": 85, "forSeconds": 3600 }))],
            vec![hot(json!({ "above": 85, "forSeconds": 3601 }))],
            &["spec.thresholds.gpuTemperatureCelsius.forSeconds in body should be less than or equal to 3600"],
        ),
        case(
            "a temperature without its bound",
            vec![hot(json!({ "above": 85 }))],
            vec![hot(json!({ "forSeconds": 60 })), hot(json!({}))],
            &["spec.thresholds.gpuTemperatureCelsius.above: Required value"],
        ),
    ]
}

fn latency_cases() -> Vec<Case> {
    macro_rules! latencies {
        ($($threshold:literal)*) => {
            vec![$(
                case(
                    concat!($threshold, ".forSeconds low"),
                    vec![threshold($threshold, &json!({ "above": 100, "forSeconds": 0 }))],
                    vec![threshold($threshold, &json!({ "above": 100, "forSeconds": -1 }))],
                    &[concat!("spec.thresholds.", $threshold, ".forSeconds in body should be greater than or equal to 0")],
                ),
                case(
                    concat!($threshold, ".forSeconds high"),
                    vec![threshold($threshold, &json!({ "above": 100, "forSeconds": 3600 }))],
                    vec![threshold($threshold, &json!({ "above": 100, "forSeconds": 3601 }))],
                    &[concat!("spec.thresholds.", $threshold, ".forSeconds in body should be less than or equal to 3600")],
                ),
                case(
                    concat!($threshold, ".quantile"),
                    vec![
                        threshold($threshold, &json!({ "above": 100, "quantile": "P50" })),
                        threshold($threshold, &json!({ "above": 100, "quantile": "P90" })),
                        threshold($threshold, &json!({ "above": 100, "quantile": "P99" })),
                    ],
                    vec![
                        threshold($threshold, &json!({ "above": 100, "quantile": "p95" })),
                        threshold($threshold, &json!({ "above": 100, "quantile": "P100" })),
                    ],
                    &[concat!("spec.thresholds.", $threshold, ".quantile: Unsupported value")],
                ),
            )*]
        };
    }
    let mut cases = latencies! {
        "timeToFirstTokenMilliseconds" "interTokenMilliseconds" "endToEndMilliseconds" "queueTimeMilliseconds"
    };
    cases.push(case(
        "a latency without its bound",
        vec![threshold("endToEndMilliseconds", &json!({ "above": 30000 }))],
        vec![
            threshold("endToEndMilliseconds", &json!({ "quantile": "P99" })),
            threshold("endToEndMilliseconds", &json!({})),
        ],
        &["spec.thresholds.endToEndMilliseconds.above: Required value"],
    ));
    cases
}
