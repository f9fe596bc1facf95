//! The parser against a second one that is slow and plain: made bodies, changed bodies, cut bodies.

mod reference;

use infmon_engines::BodyReader;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use reference::{bits, series, series_of_product};

const BODIES: [&str; 9] = [
    include_str!("bodies/vllm-0.32.0-queued.prom"),
    include_str!("bodies/vllm-0.10.2-v1-transition.txt"),
    include_str!("bodies/vllm-v0-0.6.6.txt"),
    include_str!("bodies/vllm-0.33.0.txt"),
    include_str!("bodies/vllm-dp2.txt"),
    include_str!("bodies/llamacpp.txt"),
    include_str!("bodies/llama-server-0.7.0-b11669-queued.prom"),
    include_str!("bodies/tgi-idle.txt"),
    include_str!("bodies/vllm-lora-series.txt"),
];

/// One line, with the series that it holds.
type Line = (String, Option<reference::Series>);

fn blanks(at_least: usize) -> impl Strategy<Value = &'static str> {
    let all = [" ", "", "", "", "\t", "  ", " \t "];
    select(
        all.into_iter()
            .filter(|text| text.len() >= at_least)
            .collect::<Vec<_>>(),
    )
}

fn label_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,12}",
        1 => "\\PC{0,6}",
        1 => select(vec!["+Inf", "1", "1.0", "0.00015000000000000001", "1e-05", "Qwen/Qwen3-30B-A3B", "modèle 日本", "a\nb", "}{,=\" #\\", "\\", "\\n"])
            .prop_map(str::to_owned),
    ]
}

/// A label: its name, whether that is quoted, and its value.
fn label() -> impl Strategy<Value = (String, bool, String)> {
    prop_oneof![
        3 => (select(vec!["le", "engine", "model_name", "finished_reason", "pid", "quantile"]).prop_map(str::to_owned), Just(false), label_value()),
        1 => ("[a-zA-Z_][a-zA-Z0-9_]{0,8}", any::<bool>(), label_value()),
        1 => ("[a-z.é /-]{1,6}", Just(true), label_value()),
    ]
}

