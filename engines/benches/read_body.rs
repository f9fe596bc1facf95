//! Reads bodies of vLLM servers: the lines alone, the first body of a server, and those after it, whose values have changed.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

#[path = "../tests/bodies/mod.rs"]
mod bodies;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use infmon_engines::exposition::{Exposition, Item};
use infmon_engines::{BodyReader, Reading};

fn read_body(c: &mut Criterion) {
    let dp8 = bodies::vllm_dp8();
    for (name, body) in [
        ("vllm-52k", bodies::VLLM),
        ("vllm-dp2-100k", bodies::VLLM_DP2),
        ("vllm-dp8-360k", &dp8),
    ] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("lines", |b| b.iter(|| sum_of_values(black_box(body.as_bytes()))));
        group.bench_function("first", |b| {
            b.iter(|| {
                let mut reader = BodyReader::new(None);
                let reading = reader.read(black_box(body.as_bytes()));
                (reader, reading)
            });
        });
        let rounds: Vec<String> = (0..8).map(|round| bodies::later(body, round)).collect();
        let mut reader = BodyReader::new(None);
        let mut reading = Reading::default();
        for body in [body, &rounds[0]] {
            let _ = reader.read_into(body.as_bytes(), &mut reading);
        }
        assert!(reader.read_from_layout(), "the layouts are equal");
        let mut round = 0;
        group.bench_function("steady", |b| {
            b.iter(|| {
                round = (round + 1) % rounds.len();
                reader.read_into(black_box(rounds[round].as_bytes()), &mut reading)
            });
        });
        group.finish();
    }
}

fn sum_of_values(body: &[u8]) -> f64 {
    let mut sum = 0.0;
    let mut exposition = Exposition::new(body);
    while let Ok(Some(item)) = exposition.next_item() {
        if let Item::Sample(sample) = item {
            sum += sample.value;
        }
    }
    sum
}

criterion_group!(benches, read_body);
criterion_main!(benches);
