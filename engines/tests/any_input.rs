//! Whatever a server sends: no panic, and the same reading with and without a remembered layout.

use infmon_engines::exposition::Exposition;
use infmon_engines::{
    BodyReader, Engine, Field, MappedSeries, Mapping, explain_http, inspect, inspect_custom, read_loads, read_slots,
};
use proptest::prelude::*;
use proptest::sample::Index;

const BODIES: [&[u8]; 12] = [
    include_bytes!("bodies/vllm-0.32.0-queued.prom"),
    include_bytes!("bodies/vllm-0.10.2-v1-transition.txt"),
    include_bytes!("bodies/vllm-v0-0.6.6.txt"),
    include_bytes!("bodies/llamacpp.txt"),
    include_bytes!("bodies/vllm-lora-series.txt"),
    include_bytes!("bodies/sglang-0.5.23.txt"),
    include_bytes!("bodies/triton-tensorrtllm.txt"),
    include_bytes!("bodies/trtllm-2026.txt"),
    include_bytes!("bodies/tgi-3.3.7.txt"),
    include_bytes!("bodies/lmdeploy-0.16.txt"),
    include_bytes!("bodies/nim-1.x.txt"),
    include_bytes!("bodies/triton-plain.txt"),
];

/// Bytes that decide something in the format, more often than others.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        any::<u8>(),
        prop::sample::select(b"\n\r\t {}\",=#:\\_0123456789.eE+-NaInf\xff\0".to_vec())
    ]
}

