//! Recorded bodies written in other ways that mean the same: label orders, line ends, missing comments, OpenMetrics, escaped names, Ray,
//! process copies, ranks. What is read must not change.

use std::fmt::Write;

use infmon_engines::exposition::{Exposition, Item, Sample};
use infmon_engines::{BodyReader, Engine, EngineSample};

const BODIES: [(&str, &str); 13] = [
    ("vllm-0.32.0", include_str!("bodies/vllm-0.32.0-queued.prom")),
    ("vllm-0.33.0", include_str!("bodies/vllm-0.33.0.txt")),
    ("vllm-dp2", include_str!("bodies/vllm-dp2.txt")),
    ("vllm-0.10.2", include_str!("bodies/vllm-0.10.2-v1-transition.txt")),
    ("vllm-v0", include_str!("bodies/vllm-v0-0.6.6.txt")),
    ("llamacpp", include_str!("bodies/llamacpp.txt")),
    (
        "llamacpp-b11669",
        include_str!("bodies/llama-server-0.7.0-b11669-queued.prom"),
    ),
    ("sglang", include_str!("bodies/sglang-0.5.23.txt")),
    ("triton", include_str!("bodies/triton-tensorrtllm.txt")),
    ("trtllm", include_str!("bodies/trtllm-2026.txt")),
    ("tgi", include_str!("bodies/tgi-3.3.7.txt")),
    ("lmdeploy", include_str!("bodies/lmdeploy-0.16.txt")),
    ("nim", include_str!("bodies/nim-1.x.txt")),
];

fn read(name: &str, body: &str) -> EngineSample {
    let reading = BodyReader::new(None).read(body.as_bytes());
    assert!(reading.is_ok(), "{name}: {:?}", reading.err());
    reading.unwrap_or_default().sample
}

fn lines(body: &str) -> impl Iterator<Item = &str> {
    body.lines().filter(|line| !line.trim().is_empty())
}

