//! What servers tell of themselves beside their metrics: TGI's `/info`, the list of models of `trtllm-serve`.

use infmon_engines::{BodyReader, EngineSample, merge_info, merge_model_list, read_info, read_model_list};

/// `/info` of 3.3.7, and of 2.x with its limits of a batch.
const INFO_3: &str = r#"{"model_id":"HuggingFaceTB/SmolLM2-1.7B-Instruct","model_sha":"31b7","model_pipeline_tag":"text-generation",
    "max_concurrent_requests":128,"max_best_of":2,"max_stop_sequences":4,"max_input_tokens":4095,"max_total_tokens":4096,
    "validation_workers":2,"max_client_batch_size":4,"router":"text-generation-router","version":"3.3.7","sha":null,"docker_label":null}"#;
const INFO_2: &str = r#"{"model_id":"bigscience/bloom","model_dtype":"torch.float16","model_device_type":"cuda","max_concurrent_requests":128,
    "waiting_served_ratio":1.2,"max_batch_total_tokens":32000,"max_waiting_tokens":20,"max_batch_size":32,"version":"2.4.0"}"#;

#[test]
fn the_model_and_the_limit_of_tgi_come_from_its_info() {
    for (info, model, most) in [
        (INFO_3, "HuggingFaceTB/SmolLM2-1.7B-Instruct", 128.0),
        (INFO_2, "bigscience/bloom", 32.0),
    ] {
        let body = include_bytes!("bodies/tgi-3.3.7.txt");
        let mut sample = BodyReader::new(None).read(body).expect("readable").sample;
        assert_eq!((sample.models.len(), sample.max_concurrency), (0, None));
        merge_info(&mut sample, &read_info(info.as_bytes()).expect("info"));
        assert_eq!(
            (sample.models.as_slice(), sample.max_concurrency),
            ([model.to_owned()].as_slice(), Some(most))
        );
        assert_eq!(sample.kv_cache_capacity_tokens, None, "a budget is no cache");
    }
    let mut sample = EngineSample::default();
    let nothing = r#"{"model_id":"","max_concurrent_requests":0}"#;
    merge_info(&mut sample, &read_info(nothing.as_bytes()).expect("info"));
    assert_eq!(sample, EngineSample::default());
    for body in [
        "",
        "[]",
        "{}",
        r#"{"model_id":"a"}"#,
        r#"{"model_id":1,"max_concurrent_requests":1}"#,
    ] {
        assert_eq!(read_info(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn the_model_of_trtllm_serve_comes_from_its_list() {
    let list = r#"{"object":"list","data":[{"id":"Llama-3.1-8B-Instruct","object":"model","created":1,"owned_by":"tensorrt_llm"}]}"#;
    let models = read_model_list(list.as_bytes()).expect("a list");
    assert_eq!(models, ["Llama-3.1-8B-Instruct"]);
    let mut sample = EngineSample::default();
    merge_model_list(&mut sample, &models);
    merge_model_list(&mut sample, &["another".to_owned()]);
    assert_eq!(sample.models, models, "what is known stays");
    for body in [
        "",
        "[]",
        r#"{"data":[]}"#,
        r#"{"data":[{"id":""}]}"#,
        r#"{"data":[{"name":"a"}]}"#,
    ] {
        assert_eq!(read_model_list(body.as_bytes()), None, "{body}");
    }
    let cards: Vec<String> = (0..100).map(|n| format!("{{\"id\":\"m{n}\"}}")).collect();
    let many = format!("{{\"data\":[{}]}}", cards.join(","));
    assert_eq!(read_model_list(many.as_bytes()).expect("a list").len(), 64);
}
