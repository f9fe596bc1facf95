//! How long a body takes, here and with others, in one run.

use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, iter};

use anyhow::{Context, bail};
use infmon_control_plane::Tools;
use infmon_engines::BodyReader;
use infmon_engines::exposition::{Exposition, Item};

use crate::bodies::{VLLM, later, vllm_dp8};

/// Values of a body that change from one reading to the next.
const ROUNDS: u64 = 8;

/// One way to read a body.
struct Row {
    name: String,
    nanoseconds: f64,
    allocations: String,
}

/// Measures every way to read two bodies for `seconds` each and gives the table.
///
/// # Errors
///
/// Where the Go program cannot be built, or refuses a body.
pub fn table(seconds: f64) -> anyhow::Result<String> {
    let peers = Tools::parser_peers()?;
    let folder = tempfile::tempdir()?;
    let mut text = String::new();
    for (title, body) in [
        ("vLLM, 52 KB", VLLM.to_owned()),
        ("vLLM with 8 data-parallel ranks, 360 KB", vllm_dp8()),
    ] {
        let rounds: Vec<String> = (0..ROUNDS).map(|round| later(&body, round)).collect();
        let mut rows = ours(&rounds, Duration::from_secs_f64(seconds))?;
        let mut command = Command::new(&peers);
        command.arg("bench").arg(seconds.to_string());
        for (number, body) in rounds.iter().enumerate() {
            let path = folder.path().join(number.to_string());
            fs::write(&path, body)?;
            command.arg(path);
        }
        let output = command.output().context("failed to run parser-peers")?;
        if !output.status.success() {
            bail!("parser-peers failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            let mut words = line.split('\t').map(str::to_owned);
            rows.push(Row {
                name: words.next().unwrap_or_default(),
                nanoseconds: words.next().unwrap_or_default().parse()?,
                allocations: words.next().unwrap_or_default(),
            });
        }
        let bytes = rounds.iter().map(String::len).sum::<usize>() / rounds.len();
        writeln!(text, "{title}: {bytes} bytes, {ROUNDS} bodies in turn, values changed")?;
        writeln!(
            text,
            "| way | us | GB/s | allocations | times the steady state |\n|---|---|---|---|---|"
        )?;
        let steady = rows.first().map_or(1.0, |row| row.nanoseconds);
        for Row {
            name,
            nanoseconds,
            allocations,
        } in rows
        {
            writeln!(
                text,
                "| {name} | {:.1} | {:.2} | {allocations} | {:.1} |",
                nanoseconds / 1e3,
                bytes as f64 / nanoseconds,
                nanoseconds / steady
            )?;
        }
        writeln!(text)?;
    }
    Ok(text)
}

fn ours(rounds: &[String], limit: Duration) -> anyhow::Result<Vec<Row>> {
    let first = rounds.first().context("no body")?;
    let mut reader = BodyReader::new(None);
    let mut reading = reader.read(first.as_bytes())?;
    let steady = fastest(rounds, limit, |body| {
        let _ = black_box(reader.read_into(body, &mut reading));
    });
    if !reader.read_from_layout() {
        bail!("the bodies differ in more than their values");
    }
    let full = fastest(rounds, limit, |body| {
        let mut reader = BodyReader::new(None);
        drop(black_box(reader.read(body)));
        black_box(reader);
    });
    let lines = fastest(rounds, limit, |body| {
        let mut exposition = Exposition::new(body);
        while let Ok(Some(item)) = exposition.next_item() {
            if let Item::Sample(sample) = item {
                black_box(sample.value);
            }
        }
    });
    let row = |name: &str, nanoseconds, allocations: &str| Row {
        name: name.to_owned(),
        nanoseconds,
        allocations: allocations.to_owned(),
    };
    Ok(vec![
        row("inference-monitor, steady state, to the sample", steady, "0"),
        row("inference-monitor, first body, to the sample, layout kept", full, "-"),
        row("inference-monitor, lines with labels checked, nothing kept", lines, "0"),
    ])
}

/// Nanoseconds per body of the fastest round over all bodies: what else the machine does takes time from some rounds, and gives it to none.
fn fastest(bodies: &[String], limit: Duration, mut read: impl FnMut(&[u8])) -> f64 {
    let begun = Instant::now();
    let rounds = iter::repeat_with(|| {
        let start = Instant::now();
        for body in bodies {
            read(black_box(body.as_bytes()));
        }
        start.elapsed()
    });
    let fastest = rounds
        .take_while(|_| begun.elapsed() < limit)
        .min()
        .unwrap_or_else(|| begun.elapsed());
    fastest.as_secs_f64() * 1e9 / bodies.len() as f64
}
