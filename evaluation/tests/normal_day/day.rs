//! A GPU and its server through a day, second by second, as GPUs behave that nothing is wrong with.
//!
//! What is normal, and where it was seen (captures of real GPUs in utkuozdemir/nvidia_gpu_exporter, NVIDIA's documents): the power-cap counter
//! runs under load below the limit and even at idle; sync boost and "below base clock" come in bursts; clocks move with load and drop at
//! idle; temperatures follow load and time of day; a driver that is loaded again starts its counters at 0; use swings within seconds.

use infmon_engines::{Engine, EngineSample};
use infmon_gpu::{
    DriverProblem, DriverState, GpuHealth, GpuProcess, GpuSample, RecoveryAction, ThrottleCause, ThrottleCounter,
};
use infmon_samples::{GpuIncident, GpuReport, Observation, Recognition, Report, TargetId, TargetReport};
use std::collections::BTreeMap;
use std::time::Duration;

/// A GPU model, as far as a day differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) memory_mib: u64,
    pub(crate) sm_clock_max: u32,
    pub(crate) power_limit: u32,
    pub(crate) idle_power: u32,
    /// Temperature at which it slows down.
    pub(crate) slowdown: i32,
    /// Temperature at full load in a warm room.
    pub(crate) hottest: i32,
    /// Share of time that its power-cap counter gains at idle, and at full load.
    pub(crate) power_cap: (f64, f64),
    /// It tells margin, ECC and a recovery action.
    pub(crate) data_centre: bool,
}

pub(crate) const MODELS: [Model; 6] = [
    model("A100", 81_920, 1_410, 400_000, 55_000, 89, 79, (0.0, 0.5), true),
    model("H100", 81_559, 1_980, 700_000, 110_000, 87, 74, (0.0, 0.6), true),
    model("H200", 143_771, 1_980, 700_000, 115_000, 87, 76, (0.0, 0.4), true),
    // Gained 3.9 s in 14.7 s at 110 to 145 W of 350 W.
    model("L40S", 46_068, 2_520, 350_000, 35_000, 90, 80, (0.27, 0.9), true),
    model("T4", 15_360, 1_590, 70_000, 10_000, 93, 86, (0.1, 0.95), true),
    // A GeForce gained 0.27 s at 39 W of 250 W and no load, and 8.8 s in 14.8 s on the way up.
    model("RTX 4090", 24_564, 3_105, 450_000, 25_000, 90, 77, (0.6, 0.7), false),
];

#[allow(clippy::too_many_arguments, reason = "a table row")]
const fn model(
    name: &'static str,
    memory_mib: u64,
    sm_clock_max: u32,
    power_limit: u32,
    idle_power: u32,
    slowdown: i32,
    hottest: i32,
    power_cap: (f64, f64),
    data_centre: bool,
) -> Model {
    Model {
        name,
        memory_mib,
        sm_clock_max,
        power_limit,
        idle_power,
        slowdown,
        hottest,
        power_cap,
        data_centre,
    }
}

/// A second as it comes out, for a fault to change.
#[derive(Debug)]
pub(crate) struct Second {
    pub(crate) gpu: GpuSample,
    /// Share of this second lost by cause.
    pub(crate) lost: BTreeMap<ThrottleCause, f64>,
    pub(crate) server: EngineSample,
    pub(crate) incidents: Vec<GpuIncident>,
    /// The driver does not answer for so long.
    pub(crate) hung: Option<u32>,
}

/// What went on in a day, to be sure that it was one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) reloads: u32,
    pub(crate) busy_seconds: u32,
    pub(crate) idle_seconds: u32,
    pub(crate) power_cap_seconds: f64,
    pub(crate) hottest: u32,
    pub(crate) least_margin: i32,
}

pub(crate) struct Day {
    model: Model,
    random: u64,
    counters: BTreeMap<ThrottleCause, f64>,
    energy: f64,
    temperature: f64,
    /// Requests that run, and until when.
    running: u32,
    phase_until: u64,
    boost_until: u64,
    away_until: u64,
    preemptions: f64,
    pid: u32,
    pub(crate) seen: Seen,
}

impl Day {
    pub(crate) fn new(model: Model, seed: u64) -> Self {
        Self {
            model,
            random: seed | 1,
            counters: BTreeMap::new(),
            energy: 0.0,
            temperature: 40.0,
            running: 0,
            phase_until: 0,
            boost_until: 0,
            away_until: 0,
            preemptions: 0.0,
            pid: 4_000,
            seen: Seen {
                least_margin: i32::MAX,
                ..Seen::default()
            },
        }
    }

    /// Between 0 and 1.
    fn chance(&mut self) -> f64 {
        // xorshift64: the same day for the same seed.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.chance()
    }

