//! The text format, line by line.

use infmon_engines::exposition::{Exposition, Fault, Item, MAX_LABELS};

type Labels = Vec<(String, String)>;

/// Name, labels and value of each sample.
fn samples(body: &str) -> Result<Vec<(String, Labels, f64)>, Fault> {
    let mut exposition = Exposition::new(body.as_bytes());
    let mut samples = Vec::new();
    while let Some(item) = exposition.next_item()? {
        if let Item::Sample(sample) = item {
            assert_eq!(
                body[sample.value_at.clone()].parse::<f64>().map(f64::to_bits),
                Ok(sample.value.to_bits())
            );
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let labels = sample
                .labels
                .into_iter()
                .map(|label| (text(label.name), label.value().into_owned()))
                .collect();
            samples.push((text(sample.name), labels, sample.value));
        }
    }
    Ok(samples)
}

#[test]
fn lines_are_read() {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let table: [(&str, &str, Labels, f64); 19] = [
        ("up 1", "up", vec![], 1.0),
        ("vllm:waiting 3.21457e+06", "vllm:waiting", vec![], 3_214_570.0),
        ("  up\t 1 \t", "up", vec![], 1.0),
        ("up{} 1", "up", vec![], 1.0),
        ("up {} 1", "up", vec![], 1.0),
        ("up{a=\"b\"}1", "up", vec![label("a", "b")], 1.0),
        ("up{a=\"b\",} 1", "up", vec![label("a", "b")], 1.0),
        (
            "up{ a = \"b\" , c=\"\" } 1",
            "up",
            vec![label("a", "b"), label("c", "")],
            1.0,
        ),
        (
            "up{a=\"x\\\\y\\\"z\\nw\\q\"} 1",
            "up",
            vec![label("a", "x\\y\"z\nw\\q")],
            1.0,
        ),
        ("up{a=\"}{,= #\"} 1", "up", vec![label("a", "}{,= #")], 1.0),
        ("up{a=\"modèle/日本\"} 1", "up", vec![label("a", "modèle/日本")], 1.0),
        // Prometheus' parser takes both.
        (
            "up{a=\"b\" c=\"d\"} 1",
            "up",
            vec![label("a", "b"), label("c", "d")],
            1.0,
        ),
        ("up{a=\"b\nc\"} 1", "up", vec![label("a", "b\nc")], 1.0),
        ("up 1 1700000000000", "up", vec![], 1.0),
        ("up 1 -1.5", "up", vec![], 1.0),
        (
            "up_bucket{le=\"+Inf\"} 1 # {trace_id=\"x\"} 0.5 1.0",
            "up_bucket",
            vec![label("le", "+Inf")],
            1.0,
        ),
        (
            "{\"http.requests\",a=\"b\"} 1",
            "http.requests",
            vec![label("a", "b")],
            1.0,
        ),
        ("up{\"a.b\"=\"c\"} 1", "up", vec![label("a.b", "c")], 1.0),
        ("up -Inf", "up", vec![], f64::NEG_INFINITY),
    ];
    for (line, name, labels, value) in table {
        let expected = vec![(name.to_owned(), labels, value)];
        for body in [
            line.to_owned(),
            format!("{line}\n"),
            format!("{line}\r\n"),
            format!("\n\n# x\n{line}\n\n# EOF\n"),
        ] {
            assert_eq!(samples(&body).as_ref(), Ok(&expected), "{body:?}");
        }
    }
}

#[test]
fn bad_lines_say_what_was_expected() {
    for (line, expected) in [
        ("1up 1", "expected a metric name"),
        ("my-metric 1", "expected a blank or '{' after the metric name"),
        ("up", "expected a value"),
        ("up ", "expected a number as value"),
        ("up one", "expected a number as value"),
        ("up 1 x", "expected a timestamp or the end of the line after the value"),
        ("up 1 2 3", "expected the end of the line after the timestamp"),
        ("up{a} 1", "expected '=' after the label name"),
        ("up{a=b} 1", "expected '\"' before the label value"),
        ("up{a=\"b} 1", "expected '\"' after the label value"),
        ("up{a=\"b\\", "expected '\"' after the label value"),
        ("up{a=\"b\";c=\"d\"} 1", "expected a label name"),
        ("{\"up\" a=\"b\"} 1", "expected '=', ',' or '}' after the quoted name"),
        ("up{a=\"b\"", "expected '}' after the labels"),
        ("up{=\"b\"} 1", "expected a label name"),
        ("{a=\"b\"} 1", "expected a metric name"),
        ("up{\"down\"} 1", "expected one metric name, found two"),
        ("} 1", "expected a metric name"),
    ] {
        let fault = samples(&format!("ok 1\n\n{line}\n")).expect_err(line);
        assert_eq!(
            fault,
            Fault::Malformed {
                line: 3,
                reason: expected
            },
            "{line}"
        );
    }
    let mut exposition = Exposition::new(b"up{a=\"\xff\"} 1");
    assert!(
        exposition
            .next_item()
            .expect_err("not UTF-8")
            .to_string()
            .contains("UTF-8")
    );
}

#[test]
fn sizes_are_bounded() {
    let labels = |count| (0..count).map(|n| format!("l{n}=\"v\",")).collect::<String>();
    assert!(samples(&format!("up{{{}}} 1", labels(MAX_LABELS))).is_ok());
    for line in [
        format!("up{{{}}} 1", labels(MAX_LABELS + 1)),
        format!("up{{a=\"{}\"}} 1", "v".repeat(70_000)),
        format!("up{{{}=\"v\"}} 1", "a".repeat(2_000)),
        format!("{} 1", "a".repeat(2_000)),
    ] {
        let fault = samples(&line).expect_err("too much").to_string();
        assert!(fault.contains("too"), "{fault}");
    }
    assert_eq!(samples(&"up 1\n".repeat(50_001)), Err(Fault::TooManySeries));
}

#[test]
fn declared_families_are_told() {
    let mut exposition = Exposition::new(b"# HELP a x\n#TYPE b counter\n# TYPE \"c.d\" gauge\n# TYPE\n#\n# EOF");
    let mut names = Vec::new();
    while let Ok(Some(item)) = exposition.next_item() {
        if let Item::Family(name) = item {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    assert_eq!(names, ["b", "c.d"]);
}
