//! Servers whose series the user maps.

use infmon_engines::{
    Aggregation, BodyReader, Engine, EngineSample, Field, Histogram, MappedSeries, Mapping, MappingError, ReadError,
    Reading, Unit, inspect_custom,
};

fn of(field: Field, name: &str) -> MappedSeries {
    MappedSeries {
        field,
        name: name.to_owned(),
        labels: [].into(),
        unit: None,
        aggregation: None,
    }
}

fn with(field: Field, name: &str, label: (&str, &str)) -> MappedSeries {
    MappedSeries {
        labels: [(label.0.to_owned(), label.1.to_owned())].into(),
        ..of(field, name)
    }
}

fn mapping(series: &[MappedSeries]) -> Mapping {
    Mapping::new(series.to_vec(), Some("model".to_owned())).expect("a valid mapping")
}

fn read(series: &[MappedSeries], body: &str) -> Reading {
    BodyReader::custom(mapping(series)).read(body.as_bytes()).expect(body)
}

/// The one value that a mapping of one field gives.
fn value(series: MappedSeries, body: &str) -> Option<f64> {
    let field = series.field;
    let sample = read(&[series], body).sample;
    let json = serde_json::to_value(&sample).expect("a sample");
    json.get(field.name()).and_then(serde_json::Value::as_f64)
}

