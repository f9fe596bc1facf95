//! Each stored body against the values that a person reads in it.

use infmon_engines::{BodyReader, Engine, Histogram, ReadError, Reading};
use serde_json::{Value, json};

macro_rules! body {
    ($name:literal) => {
        include_bytes!(concat!("bodies/", $name)).as_slice()
    };
}

fn read(body: &[u8]) -> Reading {
    BodyReader::new(None).read(body).expect("the body is readable")
}

/// The sample's JSON without its histograms, and without what `outcomes.rs` looks at.
fn scalars(reading: &Reading) -> Value {
    let mut json = serde_json::to_value(&reading.sample).expect("a sample is JSON");
    let fields = json.as_object_mut().expect("an object");
    fields.remove("latency");
    fields.remove("requestOutcomes");
    json
}

#[test]
fn every_body_reads_as_a_person_reads_it() {
    let llama = "meta-llama/Llama-3.1-8B-Instruct";
    let table: [(&str, &[u8], Value); 11] = [
        (
            "vLLM 0.32.0, running server, 4 of 20 requests run",
            body!("vllm-0.32.0-queued.prom"),
            json!({
                "engine": "VLLM", "generation": "v1-0.12+", "models": ["tiny-random"],
                "waiting": 16.0, "running": 4.0, "kvCacheUsage": 0.001220852154804053,
                "kvCacheCapacityTokens": 1_048_576.0,
                "promptTokensTotal": 550.0, "generatedTokensTotal": 2325.0, "preemptionsTotal": 0.0,
                "prefixCacheHitTokensTotal": 0.0, "prefixCacheQueryTokensTotal": 550.0,
                "requestsSucceededTotal": 4.0, "requestsFailedTotal": 0.0, "sleeping": false,
            }),
        ),
        (
            "vLLM 0.32.0, running server, idle",
            body!("vllm-0.32.0-idle.prom"),
            json!({
                "engine": "VLLM", "generation": "v1-0.12+", "models": ["tiny-random"],
                "waiting": 0.0, "running": 0.0, "kvCacheUsage": 0.0, "kvCacheCapacityTokens": 1_048_576.0,
                "promptTokensTotal": 0.0, "generatedTokensTotal": 0.0, "preemptionsTotal": 0.0,
                "prefixCacheHitTokensTotal": 0.0, "prefixCacheQueryTokensTotal": 0.0,
                "requestsSucceededTotal": 0.0, "requestsFailedTotal": 0.0, "sleeping": false,
            }),
        ),
        (
            "vLLM 0.33.0 with LoRA",
            body!("vllm-0.33.0.txt"),
            json!({
                "engine": "VLLM", "generation": "v1-0.12+", "models": [llama],
                "waiting": 4.0, "running": 7.0, "kvCacheUsage": 0.43714285714285717, "kvCacheCapacityTokens": 426_672.0,
                "promptTokensTotal": 32480.0, "generatedTokensTotal": 440.0, "preemptionsTotal": 1.0,
                "prefixCacheHitTokensTotal": 12160.0, "prefixCacheQueryTokensTotal": 32480.0,
                "requestsSucceededTotal": 40.0, "requestsFailedTotal": 0.0,
                "loraAdapters": ["sql-lora", "chat-lora", "code-lora"], "sleeping": false,
            }),
        ),
        (
            "vLLM 0.33.0, two data-parallel ranks: queues and counters add up, the cache is that of the fullest",
            body!("vllm-dp2.txt"),
            json!({
                "engine": "VLLM", "generation": "v1-0.12+", "models": [llama],
                "waiting": 8.0, "running": 14.0, "kvCacheUsage": 0.43714285714285717, "kvCacheCapacityTokens": 853_344.0,
                "promptTokensTotal": 64960.0, "generatedTokensTotal": 880.0, "preemptionsTotal": 2.0,
                "prefixCacheHitTokensTotal": 24320.0, "prefixCacheQueryTokensTotal": 64960.0,
                "requestsSucceededTotal": 80.0, "requestsFailedTotal": 0.0, "sleeping": false,
            }),
        ),
        (
            "vLLM 0.10.2 has old and new names at once: nothing counts twice",
            body!("vllm-0.10.2-v1-transition.txt"),
            json!({
                "engine": "VLLM", "generation": "v1-0.9-0.11", "models": [llama],
                "waiting": 3.0, "running": 7.0, "kvCacheUsage": 0.43714285714285717, "kvCacheCapacityTokens": 426_672.0,
                "promptTokensTotal": 32480.0, "generatedTokensTotal": 440.0, "preemptionsTotal": 1.0,
                "prefixCacheHitTokensTotal": 12160.0, "prefixCacheQueryTokensTotal": 32480.0,
                "requestsSucceededTotal": 40.0, "requestsFailedTotal": 0.0,
            }),
        ),
        (
            "vLLM 0.6.6 (V0): the sentinel -1 is no hit ratio, and no failure has been counted yet",
            body!("vllm-v0-0.6.6.txt"),
            json!({
                "engine": "VLLM", "generation": "v0", "models": [llama],
                "waiting": 2.0, "running": 5.0, "kvCacheUsage": 0.3127, "kvCacheCapacityTokens": 446_240.0,
                "hostCacheUsage": 0.0,
                "promptTokensTotal": 12800.0, "generatedTokensTotal": 125.0, "preemptionsTotal": 0.0,
                "requestsSucceededTotal": 25.0,
            }),
        ),
        (
            "vLLM LoRA label sets left behind: the newest names the adapters",
            body!("vllm-lora-series.txt"),
            json!({"engine": "VLLM", "loraAdapters": ["test-lora"]}),
        ),
        (
            "llama.cpp b11669, running server",
            body!("llama-server-0.7.0-b11669-queued.prom"),
            json!({
                "engine": "LlamaCpp", "generation": "b10519+", "waiting": 36.0, "running": 2.0,
                "promptTokensTotal": 1030.0, "generatedTokensTotal": 6600.0,
                "prefixCacheHitTokensTotal": 578.0, "prefixCacheQueryTokensTotal": 1030.0,
            }),
        ),
        (
            "llama.cpp b10519, six significant digits",
            body!("llamacpp.txt"),
            json!({
                "engine": "LlamaCpp", "generation": "b10519+", "waiting": 2.0, "running": 4.0,
                "promptTokensTotal": 4_132_790.0, "generatedTokensTotal": 1_048_730.0,
                "prefixCacheHitTokensTotal": 918_220.0, "prefixCacheQueryTokensTotal": 4_132_790.0,
            }),
        ),
        (
            "llama.cpp b10519, idle",
            body!("llamacpp-idle.txt"),
            json!({
                "engine": "LlamaCpp", "generation": "b10519+", "waiting": 0.0, "running": 0.0,
                "promptTokensTotal": 32233.0, "generatedTokensTotal": 5821.0,
                "prefixCacheHitTokensTotal": 8120.0, "prefixCacheQueryTokensTotal": 32233.0,
            }),
        ),
        (
            "llama.cpp before b5450 has a KV cache gauge and counts no cached tokens",
            b"llamacpp:prompt_tokens_total 10\nllamacpp:kv_cache_usage_ratio 0.25\nllamacpp:kv_cache_tokens 512\n\
              llamacpp:requests_processing 1\nllamacpp:requests_deferred 3\nllamacpp:tokens_predicted_total 7\n",
            json!({
                "engine": "LlamaCpp", "generation": "before-b5450", "waiting": 3.0, "running": 1.0, "kvCacheUsage": 0.25,
                "promptTokensTotal": 10.0, "generatedTokensTotal": 7.0,
            }),
        ),
    ];
    for (name, body, expected) in table {
        assert_eq!(scalars(&read(body)), expected, "{name}");
    }
}

