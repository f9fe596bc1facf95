//! Taking a body apart.

use infmon_engines::{Engine, inspect};

#[test]
fn a_body_says_which_series_fed_which_field_and_what_was_left() {
    let body = b"# TYPE vllm:num_requests_waiting gauge\n\
        python_info{version=\"3.12\"} 1\n\
        vllm:num_requests_waiting{engine=\"0\"} 2\nvllm:num_requests_waiting{engine=\"1\"} 3\n\
        vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:gpu_cache_usage_perc{engine=\"0\"} 0.5\n\
        vllm:e2e_request_latency_seconds_bucket{le=\"1.0\"} 1\nvllm:e2e_request_latency_seconds_bucket{le=\"+Inf\"} 1\n\
        vllm:e2e_request_latency_seconds_sum 1\nvllm:e2e_request_latency_seconds_count 1\n\
        vllm:mm_cache_hits_total 1\n";
    let inspection = inspect(None, body).expect("vLLM");
    assert_eq!(inspection.engine, Some(Engine::Vllm));
    assert_eq!(inspection.reading.missing, ["vllm:num_requests_running"]);
    let fields: Vec<(&str, &[String], usize)> = inspection
        .fields
        .iter()
        .map(|source| (source.field, source.names.as_slice(), source.series))
        .collect();
    assert_eq!(
        fields,
        [
            ("waiting", ["vllm:num_requests_waiting".to_owned()].as_slice(), 2),
            ("kvCacheUsage", &["vllm:kv_cache_usage_perc".to_owned()], 1),
            (
                "latency.endToEnd",
                &[
                    "vllm:e2e_request_latency_seconds_bucket".to_owned(),
                    "vllm:e2e_request_latency_seconds_count".to_owned(),
                    "vllm:e2e_request_latency_seconds_sum".to_owned(),
                ],
                4
            ),
        ]
    );
    let ignored: Vec<(&str, usize)> = inspection
        .ignored
        .iter()
        .map(|family| (family.name.as_str(), family.series))
        .collect();
    assert_eq!(
        ignored,
        [
            ("python_info", 1),
            ("vllm:gpu_cache_usage_perc", 1),
            ("vllm:mm_cache_hits_total", 1)
        ]
    );
    assert!(inspect(None, b"").is_err());
}

#[test]
fn labels_and_json_feed_fields_too() {
    let body = b"vllm:num_requests_waiting{engine=\"0\"} 2\nvllm:cache_config_info{engine=\"0\",kv_cache_size_tokens=\"64\"} 1\n";
    let inspection = inspect(None, body).expect("vLLM");
    let last = inspection.fields.last().expect("a field");
    assert_eq!((last.field, last.series), ("kvCacheCapacityTokens", 1));
    assert_eq!(last.names, ["vllm:cache_config_info"]);
    assert_eq!(inspection.ignored, []);

    for (body, waiting) in [
        (
            include_bytes!("bodies/trtllm-metrics.json").as_slice(),
            "numQueuedRequests",
        ),
        (include_bytes!("bodies/sglang-v1-loads.json"), "num_waiting_reqs"),
    ] {
        let inspection = inspect(None, body).expect("JSON");
        let found = inspection.fields.iter().find(|source| source.field == "waiting");
        assert_eq!(found.expect("waiting").names, [waiting]);
    }
    let slots = inspect(None, include_bytes!("bodies/llamacpp-slots-pre-b4027.json")).expect("slots");
    let fields: Vec<&str> = slots.fields.iter().map(|source| source.field).collect();
    assert_eq!(
        fields,
        ["running", "maxConcurrency"],
        "the cache of such a build is not known"
    );
}
