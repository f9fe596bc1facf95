//! Counts the instructions that reading a body takes, which no busy machine changes, and fails where they are 10 % above `instructions.txt`.
//!
//! `cargo xtask instructions`; with `--record` it writes the file. It needs valgrind, and says so where that is missing.

#[path = "../tests/bodies/mod.rs"]
mod bodies;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use infmon_engines::exposition::Exposition;
use infmon_engines::{BodyReader, Reading};

/// What is measured is told to the process under valgrind in this variable.
const CASE: &str = "INFMON_INSTRUCTIONS_OF";
const CASES: [&str; 6] = [
    "vllm-52k/lines",
    "vllm-52k/first",
    "vllm-52k/steady",
    "vllm-dp8-360k/lines",
    "vllm-dp8-360k/first",
    "vllm-dp8-360k/steady",
];
/// One case takes less than two seconds on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(30);
/// Above this much of what was recorded the check fails.
const MOST: f64 = 1.10;

fn main() -> ExitCode {
    if let Ok(case) = env::var(CASE) {
        run(&case);
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let counts: Vec<(&str, u64)> = CASES.iter().map(|&case| (case, count(case))).collect();
    if env::args().any(|arg| arg == "--record") {
        let text: String = counts.iter().map(|(case, count)| format!("{case} {count}\n")).collect();
        fs::write(&file, text).expect("the file of counts can be written");
    }
    let text = fs::read_to_string(&file).unwrap_or_default();
    let recorded: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(case, count)| Some((case, count.parse().ok()?)))
        .collect();
    let mut failed = false;
    for (case, count) in counts {
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let share = recorded.get(case).map(|&before| count as f64 / before as f64);
        let verdict = match share {
            None => "NOT RECORDED",
            Some(share) if share > MOST => "TOO MANY",
            Some(_) => "ok",
        };
        failed |= verdict != "ok";
        let share = share.map_or_else(String::new, |share| format!("{:+.1} %", (share - 1.0) * 100.0));
        println!("{case:<22} {count:>10} instructions {share:>9}  {verdict}");
    }
    if failed {
        println!(
            "more than 10 % above benches/instructions.txt: see what costs it, or record the new counts with --record"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The instructions of one case, counted by valgrind in a process of this program.
fn count(case: &str) -> u64 {
    let mut child = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
        ])
        .arg("--toggle-collect=*measured*")
        .arg(env::current_exe().expect("the path of this program"))
        .env(CASE, case)
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind starts");
    // It says a few lines, which the pipe holds.
    let begun = Instant::now();
    while child.try_wait().expect("a child can be asked for").is_none() {
        let in_time = begun.elapsed() <= LIMIT;
        if !in_time {
            let _ = child.kill();
            let _ = child.wait();
        }
        assert!(in_time, "{case} took longer than {LIMIT:?} under valgrind");
        thread::sleep(Duration::from_millis(20));
    }
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("what valgrind says is text");
    let counted = said.lines().find_map(|line| line.split_once("Collected :"));
    counted
        .and_then(|(_, count)| count.trim().parse().ok())
        .expect("valgrind says what it collected")
}

fn run(case: &str) {
    let (body, what) = case.split_once('/').unwrap_or_default();
    let body = match body {
        "vllm-52k" => bodies::VLLM.to_owned(),
        _ => bodies::vllm_dp8(),
    };
    let mut reader = BodyReader::new(None);
    let mut reading = Reading::default();
    if what == "steady" {
        let _ = reader.read_into(body.as_bytes(), &mut reading);
    }
    let later = bodies::later(&body, 1);
    match what {
        "lines" => measured_lines(black_box(later.as_bytes())),
        _ => measured_read(&mut reader, black_box(later.as_bytes()), &mut reading),
    }
    assert_eq!(reader.read_from_layout(), what == "steady", "{case}");
}

#[inline(never)]
fn measured_lines(body: &[u8]) {
    let mut exposition = Exposition::new(body);
    while let Ok(Some(item)) = exposition.next_item() {
        black_box(&item);
    }
}

#[inline(never)]
fn measured_read(reader: &mut BodyReader, body: &[u8], reading: &mut Reading) {
    reader.read_into(body, reading).expect("a body that can be read");
    black_box(reading);
}