fn bucket(histogram: &Histogram, bound: f64) -> f64 {
    let found = histogram.buckets.iter().find(|bucket| bucket.0 == Some(bound));
    found.expect("the bucket is there").1
}

#[test]
fn histograms_of_the_running_server_are_read_whole() {
    let latency = read(body!("vllm-0.32.0-queued.prom")).sample.latency;
    let first_token = latency.time_to_first_token.expect("time to first token");
    assert_eq!((first_token.count, first_token.sum_seconds), (8.0, 10.845942497253418));
    assert_eq!(first_token.buckets.len(), 23);
    assert_eq!(bucket(&first_token, 0.08), 0.0);
    assert_eq!(bucket(&first_token, 0.1), 1.0);
    assert_eq!(bucket(&first_token, 2.5), 4.0);
    assert_eq!(bucket(&first_token, 5.0), 8.0);
    assert_eq!(first_token.buckets.last(), Some(&(None, 8.0)));
    let inter_token = latency.inter_token.expect("inter-token latency");
    assert_eq!((inter_token.count, bucket(&inter_token, 0.01)), (2317.0, 2287.0));
    assert_eq!(latency.per_output_token.expect("time per output token").count, 4.0);
    assert_eq!(latency.end_to_end.expect("end to end").sum_seconds, 10.394341707229614);
    assert_eq!(
        latency.queue_time.expect("queue time").sum_seconds,
        0.0005509120001079282
    );
}

