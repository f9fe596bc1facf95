//! SGLang, Triton, TensorRT-LLM, TGI, LMDeploy, NIM and Ollama: stored bodies against what a person reads in them, and how each goes wrong.

use infmon_engines::{BodyReader, Engine, EngineSample, ReadError, Reading};
use serde_json::{Value, json};

macro_rules! body {
    ($name:literal) => {
        include_bytes!(concat!("bodies/", $name)).as_slice()
    };
}

fn read(body: impl AsRef<[u8]>) -> Reading {
    BodyReader::new(None).read(body.as_ref()).expect("the body is readable")
}

/// The sample's JSON without its histograms, and without what `outcomes.rs` looks at.
fn scalars(reading: &Reading) -> Value {
    let mut json = serde_json::to_value(&reading.sample).expect("a sample is JSON");
    let fields = json.as_object_mut().expect("an object");
    fields.remove("latency");
    fields.remove("requestOutcomes");
    json
}

/// Count and sum of each latency that is there, and its first finite bound.
fn latencies(sample: &EngineSample) -> Value {
    let latency = &sample.latency;
    let all = [
        ("timeToFirstToken", &latency.time_to_first_token),
        ("interToken", &latency.inter_token),
        ("perOutputToken", &latency.per_output_token),
        ("endToEnd", &latency.end_to_end),
        ("queueTime", &latency.queue_time),
    ];
    let there = all.into_iter().filter_map(|(name, histogram)| {
        let histogram = histogram.as_ref()?;
        let value = json!([histogram.count, histogram.sum_seconds, histogram.buckets[0].0]);
        Some((name.to_owned(), value))
    });
    Value::Object(there.collect())
}

