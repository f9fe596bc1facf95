//! vLLM: ranks, process copies, Ray, generations, outcomes, LoRA, sleep.

use infmon_engines::{BodyReader, Reading};

fn read(body: &[u8]) -> Reading {
    BodyReader::new(None).read(body).expect("the body is readable")
}

#[test]
fn one_unusable_rank_makes_the_sum_unknown() {
    let reading = read(
        b"vllm:num_requests_waiting{engine=\"0\"} 3\nvllm:num_requests_waiting{engine=\"1\"} NaN\n\
          vllm:num_requests_running{engine=\"0\"} 3\n",
    );
    assert_eq!((reading.sample.waiting, reading.sample.running), (None, Some(3.0)));
}

#[test]
fn process_copies_are_not_added_and_a_leftover_zero_is_not_believed() {
    // 0.9.2 to 0.11.0 with several API servers: one gauge per pid, all but one 0 (vLLM PR 28792).
    let reading = read(
        b"vllm:num_requests_waiting{engine=\"0\",pid=\"7\"} 3\nvllm:num_requests_waiting{engine=\"0\",pid=\"8\"} 3\n\
          vllm:num_requests_waiting{engine=\"1\",pid=\"7\"} 4\nvllm:num_requests_waiting{engine=\"1\",pid=\"8\"} 0\n\
          vllm:num_requests_running{engine=\"0\",pid=\"7\"} 0\nvllm:num_requests_running{engine=\"0\",pid=\"8\"} 9\n\
          vllm:kv_cache_usage_perc{engine=\"0\",pid=\"7\"} 0.0\nvllm:kv_cache_usage_perc{engine=\"0\",pid=\"8\"} 0.75\n",
    );
    assert_eq!(reading.sample.waiting, Some(7.0));
    assert_eq!(reading.sample.running, Some(9.0));
    assert_eq!(reading.sample.kv_cache_usage, Some(0.75));
}

#[test]
fn the_names_of_ray_and_of_escaping_are_one() {
    for prefix in ["vllm:", "vllm_", "ray_vllm:", "ray_vllm_"] {
        let body = format!("{prefix}num_requests_waiting{{engine=\"0\",ReplicaId=\"a\"}} 2\n");
        assert_eq!(read(body.as_bytes()).sample.waiting, Some(2.0), "{prefix}");
    }
}

#[test]
fn generations_are_told_apart() {
    for (body, generation) in [
        ("vllm:gpu_cache_usage_perc{engine=\"0\"} 0.5", "v1-0.8"),
        (
            "vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:gpu_cache_usage_perc{engine=\"0\"} 0.5",
            "v1-0.9-0.11",
        ),
        (
            "vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:time_per_output_token_seconds_count{engine=\"0\"} 1",
            "v1-0.9-0.11",
        ),
        ("vllm:kv_cache_usage_perc{engine=\"0\"} 0.5", "v1-0.12+"),
        ("vllm:kv_cache_usage_perc{model_name=\"m\"} 0.5", "simulator"),
        ("llamacpp:requests_deferred 0", "b5450-b10518"),
    ] {
        assert_eq!(read(body.as_bytes()).sample.generation, generation, "{body}");
    }
}

#[test]
fn failures_are_taken_out_of_what_vllm_calls_success() {
    let reading = read(
        b"vllm:request_success_total{finished_reason=\"stop\"} 5\nvllm:request_success_total{finished_reason=\"length\"} 4\n\
          vllm:request_success_total{finished_reason=\"abort\"} 3\nvllm:request_success_total{finished_reason=\"error\"} 2\n\
          vllm:request_success_total{finished_reason=\"repetition\"} 1\nvllm:admission_rejections_total{reason=\"x\"} 10\n",
    );
    assert_eq!(reading.sample.requests_succeeded_total, Some(10.0));
    assert_eq!(reading.sample.requests_failed_total, Some(15.0));
}

#[test]
fn the_newest_label_set_names_the_adapters_with_several_api_servers_too() {
    // Two processes know the first set: its value is the sum of two times.
    let reading = read(
        b"vllm:lora_requests_info{running_lora_adapters=\"old\",waiting_lora_adapters=\"\"} 3.590000000e9\n\
          vllm:lora_requests_info{running_lora_adapters=\"new,both\",waiting_lora_adapters=\"both,queued\"} 1.795000100e9\n",
    );
    assert_eq!(reading.sample.lora_adapters, ["new", "both", "queued"]);
}

#[test]
fn a_sleeping_server_says_so() {
    let body = |awake| {
        format!(
            "vllm:engine_sleep_state{{engine=\"0\",sleep_state=\"awake\"}} {awake}\n\
             vllm:engine_sleep_state{{engine=\"0\",sleep_state=\"discard_all\"}} 1\n"
        )
    };
    assert_eq!(read(body(0).as_bytes()).sample.sleeping, Some(true));
    assert_eq!(read(body(1).as_bytes()).sample.sleeping, Some(false));
}