const BODY: &str = "\
# TYPE home_requests gauge
home_requests{state=\"queued\",model=\"a\"} 3
home_requests{state=\"queued\",model=\"b\"} 4
home_requests{state=\"active\",model=\"a\"} 5
# TYPE home:cache_percent gauge
home:cache_percent{pool=\"0\"} 42
home:cache_percent{pool=\"1\"} 12.5
# TYPE home_tokens_total counter
home_tokens_total{kind=\"prompt\"} 1000
home_tokens_total{kind=\"generated\"} 2000
";

#[test]
fn gauges_counters_and_shares_are_read_as_they_are_mapped() {
    let reading = read(
        &[
            with(Field::Waiting, "home_requests", ("state", "queued")),
            with(Field::Running, "home_requests", ("state", "active")),
            MappedSeries {
                unit: Some(Unit::Percent),
                ..of(Field::KvCacheUsage, "home:cache_percent")
            },
            with(Field::PromptTokens, "home_tokens_total", ("kind", "prompt")),
            with(Field::GeneratedTokens, "home_tokens_total", ("kind", "generated")),
        ],
        BODY,
    );
    let expected = EngineSample {
        engine: Some(Engine::Custom),
        models: vec!["a".to_owned(), "b".to_owned()],
        waiting: Some(7.0),
        running: Some(5.0),
        kv_cache_usage: Some(0.42),
        prompt_tokens_total: Some(1000.0),
        generated_tokens_total: Some(2000.0),
        ..EngineSample::default()
    };
    assert_eq!(
        (reading.sample, reading.missing, reading.hint),
        (expected, vec![], String::new())
    );
}

#[test]
fn every_scalar_field_can_be_mapped() {
    for field in Field::MAPPABLE
        .into_iter()
        .filter(|field| !field.name().starts_with("latency."))
    {
        assert_eq!(value(of(field, "x"), "x 0.5\n"), Some(0.5), "{field:?}");
    }
}

#[test]
fn what_matches_is_added_up_or_the_greatest_counts() {
    let body = "x{a=\"1\"} 0.25\nx{a=\"2\"} 0.5\nx 0.125\nx{a=\"1\",tp_rank=\"1\",pid=\"7\"} 0.25\n";
    for (field, aggregation, expected) in [
        // Nothing is guessed of ranks and process copies: the user says which labels count.
        (Field::Waiting, None, 1.125),
        (Field::Waiting, Some(Aggregation::Max), 0.5),
        (Field::GeneratedTokens, None, 1.125),
        (Field::GeneratedTokens, Some(Aggregation::Max), 0.5),
        (Field::KvCacheUsage, None, 0.5),
        (Field::MaxConcurrency, None, 1.125),
    ] {
        let series = MappedSeries {
            aggregation,
            ..of(field, "x")
        };
        assert_eq!(value(series, body), Some(expected), "{field:?} {aggregation:?}");
    }
}

#[test]
fn labels_choose_series_and_an_empty_value_those_without_the_label() {
    let body = "x{a=\"\"} 1\nx 2\nx{a=\"1\",b=\"\\\"q\\\"\"} 4\nx{b=\"1\"} 8\nx_y{a=\"1\"} 16\n";
    for (label, expected) in [
        (("a", ""), 11.0),
        (("a", "1"), 4.0),
        (("b", "\"q\""), 4.0),
        (("b", "1"), 8.0),
    ] {
        assert_eq!(
            value(with(Field::Waiting, "x", label), body),
            Some(expected),
            "{label:?}"
        );
    }
}

#[test]
fn values_that_no_field_can_have_are_absent() {
    for (field, text) in [
        (Field::Waiting, "NaN"),
        (Field::Waiting, "-1"),
        (Field::Waiting, "+Inf"),
        (Field::Waiting, "1e999"),
        (Field::GeneratedTokens, "-0.5"),
        (Field::KvCacheUsage, "1.1"),
        (Field::MaxConcurrency, "0"),
        (Field::KvCapacity, "0"),
    ] {
        let reading = read(
            &[of(field, "x"), of(Field::Running, "y")],
            &format!("x{{a=\"1\"}} 0.5\nx {text}\ny 1\n"),
        );
        // A sum that lacks a part is not known; a size that is 0 in one part is that of the other.
        let known = matches!(field, Field::MaxConcurrency | Field::KvCapacity);
        let missing = ["x (its value is not usable)".to_owned()];
        assert_eq!(reading.missing, missing[usize::from(known)..], "{field:?} {text}");
        assert_eq!(value(of(field, "x"), &format!("x {text}\n")), None, "{field:?} {text}");
    }
    let percent = MappedSeries {
        unit: Some(Unit::Percent),
        ..of(Field::KvCacheUsage, "x")
    };
    assert_eq!(value(percent.clone(), "x 100.05\n"), Some(1.0));
    assert_eq!(value(percent, "x 101\n"), None);
}

const HISTOGRAM: &str = "\
# TYPE ttft histogram
ttft_bucket{m=\"a\",le=\"50\"} 1
ttft_bucket{m=\"a\",le=\"500\"} 3
ttft_bucket{m=\"a\",le=\"+Inf\"} 4
ttft_sum{m=\"a\"} 1500
ttft_count{m=\"a\"} 4
ttft_bucket{m=\"b\",le=\"50\"} 10
ttft_bucket{m=\"b\",le=\"500\"} 10
ttft_bucket{m=\"b\",le=\"+Inf\"} 10
ttft_sum{m=\"b\"} 500
ttft_count{m=\"b\"} 10
";

#[test]
fn histograms_become_seconds_and_are_added_up() {
    for (unit, one) in [
        (Unit::Seconds, 1.0),
        (Unit::Milliseconds, 1e3),
        (Unit::Microseconds, 1e6),
    ] {
        let series = MappedSeries {
            unit: Some(unit),
            ..of(Field::TimeToFirstToken, "ttft")
        };
        let expected = Histogram {
            count: 14.0,
            sum_seconds: 2000.0 / one,
            buckets: vec![(Some(50.0 / one), 11.0), (Some(500.0 / one), 13.0), (None, 14.0)],
        };
        let reading = read(&[series], HISTOGRAM);
        assert_eq!(reading.sample.latency.time_to_first_token, Some(expected), "{unit:?}");
        assert_eq!(reading.missing, [""; 0]);
    }
    let one = read(&[with(Field::QueueTime, "ttft", ("m", "a"))], HISTOGRAM).sample;
    assert_eq!(one.latency.queue_time.map(|histogram| histogram.count), Some(4.0));
}

#[test]
fn a_summary_gives_the_mean_alone() {
    let body = "t{quantile=\"0.5\"} 1\nt_sum 30\nt_count 4\n";
    let reading = read(&[of(Field::EndToEnd, "t")], body);
    let expected = Histogram {
        count: 4.0,
        sum_seconds: 30.0,
        buckets: vec![(None, 4.0)],
    };
    assert_eq!(reading.sample.latency.end_to_end, Some(expected));
    assert_eq!(reading.missing, [""; 0]);
}

#[test]
fn a_histogram_that_is_not_whole_is_missing() {
    for (body, note) in [
        (
            "t_bucket{le=\"+Inf\"} 1\nt_count 1\n",
            " (of _bucket, _sum and _count not all are there)",
        ),
        ("t_sum 1\n", " (of _bucket, _sum and _count not all are there)"),
        (
            "t_bucket{le=\"1\"} 1\nt_sum 1\nt_count 1\n",
            " (its value is not usable)",
        ),
        (
            "t_bucket{le=\"+Inf\"} 1\nt_sum NaN\nt_count 1\n",
            " (its value is not usable)",
        ),
        (
            "t_bucket{le=\"1\"} 2\nt_bucket{le=\"+Inf\"} 1\nt_sum 1\nt_count 1\n",
            " (its value is not usable)",
        ),
    ] {
        let reading = read(&[of(Field::EndToEnd, "t")], body);
        assert_eq!(reading.sample.latency.end_to_end, None, "{body}");
        assert_eq!(reading.missing, [format!("t{note}")], "{body}");
    }
}

#[test]
fn series_that_are_missing_are_named_with_what_is_like_them() {
    let queued = with(Field::Waiting, "home_requests", ("state", "queud"));
    let reading = read(&[queued, of(Field::Running, "home:cache_percent")], BODY);
    assert_eq!(
        reading.missing,
        ["home_requests{state=\"queud\"} (no series of this name has these labels)"]
    );
    assert_eq!(
        reading.hint,
        "correct spec.custom, or have the server publish the series"
    );
    assert_eq!((reading.sample.waiting, reading.sample.running), (None, Some(54.5)));

    let renamed = "home_queue_length 3\nhome_active 2\nhome_uptime 7\n";
    let reading = read(
        &[
            of(Field::Waiting, "home_queue_depth"),
            of(Field::Running, "home_active"),
        ],
        renamed,
    );
    assert_eq!(reading.missing, ["home_queue_depth"]);
    assert_eq!(
        reading.hint,
        "similar names are there: home_queue_length; correct spec.custom or the server"
    );
}

#[test]
fn what_has_not_been_counted_yet_is_absent_and_no_fault() {
    let series = [
        of(Field::Waiting, "queue"),
        of(Field::RequestsFailed, "failed_total"),
        of(Field::EndToEnd, "t"),
    ];
    // The second in the way of OpenMetrics.
    let declared = "# TYPE t histogram\n# TYPE failed counter\n# TYPE queue gauge\n";
    let reading = read(&series, &format!("{declared}queue 1\n"));
    assert_eq!((reading.sample.waiting, reading.missing.len()), (Some(1.0), 0));
    assert_eq!(
        (reading.sample.requests_failed_total, reading.sample.latency.end_to_end),
        (None, None)
    );
    let reading = read(&series, declared);
    assert_eq!(reading.missing, ["queue (declared, and without a value)"]);
    let reading = read(&series, "queue 1\n");
    assert_eq!(reading.missing, ["failed_total", "t"]);
}

#[test]
fn a_body_without_any_mapped_series_says_what_was_expected() {
    let series = [
        of(Field::Waiting, "home_queue_depth"),
        of(Field::Running, "b"),
        of(Field::MaxConcurrency, "c"),
        of(Field::KvCacheUsage, "d"),
    ];
    let error = BodyReader::custom(mapping(&series)).read(b"home_queue_len 1\nup 1\n");
    assert_eq!(
        error.expect_err("nothing is mapped").to_string(),
        "none of the series that spec.custom maps is there (home_queue_depth, b, c, and 1 more); similar names are: \
         home_queue_len; correct spec.custom, or check the port and the metrics path"
    );
    // The user's word stands: a body of an engine that is known is read by the mapping too.
    let reading = read(
        &[of(Field::Waiting, "vllm:num_requests_waiting")],
        "vllm:num_requests_waiting 2\n",
    );
    assert_eq!(
        (reading.sample.engine, reading.sample.waiting),
        (Some(Engine::Custom), Some(2.0))
    );
}

#[test]
fn without_a_mapping_nothing_is_guessed() {
    let read = |body: &[u8]| BodyReader::new(Some(Engine::Custom)).read(body);
    assert_eq!(read(b"vllm:num_requests_waiting 2\n"), Err(ReadError::NoMapping));
    assert_eq!(read(b""), Err(ReadError::Empty));
    let json = include_bytes!("bodies/trtllm-metrics.json");
    assert!(matches!(read(json), Err(ReadError::WrongEngine { .. })));
    assert!(matches!(read(b"<html>"), Err(ReadError::Malformed { .. })));
}

#[test]
fn the_layout_gives_the_same_as_a_full_parse() {
    let series = [
        with(Field::Waiting, "home_requests", ("state", "queued")),
        of(Field::TimeToFirstToken, "ttft"),
        of(Field::KvCapacity, "nothing"),
    ];
    let mut reader = BodyReader::custom(mapping(&series));
    let body = format!("{BODY}{HISTOGRAM}");
    reader.read(body.as_bytes()).expect("readable");
    for later in [
        body.replace("} 4\n", "} 9\n"),
        body.replace("} 3\n", "} NaN\n"),
        body.replace("} 10\n", "} 12.5\n"),
    ] {
        let reading = reader.read(later.as_bytes());
        assert!(reader.read_from_layout(), "{later}");
        assert_eq!(reading, BodyReader::custom(mapping(&series)).read(later.as_bytes()));
    }
    let other = body.replace("queued", "waits");
    assert_eq!(
        reader.read(other.as_bytes()),
        BodyReader::custom(mapping(&series)).read(other.as_bytes())
    );
    assert!(!reader.read_from_layout());
}

#[test]
fn the_fields_are_told_with_their_series() {
    let series = [
        with(Field::Waiting, "home_requests", ("state", "queued")),
        of(Field::TimeToFirstToken, "ttft"),
    ];
    let inspection = inspect_custom(mapping(&series), format!("{BODY}{HISTOGRAM}").as_bytes()).expect("readable");
    let fields: Vec<_> = inspection
        .fields
        .iter()
        .map(|source| (source.field, source.series))
        .collect();
    assert_eq!(fields, [("waiting", 2), ("latency.timeToFirstToken", 10)]);
    let ignored: Vec<_> = inspection.ignored.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(ignored, ["home:cache_percent", "home_tokens_total"]);
}

#[test]
fn mappings_keep_their_rules() {
    let new = |series: &[MappedSeries]| Mapping::new(series.to_vec(), None);
    let waiting = of(Field::Waiting, "a");
    let unit = |field, unit| MappedSeries {
        unit: Some(unit),
        ..of(field, "a")
    };
    let latency_with_aggregation = MappedSeries {
        aggregation: Some(Aggregation::Sum),
        ..of(Field::EndToEnd, "a")
    };
    let many_labels = MappedSeries {
        labels: (0..5).map(|n| (n.to_string(), String::new())).collect(),
        ..waiting.clone()
    };
    for (series, error) in [
        (vec![], MappingError::Empty),
        (
            vec![waiting.clone(), waiting.clone()],
            MappingError::Twice(Field::Waiting),
        ),
        (vec![of(Field::Awake, "a")], MappingError::NotMappable(Field::Awake)),
        (vec![of(Field::Waiting, "")], MappingError::Name(Field::Waiting)),
        (vec![of(Field::Waiting, "1a")], MappingError::Name(Field::Waiting)),
        (vec![of(Field::Waiting, "a-b")], MappingError::Name(Field::Waiting)),
        (
            vec![of(Field::Waiting, &"a".repeat(129))],
            MappingError::Name(Field::Waiting),
        ),
        (vec![many_labels], MappingError::Labels(Field::Waiting)),
        (
            vec![with(Field::Waiting, "a", ("", "x"))],
            MappingError::Labels(Field::Waiting),
        ),
        (
            vec![unit(Field::Waiting, Unit::Percent)],
            MappingError::Unit(Field::Waiting, Unit::Percent),
        ),
        (
            vec![unit(Field::EndToEnd, Unit::Ratio)],
            MappingError::Unit(Field::EndToEnd, Unit::Ratio),
        ),
        (
            vec![unit(Field::KvCacheUsage, Unit::Seconds)],
            MappingError::Unit(Field::KvCacheUsage, Unit::Seconds),
        ),
        (
            vec![latency_with_aggregation],
            MappingError::Aggregation(Field::EndToEnd),
        ),
    ] {
        assert_eq!(new(&series), Err(error), "{series:?}");
        assert!(error.to_string().starts_with("spec.custom"), "{error}");
    }
    assert_eq!(
        Mapping::new(vec![waiting.clone()], Some(String::new())),
        Err(MappingError::ModelLabel)
    );
    let large: Vec<MappedSeries> = Field::MAPPABLE
        .into_iter()
        .map(|field| MappedSeries {
            labels: (0..4).map(|n| (format!("{n:063}"), "x".repeat(128))).collect(),
            ..of(field, "a")
        })
        .collect();
    assert!(
        matches!(new(&large), Err(MappingError::TooLarge(14_535))),
        "{:?}",
        new(&large)
    );
    // What is left out means the same as what it stands for, in any order.
    let running = of(Field::Running, "b");
    let spelled_out = MappedSeries {
        aggregation: Some(Aggregation::Sum),
        ..waiting.clone()
    };
    assert_eq!(new(&[running.clone(), spelled_out]), new(&[waiting, running]));
}