#[test]
fn histograms_of_ranks_add_up_bound_by_bound() {
    let first_token = read(body!("vllm-dp2.txt"))
        .sample
        .latency
        .time_to_first_token
        .expect("time to first token");
    assert_eq!(first_token.count, 80.0);
    assert_eq!(first_token.sum_seconds, 6.234403239250383 + 5.167902352865877);
    assert_eq!(bucket(&first_token, 0.02), 1.0);
    assert_eq!(bucket(&first_token, 0.06), 14.0);
    assert_eq!(bucket(&first_token, 0.5), 79.0);
}

#[test]
fn time_per_output_token_of_old_releases_is_inter_token_latency() {
    for body in [body!("vllm-0.10.2-v1-transition.txt"), body!("vllm-v0-0.6.6.txt")] {
        let latency = read(body).sample.latency;
        assert!(latency.inter_token.is_some());
        assert_eq!(latency.per_output_token, None);
    }
    // Both names are there in 0.10.2, with 400 observations each.
    let latency = read(body!("vllm-0.10.2-v1-transition.txt")).sample.latency;
    assert_eq!(latency.inter_token.expect("inter-token latency").count, 400.0);
}

#[test]
fn v0_histograms_are_read_whatever_the_order_of_their_lines() {
    let first_token = read(body!("vllm-v0-0.6.6.txt"))
        .sample
        .latency
        .time_to_first_token
        .expect("time to first token");
    assert_eq!((first_token.count, first_token.sum_seconds), (25.0, 3.8820019443593807));
    assert_eq!(bucket(&first_token, 0.1), 7.0);
    // The old name of the queue time is there too and must not add to the new one.
    assert_eq!(
        read(body!("vllm-v0-0.6.6.txt"))
            .sample
            .latency
            .queue_time
            .expect("queue time")
            .count,
        25.0
    );
}

#[test]
fn whole_bodies_miss_nothing() {
    for body in [
        body!("vllm-0.32.0-idle.prom"),
        body!("vllm-0.33.0.txt"),
        body!("vllm-dp2.txt"),
        body!("vllm-0.10.2-v1-transition.txt"),
        body!("vllm-v0-0.6.6.txt"),
        body!("llamacpp.txt"),
        body!("llama-server-0.7.0-b11669-queued.prom"),
    ] {
        let reading = read(body);
        assert_eq!((reading.missing, reading.hint), (vec![], String::new()));
    }
}

#[test]
fn missing_series_are_named_by_their_newest_name_with_the_step_to_take() {
    let all = [
        "vllm:num_requests_waiting",
        "vllm:num_requests_running",
        "vllm:kv_cache_usage_perc",
    ];
    let runtime_only = b"python_info{version=\"3.12\"} 1.0\nprocess_open_fds 9.0\nhttp_requests_total 4.0\n";
    let reading = BodyReader::new(Some(Engine::Vllm)).read(runtime_only).expect("forced");
    assert_eq!(reading.missing, all);
    assert!(reading.hint.contains("--disable-log-stats"), "{}", reading.hint);
    assert_eq!(reading.sample.waiting, None);

    // V0 before its first request: families without samples.
    let reading = read(b"# TYPE vllm:num_requests_waiting gauge\n# TYPE vllm:gpu_cache_usage_perc gauge\n");
    assert_eq!(reading.missing, all);
    assert_eq!(reading.sample.generation, "v0");
    assert!(reading.hint.contains("first request"), "{}", reading.hint);

    // Triton's vLLM backend has the names, other labels, and no gauges.
    let reading = read(b"nv_inference_count 1\nvllm:prompt_tokens_total{model=\"m\",version=\"1\"} 5\n");
    assert_eq!(
        (reading.missing.as_slice(), reading.sample.prompt_tokens_total),
        (["nv_inference_pending_request_count".to_owned()].as_slice(), Some(5.0))
    );
    assert!(
        reading.hint.contains("23.09") && !reading.hint.contains("REPORT_CUSTOM_METRICS"),
        "it is set already: {}",
        reading.hint
    );

    // A value that is no number of requests is not a queue of any length.
    for value in ["NaN", "-1", "+Inf"] {
        let reading = read(format!("vllm:num_requests_waiting{{engine=\"0\"}} {value}\n").as_bytes());
        assert_eq!(reading.sample.waiting, None);
        assert_eq!(
            reading.missing[0],
            "vllm:num_requests_waiting (its value is not usable)"
        );
    }

    let reading = BodyReader::new(Some(Engine::LlamaCpp)).read(b"up 1\n").expect("forced");
    assert_eq!(
        reading.missing,
        ["llamacpp:requests_deferred", "llamacpp:requests_processing"]
    );
    assert!(reading.hint.contains("--metrics"));
}

