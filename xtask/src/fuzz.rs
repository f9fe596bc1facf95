//! `cargo xtask fuzz`: changes bodies by what they make the reader do, and looks whether it still agrees with itself and with a slow reference.

use crate::workspace;
use anyhow::Context;
use clap::{Args, ValueEnum};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The crate, a workspace of its own.
const FOLDER: &str = "fuzz";
/// What is built and found, below `target`.
const OUTPUT: &str = "target/fuzz";
/// Recorded bodies to begin with.
const BODIES: &str = "engines/tests/bodies";
/// libFuzzer's own instrumentation, which needs no nightly compiler.
const INSTRUMENTATION: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
    "-Ccodegen-units=1",
];
/// The largest input: above two of the longest bodies recorded. libFuzzer begins with small ones and lets them grow.
const MOST_BYTES: usize = 256 * 1024;

/// What is fuzzed, and for how long.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What the inputs are
    #[arg(long, value_enum, default_value = "body")]
    target: Target,
    /// Seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Reads this input instead: one that ended a run
    #[arg(long)]
    input: Option<PathBuf>,
}

/// A target of the crate.
#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Metrics, one body or two
    Body,
    /// What is told beside metrics, and metrics that are JSON
    Json,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Json => "json",
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let name = arguments.target.name();
    let program = build(name)?;
    let output = workspace::root().join(OUTPUT);
    let corpus = output.join("corpus").join(name);
    let findings = output.join("findings");
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    let mut command = workspace::program(program);
    match &arguments.input {
        Some(input) => command.arg(env::current_dir()?.join(input)),
        None => command
            .args([
                format!("-max_total_time={}", arguments.seconds),
                format!("-max_len={MOST_BYTES}"),
                // At this size a millisecond is usual; the machine may do other things.
                "-timeout=10".to_owned(),
                "-rss_limit_mb=2048".to_owned(),
                "-print_final_stats=1".to_owned(),
                format!("-dict={FOLDER}/words.dict"),
            ])
            .arg(prefixed("-artifact_prefix=", &findings.join("")))
            .arg(corpus)
            .arg(BODIES),
    };
    workspace::run(command)
}

/// Builds the target and gives its path.
fn build(name: &str) -> anyhow::Result<PathBuf> {
    let mut version = workspace::program(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    version.arg("-vV");
    let version = workspace::output(version)?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc -vV does not name its host")?;
    let mut command = workspace::cargo();
    // With a target named, build scripts are built without the flags.
    command
        .args(["build", "--release", "--locked", "--bin", name, "--target", host])
        .arg("--manifest-path")
        .arg(format!("{FOLDER}/Cargo.toml"))
        .arg("--target-dir")
        .arg(OUTPUT)
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}"));
    workspace::run(command)?;
    Ok(workspace::root().join(OUTPUT).join(host).join("release").join(name))
}

fn prefixed(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}
