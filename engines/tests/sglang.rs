//! SGLang: ranks, priorities, old names, Ray, and `/v1/loads`.

use infmon_engines::{BodyReader, Engine, EngineSample, Reading, merge_loads, read_loads};

fn read(body: impl AsRef<[u8]>) -> Reading {
    BodyReader::new(None).read(body.as_ref()).expect("the body is readable")
}

#[test]
fn sglang_ranks_that_share_a_queue_count_once_and_data_parallel_ranks_add_up() {
    let mut body = String::new();
    for (dp, tp, waiting, usage) in [(0, 0, 3, 0.5), (0, 1, 3, 0.5), (1, 2, 4, 0.75), (1, 3, 4, 0.7)] {
        let labels = format!("dp_rank=\"{dp}\",model_name=\"m\",moe_ep_rank=\"{tp}\",pp_rank=\"0\",tp_rank=\"{tp}\"");
        body += &format!(
            "sglang:num_queue_reqs{{{labels}}} {waiting}\nsglang:num_running_reqs{{{labels}}} 1\n\
             sglang:token_usage{{{labels}}} {usage}\nsglang:max_total_num_tokens{{{labels}}} 1000\n\
             sglang:num_retracted_requests_total{{{labels}}} 2\n\
             sglang:queue_time_seconds_bucket{{{labels},le=\"+Inf\"}} 5\nsglang:queue_time_seconds_sum{{{labels}}} 1\n\
             sglang:queue_time_seconds_count{{{labels}}} 5\n"
        );
    }
    let sample = read(&body).sample;
    assert_eq!((sample.waiting, sample.running), (Some(7.0), Some(2.0)));
    assert_eq!(
        (sample.kv_cache_usage, sample.kv_cache_capacity_tokens),
        (Some(0.75), Some(2000.0))
    );
    assert_eq!(sample.preemptions_total, Some(4.0));
    let queue = sample.latency.queue_time.expect("queue time");
    assert_eq!(
        (queue.count, queue.sum_seconds, queue.buckets),
        (10.0, 2.0, vec![(None, 10.0)])
    );
}

#[test]
fn sglang_priorities_are_parts_of_the_total() {
    let parts = "sglang:num_queue_reqs{priority=\"1\"} 2\nsglang:num_queue_reqs{priority=\"2\"} 3\n\
                 sglang:num_running_reqs{priority=\"1\"} 1\n";
    let total = "sglang:num_queue_reqs{priority=\"\"} 5\nsglang:num_running_reqs{priority=\"\"} 1\n\
                 sglang:num_grammar_queue_reqs{priority=\"\"} 1\n";
    assert_eq!(read(parts).sample.waiting, Some(5.0));
    let sample = read(format!("{parts}{total}")).sample;
    assert_eq!((sample.waiting, sample.running), (Some(6.0), Some(1.0)));
}

#[test]
fn requests_on_their_way_between_prefill_and_decode_wait_once() {
    let gauges = |gauges: &[(&str, u32)]| {
        let line = |&(name, value): &(&str, u32)| format!("sglang:{name}{{model_name=\"m\",tp_rank=\"0\"}} {value}\n");
        read(gauges.iter().map(line).collect::<String>()).sample.waiting
    };
    for (name, queues, waiting) in [
        (
            "prefill before 0.5.23",
            &[
                ("num_queue_reqs", 5),
                ("num_grammar_queue_reqs", 1),
                ("num_prefill_prealloc_queue_reqs", 3),
                ("num_prefill_inflight_queue_reqs", 20),
            ][..],
            Some(9.0),
        ),
        (
            "prefill of 0.5.23",
            &[
                ("num_queue_reqs", 5),
                ("num_prefill_bootstrap_queue_reqs", 3),
                ("num_prefill_inflight_queue_reqs", 20),
            ],
            Some(8.0),
        ),
        (
            // One queue under two names.
            "prefill with both names",
            &[
                ("num_queue_reqs", 5),
                ("num_prefill_prealloc_queue_reqs", 3),
                ("num_prefill_bootstrap_queue_reqs", 3),
            ],
            Some(8.0),
        ),
        (
            "decode",
            &[
                ("num_queue_reqs", 1),
                ("num_decode_prealloc_queue_reqs", 4),
                ("num_decode_transfer_queue_reqs", 6),
                ("num_decode_host_receive_queue_reqs", 6),
            ],
            Some(11.0),
        ),
        // A sum without its main part would be a wrong number.
        ("without the main queue", &[("num_decode_prealloc_queue_reqs", 4)], None),
    ] {
        assert_eq!(gauges(queues), waiting, "{name}");
    }
    // Ranks of one queue count once here too, and a total of priorities is not added to its parts.
    let ranks: String = ["0", "1"]
        .map(|rank| {
            format!(
                "sglang:num_queue_reqs{{priority=\"\",tp_rank=\"{rank}\"}} 2\n\
                 sglang:num_decode_prealloc_queue_reqs{{priority=\"\",tp_rank=\"{rank}\"}} 4\n\
                 sglang:num_decode_prealloc_queue_reqs{{priority=\"1\",tp_rank=\"{rank}\"}} 3\n\
                 sglang:num_decode_prealloc_queue_reqs{{priority=\"2\",tp_rank=\"{rank}\"}} 1\n"
            )
        })
        .concat();
    assert_eq!(read(ranks).sample.waiting, Some(6.0));
}

