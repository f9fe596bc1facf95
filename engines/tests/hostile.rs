//! Bodies that somebody makes to hurt: each is read or refused in bounded time, with bounded memory.

use std::fs;
use std::time::Duration;

use allocation_counter::measure;
use infmon_engines::{BodyReader, Field, MappedSeries, Mapping, ReadError};

/// As much as the daemon reads of a body.
const LARGE: usize = 16 * 1024 * 1024;
/// With an unoptimised build; optimised it is a hundredth of it.
const MOST_TIME: Duration = Duration::from_secs(10);

/// Reads a body twice, the second time with what the first left, and checks time and memory.
fn read(what: &str, body: &[u8]) -> Result<(), ReadError> {
    read_by(BodyReader::new(None), what, body)
}

fn read_by(mut reader: BodyReader, what: &str, body: &[u8]) -> Result<(), ReadError> {
    let mut result = Ok(());
    let start = time_of_this_thread();
    let memory = measure(|| {
        result = reader.read(body).map(drop);
        assert_eq!(reader.read(body).map(drop), result, "{what}");
    });
    let time = time_of_this_thread().saturating_sub(start);
    println!(
        "{what}: {} bytes, {time:.1?}, at most {} bytes taken, {} kept, {:?}",
        body.len(),
        memory.bytes_max,
        memory.bytes_current,
        result.as_ref().err()
    );
    assert!(time < MOST_TIME, "{what}: {time:?}");
    // Marks and terms of 50,000 series are the most that has to be held beside the layout.
    let most = 24 * 1024 * 1024 + 4 * body.len().min(4 * 1024 * 1024) as u64;
    assert!(memory.bytes_max <= most, "{what}: {} bytes", memory.bytes_max);
    result
}

/// How long this thread has had a core: what others do on the machine does not count.
fn time_of_this_thread() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    let nanoseconds = text.split_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.expect("nanoseconds"))
}

fn repeated(start: &str, piece: &str, end: &str) -> Vec<u8> {
    [start, &piece.repeat(LARGE / piece.len()), end].concat().into_bytes()
}

fn numbered(count: usize, line: impl Fn(usize) -> String) -> Vec<u8> {
    (0..count).map(line).collect::<String>().into_bytes()
}

#[test]
fn one_long_line_is_refused_at_its_bounds() {
    for (what, start, piece, end) in [
        ("a name", "vllm:", "a", " 1\n"),
        ("a label name", "vllm:x{", "a", "=\"\"} 1\n"),
        ("a label value", "vllm:x{a=\"", "a", "\"} 1\n"),
        ("a value of escapes", "vllm:x{a=\"", "\\\\", "\"} 1\n"),
        ("a value without an end", "vllm:x{a=\"", "a", ""),
        ("a million labels", "vllm:x{", "a=\"b\",", "} 1\n"),
        ("labels that are empty", "vllm:x{", ",", "} 1\n"),
        ("a number", "vllm:x ", "1", "x\n"),
        ("braces", "", "{", "\n"),
        ("quotes", "", "\"", "\n"),
    ] {
        let result = read(what, &repeated(start, piece, end));
        assert!(
            matches!(result, Err(ReadError::Malformed { .. } | ReadError::Json { .. })),
            "{what}: {result:?}"
        );
    }
    for (what, start, piece) in [
        ("blanks", "", " "),
        ("line feeds", "", "\n"),
        ("carriage returns and line feeds", "", "\r\n"),
    ] {
        assert_eq!(read(what, &repeated(start, piece, "")), Err(ReadError::Empty), "{what}");
    }
    assert_eq!(read("a comment", &repeated("vllm:x 1\n# ", "a", "\n")), Ok(()));
    assert_eq!(read("a HELP", &repeated("# HELP ", "a", "\nvllm:x 1")), Ok(()));
    assert_eq!(read("an exemplar", &repeated("vllm:x 1 # {", "a", "}\n")), Ok(()));
}