/// A change of one line of a body.
#[derive(Clone, Debug)]
enum LineChange {
    Value(String),
    Vanish,
    Double,
    Insert(String),
    LineEnd,
    Timestamp,
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|value| format!("{value:e}")),
        (0..1_000_000_u32).prop_map(|value| format!("{value}.0")),
        prop::sample::select(vec![
            "0",
            "NaN",
            "Nan",
            "+Inf",
            "-Inf",
            "-1.0",
            "1.158e+011",
            "",
            "x",
            "1 2 3"
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_change() -> impl Strategy<Value = LineChange> {
    prop_oneof![
        6 => any_value().prop_map(LineChange::Value),
        1 => Just(LineChange::Vanish),
        1 => Just(LineChange::Double),
        1 => prop::sample::select(vec![
            "", "# a comment", "vllm:num_requests_waiting{engine=\"9\"} 5", "llamacpp:requests_deferred 1", "sglang:num_queue_reqs{priority=\"1\"} 2", "nv_inference_count 1", "num_request_max 1", "other 1 # {} 1", "{",
        ]).prop_map(|line| LineChange::Insert(line.to_owned())),
        1 => Just(LineChange::LineEnd),
        1 => Just(LineChange::Timestamp),
    ]
}

fn change(body: &[u8], changes: &[(Index, LineChange)]) -> Vec<u8> {
    let text = std::str::from_utf8(body).expect("bodies are text");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (at, change) in changes {
        let at = at.index(lines.len());
        let line = &mut lines[at];
        match change {
            LineChange::Value(value) if !line.is_empty() && !line.starts_with('#') => {
                let start = line.rfind(' ').map_or(0, |at| at + 1);
                line.replace_range(start.., value);
            }
            LineChange::Value(_) => {}
            LineChange::Vanish => line.clear(),
            LineChange::Double => *line = format!("{line}\n{line}"),
            LineChange::Insert(new) => *line = format!("{line}\n{new}"),
            LineChange::LineEnd => line.push('\r'),
            LineChange::Timestamp => line.push_str(" 1700000000000"),
        }
    }
    (lines.join("\n") + "\n").into_bytes()
}

fn load_times(body: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(body).expect("bodies are text");
    text.lines()
        .filter(|line| line.starts_with("nv_model_load_duration_secs"))
        .collect()
}

/// A mapping of every field to names that are in the bodies here.
fn everything() -> Mapping {
    let series = |field: Field| MappedSeries {
        field,
        name: if field.name().starts_with("latency.") {
            "a"
        } else {
            "vllm:num_requests_waiting"
        }
        .to_owned(),
        labels: [("a".to_owned(), String::new())].into(),
        unit: None,
        aggregation: None,
    };
    Mapping::new(Field::MAPPABLE.map(series).to_vec(), Some("b".to_owned())).expect("a valid mapping")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any_byte(), 0..600), status: u16) {
        let mut exposition = Exposition::new(&bytes);
        while let Ok(Some(_)) = exposition.next_item() {}
        for forced in Engine::ALL.into_iter().map(Some).chain([None]) {
            let _ = BodyReader::new(forced).read(&bytes);
            let _ = inspect(forced, &bytes);
        }
        let _ = BodyReader::custom(everything()).read(&bytes);
        let _ = inspect_custom(everything(), &bytes);
        let _ = read_loads(&bytes);
        let _ = read_slots(&bytes);
        let _ = explain_http(status, &bytes, "/metrics");
    }

    #[test]
    fn any_label_list_is_survived(bytes in prop::collection::vec(any_byte(), 0..80)) {
        let body = [b"vllm:num_requests_waiting{".as_slice(), &bytes, b"\"} 1\n"].concat();
        if let Ok(reading) = BodyReader::new(None).read(&body) {
            prop_assert!(reading.sample.waiting.is_none_or(f64::is_finite));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_remembered_layout_never_changes_a_reading(
        which in 0..BODIES.len(),
        rounds in prop::collection::vec(prop::collection::vec((any::<Index>(), any_change()), 0..4), 1..5),
    ) {
        let mut reader = BodyReader::new(None);
        let _ = reader.read(BODIES[which]);
        for changes in rounds {
            let body = change(BODIES[which], &changes);
            prop_assert_eq!(reader.read(&body), BodyReader::new(None).read(&body));
        }
    }

    #[test]
    fn mangled_bytes_read_the_same_with_and_without_a_layout(
        which in 0..BODIES.len(),
        edits in prop::collection::vec((any::<Index>(), any_byte()), 1..4),
        cut in any::<Option<Index>>(),
    ) {
        let mut reader = BodyReader::new(None);
        let _ = reader.read(BODIES[which]);
        let mut body = BODIES[which].to_vec();
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        prop_assert_eq!(reader.read(&body), BodyReader::new(None).read(&body));
    }

    #[test]
    fn new_values_alone_are_read_from_the_layout(
        which in 0..BODIES.len(),
        changes in prop::collection::vec((any::<Index>(), (0..9_999_u32).prop_map(|value| LineChange::Value(value.to_string()))), 0..20),
    ) {
        let mut reader = BodyReader::new(None);
        let _ = reader.read(BODIES[which]);
        let body = change(BODIES[which], &changes);
        prop_assert_eq!(reader.read(&body), BodyReader::new(None).read(&body));
        // The load times of Triton's models decide what the other values mean.
        prop_assert_eq!(reader.read_from_layout(), load_times(&body) == load_times(BODIES[which]));
    }
}

#[test]
fn a_body_that_cannot_be_read_does_not_forget_the_layout() {
    let mut reader = BodyReader::new(None);
    let reading = reader.read(BODIES[0]).expect("readable");
    assert!(!reader.read_from_layout());
    assert!(reader.read(b"").is_err());
    assert!(reader.read(&BODIES[0][..20_005]).is_err());
    assert_eq!(reader.read(BODIES[0]), Ok(reading));
    assert!(reader.read_from_layout());
}

#[test]
fn other_bodies_in_turn_are_told_apart() {
    let mut reader = BodyReader::new(None);
    for body in BODIES.iter().chain(BODIES.iter().rev()) {
        assert_eq!(reader.read(body), BodyReader::new(None).read(body));
    }
}
