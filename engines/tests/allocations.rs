//! How much memory a reader takes and keeps.

#[path = "bodies/mod.rs"]
mod bodies;

use allocation_counter::measure;
use infmon_engines::exposition::Exposition;
use infmon_engines::{BodyReader, Field, MappedSeries, Mapping, Reading};

fn all_bodies() -> [(&'static str, String); 3] {
    [
        ("vllm-52k", bodies::VLLM.to_owned()),
        ("vllm-dp2-100k", bodies::VLLM_DP2.to_owned()),
        ("vllm-dp8-360k", bodies::vllm_dp8()),
    ]
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
        assert!(lines > 400, "{name}: {lines}");
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
        for round in &rounds {
            let taken = measure(|| reader.read_into(round.as_bytes(), &mut reading).expect("readable"));
            assert!(reader.read_from_layout(), "{name}");
            assert_eq!(taken.count_total, 0, "{name}");
            assert_eq!(
                BodyReader::new(None).read(round.as_bytes()).as_ref(),
                Ok(&reading),
                "{name}"
            );
        }
    }
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
            "{name}: keeps {} bytes, {share:.2} of the body; at most {most:.2} while it reads",
            kept.bytes_current
        );
        assert!(share > 0.5 && share <= 2.0, "{name}: {share}");
        assert!(most <= 4.0, "{name}: {most}");
    }
}
