//! The recorded bodies, a larger one made of them, and the same bodies some time later.
#![allow(dead_code, reason = "each test and bench uses its own part")]

use std::fmt::Write;

/// A running vLLM 0.32.0 server: 52 KB.
pub(crate) const VLLM: &str = include_str!("vllm-0.32.0-queued.prom");
/// vLLM with two data-parallel ranks: 100 KB.
pub(crate) const VLLM_DP2: &str = include_str!("vllm-dp2.txt");

/// vLLM with eight data-parallel ranks, made of the body with two: 360 KB.
pub(crate) fn vllm_dp8() -> String {
    let mut body = String::new();
    let mut of_last_rank: Vec<&str> = Vec::new();
    for line in VLLM_DP2.lines().chain([""]) {
        if line.contains("engine=\"1\"") {
            of_last_rank.push(line);
        } else {
            for rank in 2..8 {
                for line in &of_last_rank {
                    let _ = writeln!(body, "{}", line.replace("engine=\"1\"", &format!("engine=\"{rank}\"")));
                }
            }
            of_last_rank.clear();
        }
        if !line.is_empty() {
            let _ = writeln!(body, "{line}");
        }
    }
    body
}

macro_rules! texts {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!($name))),*]
    };
}

/// All bodies of metrics as text that an engine is recognised in.
pub(crate) const TEXTS: [(&str, &str); 31] = texts![
    "llama-server-0.7.0-b11669-queued.prom",
    "llamacpp-idle.txt",
    "llamacpp.txt",
    "lmdeploy-0.16.txt",
    "lmdeploy-0.9.2.txt",
    "nim-1.x.txt",
    "sglang-0.4.1.txt",
    "sglang-0.4.6.txt",
    "sglang-0.4.9.txt",
    "sglang-0.5.2.txt",
    "sglang-0.5.6.txt",
    "sglang-0.5.6-prefill.txt",
    "sglang-0.5.9.txt",
    "sglang-0.5.23.txt",
    "tgi-3.3.7.txt",
    "tgi-idle.txt",
    "triton-plain.txt",
    "triton-tensorrtllm.txt",
    "trtllm-2026.txt",
    "vllm-0.10.2-v1-transition.txt",
    "vllm-0.12.0.txt",
    "vllm-0.17.1.txt",
    "vllm-0.26.0.txt",
    "vllm-0.32.0-idle.prom",
    "vllm-0.32.0-queued.prom",
    "vllm-0.33.0.txt",
    "vllm-0.8.5.txt",
    "vllm-dp2.txt",
    "vllm-simulator.txt",
    "vllm-simulator-2025.txt",
    "vllm-v0-0.6.6.txt",
];

/// What all names of gauges of a share of a whole have one of, whatever the engine; those of vLLM end in `_perc`.
const SHARES: [&str; 5] = ["usage", "utilization", "hit_rate", "hicache", "kv_cache_block_metrics"];
/// What stays while a server runs, and is not 0: limits, sizes of pools, the time that a model took to load; and when adapters were last told.
const FIXED: [&str; 10] = [
    "lora_requests_info",
    "nv_model_load_duration_secs",
    "num_request_max",
    "_max_num_active_requests",
    "max_total_num_tokens",
    "hicache_host_total_tokens",
    "kv_cache_max_blocks",
    "kv_cache_tokens_per_block",
    "=\"max\"",
    "=\"tokens_per\"",
];

/// The body `round` scrapes later: other values of about the lengths that such values have, the same text between them.
pub(crate) fn later(body: &str, round: u64) -> String {
    let mut random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut text = String::new();
    let mut bucket = 0;
    for line in body.lines() {
        match line.rsplit_once(' ') {
            Some((series, value)) if !line.starts_with('#') && !FIXED.iter().any(|name| series.contains(name)) => {
                let random = next();
                if series.contains("_bucket{") {
                    // Cumulative up to the last bucket.
                    bucket += random >> 58;
                    let _ = writeln!(text, "{series} {bucket}.0");
                    if series.contains("le=\"+Inf\"") {
                        bucket = 0;
                    }
                    continue;
                }
                let _ = match value.len() {
                    // A share of a whole.
                    _ if series.contains("_perc{") => writeln!(text, "{series} {}", (random >> 11) as f64 / 1e17),
                    _ if is_share(series) => writeln!(text, "{series} {}", (random >> 11) as f64 / 1e17),
                    ..=12 => writeln!(
                        text,
                        "{series} {}.0",
                        random % 10_u64.pow(1 + (random >> 60) as u32 % 5)
                    ),
                    // Sums of seconds, with all the digits that a float has.
                    _ => writeln!(text, "{series} {}", (random >> 11) as f64 / 1e12),
                };
            }
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

/// Of engines other than vLLM, one of the two numbers that make a share included.
fn is_share(series: &str) -> bool {
    let name = series.split('{').next().unwrap_or_default();
    !name.starts_with("vllm:") && SHARES.iter().any(|part| name.contains(part))
}
