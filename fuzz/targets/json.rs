//! Any JSON: what is told beside the metrics, and metrics that are JSON. No panic, no number that nobody gave.

#![no_main]

#[path = "sample.rs"]
mod sample;

use infmon_engines::{
    BodyReader, Engine, EngineSample, HttpProblem, explain_http, explain_http_of, merge_loads, merge_props,
    merge_slots, read_loads, read_props, read_router_models, read_slots, router_query,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut merged = EngineSample::default();
    match read_slots(input) {
        Ok(slots) => {
            assert!(slots.total > 0 && slots.busy <= slots.total, "{slots:?}");
            merge_slots(&mut merged, &slots);
        }
        Err(error) => assert!(error.to_string().len() < 200),
    }
    if let Some(loads) = read_loads(input) {
        merge_loads(&mut merged, &loads);
    }
    if let Some(props) = read_props(input) {
        merge_props(&mut merged, &props);
    }
    sample::check(&merged);
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
            Ok(reading) => sample::check(&reading.sample),
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
