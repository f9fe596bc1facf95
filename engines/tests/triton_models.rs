//! Which of Triton's models speak for the server, and what a Triton without a backend for LLMs cannot tell.

use std::fmt::Write;

use infmon_engines::{BodyReader, Reading};

/// What a server tells of one model.
struct Model {
    name: &'static str,
    waiting: u32,
    succeeded: u32,
    failed: u32,
    /// 0 for an ensemble, which has no backend that loads it; servers before 24.11 do not tell.
    load_seconds: Option<f64>,
}

const fn model(name: &'static str, waiting: u32, succeeded: u32, failed: u32, load_seconds: Option<f64>) -> Model {
    Model {
        name,
        waiting,
        succeeded,
        failed,
        load_seconds,
    }
}

fn body(models: &[Model], more: &str) -> String {
    let mut body = String::new();
    for Model {
        name,
        waiting,
        succeeded,
        failed,
        load_seconds,
    } in models
    {
        let labels = format!("model=\"{name}\",version=\"1\"");
        let _ = write!(
            body,
            "nv_inference_request_success{{{labels}}} {succeeded}\n\
             nv_inference_request_failure{{model=\"{name}\",reason=\"BACKEND\",version=\"1\"}} {failed}\n\
             nv_inference_exec_count{{{labels}}} {succeeded}\n\
             nv_inference_request_duration_us{{{labels}}} {}\n\
             nv_inference_queue_duration_us{{{labels}}} {}\n\
             nv_inference_pending_request_count{{{labels}}} {waiting}\n",
            succeeded * 2_000_000,
            succeeded * 1000,
        );
        if let Some(seconds) = load_seconds {
            let _ = writeln!(body, "nv_model_load_duration_secs{{{labels}}} {seconds}");
        }
    }
    body + more
}

fn read(body: &str) -> Reading {
    BodyReader::new(None)
        .read(body.as_bytes())
        .expect("the body is readable")
}

/// Requests that wait, ends, and observations of the whole time.
type Told = (Option<f64>, Option<f64>, Option<f64>, Option<f64>);

fn told(reading: &Reading) -> Told {
    let sample = &reading.sample;
    (
        sample.waiting,
        sample.requests_succeeded_total,
        sample.requests_failed_total,
        sample.latency.end_to_end.as_ref().map(|times| times.count),
    )
}

#[test]
fn the_model_that_a_backend_names_speaks_whatever_it_is_called() {
    let models = [
        model("chat", 0, 50, 2, Some(0.0)),
        model("tokenize-in", 7, 50, 0, Some(1.5)),
        model("llama-70b", 0, 49, 1, Some(93.0)),
        model("detokenize-out", 0, 49, 0, Some(1.25)),
    ];
    let gauges = "nv_trt_llm_request_metrics{model=\"llama-70b\",request_type=\"waiting\",version=\"1\"} 3\n\
                  nv_trt_llm_request_metrics{model=\"llama-70b\",request_type=\"scheduled\",version=\"1\"} 4\n\
                  nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\",model=\"llama-70b\",version=\"1\"} 0.5\n";
    let reading = read(&body(&models, gauges));
    assert_eq!(told(&reading), (Some(3.0), Some(49.0), Some(1.0), Some(49.0)));
    assert_eq!(reading.sample.models, ["llama-70b"]);
    assert_eq!((reading.missing.len(), reading.hint.as_str()), (0, ""));

    let tokens = "vllm:generation_tokens_total{model=\"llama-70b\",version=\"1\"} 900\n";
    let reading = read(&body(&models, tokens));
    assert_eq!(told(&reading), (Some(0.0), Some(49.0), Some(1.0), Some(49.0)));
    assert_eq!(reading.sample.models, ["llama-70b"]);
    assert_eq!(reading.missing, [""; 0]);
    assert!(reading.hint.contains("vLLM's own server"), "{}", reading.hint);
}

#[test]
fn an_ensemble_is_told_by_its_load_time_whatever_it_is_called() {
    let models = [
        model("detect_and_read", 0, 20, 1, Some(0.0)),
        model("detect", 4, 21, 0, Some(2.5)),
        model("read", 2, 20, 1, Some(3.5)),
    ];
    let reading = read(&body(&models, ""));
    // Each request is counted once: where it waits, and as the ensemble that clients ask ends it.
    assert_eq!(told(&reading), (Some(6.0), Some(20.0), Some(1.0), Some(20.0)));
    assert_eq!(reading.sample.models, ["detect_and_read"]);
    assert_eq!(reading.sample.generation, "plain");
    assert_eq!(
        reading.sample.latency.queue_time, None,
        "its requests wait in the queues of its steps"
    );

    // Without an ensemble all speak.
    let reading = read(&body(&models[1..], ""));
    assert_eq!(told(&reading), (Some(6.0), Some(41.0), Some(1.0), Some(41.0)));
    assert_eq!(reading.sample.models, ["detect", "read"]);
    assert_eq!(reading.sample.latency.queue_time.map(|times| times.count), Some(41.0));
}