#[test]
fn every_body_reads_as_a_person_reads_it() {
    let llama = "meta-llama/Llama-3.1-8B-Instruct";
    let table: [(&str, &[u8], Value, Value); 11] = [
        (
            "SGLang 0.5.23: streaming and other requests add up, a NaN gauge and gauges with le do no harm",
            body!("sglang-0.5.23.txt"),
            json!({
                "engine": "SGLang", "generation": "0.5.23+", "models": [llama],
                "waiting": 4.0, "running": 12.0, "kvCacheUsage": 0.61, "kvCacheCapacityTokens": 426_672.0,
                "hostCacheUsage": 12000.0 / 852_000.0,
                "promptTokensTotal": 32480.0, "generatedTokensTotal": 4400.0, "preemptionsTotal": 1.0,
                "prefixCacheHitTokensTotal": 12160.0, "prefixCacheQueryTokensTotal": 32480.0,
                "requestsSucceededTotal": 40.0, "requestsFailedTotal": 1.0,
            }),
            json!({
                "timeToFirstToken": [40.0, 3.030_321_417_721_887_6 + 7.116_569_653_271_052, 0.1],
                "interToken": [200.0, 11.147684912651187, 0.002],
                "perOutputToken": [40.0, 0.179_999_999_999_999_97 + 0.540_000_000_000_000_1, 0.002],
                "endToEnd": [40.0, 19.79055746224386 + 73.57054485953877, 0.1],
                "queueTime": [1.0, 0.004, 0.0],
            }),
        ),
        (
            "SGLang /v1/loads",
            body!("sglang-v1-loads.json"),
            json!({
                "engine": "SGLang", "generation": "v1-loads", "waiting": 4.0, "running": 12.0, "maxConcurrency": 2048.0,
                "kvCacheUsage": 0.61, "kvCacheCapacityTokens": 426_672.0,
            }),
            json!({}),
        ),
        (
            "Triton with TensorRT-LLM: one model speaks, milliseconds and microseconds become seconds",
            body!("triton-tensorrtllm.txt"),
            json!({
                "engine": "Triton", "generation": "tensorrtllm-backend", "models": ["tensorrt_llm"],
                "waiting": 1.0, "running": 1.0, "maxConcurrency": 512.0, "kvCacheUsage": 0.4875,
                "kvCacheCapacityTokens": 6239.0 * 64.0,
                "requestsSucceededTotal": 59.0, "requestsFailedTotal": 1.0,
            }),
            json!({
                "timeToFirstToken": [37.0, 10.771, 0.1],
                "endToEnd": [59.0, 88.327965, null],
                "queueTime": [59.0, 0.014512, null],
            }),
        ),
        (
            "trtllm-serve 2026: no model name, gauges with pid",
            body!("trtllm-2026.txt"),
            json!({
                "engine": "TensorRTLLM", "generation": "2026", "waiting": 3.0, "running": 5.0, "maxConcurrency": 2048.0,
                "kvCacheUsage": 0.3127, "kvCacheCapacityTokens": 64000.0, "hostCacheUsage": 0.05,
                "promptTokensTotal": 16240.0, "generatedTokensTotal": 2200.0,
                "prefixCacheHitTokensTotal": 3840.0, "prefixCacheQueryTokensTotal": 16240.0, "prefixCacheHitRatio": 0.2362,
                "requestsSucceededTotal": 20.0, "requestsFailedTotal": 1.0,
            }),
            json!({
                "timeToFirstToken": [20.0, 2.2849983198971593, 0.001],
                "perOutputToken": [20.0, 0.2716852102701919, 0.01],
                "endToEnd": [20.0, 50.61166845502811, 0.3],
                "queueTime": [20.0, 0.14842518380554665, 0.3],
            }),
        ),
        (
            "trtllm-serve, JSON",
            body!("trtllm-metrics.json"),
            json!({
                "engine": "TensorRTLLM", "generation": "iteration-json", "waiting": 0.0, "running": 1.0,
                "maxConcurrency": 2048.0, "kvCacheUsage": 3.0 / 101_256.0, "kvCacheCapacityTokens": 101_256.0 * 32.0,
                "prefixCacheHitRatio": 0.00128,
            }),
            json!({}),
        ),
        (
            "TensorRT-LLM 1.1: names without a prefix, no gauges",
            b"request_success_total{model_name=\"undefined\",finished_reason=\"stop\"} 4\n\
              time_to_first_token_seconds_bucket{le=\"+Inf\"} 4\ntime_to_first_token_seconds_sum 2\ntime_to_first_token_seconds_count 4\n",
            json!({"engine": "TensorRTLLM", "generation": "1.1", "requestsSucceededTotal": 4.0}),
            json!({"timeToFirstToken": [4.0, 2.0, null]}),
        ),
        (
            "TGI 3.3.7",
            body!("tgi-3.3.7.txt"),
            json!({
                "engine": "TGI", "generation": "3", "waiting": 2.0, "running": 5.0,
                "promptTokensTotal": 10240.0, "generatedTokensTotal": 2190.0,
                "requestsSucceededTotal": 20.0, "requestsFailedTotal": 3.0,
            }),
            json!({
                "perOutputToken": [20.0, 0.3400000000000002, 0.000_150_000_000_000_000_01],
                "endToEnd": [20.0, 29.699999999999996, 0.000_150_000_000_000_000_01],
                "queueTime": [20.0, 0.19100000000000003, 0.000_150_000_000_000_000_01],
            }),
        ),
        (
            "LMDeploy 0.16: both queues add up",
            body!("lmdeploy-0.16.txt"),
            json!({
                "engine": "LMDeploy", "generation": "0.11+", "models": ["Qwen/Qwen2.5-7B-Instruct"],
                "waiting": 2.0, "running": 5.0, "maxConcurrency": 256.0, "kvCacheUsage": 0.21,
                "promptTokensTotal": 12000.0, "generatedTokensTotal": 80.0,
                "prefixCacheHitTokensTotal": 0.0, "prefixCacheQueryTokensTotal": 12000.0, "prefixCacheHitRatio": 0.0,
                "requestsSucceededTotal": 40.0, "requestsFailedTotal": 0.0,
            }),
            json!({
                "timeToFirstToken": [40.0, 6.146801391038048, 0.001],
                "interToken": [40.0, 0.8400000000000004, 0.005],
                "perOutputToken": [40.0, 0.8000000000000004, 0.005],
                "endToEnd": [40.0, 76.0, 0.3],
                "queueTime": [40.0, 0.08000000000000006, 0.3],
            }),
        ),
        (
            "NIM 1.x: 169 observations for 174 tokens of 5 requests are times between tokens",
            body!("nim-1.x.txt"),
            json!({
                "engine": "NIM", "generation": "1.x", "models": ["meta/llama-3.1-8b-instruct"],
                "waiting": 0.0, "running": 1.0, "maxConcurrency": 64.0, "kvCacheUsage": 0.0002848191398461977,
                "promptTokensTotal": 109.0, "generatedTokensTotal": 174.0,
                "requestsSucceededTotal": 5.0, "requestsFailedTotal": 0.0,
            }),
            json!({
                "timeToFirstToken": [5.0, 0.6119842529296875, 0.001],
                "interToken": [169.0, 1.856855869293213, 0.01],
                "endToEnd": [5.0, 2.4688401222229004, 1.0],
            }),
        ),
        (
            "Ollama",
            body!("ollama-api-ps.json"),
            json!({"engine": "Ollama", "generation": "presence-only", "models": ["llama3.1:8b"]}),
            json!({}),
        ),
        (
            "llama.cpp's /slots alone",
            body!("llamacpp-slots-b10519.json"),
            json!({
                "engine": "LlamaCpp", "generation": "slots", "running": 1.0, "maxConcurrency": 4.0,
                "kvCacheUsage": 2113.0 / (4.0 * 65536.0),
            }),
            json!({}),
        ),
    ];
    for (name, body, expected, expected_latencies) in table {
        let reading = read(body);
        assert_eq!(scalars(&reading), expected, "{name}");
        assert_eq!(latencies(&reading.sample), expected_latencies, "{name}");
    }
}

