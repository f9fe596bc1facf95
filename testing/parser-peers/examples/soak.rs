//! Changes recorded bodies for as long as it is told and compares what the product, its slow reference and Prometheus find.
//!
//! `cargo run --release -p infmon-parser-peers --example soak -- SECONDS [SEED]`. The first body that is read in two ways ends it, and is
//! written to `target/soak-difference.txt`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use infmon_engines::BodyReader;
use infmon_parser_peers::{Changes, Prometheus, compare, compare_with_reference};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().context("usage: soak SECONDS [SEED]")?.parse()?;
    let seed = arguments.next().map_or(Ok(2), |seed| seed.parse())?;
    let mut prometheus = Prometheus::start()?;
    let mut changes = Changes::new(seed);
    let mut reader = BodyReader::new(None);
    let (mut bodies, mut bytes, mut accepted) = (0_u64, 0, 0_u64);
    let mut slowest = (Duration::ZERO, 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let body = changes.next_body();
        let start = Instant::now();
        let _ = BodyReader::new(None).read(&body);
        slowest = slowest.max((start.elapsed(), body.len()));
        let found = prometheus.series(&body)?;
        for checked in [compare(&body, &found), compare_with_reference(&body, &mut reader)] {
            if let Err(difference) = checked {
                fs::write("target/soak-difference.txt", &body)?;
                bail!("body {bodies} of seed {seed}, kept in target/soak-difference.txt, is read {difference}");
            }
        }
        bodies += 1;
        bytes += body.len();
        accepted += u64::from(found.text.is_ok() || found.openmetrics.is_ok());
    }
    println!(
        "{} s, seed {seed}: {bodies} bodies, {} MB, {accepted} of them accepted by Prometheus; no difference, no panic; slowest {:?} for {} bytes",
        begun.elapsed().as_secs(),
        bytes / 1_000_000,
        slowest.0,
        slowest.1,
    );
    Ok(())
}
