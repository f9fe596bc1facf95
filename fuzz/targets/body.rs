//! Any body: no panic, the same series as the slow reference finds, and the same reading with and without a remembered layout.
//!
//! An input is one body, or two with a byte 0xfe between: what a server said, and what it said later. One body alone is followed by itself with
//! other digits, so that layouts are met.

#![no_main]

#[path = "../../engines/tests/reference/mod.rs"]
mod reference;

use infmon_engines::{BodyReader, Engine, EngineSample, ReadError, Reading, inspect};
use libfuzzer_sys::fuzz_target;

/// Between two bodies; no UTF-8 has it.
const BETWEEN: u8 = 0xfe;

fuzz_target!(|input: &[u8]| {
    let (first, second) = match input.iter().position(|&byte| byte == BETWEEN) {
        Some(at) => (&input[..at], input[at + 1..].to_vec()),
        None => (input, with_other_digits(input)),
    };
    for body in [first, &second] {
        if let Some(expected) = reference::series(body) {
            // Bounds, which the reference has none of, refuse bodies that are larger than an input is.
            if let Some(found) = reference::series_of_product(body) {
                assert_eq!(found, expected, "the reference finds other series");
            }
        } else {
            assert_eq!(reference::series_of_product(body), None, "the reference refuses it");
        }
    }
    for forced in [None, Engine::ALL.get(input.len() % (2 * Engine::ALL.len())).copied()] {
        let mut reader = BodyReader::new(forced);
        let mut reading = Reading::default();
        for body in [first, &second, first] {
            let again = reader.read_into(body, &mut reading);
            let fresh = BodyReader::new(forced).read(body);
            match (&again, &fresh) {
                (Ok(()), Ok(fresh)) => assert_eq!(&reading, fresh, "a layout changes the reading"),
                (again, fresh) => assert_eq!(again.as_ref().err(), fresh.as_ref().err()),
            }
            check(&fresh);
        }
    }
    // It parses a body some more times.
    if input.len() < 4096
        && let Ok(inspection) = inspect(None, first)
    {
        assert_eq!(BodyReader::new(None).read(first), Ok(inspection.reading));
    }
});

/// What every reading has to be, and every error.
fn check(read: &Result<Reading, ReadError>) {
    match read {
        Ok(reading) => check_sample(&reading.sample),
        Err(error) => assert!(error.to_string().len() < 1024, "{error}"),
    }
}

fn check_sample(sample: &EngineSample) {
    let numbers = [
        sample.waiting,
        sample.running,
        sample.max_concurrency,
        sample.kv_cache_usage,
        sample.kv_cache_capacity_tokens,
        sample.host_cache_usage,
        sample.prompt_tokens_total,
        sample.generated_tokens_total,
        sample.preemptions_total,
        sample.prefix_cache_hit_tokens_total,
        sample.prefix_cache_query_tokens_total,
        sample.prefix_cache_hit_ratio,
        sample.requests_succeeded_total,
        sample.requests_failed_total,
    ];
    let outcomes = sample.request_outcomes.values().copied();
    for number in numbers.into_iter().flatten().chain(outcomes) {
        assert!(number.is_finite() && number >= 0.0, "{number}");
    }
    for share in [
        sample.kv_cache_usage,
        sample.host_cache_usage,
        sample.prefix_cache_hit_ratio,
    ] {
        assert!(share.is_none_or(|share| share <= 1.0), "{share:?}");
    }
    assert!(sample.request_outcomes.len() <= infmon_engines::REASON_LIMIT);
    let latency = &sample.latency;
    for histogram in [
        &latency.time_to_first_token,
        &latency.inter_token,
        &latency.per_output_token,
        &latency.end_to_end,
        &latency.queue_time,
    ]
    .into_iter()
    .flatten()
    {
        assert!(histogram.count >= 0.0 && histogram.count.is_finite() && histogram.sum_seconds.is_finite());
        assert!(
            histogram
                .buckets
                .is_sorted_by(|a, b| a.1 <= b.1 && b.0.is_none_or(|b| a.0.is_some_and(|a| a < b)))
        );
        assert!(histogram.buckets.last().is_some_and(|last| last.0.is_none()));
    }
}

/// The body with another number in place of each, longer or shorter by a digit.
fn with_other_digits(body: &[u8]) -> Vec<u8> {
    let mut other = Vec::with_capacity(body.len() + 64);
    let mut in_value = false;
    for (at, &byte) in body.iter().enumerate() {
        let first = byte.is_ascii_digit() && at > 0 && body.get(at - 1) == Some(&b' ');
        in_value = first || (in_value && byte.is_ascii_digit());
        match byte {
            b'0'..=b'8' if in_value => other.push(byte + 1),
            b'9' if in_value => other.extend_from_slice(b"10"),
            _ => other.push(byte),
        }
    }
    other
}