#[test]
fn too_many_series_are_refused_and_fifty_thousand_are_read() {
    assert_eq!(
        read("10^6 series", &numbered(1_000_000, |n| format!("vllm:x{n} 1\n"))),
        Err(ReadError::TooManySeries)
    );
    for (what, line) in [
        ("distinct names", (|n| format!("vllm:x{n} 1\n")) as fn(usize) -> String),
        ("distinct labels of one gauge", |n| {
            format!("vllm:num_requests_waiting{{engine=\"{n}\"}} 1\n")
        }),
        ("distinct models", |n| {
            format!("vllm:num_requests_waiting{{model_name=\"{n}\"}} 1\n")
        }),
        ("copies of one gauge", |n| {
            format!("vllm:num_requests_waiting{{pid=\"{n}\"}} 1\n")
        }),
        ("distinct bounds", |n| {
            format!("vllm:e2e_request_latency_seconds_bucket{{le=\"{n}\"}} 1\n")
        }),
        ("one bound", |_| {
            "vllm:e2e_request_latency_seconds_bucket{le=\"1\"} 1\n".to_owned()
        }),
        ("ranks of one bucket", |n| {
            format!("sglang:e2e_request_latency_seconds_bucket{{le=\"1\",tp_rank=\"{n}\"}} 1\n")
        }),
        ("ranks of one counter", |n| {
            format!("sglang:prompt_tokens_total{{tp_rank=\"{n}\"}} 1\n")
        }),
        ("label sets of adapters", |n| {
            format!("vllm:lora_requests_info{{running_lora_adapters=\"{n}\"}} {n}\n")
        }),
        ("configurations", |n| {
            format!("vllm:cache_config_info{{num_gpu_blocks=\"{n}\",block_size=\"16\"}} 1\n")
        }),
    ] {
        assert_eq!(read(what, &numbered(50_000, line)), Ok(()), "{what}");
    }
    let mut declared = numbered(400_000, |n| format!("# TYPE vllm:x{n} gauge\n"));
    declared.extend_from_slice(b"vllm:x 1\n");
    assert_eq!(read("declared families", &declared), Ok(()));
}

/// The daemon never reads as much; the parser has no need of that. `cargo test --release -- --ignored`, with 1 GB of memory.
#[test]
#[ignore = "takes 1 GB of memory"]
fn a_line_of_a_gigabyte_is_refused() {
    let mut body = b"vllm:x{a=\"".to_vec();
    body.resize(1 << 30, b'a');
    assert!(matches!(read("1 GB", &body), Err(ReadError::Malformed { line: 1, .. })));
}

#[test]
fn many_fields_of_one_series_and_many_names_that_none_is_like_are_bounded() {
    let series = |field: Field| MappedSeries {
        field,
        name: "x".to_owned(),
        labels: (0..4).map(|n| (format!("absent_{n}"), String::new())).collect(),
        unit: None,
        aggregation: None,
    };
    let mapping = Mapping::new(Field::MAPPABLE.map(series).to_vec(), Some("m".to_owned())).expect("a valid mapping");
    let by = |body: &[u8]| read_by(BodyReader::custom(mapping.clone()), "a mapping", body);
    let labels: String = (0..8).map(|n| format!("l{n}=\"\",")).collect();
    assert_eq!(
        by(&numbered(45_000, |n| format!("x{{{labels}n=\"{n}\"}} 1\n"))),
        Err(ReadError::TooManySeries)
    );
    assert_eq!(
        by(&numbered(2_000, |n| format!("x{{m=\"{n}\",n=\"{n}\"}} 1\n"))),
        Ok(())
    );
    let unlike = numbered(45_000, |n| format!("name_{n} 1\n"));
    assert!(matches!(by(&unlike), Err(ReadError::NoMappedSeries { similar, .. }) if similar.is_empty()));
}
