//! Whole bodies of other versions, made by the releases' own code, against the values that were recorded with it.

use infmon_engines::{BodyReader, EngineSample, Histogram, Reading};
use serde_json::{Map, Value, json};

macro_rules! body {
    ($name:literal) => {
        include_str!(concat!("bodies/", $name))
    };
}

fn read(body: &str) -> Reading {
    BodyReader::new(None)
        .read(body.as_bytes())
        .expect("the body is readable")
}

/// The sample's JSON without its histograms.
fn scalars(sample: &EngineSample) -> Value {
    let mut json = serde_json::to_value(sample).expect("a sample is JSON");
    json.as_object_mut().expect("an object").remove("latency");
    json
}

/// Name, observations, seconds in all and first bound of each latency that is there.
type Times = [(&'static str, f64, f64, Option<f64>)];

fn assert_latencies(name: &str, sample: &EngineSample, expected: &Times) {
    let latency = &sample.latency;
    let all: [(&str, &Option<Histogram>); 5] = [
        ("timeToFirstToken", &latency.time_to_first_token),
        ("interToken", &latency.inter_token),
        ("perOutputToken", &latency.per_output_token),
        ("endToEnd", &latency.end_to_end),
        ("queueTime", &latency.queue_time),
    ];
    for (field, histogram) in all {
        let expected = expected.iter().find(|expected| expected.0 == field);
        let (Some(histogram), Some((_, count, sum, first))) = (histogram, expected) else {
            assert_eq!(histogram.is_some(), expected.is_some(), "{name}: {field}");
            continue;
        };
        assert_eq!(histogram.count, *count, "{name}: {field}");
        // Sums of floats, in the order of the observations.
        let close = (histogram.sum_seconds - sum).abs() < 1e-9 * sum.max(1.0);
        assert!(close, "{name}: {field}: {} and not {sum}", histogram.sum_seconds);
        assert_eq!(histogram.buckets[0].0, *first, "{name}: {field}");
        assert_eq!(histogram.buckets.last(), Some(&(None, *count)), "{name}: {field}");
    }
}

/// `base` with more fields, and fields that replace its own.
fn with(base: &Value, more: &Value) -> Value {
    let both = [base, more].into_iter().filter_map(Value::as_object);
    let all: Map<String, Value> = both
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Value::Object(all)
}

#[test]
fn releases_of_vllm_read_as_what_they_recorded() {
    let base = json!({
        "engine": "VLLM", "models": ["Qwen/Qwen2.5-7B-Instruct"], "waiting": 3.0, "running": 9.0, "kvCacheUsage": 0.2871,
        "kvCacheCapacityTokens": 27254.0 * 16.0, "promptTokensTotal": 18360.0, "generatedTokensTotal": 5400.0,
        "preemptionsTotal": 3.0, "requestsFailedTotal": 1.0, "requestsSucceededTotal": 29.0,
        "requestOutcomes": {"stop": 23.0, "length": 6.0, "abort": 1.0},
    });
    let prefix =
        json!({"prefixCacheHitTokensTotal": 3840.0, "prefixCacheQueryTokensTotal": 18360.0, "sleeping": false});
    let five_ends = json!({
        "requestsFailedTotal": 2.0, "requestsSucceededTotal": 28.0,
        "requestOutcomes": {"stop": 21.0, "length": 6.0, "abort": 1.0, "error": 1.0, "repetition": 1.0},
    });
    let times: [(&str, f64, f64, Option<f64>); 5] = [
        ("timeToFirstToken", 30.0, 14.25, Some(0.001)),
        ("interToken", 360.0, 5.76, Some(0.01)),
        ("perOutputToken", 30.0, 0.54, Some(0.01)),
        ("endToEnd", 30.0, 170.85, Some(0.3)),
        ("queueTime", 30.0, 4.35, Some(0.3)),
    ];
    let without_per_output_token: Vec<_> = times
        .iter()
        .copied()
        .filter(|time| time.0 != "perOutputToken")
        .collect();
    let table: [(&str, &str, Value, &Times); 4] = [
        (
            // Counts cache hits in blocks, and observes one time per token under another name.
            "0.8.5",
            body!("vllm-0.8.5.txt"),
            with(&base, &json!({"generation": "v1-0.8"})),
            &without_per_output_token,
        ),
        (
            "0.12.0",
            body!("vllm-0.12.0.txt"),
            with(&with(&base, &prefix), &json!({"generation": "v1-0.12+"})),
            &times,
        ),
        (
            "0.17.1",
            body!("vllm-0.17.1.txt"),
            with(
                &with(&with(&base, &prefix), &five_ends),
                &json!({"generation": "v1-0.12+"}),
            ),
            &times,
        ),
        (
            // Waiting requests that are deferred are among those that wait, and a series beside tells the two apart.
            "0.26.0",
            body!("vllm-0.26.0.txt"),
            with(
                &with(&with(&base, &prefix), &five_ends),
                &json!({"generation": "v1-0.12+", "waiting": 4.0, "kvCacheCapacityTokens": 436_064.0}),
            ),
            &times,
        ),
    ];
    for (version, body, expected, times) in table {
        let reading = read(body);
        assert_eq!(scalars(&reading.sample), expected, "{version}");
        assert_latencies(version, &reading.sample, times);
        assert_eq!((reading.missing, reading.hint), (vec![], String::new()), "{version}");
    }
}

#[test]
fn releases_of_sglang_read_as_what_they_recorded() {
    let base = json!({
        "engine": "SGLang", "models": ["Qwen/Qwen2.5-7B-Instruct"], "waiting": 6.0, "running": 24.0, "kvCacheUsage": 0.37,
        "promptTokensTotal": 18000.0, "generatedTokensTotal": 6000.0,
        "prefixCacheHitTokensTotal": 2800.0, "prefixCacheQueryTokensTotal": 18000.0,
        "requestsSucceededTotal": 30.0, "requestsFailedTotal": 2.0, "requestOutcomes": {"processed": 30.0, "aborted": 2.0},
        "preemptionsTotal": 2.0,
    });
    let without = |names: &[&str]| {
        let mut json = base.clone();
        let fields = json.as_object_mut().expect("an object");
        names.iter().for_each(|name| _ = fields.remove(*name));
        json
    };
    let first_token = ("timeToFirstToken", 30.0, 18.9, Some(0.1));
    let end_to_end = ("endToEnd", 30.0, 121.05, Some(0.1));
    let inter_token = ("interToken", 600.0, 11.7, Some(0.002));
    let queue = ("queueTime", 5.0, 2.1324, Some(0.0));
    let newer = [first_token, inter_token, end_to_end, queue];
    let capacity = json!({"kvCacheCapacityTokens": 138_472.0});
    let table: [(&str, &str, Value, &Times); 7] = [
        (
            // No cached tokens, no aborts, no grammar queue; one time per request under the name of later releases' time per token.
            "0.4.1",
            body!("sglang-0.4.1.txt"),
            with(
                &without(&[
                    "prefixCacheHitTokensTotal",
                    "prefixCacheQueryTokensTotal",
                    "requestsFailedTotal",
                    "preemptionsTotal",
                ]),
                &json!({"generation": "0.4", "waiting": 5.0, "requestOutcomes": {"processed": 30.0}}),
            ),
            &[first_token, ("interToken", 30.0, 0.585, Some(0.005)), end_to_end],
        ),
        (
            "0.4.6",
            body!("sglang-0.4.6.txt"),
            with(
                &without(&["requestsFailedTotal", "preemptionsTotal"]),
                &json!({"generation": "0.4.6+", "requestOutcomes": {"processed": 30.0}}),
            ),
            &[first_token, inter_token, end_to_end],
        ),
        (
            "0.4.9",
            body!("sglang-0.4.9.txt"),
            with(&base, &json!({"generation": "0.4.6+"})),
            &[first_token, inter_token, end_to_end],
        ),
        (
            "0.5.2",
            body!("sglang-0.5.2.txt"),
            with(&base, &json!({"generation": "0.5.2+"})),
            &newer,
        ),
        (
            "0.5.6",
            body!("sglang-0.5.6.txt"),
            with(&with(&base, &capacity), &json!({"generation": "0.5.6+"})),
            &newer,
        ),
        (
            // Three in the bootstrap queue wait too; the two whose prefill is done do not.
            "0.5.6, prefill",
            body!("sglang-0.5.6-prefill.txt"),
            with(
                &with(&base, &capacity),
                &json!({"generation": "0.5.6+", "waiting": 9.0, "running": 0.0}),
            ),
            &newer,
        ),
        (
            "0.5.9",
            body!("sglang-0.5.9.txt"),
            with(&with(&base, &capacity), &json!({"generation": "0.5.9+"})),
            &newer,
        ),
    ];
    for (version, body, expected, times) in table {
        let reading = read(body);
        assert_eq!(scalars(&reading.sample), expected, "{version}");
        assert_latencies(version, &reading.sample, times);
        assert_eq!((reading.missing, reading.hint), (vec![], String::new()), "{version}");
    }
}

#[test]
fn the_simulator_of_llm_d_reads_as_the_vllm_that_it_plays() {
    let base = json!({
        "engine": "VLLM", "generation": "simulator", "models": ["Qwen/Qwen2.5-1.5B-Instruct"], "waiting": 2.0, "running": 5.0,
        "kvCacheUsage": 0.4, "kvCacheCapacityTokens": 16384.0, "promptTokensTotal": 1900.0, "generatedTokensTotal": 760.0,
        "requestsSucceededTotal": 19.0, "loraAdapters": ["food-review", "sql"],
        "requestOutcomes": {"stop": 15.0, "length": 3.0, "tool_calls": 1.0, "remote_decode": 0.0},
    });
    let prefix = json!({"prefixCacheHitTokensTotal": 480.0, "prefixCacheQueryTokensTotal": 1900.0});
    for (version, body, expected) in [
        ("2026", body!("vllm-simulator.txt"), with(&base, &prefix)),
        ("2025", body!("vllm-simulator-2025.txt"), base),
    ] {
        let reading = read(body);
        assert_eq!(scalars(&reading.sample), expected, "{version}");
        assert_latencies(
            version,
            &reading.sample,
            &[
                ("timeToFirstToken", 19.0, 2.28, Some(0.001)),
                ("interToken", 19.0, 0.38, Some(0.01)),
                ("endToEnd", 19.0, 28.5, Some(0.3)),
                ("queueTime", 19.0, 0.855, Some(0.3)),
            ],
        );
        assert_eq!((reading.missing, reading.hint), (vec![], String::new()), "{version}");
    }
}

#[test]
fn the_vllm_behind_kserve_is_read_and_its_own_times_are_not() {
    let vllm = body!("vllm-0.17.1.txt");
    let own = body!("kserve-0.21.txt");
    let alone = read(vllm);
    // In the order of the process' registry, whichever part came first.
    for body in [format!("{own}{vllm}"), format!("{vllm}{own}")] {
        assert_eq!(read(&body), alone);
    }
    // Its own families are nobody's: a model that is not an LLM has no queue that could be read.
    let error = BodyReader::new(None).read(own.as_bytes()).expect_err("no engine");
    assert!(error.to_string().contains("request_"), "{error}");
}

#[test]
fn lmdeploy_of_july_2025_reads_as_what_it_recorded() {
    let reading = read(body!("lmdeploy-0.9.2.txt"));
    assert_eq!(
        scalars(&reading.sample),
        json!({
            "engine": "LMDeploy", "generation": "before-0.11", "models": ["internlm/internlm3-8b-instruct"],
            "waiting": 4.0, "running": 9.0, "maxConcurrency": 128.0, "kvCacheUsage": 0.44,
            "promptTokensTotal": 6930.0, "generatedTokensTotal": 2970.0,
            // Of 33 that num_requests_finished counts, whatever their end.
            "requestsSucceededTotal": 29.0, "requestsFailedTotal": 4.0,
            "requestOutcomes": {
                "ResponseType.SUCCESS": 0.0, "ResponseType.FINISH": 29.0, "ResponseType.ENGINE_STOP_ERROR": 0.0,
                "ResponseType.SESSION_REPEAT": 0.0, "ResponseType.SESSION_NOT_EXIST": 0.0,
                "ResponseType.HANDLER_NOT_EXIST": 0.0, "ResponseType.INPUT_LENGTH_ERROR": 0.0,
                "ResponseType.INTERNAL_ENGINE_ERROR": 4.0,
            },
        })
    );
    assert_latencies(
        "0.9.2",
        &reading.sample,
        &[
            ("timeToFirstToken", 33.0, 6.27, Some(0.001)),
            ("perOutputToken", 165.0, 3.465, Some(0.01)),
            ("endToEnd", 33.0, 93.06, Some(0.3)),
            ("queueTime", 33.0, 1.056, Some(0.3)),
        ],
    );
    assert_eq!((reading.missing, reading.hint), (vec![], String::new()));
}

#[test]
fn a_whole_plain_triton_reads_as_its_ensemble() {
    let reading = read(body!("triton-plain.txt"));
    assert_eq!(
        scalars(&reading.sample),
        json!({
            "engine": "Triton", "generation": "plain", "models": ["read_page"], "waiting": 7.0,
            "requestsSucceededTotal": 59.0, "requestsFailedTotal": 1.0,
            "requestOutcomes": {"success": 59.0, "OTHER": 1.0, "BACKEND": 0.0, "CANCELED": 0.0, "REJECTED": 0.0},
        })
    );
    assert_latencies("plain", &reading.sample, &[("endToEnd", 59.0, 88.327_965, None)]);
    assert_eq!(reading.missing, [""; 0]);
    assert!(reading.hint.contains("neither how many run"), "{}", reading.hint);
}