#[test]
fn whole_bodies_miss_nothing() {
    for body in [
        body!("sglang-0.5.23.txt"),
        body!("sglang-v1-loads.json"),
        body!("triton-tensorrtllm.txt"),
        body!("trtllm-2026.txt"),
        body!("trtllm-metrics.json"),
        body!("tgi-3.3.7.txt"),
        body!("lmdeploy-0.16.txt"),
        body!("nim-1.x.txt"),
    ] {
        let reading = read(body);
        assert_eq!((reading.missing, reading.hint), (vec![], String::new()));
    }
}

#[test]
fn missing_series_name_the_flag_that_gives_them() {
    let hint = |forced, body: &str| {
        let reading = BodyReader::new(forced).read(body.as_bytes()).expect("readable");
        assert!(!reading.missing.is_empty(), "{body}");
        reading.hint
    };
    for (engine, body, words) in [
        (Some(Engine::Sglang), "python_info 1\n", "--enable-metrics"),
        (None, "tgi_batch_max_total_tokens 1\n", "send a request"),
        (None, "trtllm_prompt_tokens_total 1\n", "enable_iter_perf_stats"),
        (Some(Engine::TensorRtLlm), "python_info 1\n", "return_perf_metrics"),
        (Some(Engine::LmDeploy), "python_info 1\n", "--disable-metrics"),
        (Some(Engine::Triton), "python_info 1\n", "8002"),
        (Some(Engine::Nim), "python_info 1\n", "/v1/metrics"),
        (Some(Engine::Ollama), "python_info 1\n", "nothing else"),
    ] {
        let hint = hint(engine, body);
        assert!(hint.contains(words), "{hint}");
    }
}

#[test]
fn an_engine_that_does_not_fit_is_named() {
    let error = |forced: Engine, body: &[u8]| BodyReader::new(Some(forced)).read(body).expect_err("another engine");
    let bodies: [(Engine, &[u8]); 8] = [
        (Engine::Vllm, body!("vllm-0.33.0.txt")),
        (Engine::LlamaCpp, body!("llamacpp.txt")),
        (Engine::Sglang, body!("sglang-0.5.23.txt")),
        (Engine::Triton, body!("triton-tensorrtllm.txt")),
        (Engine::TensorRtLlm, body!("trtllm-2026.txt")),
        (Engine::Tgi, body!("tgi-idle.txt")),
        (Engine::LmDeploy, body!("lmdeploy-0.16.txt")),
        (Engine::Nim, body!("nim-1.x.txt")),
    ];
    for (served, body) in bodies {
        for named in Engine::ALL.into_iter().filter(|engine| *engine != Engine::Custom) {
            if named == served {
                let reading = BodyReader::new(Some(named)).read(body).expect("it fits");
                assert_eq!(reading, read(body), "{named:?}");
            } else if named == Engine::Nim && matches!(served, Engine::Vllm | Engine::Sglang) {
                // NIM 2.x is a proxy in front of these.
                let reading = BodyReader::new(Some(named)).read(body).expect("NIM 2.x");
                assert_eq!(reading.sample.engine, Some(Engine::Nim));
                assert!(
                    reading.sample.generation.starts_with("2.x-"),
                    "{}",
                    reading.sample.generation
                );
                assert_eq!(reading.sample.waiting, read(body).sample.waiting);
                assert_eq!(reading.sample.engine_behind(), Some(served));
            } else {
                let expected = ReadError::WrongEngine {
                    expected: named,
                    found: served.as_str().to_owned(),
                };
                assert_eq!(error(named, body), expected);
            }
        }
    }
    assert!(matches!(
        error(Engine::Vllm, body!("ollama-api-ps.json")),
        ReadError::WrongEngine { .. }
    ));
}

