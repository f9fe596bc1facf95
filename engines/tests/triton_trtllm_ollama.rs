//! Triton's backends and models, the JSON of trtllm-serve, and what Ollama cannot tell.

use infmon_engines::{BodyReader, Engine, ReadError, Reading};

fn read(body: impl AsRef<[u8]>) -> Reading {
    BodyReader::new(None).read(body.as_ref()).expect("the body is readable")
}

#[test]
fn triton_with_older_backends_and_that_of_vllm() {
    // Before 2024 there is no fraction.
    let blocks = read(
        "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"used\",model=\"m\",version=\"1\"} 25\n\
         nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\",model=\"m\",version=\"1\"} 100\n\
         nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\",model=\"m\",version=\"1\"} 64\n",
    )
    .sample;
    assert_eq!(
        (blocks.kv_cache_usage, blocks.kv_cache_capacity_tokens),
        (Some(0.25), Some(6400.0))
    );

    let vllm = read(
        "nv_inference_pending_request_count{model=\"m\",version=\"1\"} 2\nnv_inference_pending_request_count{model=\"other\",version=\"1\"} 5\n\
         vllm:prompt_tokens_total{model=\"m\",version=\"1\"} 10\nvllm:generation_tokens_total{model=\"m\",version=\"1\"} 20\n\
         vllm:time_per_output_token_seconds_count{model=\"m\",version=\"1\"} 1\nvllm:time_per_output_token_seconds_sum{model=\"m\",version=\"1\"} 1\n\
         vllm:time_per_output_token_seconds_bucket{model=\"m\",version=\"1\",le=\"+Inf\"} 1\n",
    )
    .sample;
    assert_eq!(
        (vllm.engine, vllm.generation.as_str()),
        (Some(Engine::Triton), "vllm-backend")
    );
    assert_eq!((vllm.waiting, vllm.generated_tokens_total), (Some(2.0), Some(20.0)));
    assert!(vllm.latency.inter_token.is_some());
    assert_eq!(vllm.models, ["m"]);

    // Its documents print buckets without the suffix.
    let documents = read(
        "nv_inference_first_response_histogram_ms_count{model=\"m\"} 2\nnv_inference_first_response_histogram_ms_sum{model=\"m\"} 700\n\
         nv_inference_first_response_histogram_ms{model=\"m\",le=\"500\"} 2\nnv_inference_first_response_histogram_ms{model=\"m\",le=\"+Inf\"} 2\n",
    );
    let first = documents.sample.latency.time_to_first_token.expect("first response");
    assert_eq!(
        (first.sum_seconds, first.buckets),
        (0.7, vec![(Some(0.5), 2.0), (None, 2.0)])
    );
}

#[test]
fn the_iteration_list_of_trtllm_is_read_from_its_end() {
    let list = r#"[{"iter":1,"numActiveRequests":9,"numQueuedRequests":9},{"iter":2,"numActiveRequests":2,"numQueuedRequests":1}]"#;
    let reading = read(list);
    assert_eq!((reading.sample.waiting, reading.sample.running), (Some(1.0), Some(2.0)));
    assert_eq!(reading.missing, ["kvCacheStats"]);

    // Keys are optional: what is used follows from what is free, and no number from nothing.
    let cache = |stats: &str| {
        let list =
            format!("[{{\"iter\":1,\"numActiveRequests\":1,\"numQueuedRequests\":null,\"kvCacheStats\":{stats}}}]");
        let sample = read(list).sample;
        (sample.kv_cache_usage, sample.waiting)
    };
    assert_eq!(cache(r#"{"maxNumBlocks":100,"freeNumBlocks":75}"#), (Some(0.25), None));
    for stats in [
        "null",
        "{}",
        r#"{"maxNumBlocks":100}"#,
        r#"{"maxNumBlocks":100,"freeNumBlocks":101}"#,
        r#"{"maxNumBlocks":0,"usedNumBlocks":0}"#,
        r#"{"maxNumBlocks":100,"usedNumBlocks":-1}"#,
    ] {
        assert_eq!(cache(stats), (None, None), "{stats}");
    }

    // Nothing runs, or another reader took it: neither is a queue of 0.
    let empty = BodyReader::new(Some(Engine::TensorRtLlm))
        .read(b"[]")
        .expect("named by the user");
    assert_eq!((empty.sample.waiting, empty.missing.len()), (None, 3));
    assert!(empty.hint.contains("/prometheus/metrics"), "{}", empty.hint);
    let error = BodyReader::new(None).read(b"[]").expect_err("nobody's");
    assert!(matches!(error, ReadError::Json { .. }));
    for words in [
        "trtllm-serve that does nothing",
        "spec.engine: TensorRTLLM",
        "/prometheus/metrics",
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn ollama_says_what_it_cannot_tell() {
    let reading = read(include_bytes!("bodies/ollama-api-ps.json"));
    assert_eq!(reading.missing, [""; 0], "it tells all that it can");
    assert!(reading.hint.contains("no queue"), "{}", reading.hint);
    let idle = br#"{"models":[]}"#;
    assert!(BodyReader::new(None).read(idle).is_err());
    let idle = BodyReader::new(Some(Engine::Ollama))
        .read(idle)
        .expect("named by the user");
    assert_eq!((idle.sample.models.len(), idle.missing.len()), (0, 0));
}
