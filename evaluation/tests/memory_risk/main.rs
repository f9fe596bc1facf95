//! How well OOMRisk foretells that memory runs out, on generated series, beside the usual rule "more than 95 % of GPU memory in use".
//!
//! `cargo test --release -p infmon-evaluation --test memory_risk -- --nocapture` prints the table that docs/memory-risk.md has;
//! with `INFMON_UPDATE_GOLDEN=1` it writes it there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../judgement/scene.rs"]
mod scene;

mod random;
mod scenarios;

use infmon_crds::v1alpha1::{ConditionType, OomRisk, reason};
use infmon_samples::HostMemory;
use random::Random;
use scenarios::{EVERY, HOST_LIMIT, Kind, SCENARIOS, Series, TOTAL};
use scene::{Scene, finding, gpu, scene, server};
use std::fmt::Write;
use std::time::Duration;

const SEEDS: u64 = 10;
/// The rules were tuned with other ones (17 and multiples of 7919 above it).
const FIRST_SEED: u64 = 1_000_000;
/// An alarm that comes later before the end than this helps nobody.
const LEAD_LEAST_SECONDS: u64 = 60;
/// The usual rule, with the time that ours has for its threshold.
const LEVEL: f64 = 0.95;
const LEVEL_FOR_SECONDS: u64 = 30;
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/memory-risk.md");
const BEGIN: &str = "<!-- evaluation: begin -->\n";
const END: &str = "<!-- evaluation: end -->";

/// When a rule first raised an alarm, and for how long it stood.
#[derive(Clone, Copy, Default)]
struct Alarm {
    first_second: Option<u64>,
    seconds: u64,
}

impl Alarm {
    fn saw(&mut self, second: u64, raised: bool) {
        if raised {
            self.first_second.get_or_insert(second);
            self.seconds += EVERY;
        }
    }
}

/// Judges a series as the operator would, sample by sample.
fn ours(series: &Series) -> Alarm {
    let mut alarm = Alarm::default();
    let mut scene: Scene =
        scene([server("a").says(|sample| sample.engine = Some(series.engine))]).gpu(gpu("n1", 0, "GPU-1"));
    let start = scene.now;
    let bytes = |gib: f64| (gib * f64::from(1 << 30)) as u64;
    let answering = scene.servers[0].clone();
    for (place, sample) in series.samples.iter().enumerate() {
        let second = place as u64 * EVERY;
        scene.now = start + second;
        scene.gpus[0].sample.memory_total_bytes = Some(bytes(TOTAL));
        scene.gpus[0].sample.memory_free_bytes = Some(bytes(TOTAL - sample.used));
        scene.servers[0] = if sample.answers {
            answering.clone()
        } else {
            answering.clone().no_sample()
        };
        scene.servers[0].host = sample.host.map(|(held, cache)| HostMemory {
            age: Duration::ZERO,
            working_set_bytes: bytes(held),
            active_file_bytes: Some(bytes(cache)),
            limit_bytes: Some(bytes(HOST_LIMIT)),
            pressure_full_percent: Some(0.0),
            oom_kills_total: Some(0),
        });
        let verdict = scene.look();
        let found = finding(&verdict, ConditionType::OomRisk).reason;
        let of_memory = [
            reason::DEVICE_MEMORY_GROWTH,
            reason::LOW_HEADROOM,
            reason::HOST_MEMORY_PRESSURE,
        ];
        alarm.saw(
            second,
            verdict.oom_risk >= OomRisk::Medium && of_memory.contains(&found),
        );
    }
    alarm
}

/// More than 95 % in use.
fn usual(series: &Series) -> Alarm {
    let mut alarm = Alarm::default();
    let mut above_for = 0;
    for (place, sample) in series.samples.iter().enumerate() {
        above_for = if sample.used > LEVEL * TOTAL {
            above_for + EVERY
        } else {
            0
        };
        alarm.saw(place as u64 * EVERY, above_for > LEVEL_FOR_SECONDS);
    }
    alarm
}

/// Runs of one or several scenarios, by outcome.
#[derive(Clone, Default)]
struct Score {
    hits: usize,
    misses: usize,
    false_alarms: usize,
    quiet: usize,
    leads_seconds: Vec<u64>,
}

