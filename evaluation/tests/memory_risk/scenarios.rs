//! Generated series of memory, one hour each, with seeded noise. They imitate what is known of engines and allocators; none was recorded.

use crate::random::Random;
use infmon_engines::Engine;

/// Time between two samples, seconds.
pub(crate) const EVERY: u64 = 5;
/// Length of a series, seconds.
pub(crate) const LENGTH: u64 = 3600;
/// Memory of the GPU, GiB.
pub(crate) const TOTAL: f64 = 80.0;
/// Limit of the host memory, GiB.
pub(crate) const HOST_LIMIT: f64 = 64.0;
const MIB: f64 = 1.0 / 1024.0;

/// What is measured at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// GPU memory in use, GiB.
    pub(crate) used: f64,
    /// Host memory in use and the active page cache in it, GiB.
    pub(crate) host: Option<(f64, f64)>,
    /// The server answers.
    pub(crate) answers: bool,
}

/// One hour, or until memory runs out.
pub(crate) struct Series {
    pub(crate) engine: Engine,
    pub(crate) samples: Vec<Sample>,
    /// The last sample is the last before memory ran out.
    pub(crate) runs_out: bool,
}

/// How a scenario is scored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing ever is wrong: an alarm is a false one.
    Normal,
    /// Memory runs out after it filled for a while.
    RunsOut,
    /// Looks like the other: told apart only by what comes later, or not at all.
    Hard,
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) make: fn(&mut Random) -> Series,
}

pub(crate) const SCENARIOS: [Scenario; 19] = [
    scenario("plateau of an engine that reserves 92 %", Kind::Normal, |random| {
        plateau(random, 0.92, Engine::Vllm)
    }),
    scenario("plateau of an engine that reserves 99.5 %", Kind::Normal, |random| {
        plateau(random, 0.995, Engine::Vllm)
    }),
    scenario("loading and warm-up of a reserving engine", Kind::Normal, warm_up),
    scenario("step loads on a caching allocator", Kind::Normal, caching_steps),
    scenario("waves of load, memory given back", Kind::Normal, |random| {
        waves(random, 0.0)
    }),
    scenario("model reloads", Kind::Normal, reloads),
    scenario("neighbour that takes one block", Kind::Normal, neighbour_block),
    scenario(
        "host: page cache of a mapped model up to the limit",
        Kind::Normal,
        mapped_model,
    ),
    scenario("slow leak beside a reservation", Kind::RunsOut, slow_leak),
    scenario("fast leak", Kind::RunsOut, fast_leak),
    scenario("leak that begins later", Kind::RunsOut, late_leak),
    scenario("fragmentation creep in blocks", Kind::RunsOut, fragmentation),
    scenario("neighbour that grows", Kind::RunsOut, neighbour_grows),
    scenario("host: leak up to the limit", Kind::RunsOut, host_leak),
    scenario("host: fast leak up to the limit", Kind::RunsOut, fast_host_leak),
    scenario("growth that levels off at 93 %", Kind::Hard, levels_off),
    scenario("adapters loaded one after the other", Kind::Hard, adapters),
    scenario("leak beneath waves of load", Kind::Hard, |random| waves(random, 0.35)),
    scenario("one allocation that does not fit", Kind::Hard, too_large),
];

const fn scenario(name: &'static str, kind: Kind, make: fn(&mut Random) -> Series) -> Scenario {
    Scenario { name, kind, make }
}

/// A series from what is in use at each second; it ends where more is asked for than there is.
fn series(engine: Engine, mut used: impl FnMut(f64) -> Sample) -> Series {
    let mut samples = Vec::new();
    for second in (0..LENGTH).step_by(EVERY as usize) {
        let sample = used(second as f64);
        let host_full = sample.host.is_some_and(|(held, cache)| held - cache > HOST_LIMIT);
        if sample.used > TOTAL || host_full {
            return Series {
                engine,
                samples,
                runs_out: true,
            };
        }
        samples.push(sample);
    }
    Series {
        engine,
        samples,
        runs_out: false,
    }
}

fn gpu(used: f64) -> Sample {
    Sample {
        used,
        host: None,
        answers: true,
    }
}

/// What the first requests add: workspaces, handles, graphs of rare sizes.
fn first_requests(second: f64) -> f64 {
    0.15 * (1.0 - (-second / 45.0).exp())
}

