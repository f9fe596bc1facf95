//! What servers do between two scrapes: restart, start to publish, stop, lag. A reading is what the body says now; nothing of an earlier
//! one is kept.

use infmon_engines::{BodyReader, Engine, EngineSample};

/// What one reader makes of bodies in turn, with whether each was read by the layout of the last.
fn in_turn<const N: usize>(bodies: [&str; N]) -> [(EngineSample, bool); N] {
    let mut reader = BodyReader::new(None);
    bodies.map(|body| {
        let reading = reader.read(body.as_bytes()).expect("readable");
        assert_eq!(Ok(&reading), BodyReader::new(None).read(body.as_bytes()).as_ref());
        (reading.sample, reader.read_from_layout())
    })
}

#[test]
fn a_restart_is_a_counter_that_falls() {
    let [before, after] = in_turn([
        "vllm:generation_tokens_total{engine=\"0\"} 900\nvllm:generation_tokens_total{engine=\"1\"} 800\n",
        "vllm:generation_tokens_total{engine=\"0\"} 901\nvllm:generation_tokens_total{engine=\"1\"} 3\n",
    ]);
    assert_eq!(before.0.generated_tokens_total, Some(1700.0));
    // One rank restarted: the sum falls, and it is the reader of rates who begins anew.
    assert_eq!((after.0.generated_tokens_total, after.1), (Some(904.0), true));
}

#[test]
fn tokens_that_are_counted_at_the_end_stand_still_while_requests_run() {
    let [first, second, end] = in_turn([
        "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\nllamacpp:tokens_predicted_total 100\n",
        "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\nllamacpp:tokens_predicted_total 100\n",
        "llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\nllamacpp:tokens_predicted_total 851\n",
    ]);
    assert_eq!(first.0, second.0);
    assert_eq!(
        (second.0.running, second.0.generated_tokens_total),
        (Some(1.0), Some(100.0))
    );
    assert_eq!((end.0.running, end.0.generated_tokens_total), (Some(0.0), Some(851.0)));
    // SGLang's live counter is not taken in the place of the one that stands still.
    let [sglang] = in_turn(["sglang:num_running_reqs 1\nsglang:realtime_tokens_total{mode=\"decode\"} 50\n"]);
    assert_eq!(sglang.0.generated_tokens_total, None);
}

#[test]
fn series_that_appear_with_the_first_request_are_found_then() {
    let [idle, busy] = in_turn([
        "tgi_batch_max_total_tokens 100\n",
        "tgi_batch_max_total_tokens 100\ntgi_queue_size 1\ntgi_batch_current_size 2\n",
    ]);
    assert_eq!((idle.0.waiting, idle.0.running), (None, None));
    assert_eq!((busy.0.waiting, busy.0.running, busy.1), (Some(1.0), Some(2.0), false));
    let [families, first] = in_turn([
        "# TYPE vllm:num_requests_waiting gauge\n# TYPE vllm:gpu_cache_usage_perc gauge\n",
        "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"m\"} 0\n# TYPE vllm:gpu_cache_usage_perc gauge\n\
         vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.1\n",
    ]);
    assert_eq!((families.0.waiting, first.0.waiting), (None, Some(0.0)));
}

#[test]
fn a_model_that_is_unloaded_takes_its_series_along() {
    let [both, one] = in_turn([
        "nv_inference_pending_request_count{model=\"a\",version=\"1\"} 1\nnv_inference_pending_request_count{model=\"b\",version=\"1\"} 2\n",
        "nv_inference_pending_request_count{model=\"b\",version=\"1\"} 2\n",
    ]);
    assert_eq!((both.0.waiting, one.0.waiting), (Some(3.0), Some(2.0)));
    assert_eq!(one.0.models, ["b"]);
}

#[test]
fn another_engine_behind_the_same_address_is_another_engine() {
    let [vllm, sglang, back] = in_turn([
        "vllm:num_requests_waiting{engine=\"0\"} 1\n",
        "sglang:num_queue_reqs 2\n",
        "vllm:num_requests_waiting{engine=\"0\"} 3\n",
    ]);
    assert_eq!(
        [vllm.0.engine, sglang.0.engine, back.0.engine],
        [Some(Engine::Vllm), Some(Engine::Sglang), Some(Engine::Vllm)]
    );
    assert_eq!(back.0.waiting, Some(3.0));
}
