//! What llama.cpp says beside its metrics, and what a 404 means of a server that is known.

use infmon_engines::{
    BodyReader, Engine, EngineSample, HttpProblem, Reading, explain_http_of, merge_models, merge_props, read_props,
    read_router_models, router_query,
};

#[test]
fn props_name_the_model_and_tell_sleep() {
    let body = br#"{"default_generation_settings":{"n_ctx":65536},"total_slots":4,"model_alias":"example-27b-q4.gguf",
        "chat_template":"secret","is_sleeping":true,"build_info":"b10519-abcdef0"}"#;
    let props = read_props(body).expect("props");
    assert!(!props.is_router());
    let mut sample = EngineSample::default();
    merge_props(&mut sample, &props);
    assert_eq!((sample.max_concurrency, sample.sleeping), (Some(4.0), Some(true)));
    assert_eq!(sample.models, ["example-27b-q4.gguf"]);
    // What the metrics say comes first.
    let mut told = EngineSample {
        max_concurrency: Some(2.0),
        models: vec!["a".to_owned()],
        ..EngineSample::default()
    };
    merge_props(&mut told, &props);
    assert_eq!((told.max_concurrency, told.models.len()), (Some(2.0), 1));

    let router = br#"{"role":"router","default_generation_settings":{"params":{},"n_ctx":0},"model_path":"none"}"#;
    assert!(read_props(router).expect("props").is_router());
    for body in ["", "[]", "{}", r#"{"error":{"code":401}}"#, r#"{"total_slots":-1}"#] {
        assert_eq!(read_props(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn a_router_is_asked_for_its_loaded_models_alone() {
    let list = br#"{"object":"list","data":[{"id":"org/a:Q4_K_M","status":{"value":"loaded","args":[]}},
        {"id":"b","status":{"value":"unloaded"}},{"id":"c","status":{"value":"loading"}},{"id":"d e","status":{"value":"loaded"}}]}"#;
    let loaded = read_router_models(list).expect("a router").expect("few");
    assert_eq!(loaded, ["org/a:Q4_K_M", "d e"]);
    assert_eq!(router_query(&loaded[0]), "model=org%2Fa%3AQ4_K_M&autoload=false");
    assert_eq!(router_query("d e&x=1"), "model=d%20e%26x%3D1&autoload=false");
    // vLLM's list has no states.
    assert_eq!(read_router_models(br#"{"data":[{"id":"m","object":"model"}]}"#), None);
}

#[test]
fn a_part_of_the_models_is_not_the_router() {
    let list = |models: usize| {
        let one = |number| format!(r#"{{"id":"m{number}","status":{{"value":"loaded"}}}}"#);
        let all: Vec<String> = (0..models).map(one).collect();
        format!(r#"{{"data":[{}]}}"#, all.join(","))
    };
    let read = |models| read_router_models(list(models).as_bytes()).expect("a router");
    assert_eq!(read(16).map(|models| models.len()), Ok(16));
    let reading = read(17).expect_err("one too many").reading();
    assert_eq!((reading.sample.waiting, reading.sample.running), (None, None));
    assert_eq!(reading.missing.len(), 2);
    assert!(reading.hint.contains("has 17 models loaded"), "{}", reading.hint);
    assert!(reading.hint.contains("--models-max 16"), "{}", reading.hint);
}

#[test]
fn the_models_of_a_router_add_up() {
    let read = |waiting: u32, more: &str| -> Reading {
        let body = format!("llamacpp:requests_deferred {waiting}\nllamacpp:requests_processing 1\n{more}");
        BodyReader::new(None).read(body.as_bytes()).expect("llama.cpp")
    };
    let all = merge_models(vec![
        ("a".to_owned(), read(2, "llamacpp:tokens_predicted_total 5\n")),
        ("b".to_owned(), read(3, "")),
    ]);
    assert_eq!((all.sample.waiting, all.sample.running), (Some(5.0), Some(2.0)));
    assert_eq!(all.sample.generated_tokens_total, None);
    assert_eq!(all.sample.models, ["a", "b"]);
    assert_eq!(all.sample.generation, "router-b5450-b10518");
    // No model, no number: nothing says that nobody waits for one to load.
    let none = merge_models(Vec::new());
    assert_eq!((none.sample.waiting, none.missing.len()), (None, 2));
}

#[test]
fn a_404_of_a_known_server_names_its_flag() {
    for (engine, path, words) in [
        (Engine::Sglang, "/metrics", "--enable-metrics"),
        (Engine::TensorRtLlm, "/prometheus/metrics", "return_perf_metrics"),
        (Engine::TensorRtLlm, "/metrics", "enable_iter_perf_stats"),
        (Engine::LmDeploy, "/metrics", "--disable-metrics"),
        (Engine::Nim, "/metrics", "/v1/metrics"),
        (Engine::Ollama, "/metrics", "/api/ps"),
    ] {
        let explanation = explain_http_of(Some(engine), 404, b"", path);
        assert_eq!(explanation.kind, HttpProblem::MetricsDisabled);
        assert!(explanation.message.contains(words), "{}", explanation.message);
    }
    assert_eq!(
        explain_http_of(Some(Engine::Vllm), 404, b"", "/x").kind,
        HttpProblem::HttpStatus
    );
    assert_eq!(
        explain_http_of(Some(Engine::Sglang), 401, b"", "/x").kind,
        HttpProblem::Unauthorized
    );
}