fn plateau(random: &mut Random, share: f64, engine: Engine) -> Series {
    let level = share * TOTAL - 0.2;
    let mut noise = Random::new(random.seed());
    series(engine, |second| {
        gpu(level + first_requests(second) + noise.normal(4.0 * MIB))
    })
}

/// Weights, a pause to compile, the KV cache in one block, graphs, then the first requests.
fn warm_up(random: &mut Random) -> Series {
    let weights = random.between(20.0, 60.0);
    let load = random.between(40.0, 400.0);
    let compile = random.between(30.0, 120.0);
    let graphs = random.between(20.0, 60.0);
    let reserved = random.between(0.88, 0.94) * TOTAL;
    let mut noise = Random::new(random.seed());
    series(Engine::Vllm, |second| {
        let starts = load + compile + graphs;
        let used = if second < load {
            1.0 + weights * second / load
        } else if second < load + compile {
            1.0 + weights
        } else if second < starts {
            reserved + 1.5 * (second - load - compile) / graphs
        } else {
            reserved + 1.5 + 2.0 * first_requests(second - starts) + noise.normal(4.0 * MIB)
        };
        Sample {
            answers: second > starts,
            ..gpu(used)
        }
    })
}

/// Demand changes every few minutes; the allocator keeps the most it ever had.
fn caching_steps(random: &mut Random) -> Series {
    let mut held = random.between(30.0, 40.0);
    let mut next = 0.0;
    let mut random = Random::new(random.seed());
    series(Engine::Tgi, |second| {
        if second >= next {
            next = second + random.between(60.0, 240.0);
            // Sizes of batches have a bound, which soon is reached.
            held = held.max(random.between(25.0, 68.0));
        }
        gpu(held + random.normal(4.0 * MIB))
    })
}

/// Load that comes and goes, with a leak of so many GiB a minute below it.
fn waves(random: &mut Random, leak_per_minute: f64) -> Series {
    let period = random.between(90.0, 600.0);
    let height = if leak_per_minute > 0.0 {
        random.between(2.0, 8.0)
    } else {
        random.between(5.0, 40.0)
    };
    let base = if leak_per_minute > 0.0 { 60.0 } else { 25.0 };
    let mut noise = Random::new(random.seed());
    series(Engine::Tgi, |second| {
        let wave = (second * std::f64::consts::PI / period).sin().powi(2);
        gpu(base + height * wave + leak_per_minute * second / 60.0 + noise.normal(50.0 * MIB).abs())
    })
}

/// The server is asked for another model now and then: unloads, loads; half of such servers answer meanwhile.
fn reloads(random: &mut Random) -> Series {
    let answers = random.share() < 0.5;
    let mut random = Random::new(random.seed());
    let (mut from, mut to, mut begun, mut takes) = (2.0, 55.0, 0.0, 60.0);
    let mut next = random.between(600.0, 1200.0);
    series(Engine::Triton, |second| {
        if second >= next {
            next = second + random.between(600.0, 1200.0);
            (from, to) = (2.0, random.between(30.0, 70.0));
            (begun, takes) = (second, random.between(20.0, 140.0));
        }
        let loaded = ((second - begun) / takes).min(1.0);
        Sample {
            answers: answers || loaded >= 1.0,
            ..gpu(from + (to - from) * loaded + random.normal(4.0 * MIB))
        }
    })
}

fn neighbour_block(random: &mut Random) -> Series {
    let level = random.between(0.80, 0.90) * TOTAL;
    let (at, block) = (random.between(600.0, 3000.0), random.between(2.0, 6.0));
    let mut noise = Random::new(random.seed());
    series(Engine::Vllm, |second| {
        let taken = if second < at { 0.0 } else { block };
        gpu(level + taken + noise.normal(4.0 * MIB))
    })
}

fn slow_leak(random: &mut Random) -> Series {
    let free = random.between(1.0, 3.0);
    let minutes = random.between(25.0, 55.0);
    let mut noise = Random::new(random.seed());
    series(Engine::Vllm, |second| {
        gpu(TOTAL - free + free * second / (60.0 * minutes) + noise.normal(4.0 * MIB))
    })
}