#[test]
fn renamed_series_are_told_with_the_names_that_were_seen() {
    let renamed = |body: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(body.to_vec()).expect("text").replace(from, to);
        let reading = read(text);
        assert!(reading.missing.iter().any(|name| name == from), "{:?}", reading.missing);
        assert!(reading.hint.contains(to), "{}", reading.hint);
    };
    renamed(
        body!("vllm-0.33.0.txt"),
        "vllm:num_requests_waiting",
        "vllm:requests_queued",
    );
    renamed(
        body!("vllm-0.33.0.txt"),
        "vllm:kv_cache_usage_perc",
        "vllm:kv_cache_utilization",
    );
    renamed(
        body!("sglang-0.5.23.txt"),
        "sglang:num_queue_reqs",
        "sglang:num_waiting_requests",
    );
    renamed(
        body!("lmdeploy-0.16.txt"),
        "lmdeploy:num_requests_running",
        "lmdeploy:requests_active",
    );
    renamed(
        body!("llamacpp.txt"),
        "llamacpp:requests_deferred",
        "llamacpp:requests_waiting",
    );
    renamed(
        body!("trtllm-2026.txt"),
        "trtllm_num_requests_waiting",
        "trtllm_num_requests_queued",
    );
    renamed(body!("tgi-3.3.7.txt"), "tgi_queue_size", "tgi_requests_waiting");
}

#[test]
fn what_an_engine_calls_success_is_taken_apart() {
    let outcomes = |body: &str| {
        let sample = read(body).sample;
        (sample.requests_succeeded_total, sample.requests_failed_total)
    };
    let lmdeploy = "lmdeploy:request_success_total{finished_reason=\"ResponseType.SUCCESS\"} 1\n\
                    lmdeploy:request_success_total{finished_reason=\"ResponseType.FINISH\"} 2\n\
                    lmdeploy:request_success_total{finished_reason=\"ResponseType.CANCEL\"} 4\n\
                    lmdeploy:request_success_total{finished_reason=\"ResponseType.OUT_OF_MEMORY\"} 8\n";
    assert_eq!(outcomes(lmdeploy), (Some(3.0), Some(12.0)));
    let gauges = "lmdeploy:num_requests_succeeded 5\nlmdeploy:num_requests_failed 1\n";
    assert_eq!(outcomes(gauges), (Some(5.0), Some(1.0)));
    assert_eq!(outcomes(&format!("{lmdeploy}{gauges}")), (Some(3.0), Some(12.0)));
    assert_eq!(
        outcomes(
            "trtllm_request_success_total{finished_reason=\"stop\"} 5\ntrtllm_request_success_total{finished_reason=\"cancelled\"} 1\n\
             trtllm_request_error_total{http_code=\"400\"} 2\n"
        ),
        (Some(5.0), Some(3.0))
    );
    assert_eq!(
        outcomes(
            "tgi_request_success 5\ntgi_request_failure{err=\"overloaded\"} 1\ntgi_request_failure{err=\"validation\"} 2\n"
        ),
        (Some(5.0), Some(3.0))
    );
    // A queue that is added to another one does not stand for it.
    assert_eq!(read("lmdeploy:num_api_requests_waiting 7\n").sample.waiting, None);
}

#[test]
fn ollama_tells_how_much_of_its_models_is_on_gpus() {
    let of = |models: &str| {
        let body = format!(r#"{{"models":[{models}]}}"#);
        let reading = BodyReader::new(Some(Engine::Ollama)).read(body.as_bytes()).unwrap();
        reading.sample.model_gpu_share
    };
    for (models, share) in [
        (r#"{"name":"a","size":600,"size_vram":600}"#, Some(1.0)),
        (r#"{"name":"a","size":600,"size_vram":0}"#, Some(0.0)),
        (
            r#"{"name":"a","size":600,"size_vram":300},{"name":"b","size":200,"size_vram":0}"#,
            Some(0.375),
        ),
        // Nothing is loaded, or the numbers are none.
        ("", None),
        (r#"{"name":"a","size":0,"size_vram":0}"#, None),
        (r#"{"name":"a","size_vram":0}"#, None),
        (r#"{"name":"a","size":600,"size_vram":700}"#, None),
        (r#"{"name":"a","size":600,"size_vram":-1}"#, None),
    ] {
        assert_eq!(of(models), share, "{models}");
    }
}
