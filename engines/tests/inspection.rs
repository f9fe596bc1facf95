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
