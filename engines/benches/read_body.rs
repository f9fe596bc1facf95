//! Reads a body of a running vLLM 0.32.0 server: parsed in full, and by its remembered layout.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use infmon_engines::BodyReader;

const BODY: &[u8] = include_bytes!("../tests/bodies/vllm-0.32.0-queued.prom");
const BODY_OF_TWO_RANKS: &[u8] = include_bytes!("../tests/bodies/vllm-dp2.txt");

fn read_body(c: &mut Criterion) {
    for (name, body) in [("vllm-0.32.0", BODY), ("vllm-dp2", BODY_OF_TWO_RANKS)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("full", |b| b.iter(|| BodyReader::new(None).read(black_box(body))));
        // Values change from scrape to scrape: in turn with a body of other values, of other lengths.
        let later = String::from_utf8_lossy(body)
            .replace(" 4.0\n", " 17.0\n")
            .replace(" 40.0\n", " 9.25\n")
            .into_bytes();
        let mut reader = BodyReader::new(None);
        let _ = (reader.read(body), reader.read(&later));
        assert!(reader.read_from_layout(), "the layouts are equal");
        let mut odd = false;
        group.bench_function("layout", |b| {
            b.iter(|| {
                odd = !odd;
                reader.read(black_box(if odd { body } else { &later }))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, read_body);
criterion_main!(benches);