fn number() -> impl Strategy<Value = (String, f64)> {
    prop_oneof![
        any::<f64>().prop_map(|value| (format!("{value}"), value)),
        any::<f64>().prop_map(|value| (format!("{value:e}"), value)),
        any::<u32>().prop_map(|value| (format!("{value}.0"), f64::from(value))),
        select(vec![
            ("NaN", f64::NAN),
            ("Nan", f64::NAN),
            ("nan", f64::NAN),
            ("+Inf", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
            ("inf", f64::INFINITY),
            ("Infinity", f64::INFINITY),
            ("1.158e+011", 1.158e11),
            ("3.21457E+06", 3_214_570.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("+4", 4.0),
            ("-0", -0.0),
            ("00012", 12.0),
            ("4.9e-324", 5e-324),
            ("1.7976931348623157e308", f64::MAX),
        ])
        .prop_map(|(text, value)| (text.to_owned(), value)),
    ]
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn sample() -> impl Strategy<Value = Line> {
    let name = prop_oneof![
        4 => select(vec!["vllm:num_requests_waiting", "vllm:e2e_request_latency_seconds_bucket", "up", "a"]).prop_map(str::to_owned),
        1 => "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}",
    ];
    let blank = (blanks(0), blanks(0), blanks(0), blanks(1));
    let end = select(vec![
        "",
        "",
        "",
        " ",
        "\t",
        " 1700000000000",
        " 1700000000.5 ",
        " # {trace_id=\"x\"} 0.5",
        " 1 # {} 1 1.5",
    ]);
    (
        name,
        prop::collection::vec(label(), 0..5),
        number(),
        blank,
        end,
        any::<u8>(),
    )
        .prop_map(|(name, labels, (number, value), (b0, b1, b2, b3), end, style)| {
            let list: Vec<String> = labels
                .iter()
                .map(|(name, quoted, value)| {
                    let name = if *quoted { format!("\"{name}\"") } else { name.clone() };
                    format!("{b0}{name}{b1}={b2}\"{}\"{b1}", escaped(value))
                })
                .collect();
            let mut list = list.join(",");
            if style & 1 == 1 && !labels.is_empty() {
                list.push(',');
            }
            let line = match (labels.is_empty(), style & 6) {
                (true, 0) => format!("{b0}{name}{b3}{number}{end}"),
                (_, 2) if !list.is_empty() => format!("{b0}{{\"{name}\",{list}}}{b2}{number}{end}"),
                _ => format!("{b0}{name}{b1}{{{list}{b0}}}{b2}{number}{end}"),
            };
            let labels = labels
                .into_iter()
                .map(|(name, _, value)| (name.into_bytes(), value))
                .collect();
            (line, Some((name.into_bytes(), labels, bits(value))))
        })
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        8 => sample(),
        1 => select(vec!["", "# HELP a b \"c", "# TYPE a counter", "#", "# EOF", "\t ", "# UNIT a b", "#{", "# \u{e9}"]).prop_map(|text| (text.to_owned(), None)),
    ]
}

/// Bytes that decide something in the format, more often than others.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), select(b"\n\r\t {}\",=#:\\_0le.e+-NaInf\xff\0".to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn made_bodies_are_read_as_they_were_made(
        // Lines that come again are read by what the line before held.
        lines in prop::collection::vec((line(), 1..3_usize), 0..12),
        end in select(vec!["\n", "\r\n"]),
        last in any::<bool>(),
    ) {
        let all: Vec<Line> = lines.into_iter().flat_map(|(line, times)| std::iter::repeat_n(line, times)).collect();
        let mut body = all.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(end);
        if last {
            body.push_str(end);
        }
        let expected: Vec<_> = all.into_iter().filter_map(|(_, series)| series).collect();
        prop_assert_eq!(series(body.as_bytes()), Some(expected.clone()), "reference, {:?}", body);
        prop_assert_eq!(series_of_product(body.as_bytes()), Some(expected), "{:?}", body);
    }

    #[test]
    fn any_bytes_are_read_as_the_reference_reads_them(bytes in prop::collection::vec(any_byte(), 0..200)) {
        prop_assert_eq!(series_of_product(&bytes), series(&bytes));
        let line = [b"a{le=\"1\",x=\"y\"} 1\na{le=\"".as_slice(), &bytes, b"\"} 1\n"].concat();
        prop_assert_eq!(series_of_product(&line), series(&line));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn changed_and_cut_bodies_are_read_as_the_reference_reads_them(
        which in 0..BODIES.len(),
        edits in prop::collection::vec((any::<Index>(), any_byte(), 0..3_u8), 0..6),
        cut in any::<Option<Index>>(),
    ) {
        let mut body = BODIES[which].as_bytes().to_vec();
        for (at, byte, how) in edits {
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => { body.remove(at); }
            }
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        prop_assert_eq!(series_of_product(&body), series(&body));
    }

    #[test]
    fn half_a_body_never_changes_what_the_whole_one_says(which in 0..BODIES.len(), cut in any::<Index>()) {
        let body = BODIES[which].as_bytes();
        let mut reader = BodyReader::new(None);
        let whole = reader.read(body);
        let half = &body[..cut.index(body.len())];
        prop_assert_eq!(reader.read(half), BodyReader::new(None).read(half));
        prop_assert_eq!(reader.read(body), whole);
    }
}

#[test]
fn whole_bodies_are_read_as_the_reference_reads_them() {
    for body in BODIES {
        let found = series_of_product(body.as_bytes());
        assert_eq!(found, series(body.as_bytes()));
        let lines = body.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(found.map(|found| found.len()), Some(lines.count()));
        // With carriage returns it is the same body.
        let with_returns = body.replace('\n', "\r\n");
        assert_eq!(series_of_product(with_returns.as_bytes()), series(body.as_bytes()));
    }
}

/// Changes, adds and removes each byte of `line`, and reads it between two lines as the reference does.
fn assert_each_byte_is_looked_at(before: &str, line: &str, after: &str) {
    const BYTES: &[u8] = b" \t\r\n\"\\{},=#0.x:\xc3";
    for at in 0..=line.len() {
        let (start, end) = line.as_bytes().split_at(at);
        for end in [end, end.get(1..).unwrap_or_default()] {
            for byte in BYTES.chunks(1).chain([&b""[..]]) {
                let body = [before.as_bytes(), start, byte, end, after.as_bytes()].concat();
                let text = String::from_utf8_lossy(&body);
                assert_eq!(series_of_product(&body), series(&body), "{text}");
            }
        }
    }
}

/// A bucket is read by what it has in common with the one before, so that what it has not in common must be seen.
#[test]
fn each_byte_of_a_repeated_bucket_is_looked_at() {
    let first = "a_bucket{engine=\"0\",le=\"0.5\",m=\"x\"} 1.0\n";
    for second in [
        "a_bucket{engine=\"0\",le=\"1.0\",m=\"x\"} 12345678.0\n",
        "a_bucket{engine=\"0\",le=\"+Inf\",m=\"x\"} 9.0\n",
        "a_bucket{engine=\"0\",le=\"\",m=\"x\"} 123456789.0\n",
        "a_bucket{engine=\"0\",le=\"0.00015000000000000001\",m=\"x\"} 5.5 1\n",
    ] {
        for rest in [
            "",
            "a_bucket{engine=\"0\",le=\"2.0\",m=\"x\"} 3.0\n",
            "a_count{engine=\"0\",m=\"x\"} 3.0\n",
        ] {
            assert_each_byte_is_looked_at(first, second, rest);
        }
    }
}

/// So is a list of labels after those that the last one began with.
#[test]
fn each_byte_of_a_list_that_begins_like_another_is_looked_at() {
    let third = "a{engine=\"0\",m=\"x\",s=\"3\"} 3\n";
    for (first, second) in [
        (
            "a{engine=\"0\",m=\"x\",s=\"1\"} 1\n",
            "a{engine=\"0\",m=\"x\",s=\"2\"} 2\n",
        ),
        ("a{engine=\"0\" m=\"x\"} 1\n", "a{engine=\"0\",m=\"x\",} 2\n"),
        ("a{engine=\"0\"} 1\n", "a{engine=\"0\",le=\"1\",m=\"x\"} 2\n"),
        ("a{engine=\"0\",le=\"1\",m=\"x\"} 1\n", "a{engine=\"0\",m=\"x\"} 2\n"),
        ("{engine=\"0\",\"a\",m=\"x\"} 1\n", "{engine=\"0\",m=\"x\",\"b\"} 2\n"),
    ] {
        assert_each_byte_is_looked_at(first, second, third);
    }
}