    /// The report of one second; `change` is what a fault does to it.
    pub(crate) fn report(&mut self, second: u64, change: impl FnOnce(&mut Second)) -> Report {
        self.next_phase(second);
        if self.away_until == 0 && self.chance() < 3.0 / 86_400.0 {
            self.reload(second);
        }
        let mut now = self.second(second);
        change(&mut now);
        for (cause, share) in &now.lost {
            *self.counters.entry(*cause).or_default() += share * 1e9;
        }
        now.gpu.throttle = ThrottleCause::ALL
            .map(|cause| ThrottleCounter {
                cause,
                nanoseconds: self.counters.get(&cause).copied().unwrap_or_default() as u64,
            })
            .to_vec();
        self.take_note(&now);
        if second < self.away_until {
            return self.away(&now);
        }
        self.away_until = 0;
        let age = Duration::from_millis(50 + (self.chance() * 900.0) as u64);
        let ready = DriverState::Ready {
            driver_version: "580.95.05".to_owned(),
        };
        Report {
            plan_revision: 1,
            gpus: GpuReport {
                driver: now
                    .hung
                    .map_or(ready, |for_seconds| DriverState::Unresponsive { for_seconds }),
                age: Some(Duration::from_millis(200)),
                samples: vec![now.gpu],
                outages: Vec::new(),
                incidents: now.incidents,
                switch_incidents: Vec::new(),
                owners: None,
                process_lookup: None,
            },
            targets: vec![target(now.server, age)],
        }
    }

    /// Load comes in phases of minutes: nothing, a few requests, a full server.
    fn next_phase(&mut self, second: u64) {
        if second < self.phase_until {
            return;
        }
        let by_day = 0.5 - 0.5 * (second as f64 / 86_400.0 * std::f64::consts::TAU).cos();
        let busy = self.chance() < 0.25 + 0.7 * by_day;
        self.running = if busy { self.between(1.0, 64.0) as u32 } else { 0 };
        self.phase_until = second + self.between(20.0, 900.0) as u64;
        if !busy && self.chance() < 0.1 {
            // The server was restarted.
            self.pid += 1;
        }
    }

    /// The driver is loaded again, for example after an update.
    fn reload(&mut self, second: u64) {
        self.away_until = second + 5 + self.between(0.0, 20.0) as u64;
        self.counters.clear();
        self.energy = 0.0;
        self.seen.reloads += 1;
    }

    fn second(&mut self, second: u64) -> Second {
        let model = self.model;
        let load = f64::from(self.running) / 64.0;
        // Use swings with the steps of the server; between batches it may be low for a second.
        let pauses = self.chance() < 0.02;
        let utilization = match self.running {
            0 => self.between(0.0, 1.0),
            _ if pauses => self.between(5.0, 40.0),
            _ => (self.between(58.0, 80.0) + 25.0 * load).min(100.0),
        };
        let draw = (0.15 + 0.85 * load.sqrt()) * utilization / 100.0;
        let power = f64::from(model.idle_power) + f64::from(model.power_limit - model.idle_power) * draw;
        let power = (power * self.between(0.95, 1.03)).min(f64::from(model.power_limit) * 1.01);
        let at_limit = power > 0.95 * f64::from(model.power_limit);
        let clock = match self.running {
            0 => self.between(0.15, 0.4),
            _ if at_limit => self.between(0.88, 0.97),
            _ => self.between(0.95, 1.0),
        } * f64::from(model.sm_clock_max);
        let room = 4.0 * (second as f64 / 86_400.0 * std::f64::consts::TAU).sin();
        let aim = 34.0 + room + (f64::from(model.hottest) - 40.0) * draw.min(1.0);
        self.temperature += (aim - self.temperature) / 45.0 + self.between(-0.4, 0.4);
        let celsius = self.temperature.clamp(20.0, f64::from(model.hottest)) as u32;
        self.energy += power / 1e3 * 1e3;
        let memory = model.memory_mib << 20;
        let used = memory / 10 * 9 + (self.chance() * 64.0) as u64 * (1 << 20);
        let some = |value: u64| model.data_centre.then_some(value);
        Second {
            gpu: GpuSample {
                mig_instances: None,
                index: 0,
                uuid: uuid(),
                minor_number: Some(0),
                name: model.name.to_owned(),
                memory_total_bytes: Some(memory),
                memory_free_bytes: Some(memory - used),
                memory_used_bytes: Some(used),
                utilization_percent: Some(utilization as u32),
                memory_utilization_percent: Some((utilization / 2.0) as u32),
                sm_clock_mhz: Some(clock as u32),
                sm_clock_max_mhz: Some(model.sm_clock_max),
                memory_clock_mhz: Some(2_619),
                power_milliwatts: Some(power as u32),
                power_limit_milliwatts: Some(model.power_limit),
                power_limit_default_milliwatts: Some(model.power_limit),
                energy_millijoules: Some(self.energy as u64),
                temperature_celsius: Some(celsius),
                temperature_margin_celsius: model.data_centre.then(|| model.slowdown - celsius as i32),
                memory_temperature_celsius: Some(celsius + 6),
                throttle: Vec::new(),
                clocks_event_reasons: Some(if self.running == 0 { 0x1 } else { 0x4 }),
                processes: Some(self.processes(used)),
                health: GpuHealth {
                    recovery_action: model.data_centre.then_some(RecoveryAction::None),
                    ecc_uncorrectable_volatile: some(0),
                    ecc_uncorrectable_aggregate: some(0),
                    row_remap_pending: model.data_centre.then_some(false),
                    row_remap_failed: model.data_centre.then_some(false),
                    xid_events: Some(true),
                    ..GpuHealth::default()
                },
            },
            lost: self.lost(second, load, at_limit),
            server: self.server(load),
            incidents: Vec::new(),
            hung: None,
        }
    }

