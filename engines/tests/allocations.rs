//! How much memory a reader takes and keeps.

#[path = "bodies/mod.rs"]
mod bodies;

use allocation_counter::measure;
use infmon_engines::exposition::Exposition;
use infmon_engines::{BodyReader, Field, MappedSeries, Mapping, Reading};

/// Every body of text, KServe's with the vLLM that it runs, and one larger than any.
fn all_bodies() -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = bodies::TEXTS.map(|(name, body)| (name, body.to_owned())).into();
    let kserve = include_str!("bodies/kserve-0.21.txt");
    all.push(("kserve", format!("{kserve}{}", include_str!("bodies/vllm-0.17.1.txt"))));
    all.push(("vllm-dp8-360k", bodies::vllm_dp8()));
    all
}

#[test]
fn every_body_of_text_is_among_them() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bodies");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder of bodies")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.ends_with(".txt") || name.ends_with(".prom"))
        // These are parts: KServe's own families, and one of vLLM.
        .filter(|name| name != "kserve-0.21.txt" && name != "vllm-lora-series.txt")
        .collect();
    let mut known: Vec<&str> = bodies::TEXTS.iter().map(|(name, _)| *name).collect();
    files.sort();
    known.sort_unstable();
    assert_eq!(files, known);
}

#[test]
fn the_lines_of_a_body_are_read_without_an_allocation() {
    for (name, body) in all_bodies() {
        let mut lines = 0;
        let taken = measure(|| {
            let mut exposition = Exposition::new(body.as_bytes());
            while let Ok(Some(_)) = exposition.next_item() {
                lines += 1;
            }
        });
        assert!(lines >= 2, "{name}: {lines}");
        assert_eq!(taken.count_total, 0, "{name}");
    }
}

#[test]
fn new_values_are_read_without_an_allocation() {
    for (name, body) in all_bodies() {
        let rounds: Vec<String> = (0..20).map(|round| bodies::later(&body, round)).collect();
        let mut reader = BodyReader::new(None);
        let mut reading = Reading::default();
        reader.read_into(body.as_bytes(), &mut reading).expect("readable");
        let fields = filled(&reading);
        for round in &rounds {
            let taken = measure(|| reader.read_into(round.as_bytes(), &mut reading).expect("readable"));
            assert!(reader.read_from_layout(), "{name}");
            assert_eq!(taken.count_total, 0, "{name}");
            let (now, missing) = filled(&reading);
            let lost: Vec<&String> = fields.0.iter().filter(|field| !now.contains(field)).collect();
            assert!(
                lost.is_empty(),
                "{name}: the values are such as a server gives: {lost:?}"
            );
            assert_eq!(missing, fields.1, "{name}");
            assert_eq!(
                BodyReader::new(None).read(round.as_bytes()).as_ref(),
                Ok(&reading),
                "{name}"
            );
        }
    }
}

/// The fields that a reading fills, and what it misses.
fn filled(reading: &Reading) -> (Vec<String>, Vec<String>) {
    let sample = serde_json::to_value(&reading.sample).expect("a sample is JSON");
    let fields = sample.as_object().expect("an object");
    let latency = fields.get("latency").and_then(|latency| latency.as_object());
    let names = fields
        .keys()
        .chain(latency.into_iter().flat_map(|latency| latency.keys()));
    (names.cloned().collect(), reading.missing.clone())
}

#[test]
fn new_values_of_a_mapping_are_read_without_an_allocation() {
    let series = |field, name: &str| MappedSeries {
        field,
        name: name.to_owned(),
        labels: [("engine".to_owned(), "0".to_owned())].into(),
        unit: None,
        aggregation: None,
    };
    let mapping = Mapping::new(
        vec![
            series(Field::Waiting, "vllm:num_requests_waiting"),
            series(Field::KvCacheUsage, "vllm:kv_cache_usage_perc"),
            series(Field::GeneratedTokens, "vllm:generation_tokens_total"),
            series(Field::TimeToFirstToken, "vllm:time_to_first_token_seconds"),
        ],
        Some("model_name".to_owned()),
    )
    .expect("a valid mapping");
    let mut reader = BodyReader::custom(mapping.clone());
    let mut reading = Reading::default();
    reader
        .read_into(bodies::VLLM.as_bytes(), &mut reading)
        .expect("readable");
    assert_eq!(reading.missing, [""; 0]);
    assert_eq!(reading.sample.models, ["tiny-random"]);
    assert!(reading.sample.latency.time_to_first_token.is_some());
    for round in 0..20 {
        let body = bodies::later(bodies::VLLM, round);
        let taken = measure(|| reader.read_into(body.as_bytes(), &mut reading).expect("readable"));
        assert!(reader.read_from_layout());
        assert_eq!(taken.count_total, 0);
        let anew = BodyReader::custom(mapping.clone()).read(body.as_bytes());
        assert_eq!(anew.as_ref(), Ok(&reading));
    }
}

#[test]
fn a_reader_keeps_less_than_twice_the_body() {
    for (name, body) in all_bodies() {
        let mut reader = BodyReader::new(None);
        let kept = measure(|| drop(reader.read(body.as_bytes())));
        let share = kept.bytes_current as f64 / body.len() as f64;
        let most = kept.bytes_max as f64 / body.len() as f64;
        println!(
            "{name}: {} bytes, keeps {} bytes, {share:.2} of the body; at most {most:.2} while it reads",
            body.len(),
            kept.bytes_current
        );
        assert!(share > 0.5 && share <= 2.0, "{name}: {share}");
        assert!(most <= 4.0, "{name}: {most}");
    }
}
