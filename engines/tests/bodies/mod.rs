//! The recorded bodies, a larger one made of them, and the same bodies some time later.

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
            Some((series, value)) if !line.starts_with('#') => {
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