    /// What is normal of the counters.
    fn lost(&mut self, second: u64, load: f64, at_limit: bool) -> BTreeMap<ThrottleCause, f64> {
        let (idle, full) = self.model.power_cap;
        let power_cap = if at_limit {
            full
        } else {
            idle + (full - idle) * load * 0.7
        };
        let power_cap = (power_cap * self.between(0.6, 1.2)).min(1.0);
        if self.chance() < 1.0 / 400.0 {
            self.boost_until = second + 1 + self.between(0.0, 3.0) as u64;
        }
        let boosting = second < self.boost_until;
        let mut lost = BTreeMap::from([
            (ThrottleCause::PowerCap, power_cap),
            (
                ThrottleCause::SyncBoost,
                if boosting { self.between(0.2, 0.9) } else { 0.0 },
            ),
            (
                ThrottleCause::BelowBaseClock,
                if self.running == 0 { 0.9 } else { 0.05 },
            ),
        ]);
        if self.chance() < 1.0 / 5_400.0 {
            // A blip, far below the threshold of 0.6 s in a minute.
            lost.insert(ThrottleCause::SoftwareThermal, self.between(0.02, 0.25));
        }
        lost
    }

    fn processes(&self, used: u64) -> Vec<GpuProcess> {
        let server = GpuProcess {
            pid: self.pid,
            used_bytes: Some(used),
            ..GpuProcess::default()
        };
        // Somebody looks with nvidia-smi or a notebook now and then.
        let guest = self.random.is_multiple_of(97).then_some(GpuProcess {
            pid: 9_999,
            ..GpuProcess::default()
        });
        std::iter::once(server).chain(guest).collect()
    }

    fn server(&mut self, load: f64) -> EngineSample {
        let waiting = if load > 0.9 {
            self.between(0.0, 4.0).floor()
        } else {
            0.0
        };
        if self.chance() < 1.0 / 600.0 {
            self.preemptions += 1.0;
        }
        EngineSample {
            engine: Some(Engine::Vllm),
            generation: "v1-0.12+".to_owned(),
            waiting: Some(waiting),
            running: Some(f64::from(self.running)),
            kv_cache_usage: Some((0.05 + 0.75 * load) * self.between(0.9, 1.05)),
            preemptions_total: Some(self.preemptions),
            ..EngineSample::default()
        }
    }

    fn away(&self, now: &Second) -> Report {
        Report {
            plan_revision: 1,
            gpus: GpuReport {
                driver: DriverState::Unavailable {
                    category: DriverProblem::DriverNotLoaded,
                    message: "the driver is not loaded".to_owned(),
                },
                ..GpuReport::default()
            },
            targets: vec![target(now.server.clone(), Duration::from_millis(300))],
        }
    }

    fn take_note(&mut self, now: &Second) {
        let seen = &mut self.seen;
        if self.running == 0 {
            seen.idle_seconds += 1;
        } else {
            seen.busy_seconds += 1;
        }
        seen.power_cap_seconds += now.lost.get(&ThrottleCause::PowerCap).copied().unwrap_or_default();
        seen.hottest = seen.hottest.max(now.gpu.temperature_celsius.unwrap_or_default());
        if let Some(margin) = now.gpu.temperature_margin_celsius {
            seen.least_margin = seen.least_margin.min(margin);
        }
    }
}

pub(crate) fn uuid() -> String {
    "GPU-5d7a1f00-0000-4000-8000-000000000000".to_owned()
}

fn target(sample: EngineSample, age: Duration) -> TargetReport {
    TargetReport {
        id: TargetId("server".to_owned()),
        last: Some(Observation {
            age,
            took: Duration::from_millis(3),
            sample,
            recognition: Recognition::default(),
        }),
        failure: None,
        host_memory: None,
    }
}