#[test]
fn a_load_time_that_changes_is_seen() {
    let models = |of_new: f64| [model("old", 1, 10, 0, Some(4.0)), model("new", 0, 0, 0, Some(of_new))];
    let (loading, loaded) = (body(&models(0.0), ""), body(&models(0.5), ""));
    let mut reader = BodyReader::new(None);
    for body in [&loading, &loaded, &loaded, &loading] {
        assert_eq!(
            reader.read(body.as_bytes()),
            BodyReader::new(None).read(body.as_bytes())
        );
    }
    assert!(!reader.read_from_layout(), "another load time, another layout");
    let _ = reader.read(loading.replace("} 10\n", "} 11\n").as_bytes());
    assert!(reader.read_from_layout(), "other values do not matter");
    assert_eq!(read(&loaded).sample.requests_succeeded_total, Some(10.0));
}

#[test]
fn older_servers_are_told_by_names_or_say_that_they_cannot_be_told() {
    let named = [
        model("ensemble", 0, 30, 2, None),
        model("preprocessing", 0, 30, 0, None),
        model("my_llm", 5, 29, 1, None),
        model("postprocessing", 0, 29, 0, None),
    ];
    let reading = read(&body(&named, ""));
    assert_eq!(told(&reading), (Some(5.0), Some(29.0), Some(1.0), Some(29.0)));
    assert_eq!(reading.sample.models, ["my_llm"]);

    let llm = [
        model("first", 3, 30, 2, None),
        model("tensorrt_llm", 5, 29, 1, None),
        model("last", 0, 29, 0, None),
    ];
    assert_eq!(
        told(&read(&body(&llm, ""))),
        (Some(5.0), Some(29.0), Some(1.0), Some(29.0))
    );

    let unclear = [
        model("pipeline", 0, 30, 2, None),
        model("detect", 4, 30, 0, None),
        model("read", 1, 30, 2, None),
    ];
    let reading = read(&body(&unclear, ""));
    // Requests wait in one place at a time; whose ends are those of clients nobody can say.
    assert_eq!(told(&reading), (Some(5.0), None, None, None));
    assert!(reading.sample.request_outcomes.is_empty());
    assert_eq!(reading.missing, [""; 0]);
    assert_eq!(reading.sample.models, ["pipeline", "detect", "read"]);
    for words in ["pipeline, detect, read", "24.11", "neither how many run"] {
        assert!(reading.hint.contains(words), "{}", reading.hint);
    }

    // One model alone is nobody's step.
    let reading = read(&body(&unclear[..1], ""));
    assert_eq!(told(&reading), (Some(0.0), Some(30.0), Some(2.0), Some(30.0)));
}

#[test]
fn a_plain_server_tells_all_that_it_can_and_says_what_it_cannot() {
    let reading = read(&body(&[model("resnet", 2, 9, 0, Some(1.0))], ""));
    assert_eq!((reading.sample.waiting, reading.sample.running), (Some(2.0), None));
    assert_eq!(reading.missing, [""; 0]);
    for words in ["neither how many run nor a KV cache", "REPORT_CUSTOM_METRICS"] {
        assert!(reading.hint.contains(words), "{}", reading.hint);
    }
    // Before 23.09 it did not tell what waits: that is a step to take.
    let old = read("nv_inference_request_success{model=\"resnet\",version=\"1\"} 9\n");
    assert_eq!(old.missing, ["nv_inference_pending_request_count"]);
    assert!(old.hint.contains("23.09"), "{}", old.hint);
}

#[test]
fn a_server_with_more_models_than_are_told_apart_gives_no_sum_over_some() {
    let lines = |count: u32| {
        let mut body = String::new();
        for number in 0..count {
            let _ = writeln!(
                body,
                "nv_inference_pending_request_count{{model=\"m{number}\",version=\"1\"}} 1"
            );
        }
        body
    };
    assert_eq!(read(&lines(1024)).sample.waiting, Some(1024.0));
    let reading = read(&lines(1025));
    assert_eq!(reading.sample.waiting, None);
    assert!(reading.hint.contains("1024 models"), "{}", reading.hint);
}