fn fast_leak(random: &mut Random) -> Series {
    let free = random.between(5.0, 20.0);
    let minutes = random.between(8.0, 14.0);
    let mut noise = Random::new(random.seed());
    series(Engine::Tgi, |second| {
        gpu(TOTAL - free + free * second / (60.0 * minutes) + noise.normal(10.0 * MIB))
    })
}

fn late_leak(random: &mut Random) -> Series {
    let free = random.between(3.0, 10.0);
    let begins = random.between(900.0, 1800.0);
    let minutes = random.between(8.0, 25.0);
    let mut noise = Random::new(random.seed());
    series(Engine::Vllm, |second| {
        let grown = free * (second - begins).max(0.0) / (60.0 * minutes);
        gpu(TOTAL - free + grown + noise.normal(4.0 * MIB))
    })
}

/// Blocks that the allocator cannot use again: one after the other, at uneven times.
fn fragmentation(random: &mut Random) -> Series {
    let mut held = random.between(70.0, 75.0);
    let mut random = Random::new(random.seed());
    let mut next = random.between(60.0, 200.0);
    series(Engine::Tgi, |second| {
        if second >= next {
            next = second + random.between(30.0, 150.0);
            held += random.between(0.1, 0.6);
        }
        gpu(held)
    })
}

fn neighbour_grows(random: &mut Random) -> Series {
    let mut level = random.between(0.80, 0.92) * TOTAL;
    let begins = random.between(300.0, 1500.0);
    let mut random = Random::new(random.seed());
    let mut next = begins;
    series(Engine::Vllm, |second| {
        if second >= next {
            next = second + random.between(15.0, 60.0);
            level += random.between(0.1, 0.8);
        }
        gpu(level + random.normal(4.0 * MIB))
    })
}

fn host(held: f64, cache: f64) -> Sample {
    Sample {
        host: Some((held, cache)),
        ..gpu(0.9 * TOTAL)
    }
}

fn host_leak(random: &mut Random) -> Series {
    let free = random.between(10.0, 40.0);
    let minutes = random.between(20.0, 50.0);
    let mut noise = Random::new(random.seed());
    series(Engine::Vllm, |second| {
        host(
            HOST_LIMIT - free + free * second / (60.0 * minutes) + noise.normal(20.0 * MIB),
            0.0,
        )
    })
}

fn fast_host_leak(random: &mut Random) -> Series {
    let free = random.between(20.0, 50.0);
    let minutes = random.between(5.0, 10.0);
    let mut noise = Random::new(random.seed());
    series(Engine::Vllm, |second| {
        host(
            HOST_LIMIT - free + free * second / (60.0 * minutes) + noise.normal(20.0 * MIB),
            0.0,
        )
    })
}

/// Weights that are mapped fill the page cache up to the limit; the kernel takes it back as it needs.
fn mapped_model(random: &mut Random) -> Series {
    let held = random.between(8.0, 30.0);
    let mut noise = Random::new(random.seed());
    series(Engine::LlamaCpp, |second| {
        let cache = (HOST_LIMIT - held - 0.1) * (second / 600.0).min(1.0);
        host(held + cache + noise.normal(10.0 * MIB), cache)
    })
}

fn levels_off(random: &mut Random) -> Series {
    let grows = random.between(4.0, 10.0);
    let time = random.between(120.0, 600.0);
    let mut noise = Random::new(random.seed());
    series(Engine::Triton, |second| {
        gpu(0.93 * TOTAL - grows * (-second / time).exp() + noise.normal(4.0 * MIB))
    })
}

fn adapters(random: &mut Random) -> Series {
    let level = random.between(60.0, 66.0);
    let mut random = Random::new(random.seed());
    let times: Vec<f64> = (0..6).map(|_| random.between(300.0, 2400.0)).collect();
    let size = random.between(0.5, 1.5);
    series(Engine::Vllm, |second| {
        let loaded = times.iter().filter(|at| **at <= second).count();
        gpu(level + size * loaded as f64 + random.normal(4.0 * MIB))
    })
}

fn too_large(random: &mut Random) -> Series {
    let at = random.between(900.0, 3000.0);
    let mut noise = Random::new(random.seed());
    series(Engine::Tgi, |second| {
        let asked = if second < at { 0.0 } else { 30.0 };
        gpu(60.0 + asked + noise.normal(4.0 * MIB))
    })
}