#[test]
fn broken_histograms_are_absent_not_wrong() {
    let line = |le: &str, count: u32| format!("vllm:time_to_first_token_seconds_bucket{{le=\"{le}\"}} {count}\n");
    let rest = "vllm:time_to_first_token_seconds_sum 1.5\nvllm:time_to_first_token_seconds_count 3\n";
    let whole = line("1.0", 2) + &line("+Inf", 3) + rest;
    for (name, body) in [
        ("falls", line("1.0", 4) + &line("+Inf", 3) + rest),
        ("no infinity", line("1.0", 2) + rest),
        ("no sum", whole.replace("_sum", "_sun")),
        ("no buckets", rest.to_owned()),
        ("NaN", whole.replace("} 2", "} NaN")),
        ("negative", whole.replace("} 2", "} -2")),
        (
            "bound is no number",
            whole.replace("1.0", "one").replace("+Inf", "many"),
        ),
    ] {
        assert_eq!(read(body.as_bytes()).sample.latency.time_to_first_token, None, "{name}");
    }
    let histogram = read(whole.as_bytes())
        .sample
        .latency
        .time_to_first_token
        .expect("whole");
    assert_eq!(histogram.buckets, [(Some(1.0), 2.0), (None, 3.0)]);
    // `1` and `1.0` are one bound; a bound that one replica lacks is left out.
    let two = "vllm:e2e_request_latency_seconds_bucket{r=\"a\",le=\"1.0\"} 1\n\
               vllm:e2e_request_latency_seconds_bucket{r=\"a\",le=\"+Inf\"} 2\n\
               vllm:e2e_request_latency_seconds_bucket{r=\"b\",le=\"0.5\"} 1\n\
               vllm:e2e_request_latency_seconds_bucket{r=\"b\",le=\"1\"} 1\n\
               vllm:e2e_request_latency_seconds_bucket{r=\"b\",le=\"+Inf\"} 2\n\
               vllm:e2e_request_latency_seconds_sum 3\nvllm:e2e_request_latency_seconds_count 4\n";
    let histogram = read(two.as_bytes()).sample.latency.end_to_end.expect("two replicas");
    assert_eq!(histogram.buckets, [(Some(1.0), 2.0), (None, 4.0)]);
}

#[test]
fn cache_usage_that_is_no_fraction_is_not_understood() {
    let usage = |value: &str| {
        read(format!("vllm:kv_cache_usage_perc{{engine=\"0\"}} {value}\n").as_bytes())
            .sample
            .kv_cache_usage
    };
    assert_eq!(usage("87.5"), None);
    assert_eq!(usage("1.0000000000000002"), Some(1.0));
    assert_eq!(usage("-0.1"), None);
}

#[test]
fn an_exposition_in_a_json_string_is_read() {
    let text = std::str::from_utf8(body!("llamacpp.txt")).expect("text");
    let escaped = serde_json::to_vec(text).expect("JSON");
    let mut reader = BodyReader::new(None);
    assert_eq!(reader.read(&escaped).expect("escaped"), read(text.as_bytes()));
    assert_eq!(reader.read(&escaped).expect("again"), read(text.as_bytes()));
    assert!(reader.read_from_layout());
}

