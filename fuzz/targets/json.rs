//! Any JSON: what is told beside the metrics, and metrics that are JSON. No panic, no number that nobody gave.

#![no_main]

use infmon_engines::{
    BodyReader, Engine, EngineSample, HttpProblem, explain_http, explain_http_of, merge_loads, merge_props,
    merge_slots, read_loads, read_props, read_router_models, read_slots, router_query,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut sample = EngineSample::default();
    match read_slots(input) {
        Ok(slots) => {
            assert!(slots.total > 0 && slots.busy <= slots.total, "{slots:?}");
            merge_slots(&mut sample, &slots);
        }
        Err(error) => assert!(error.to_string().len() < 200),
    }
    if let Some(loads) = read_loads(input) {
        merge_loads(&mut sample, &loads);
    }
    if let Some(props) = read_props(input) {
        merge_props(&mut sample, &props);
    }
    check(&sample);
    for model in read_router_models(input).and_then(Result::ok).unwrap_or_default() {
        let query = router_query(&model);
        assert!(
            query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'),
            "{query}"
        );
    }
    for forced in [
        None,
        Some(Engine::TensorRtLlm),
        Some(Engine::Sglang),
        Some(Engine::Ollama),
        Some(Engine::LlamaCpp),
    ] {
        match BodyReader::new(forced).read(input) {
            Ok(reading) => check(&reading.sample),
            Err(error) => assert!(error.to_string().len() < 1024, "{error}"),
        }
    }
    let status = u16::from(input.first().copied().unwrap_or_default()) * 4;
    for explanation in [
        explain_http(status, input, "/metrics"),
        explain_http_of(Some(Engine::Sglang), status, input, "/metrics"),
    ] {
        assert!(explanation.message.len() < 1024 && !explanation.message.contains('\n'));
        assert!(status != 401 || explanation.kind == HttpProblem::Unauthorized);
    }
});

fn check(sample: &EngineSample) {
    let numbers = [
        sample.waiting,
        sample.running,
        sample.max_concurrency,
        sample.kv_cache_usage,
        sample.kv_cache_capacity_tokens,
        sample.prefix_cache_hit_ratio,
    ];
    for number in numbers.into_iter().flatten() {
        assert!(number.is_finite() && number >= 0.0, "{number}");
    }
    assert!(
        sample.kv_cache_usage.is_none_or(|share| share <= 1.0),
        "{:?}",
        sample.kv_cache_usage
    );
}