impl Score {
    fn count(&mut self, series: &Series, alarm: Alarm) {
        let end = series.samples.len() as u64 * EVERY;
        let lead = alarm.first_second.map(|first| end - first);
        match (series.runs_out, lead) {
            (true, Some(lead)) if lead >= LEAD_LEAST_SECONDS => {
                self.hits += 1;
                self.leads_seconds.push(lead);
            }
            (true, _) => self.misses += 1,
            (false, Some(_)) => self.false_alarms += 1,
            (false, None) => self.quiet += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.false_alarms += other.false_alarms;
        self.quiet += other.quiet;
        self.leads_seconds.extend(&other.leads_seconds);
    }

    fn precision(&self) -> f64 {
        self.hits as f64 / (self.hits + self.false_alarms) as f64
    }

    fn recall(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses) as f64
    }

    /// `10/10 foretold, 14 min before`, or `0/10 false`.
    fn cell(&self) -> String {
        let ended = self.hits + self.misses;
        let lasted = self.false_alarms + self.quiet;
        let mut leads = self.leads_seconds.clone();
        leads.sort_unstable();
        let mut parts = Vec::new();
        if ended > 0 {
            let lead = leads
                .get(leads.len() / 2)
                .map_or_else(String::new, |lead| format!(", {:.0} min before", *lead as f64 / 60.0));
            parts.push(format!("{}/{ended} foretold{lead}", self.hits));
        }
        if lasted > 0 {
            parts.push(format!("{}/{lasted} false", self.false_alarms));
        }
        parts.join("; ")
    }
}

#[test]
fn oom_risk_foretells_the_end_of_memory_and_nothing_else() {
    let mut table = String::from("| Series | OOMRisk | GPU memory > 95 % |\n|---|---|---|\n");
    // Of the documented ones, and with the hard ones.
    let (mut plain, mut all) = (
        [Score::default(), Score::default()],
        [Score::default(), Score::default()],
    );
    let mut wrong = Vec::new();
    for scenario in &SCENARIOS {
        let mut scores = [Score::default(), Score::default()];
        for seed in 0..SEEDS {
            let series = (scenario.make)(&mut Random::new(FIRST_SEED + seed));
            assert!(
                scenario.kind != Kind::Normal || !series.runs_out,
                "{}: runs out",
                scenario.name
            );
            assert!(
                scenario.kind != Kind::RunsOut || series.runs_out,
                "{}: does not run out",
                scenario.name
            );
            let before = scores[0].clone();
            scores[0].count(&series, ours(&series));
            scores[1].count(&series, usual(&series));
            let bad = scores[0].misses + scores[0].false_alarms > before.misses + before.false_alarms;
            if bad {
                wrong.push(format!("{} (seed {seed})", scenario.name));
            }
        }
        let name = if scenario.kind == Kind::Hard {
            format!("hard: {}", scenario.name)
        } else {
            scenario.name.to_owned()
        };
        writeln!(table, "| {name} | {} | {} |", scores[0].cell(), scores[1].cell()).unwrap();
        for (rule, score) in scores.iter().enumerate() {
            all[rule].add(score);
            if scenario.kind != Kind::Hard {
                plain[rule].add(score);
            }
        }
    }
    for (name, scores) in [("all but the hard ones", &plain), ("all", &all)] {
        let words = |score: &Score| format!("precision {:.2}, recall {:.2}", score.precision(), score.recall());
        writeln!(
            table,
            "| **{name}** | **{}** | {} |",
            words(&scores[0]),
            words(&scores[1])
        )
        .unwrap();
    }
    println!("{table}\nnot right: {wrong:#?}");

    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (told, after) = rest.split_once(END).unwrap();
    if std::env::var_os("INFMON_UPDATE_GOLDEN").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            told, table,
            "docs/memory-risk.md has other figures: run this with INFMON_UPDATE_GOLDEN=1"
        );
    }

    let [ours, usual] = &plain;
    assert_eq!(ours.false_alarms, 0, "false alarms on normal series: {wrong:?}");
    assert!(ours.recall() >= 0.9, "recall {:.3}", ours.recall());
    assert!(
        all[0].precision() >= 0.85,
        "precision with the hard ones {:.3}",
        all[0].precision()
    );
    assert!(
        usual.precision() < ours.precision() && usual.recall() < ours.recall(),
        "the usual rule does as well"
    );
}