#[test]
fn sglang_generations_and_their_old_names_are_known() {
    for (body, generation) in [
        ("sglang:num_queue_reqs 1", "0.4"),
        ("sglang:num_queue_reqs 1\nsglang:cached_tokens_total 1", "0.4.6+"),
        ("sglang:queue_time_s_count 1", "0.5.2+"),
        ("sglang:max_total_num_tokens 1", "0.5.6+"),
        ("sglang:realtime_tokens_total{mode=\"decode\"} 1", "0.5.9+"),
        ("sglang:num_pages 1", "0.5.23+"),
    ] {
        assert_eq!(read(body).sample.generation, generation, "{body}");
    }
    let histogram = |name: &str| {
        format!("{name}_sum 1\n{name}_bucket{{le=\"0.0\"}} 1\n{name}_bucket{{le=\"+Inf\"}} 2\n{name}_count 2\n")
    };
    let old = read(histogram("sglang:time_per_output_token_seconds") + &histogram("sglang:queue_time_s")).sample;
    assert!(old.latency.inter_token.is_some() && old.latency.queue_time.is_some());
    assert_eq!(
        read("sglang:total_retracted_reqs{pid=\"7\"} 3\n")
            .sample
            .preemptions_total,
        Some(3.0)
    );
    // The tokens of the last batch's hit rate are nobody's hit rate, and lookups without hits say nothing.
    let first = read("sglang:cache_hit_rate 0.5\nsglang:prompt_tokens_total 100\n").sample;
    assert_eq!(
        (first.prefix_cache_hit_ratio, first.prefix_cache_query_tokens_total),
        (None, None)
    );
}

#[test]
fn sglang_behind_ray_and_with_escaped_names_is_sglang() {
    for prefix in ["sglang:", "sglang_", "ray_sglang_", "ray_sglang:"] {
        let sample = read(format!(
            "{prefix}num_queue_reqs{{ReplicaId=\"a\"}} 1\n{prefix}num_queue_reqs{{ReplicaId=\"b\"}} 2\n"
        ))
        .sample;
        assert_eq!(
            (sample.engine, sample.waiting),
            (Some(Engine::Sglang), Some(3.0)),
            "{prefix}"
        );
    }
    let by_loads = read("sglang_num_waiting_reqs{dp_rank=\"0\"} 1\nsglang_num_waiting_reqs{dp_rank=\"1\"} 1\n");
    assert_eq!(by_loads.sample.waiting, Some(2.0));
}

#[test]
fn loads_give_what_the_metrics_of_sglang_lack() {
    let rank = |n: u32, more: &str| {
        format!("{{\"dp_rank\":{n},\"num_running_reqs\":1,\"max_running_requests\":8,\"token_usage\":0.{n}{more}}}")
    };
    let two = format!("{{\"loads\":[{},{}]}}", rank(1, ",\"num_waiting_reqs\":3"), rank(2, ""));
    let loads = read_loads(two.as_bytes()).expect("loads");
    // What one rank does not tell is not known of the server.
    assert_eq!(
        (loads.waiting, loads.running, loads.max_concurrency),
        (None, Some(2.0), Some(16.0))
    );
    assert_eq!(loads.kv_cache_usage, Some(0.2));
    let mut sample = EngineSample {
        waiting: Some(9.0),
        ..EngineSample::default()
    };
    merge_loads(&mut sample, &loads);
    assert_eq!((sample.waiting, sample.max_concurrency), (Some(9.0), Some(16.0)));
    for body in ["", "[]", "{\"loads\":[]}", "{\"loads\":[{\"x\":1}]}", "{\"loads\":3}"] {
        assert_eq!(read_loads(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn pools_without_a_size_are_not_empty_ones() {
    let pool = |total: u32| {
        let body = format!("sglang:hicache_host_used_tokens 0\nsglang:hicache_host_total_tokens {total}\n");
        read(body).sample.host_cache_usage
    };
    assert_eq!((pool(0), pool(10)), (None, Some(0.0)));
}