#[test]
fn bodies_that_are_no_exposition_say_what_they_are() {
    let error = |forced, body: &[u8]| BodyReader::new(forced).read(body).expect_err("no exposition");
    for empty in ["", " \n\r\n", "# EOF\n", "# HELP x y\n"] {
        assert_eq!(error(None, empty.as_bytes()), ReadError::Empty, "{empty:?}");
    }
    let bodies: [(&[u8], &str); 5] = [
        (
            br#"{"error":{"code":501,"message":"Start it with `--metrics`","type":"x"}}"#,
            "Start it with `--metrics`",
        ),
        (br#"{"detail":"Not Found"}"#, "Not Found"),
        (br#"{"error":"no\nsuch\u0007route"}"#, "no such route"),
        (b"[]", "metrics path"),
        (br#"{"models":[{"prompt":"secret"}]}"#, "metrics path"),
    ];
    for (body, word) in bodies {
        let error = error(None, body);
        assert!(matches!(error, ReadError::Json { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(!error.to_string().contains("secret"));
    }
    assert!(
        error(None, b"<!doctype html><title>x</title>")
            .to_string()
            .contains("HTML")
    );
    assert_eq!(
        error(None, b"vllm:a 1\nvllm:b{x=\"1\" 2\n"),
        ReadError::Malformed {
            line: 2,
            reason: "expected a label name".to_owned()
        }
    );
    assert_eq!(
        error(None, b"te_queue_size 0\n"),
        ReadError::UnknownEngine {
            seen: vec![],
            looks_like: Some("Text Embeddings Inference (TEI)")
        }
    );
    let runtime = error(None, b"python_info 1\nprocess_open_fds 1\nhttp_requests_total 1\n");
    assert!(runtime.to_string().contains("--disable-log-stats"), "{runtime}");
    assert_eq!(
        error(None, b"node_load1 0.5\ngo_goroutines 8\nnode_load5 1\n"),
        ReadError::UnknownEngine {
            seen: vec!["node_".to_owned(), "go_".to_owned()],
            looks_like: None
        }
    );
    assert_eq!(
        error(Some(Engine::Vllm), body!("llamacpp.txt")),
        ReadError::WrongEngine {
            expected: Engine::Vllm,
            found: "LlamaCpp".to_owned()
        }
    );
    assert_eq!(
        error(Some(Engine::LlamaCpp), b"sglang:num_queue_reqs 1\n"),
        ReadError::WrongEngine {
            expected: Engine::LlamaCpp,
            found: "SGLang".to_owned()
        }
    );
    assert_eq!(
        error(None, "vllm:a 1\n".repeat(50_001).as_bytes()),
        ReadError::TooManySeries
    );
}

#[test]
fn a_reading_stays_small_whatever_the_body_holds() {
    let mut body = String::from("vllm:e2e_request_latency_seconds_sum 1\nvllm:e2e_request_latency_seconds_count 1\n");
    for n in 0..1000 {
        body += &format!("vllm:e2e_request_latency_seconds_bucket{{model_name=\"model-{n}\",le=\"{n}\"}} 1\n");
    }
    body += "vllm:e2e_request_latency_seconds_bucket{le=\"+Inf\"} 1\n";
    let many: Vec<String> = (0..1000)
        .map(|n| format!("adapter-{n}"))
        .chain(["x".repeat(1000)])
        .collect();
    body += &format!(
        "vllm:lora_requests_info{{running_lora_adapters=\"{}\"}} 1.8e9\n",
        many.join(",")
    );
    let sample = read(body.as_bytes()).sample;
    assert_eq!((sample.models.len(), sample.lora_adapters.len()), (64, 256));
    assert!(
        sample
            .latency
            .end_to_end
            .is_none_or(|histogram| histogram.buckets.len() <= 256)
    );

    let bounds = |count: u32| {
        let mut body =
            String::from("vllm:e2e_request_latency_seconds_sum 1\nvllm:e2e_request_latency_seconds_count 1\n");
        for n in 1..count {
            body += &format!("vllm:e2e_request_latency_seconds_bucket{{le=\"{n}\"}} 1\n");
        }
        body + "vllm:e2e_request_latency_seconds_bucket{le=\"+Inf\"} 1\n"
    };
    assert!(read(bounds(256).as_bytes()).sample.latency.end_to_end.is_some());
    assert_eq!(read(bounds(257).as_bytes()).sample.latency.end_to_end, None);
}

#[test]
fn a_counter_or_histogram_with_another_name_is_missing_and_one_not_counted_yet_is_not() {
    let gauges = "vllm:num_requests_waiting 0\nvllm:num_requests_running 1\nvllm:kv_cache_usage_perc 0.5\n";
    let reading = read(gauges.as_bytes());
    assert_eq!((reading.missing, reading.hint), (vec![], String::new()));
    let more = "vllm:output_tokens_total 5\nvllm:ttft_seconds_bucket{le=\"+Inf\"} 1\n";
    let reading = read(format!("{gauges}{more}").as_bytes());
    assert_eq!(
        reading.missing,
        ["vllm:generation_tokens_total", "vllm:time_to_first_token_seconds"]
    );
    for words in ["after a rename", "vllm:output_tokens_total", "vllm:ttft_seconds"] {
        assert!(reading.hint.contains(words), "{}", reading.hint);
    }
}