/// The series of a body, each as written by `write`, without the comments.
fn series(body: &str, mut write: impl FnMut(&mut String, &Sample<'_>, Vec<(String, String)>)) -> String {
    let mut text = String::new();
    let mut exposition = Exposition::new(body.as_bytes());
    while let Some(item) = exposition.next_item().expect("a recorded body") {
        if let Item::Sample(sample) = item {
            let labels = sample.labels.into_iter();
            let labels = labels.map(|label| (utf8(label.name), utf8(label.raw_value))).collect();
            write(&mut text, &sample, labels);
        }
    }
    text
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn line(text: &mut String, name: &str, labels: &[(String, String)], value: f64) {
    text.push_str(name);
    if !labels.is_empty() {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let _ = write!(text, "{{{}}}", labels.join(","));
    }
    let _ = writeln!(text, " {value}");
}

/// Each way changes `body`, and the reading that is expected of it.
fn assert_same(way: &str, change: impl Fn(&str) -> String) {
    for (name, body) in BODIES {
        let changed = change(body);
        assert_ne!(changed, body, "{name}, {way}");
        assert_eq!(read(name, &changed), read(name, body), "{name}, {way}");
    }
}

#[test]
fn line_ends_comments_and_blanks_do_not_matter() {
    assert_same("carriage returns", |body| body.replace('\n', "\r\n"));
    assert_same("blank lines", |body| body.replace('\n', "\n\n \n"));
    assert_same("no comments", |body| {
        lines(body)
            .filter(|line| !line.starts_with('#'))
            .fold(String::new(), |text, line| text + line + "\n")
    });
    assert_same("no HELP", |body| {
        lines(body)
            .filter(|line| !line.starts_with("# HELP"))
            .fold(String::from("\n"), |text, line| text + line + "\n")
    });
    assert_same("no line feed at the end", |body| format!("\n{}", body.trim_end()));
    assert_same("timestamps", |body| {
        lines(body).fold(String::new(), |text, line| {
            let timestamp = if line.starts_with('#') { "" } else { " 1795307475000" };
            text + line + timestamp + "\n"
        })
    });
    assert_same("every other line first", |body| {
        let others = lines(body).skip(1).step_by(2);
        lines(body)
            .step_by(2)
            .chain(others)
            .fold(String::new(), |text, line| text + line + "\n")
    });
    assert_same("the lines in reverse", |body| {
        lines(body)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .fold(String::new(), |text, line| text + line + "\n")
    });
}

#[test]
fn the_order_of_labels_does_not_matter() {
    assert_same("labels in reverse", |body| {
        series(body, |text, sample, mut labels| {
            labels.reverse();
            line(text, &utf8(sample.name), &labels, sample.value);
        })
    });
    assert_same("a label that nobody knows", |body| {
        series(body, |text, sample, mut labels| {
            labels.insert(0, ("namespace".to_owned(), "x".repeat(60_000)));
            labels.push(("zone".to_owned(), "a\\\"b\\\\c\\nd".to_owned()));
            // Long values in a few series of each kind are enough.
            if sample.name.len() % 7 != 0 {
                labels.remove(0);
                labels.insert(0, ("namespace".to_owned(), "prod".to_owned()));
            }
            line(text, &utf8(sample.name), &labels, sample.value);
        })
    });
    assert_same("quoted names", |body| {
        series(body, |text, sample, labels| {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!(",\"{name}\"=\"{value}\""))
                .collect();
            let _ = writeln!(
                text,
                "{{\"{}\"{}}} {}",
                utf8(sample.name),
                labels.concat(),
                sample.value
            );
        })
    });
}

#[test]
fn openmetrics_is_the_same() {
    assert_same("exemplars, times of creation and the end", |body| {
        let mut text = String::new();
        for line in lines(body) {
            let counter = line
                .strip_suffix(" counter")
                .and_then(|line| line.strip_suffix("_total"));
            text += &counter.map_or_else(|| line.to_owned(), |family| format!("{family} counter"));
            if line.contains("_bucket{") {
                text += " # {trace_id=\"KOO5S4vxi0o\"} 0.67 1795307475.123";
            }
            text += "\n";
            if let Some((series, _)) = line.split_once("_total{").filter(|_| !line.starts_with('#')) {
                text += &format!("{series}_created 1.795e+09\n");
            }
        }
        text + "# EOF\n"
    });
    // What prometheus_client makes of a colon when it is asked for OpenMetrics: in the samples alone.
    assert_same("escaped names", |body| {
        lines(body).fold(String::new(), |text, line| {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
            let name = if line.starts_with('#') {
                name.to_owned()
            } else {
                name.replace(':', "_")
            };
            text + &name + rest + "\n"
        }) + "# EOF\n"
    });
}

#[test]
fn ray_puts_a_prefix_in_front_and_adds_labels() {
    for (name, body) in BODIES
        .iter()
        .filter(|(name, _)| name.starts_with("vllm") || *name == "sglang")
    {
        for colon in [":", "_"] {
            let ray = series(body, |text, sample, mut labels| {
                for (name, value) in [
                    ("WorkerId", "w1"),
                    ("NodeAddress", "10.0.0.1"),
                    ("SessionName", "s"),
                    ("Version", "2.51.0"),
                    ("Component", "core_worker"),
                    ("ReplicaId", "r1"),
                ] {
                    labels.push((name.to_owned(), value.to_owned()));
                }
                let name = format!("ray_{}", utf8(sample.name).replace(':', colon));
                line(text, &name, &labels, sample.value);
            });
            let (mut found, expected) = (read(name, &ray), read(name, body));
            assert_eq!(found.generation, expected.generation, "{name}");
            found.generation = expected.generation.clone();
            assert_eq!(found, expected, "{name}");
        }
    }
}

/// Families that `TYPE` lines call gauges.
fn gauges(body: &str) -> Vec<&str> {
    body.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"))
        .collect()
}

#[test]
fn copies_of_gauges_by_process_count_once_and_one_that_is_left_at_zero_is_not_believed() {
    for (name, body) in BODIES {
        let gauges = gauges(body);
        let copies = series(body, |text, sample, labels| {
            let series = utf8(sample.name);
            if !gauges.contains(&series.as_str()) {
                return line(text, &series, &labels, sample.value);
            }
            let labels: Vec<_> = labels.into_iter().filter(|(name, _)| name != "pid").collect();
            for (pid, value) in [("17", 0.0), ("18", sample.value), ("19", sample.value)] {
                let pid = ("pid".to_owned(), pid.to_owned());
                line(text, &series, &[labels.as_slice(), &[pid]].concat(), value);
            }
        });
        assert_eq!(read(name, &copies), read(name, body), "{name}");
    }
}

#[test]
fn ranks_that_share_a_queue_count_once() {
    let body = include_str!("bodies/sglang-0.5.23.txt");
    let of_all_schedulers = series(body, |text, sample, labels| {
        let series = utf8(sample.name);
        let ranked = labels.iter().any(|(name, _)| name == "tp_rank");
        for rank in if ranked { 0..8 } else { 0..1 } {
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, value)| {
                    let value = if name == "tp_rank" || name == "moe_ep_rank" {
                        rank.to_string()
                    } else {
                        value.clone()
                    };
                    (name.clone(), value)
                })
                .collect();
            line(text, &series, &labels, sample.value);
        }
    });
    assert_eq!(read("ranks", &of_all_schedulers), read("sglang", body));
}

#[test]
fn any_name_of_a_model_is_told_as_it_is() {
    let real = "meta-llama/Llama-3.1-8B-Instruct";
    for (raw, model) in [
        ("Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B"),
        ("a \\\"quoted\\\" name", "a \"quoted\" name"),
        ("C:\\\\models\\\\x", "C:\\models\\x"),
        ("modèle 日本 {le=1}, # 2", "modèle 日本 {le=1}, # 2"),
        ("two\\nlines", "two\nlines"),
    ] {
        for (name, body) in BODIES.iter().filter(|(_, body)| body.contains(real)) {
            let changed = body.replace(real, raw);
            let expected = EngineSample {
                models: vec![model.to_owned()],
                ..read(name, body)
            };
            assert_eq!(read(name, &changed), expected, "{name}");
        }
    }
}

#[test]
fn a_named_engine_reads_the_same_in_every_way_of_writing() {
    for (name, body) in BODIES {
        let sample = read(name, body);
        let engine = sample.engine.expect("recognised");
        let bare: String = lines(body)
            .filter(|line| !line.starts_with('#'))
            .flat_map(|line| [line, "\r\n"])
            .collect();
        let named = BodyReader::new(Some(engine)).read(bare.as_bytes()).expect("it fits");
        assert_eq!(named.sample, sample, "{name}");
        for other in Engine::ALL.into_iter().filter(|other| *other != engine) {
            let served = matches!((other, engine), (Engine::Nim, Engine::Vllm | Engine::Sglang));
            assert_eq!(
                BodyReader::new(Some(other)).read(bare.as_bytes()).is_ok(),
                served,
                "{name} as {other:?}"
            );
        }
    }
}
