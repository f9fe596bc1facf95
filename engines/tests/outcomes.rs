//! Ends of requests by reason: the words of each engine, folding, bounds.

use infmon_engines::{BodyReader, OTHER_REASONS, REASON_LIMIT, Reading};
use serde_json::{Value, json};

macro_rules! body {
    ($name:literal) => {
        include_str!(concat!("bodies/", $name))
    };
}

fn outcomes(body: &str) -> Value {
    let reading = BodyReader::new(None)
        .read(body.as_bytes())
        .expect("the body is readable");
    let json = serde_json::to_value(&reading.sample).expect("a sample is JSON");
    json.get("requestOutcomes").cloned().unwrap_or_default()
}

#[test]
fn every_engine_is_told_in_its_own_words() {
    for (name, body, expected) in [
        (
            "vLLM 0.33: ends and what was refused",
            body!("vllm-0.33.0.txt"),
            json!({
                "stop": 27.0, "length": 13.0, "abort": 0.0, "error": 0.0, "repetition": 0.0,
                "max_num_queued_reqs": 0.0, "max_num_queued_tokens": 0.0,
            }),
        ),
        (
            "vLLM 0.33, two ranks add up",
            body!("vllm-dp2.txt"),
            json!({
                "stop": 54.0, "length": 26.0, "abort": 0.0, "error": 0.0, "repetition": 0.0,
                "max_num_queued_reqs": 0.0, "max_num_queued_tokens": 0.0,
            }),
        ),
        (
            "vLLM V0",
            body!("vllm-v0-0.6.6.txt"),
            json!({"stop": 16.0, "length": 9.0}),
        ),
        (
            "SGLang labels no reason",
            body!("sglang-0.5.23.txt"),
            json!({"processed": 40.0, "aborted": 1.0}),
        ),
        (
            "Triton: the model that speaks alone",
            body!("triton-tensorrtllm.txt"),
            json!({"success": 59.0, "REJECTED": 1.0, "CANCELED": 0.0, "BACKEND": 0.0, "OTHER": 0.0}),
        ),
        (
            "trtllm-serve",
            body!("trtllm-2026.txt"),
            json!({"end_id": 15.0, "length": 5.0, "400": 1.0}),
        ),
        (
            "TGI",
            body!("tgi-3.3.7.txt"),
            json!({"success": 20.0, "overloaded": 3.0}),
        ),
        ("NIM", body!("nim-1.x.txt"), json!({"length": 5.0, "failure": 0.0})),
        ("llama.cpp counts no requests", body!("llamacpp.txt"), Value::Null),
    ] {
        assert_eq!(outcomes(body), expected, "{name}");
    }
    let lmdeploy = outcomes(body!("lmdeploy-0.16.txt"));
    assert_eq!(lmdeploy.as_object().map(serde_json::Map::len), Some(13));
    assert_eq!(lmdeploy["ResponseType.FINISH"], 26.0);
}

#[test]
fn older_names_and_series_without_a_reason_are_read_where_the_newer_are_not() {
    for (body, expected) in [
        // The llm-d simulator, and the names of vLLM's documents.
        (
            "vllm:request_success_total{finish_reason=\"stop\",model_name=\"m\"} 3\n",
            json!({"stop": 3.0}),
        ),
        (
            "vllm:request_success{finished_reason=\"stop\"} 3\n",
            json!({"stop": 3.0}),
        ),
        (
            "vllm:request_success{finished_reason=\"stop\"} 3\nvllm:request_success_total{finished_reason=\"stop\"} 4\n",
            json!({"stop": 4.0}),
        ),
        (
            "nv_inference_request_success{model=\"m\",version=\"1\"} 3\nnv_inference_request_failure{model=\"m\",version=\"1\"} 1\n",
            json!({"success": 3.0, "failure": 1.0}),
        ),
        (
            "num_request_max 8\nrequest_success_total 3\nrequest_failure_total 2\n",
            json!({"success": 3.0, "failure": 2.0}),
        ),
        (
            "lmdeploy:num_requests_succeeded 5\nlmdeploy:num_requests_failed 1\n",
            json!({"succeeded": 5.0, "failed": 1.0}),
        ),
        (
            "tgi_queue_size 0\ntgi_request_failure{err=\"validation\"} 2\ntgi_request_failure{err=\"dropped\"} 1\n",
            json!({"validation": 2.0, "dropped": 1.0}),
        ),
        // Ranks that count the same requests, and processes that count their own.
        (
            "sglang:num_aborted_requests_total{tp_rank=\"0\"} 2\nsglang:num_aborted_requests_total{tp_rank=\"1\"} 2\n",
            json!({"aborted": 2.0}),
        ),
        (
            "vllm:request_success_total{finished_reason=\"stop\",pid=\"1\"} 2\n\
             vllm:request_success_total{finished_reason=\"stop\",pid=\"2\"} 3\n",
            json!({"stop": 5.0}),
        ),
        (
            "vllm:request_success_total{finished_reason=\"\"} 2\n",
            json!({"success": 2.0}),
        ),
    ] {
        assert_eq!(outcomes(body), expected, "{body}");
    }
}

#[test]
fn reasons_are_few_and_no_end_is_lost() {
    let body: String = (0..100)
        .map(|n| format!("vllm:request_success_total{{finished_reason=\"reason-{n}\"}} {n}\n"))
        .collect();
    let all = outcomes(&body);
    let all = all.as_object().expect("reasons");
    assert_eq!(all.len(), REASON_LIMIT);
    assert_eq!(all["reason-14"], 14.0);
    assert_eq!(all[OTHER_REASONS], f64::from((15..100).sum::<u32>()));
    let long = "r".repeat(65);
    let body = format!(
        "vllm:request_success_total{{finished_reason=\"{long}\"}} 1\nvllm:request_success_total{{finished_reason=\"other\"}} 2\n\
         vllm:request_success_total{{finished_reason=\"{}\"}} 4\n",
        &long[1..]
    );
    assert_eq!(outcomes(&body), json!({"other": 3.0, &long[1..]: 4.0}));
}

#[test]
fn one_end_that_is_no_number_makes_all_unknown() {
    let body = |value: &str| {
        format!(
            "vllm:request_success_total{{finished_reason=\"stop\"}} 1\nvllm:request_success_total{{finished_reason=\"abort\"}} {value}\n"
        )
    };
    for value in ["NaN", "-1", "+Inf"] {
        assert_eq!(outcomes(&body(value)), Value::Null, "{value}");
    }
    // Into the memory of an earlier reading, the same.
    let mut reader = BodyReader::new(None);
    let mut reading = Reading::default();
    for value in ["2", "NaN", "3"] {
        reader
            .read_into(body(value).as_bytes(), &mut reading)
            .expect("readable");
        assert_eq!(
            reading,
            BodyReader::new(None).read(body(value).as_bytes()).expect("readable")
        );
    }
    let fewer = "vllm:request_success_total{finished_reason=\"stop\"} 1\n";
    reader.read_into(fewer.as_bytes(), &mut reading).expect("readable");
    assert_eq!(reading.sample.request_outcomes.len(), 1);
}
