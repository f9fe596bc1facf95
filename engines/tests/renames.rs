//! Series that a release not known yet has under another name are told, and no others are taken for them.

mod bodies;

use infmon_engines::{BodyReader, Reading};

fn read(body: &str) -> Reading {
    BodyReader::new(None).read(body.as_bytes()).expect("a recorded body")
}

const SAID: &str = "after a rename";

/// The counters and histograms that are looked for under other names, in all versions. Prompt tokens are not among them: what vLLM says of
/// them by source stands beside them from the start of a server, and in their place only after a rename.
const COUNTED: [&str; 13] = [
    "generation_tokens_total",
    "num_preemptions_total",
    "num_retracted_requests_total",
    "num_retractions",
    "total_retracted_reqs",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "iter_token_latency",
    "time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "queue_time_seconds",
    "queue_time_s",
];

#[test]
fn no_recorded_body_has_a_renamed_series() {
    for (name, body) in bodies::TEXTS {
        let reading = read(body);
        assert!(!reading.hint.contains(SAID), "{name}: {:?}", reading.hint);
    }
}

/// Nor has one in which some have not been counted yet: what is left stands for none of them.
#[test]
fn a_series_that_is_not_there_has_no_other_name_in_a_recorded_body() {
    for (name, body) in bodies::TEXTS {
        let without = |families: &[&str]| {
            let is_of = |line: &str| {
                let series = line.split(['{', ' ']).next().unwrap_or_default();
                families.iter().any(|family| {
                    let parts = ["", "_bucket", "_sum", "_count", "_created"];
                    let rest = series
                        .rsplit_once(family)
                        .filter(|(prefix, _)| prefix.ends_with([':', '_']));
                    rest.is_some_and(|(_, suffix)| parts.contains(&suffix))
                })
            };
            let left = body.lines().filter(|line| !is_of(line)).collect::<Vec<_>>();
            left.join("\n") + "\n"
        };
        for families in COUNTED.chunks(1).chain([&COUNTED[..]]) {
            let reading = read(&without(families));
            assert!(
                !reading.hint.contains(SAID),
                "{name} without {families:?}: {:?}",
                reading.hint
            );
        }
    }
}

#[test]
fn a_counter_or_histogram_with_another_name_is_told() {
    for (file, from, to) in [
        (
            "vllm-0.33.0.txt",
            "vllm:inter_token_latency_seconds",
            "vllm:inter_token_latency_secs",
        ),
        (
            "vllm-0.33.0.txt",
            "vllm:e2e_request_latency_seconds",
            "vllm:end_to_end_latency_seconds",
        ),
        (
            "vllm-0.33.0.txt",
            "vllm:request_queue_time_seconds",
            "vllm:queue_duration_seconds",
        ),
        (
            "vllm-0.33.0.txt",
            "vllm:num_preemptions_total",
            "vllm:preempted_requests_total",
        ),
        (
            "sglang-0.5.23.txt",
            "sglang:inter_token_latency_seconds",
            "sglang:inter_token_seconds",
        ),
        (
            "sglang-0.5.23.txt",
            "sglang:e2e_request_latency_seconds",
            "sglang:e2e_latency_seconds",
        ),
        (
            "sglang-0.5.23.txt",
            "sglang:queue_time_seconds",
            "sglang:request_queue_time_ms",
        ),
        (
            "sglang-0.5.23.txt",
            "sglang:num_retracted_requests_total",
            "sglang:num_retractions_total",
        ),
        (
            "trtllm-2026.txt",
            "trtllm_e2e_request_latency_seconds",
            "trtllm_e2e_latency_seconds",
        ),
        (
            "trtllm-2026.txt",
            "trtllm_request_queue_time_seconds",
            "trtllm_queue_time_seconds",
        ),
        (
            "lmdeploy-0.16.txt",
            "lmdeploy:iter_token_latency",
            "lmdeploy:inter_token_latency_seconds",
        ),
        (
            "lmdeploy-0.16.txt",
            "lmdeploy:request_queue_time_seconds",
            "lmdeploy:request_wait_time_seconds",
        ),
    ] {
        let (_, body) = bodies::TEXTS
            .into_iter()
            .find(|(name, _)| *name == file)
            .expect("a body");
        assert!(body.contains(from), "{file} has no {from}");
        let reading = read(&body.replace(from, to));
        assert_eq!(reading.missing, [from], "{file}");
        assert!(
            reading.hint.contains(SAID) && reading.hint.contains(to),
            "{}",
            reading.hint
        );
    }
}
