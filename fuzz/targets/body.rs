//! Any body: no panic, the same series as the slow reference finds, and the same reading with and without a remembered layout.
//!
//! An input is one body, or two with a byte 0xfe between: what a server said, and what it said later. One body alone is followed by itself with
//! other digits, so that layouts are met.

#![no_main]

#[path = "../../engines/tests/reference/mod.rs"]
mod reference;
#[path = "sample.rs"]
mod sample;

use infmon_engines::{BodyReader, Engine, Field, MappedSeries, Mapping, ReadError, Reading, Unit, inspect};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

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
    let forced = Engine::ALL.get(input.len() % (2 * Engine::ALL.len())).copied();
    for mut reader in [BodyReader::new(None), BodyReader::new(forced), BodyReader::custom(MAPPING.clone())] {
        let mut reading = Reading::default();
        for body in [first, &second, first] {
            let again = reader.read_into(body, &mut reading);
            let fresh = reader.anew().read(body);
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

/// What a user maps: series of the recorded bodies of several engines, with each unit and kind of number, and labels.
static MAPPING: LazyLock<Mapping> = LazyLock::new(|| {
    let series = |field, name: &str, unit, labels: &[(&str, &str)]| MappedSeries {
        field,
        name: name.to_owned(),
        labels: labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        unit,
        aggregation: None,
    };
    let mapped = vec![
        series(Field::Waiting, "vllm:num_requests_waiting", None, &[]),
        series(Field::Running, "sglang:num_running_reqs", None, &[("priority", "")]),
        series(Field::KvCacheUsage, "vllm:kv_cache_usage_perc", Some(Unit::Percent), &[("engine", "0")]),
        series(Field::GeneratedTokens, "llamacpp:tokens_predicted_total", None, &[]),
        series(Field::RequestsSucceeded, "tgi_request_success", None, &[]),
        series(Field::TimeToFirstToken, "vllm:time_to_first_token_seconds", None, &[]),
        series(Field::EndToEnd, "tgi_request_duration", Some(Unit::Milliseconds), &[]),
        series(Field::QueueTime, "nv_inference_queue_duration_us", Some(Unit::Microseconds), &[]),
    ];
    Mapping::new(mapped, Some("model_name".to_owned())).expect("the mapping is one")
});

/// What every reading has to be, and every error.
fn check(read: &Result<Reading, ReadError>) {
    match read {
        Ok(reading) => sample::check(&reading.sample),
        Err(error) => assert!(error.to_string().len() < 1024, "{error}"),
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
