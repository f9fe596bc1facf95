//! GPUs as they come, for tests and the demo. Names, memory, clocks and limits follow data sheets and
//! public `nvidia-smi -q` captures; the load is made up.

use std::collections::BTreeMap;

use crate::codes::Cause;
use crate::scenario::{Gpu, Scenario};

/// A GPU model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// H100 SXM5, 80 GB, 700 W.
    H100,
    /// L40S, 48 GB, 350 W.
    L40S,
    /// T4, 16 GB, 70 W: no margin temperature, no memory temperature, no board limit and reliability counters.
    T4,
    /// GeForce RTX 4090, 24 GB, 450 W: no memory temperature.
    Rtx4090,
}

/// What differs between the models.
struct Facts {
    name: &'static str,
    memory_mib: (u64, u64),
    sm_clock: (u32, u32),
    memory_clock: u32,
    power_mw: (u32, u32),
    temperature: u32,
    margin: Option<i32>,
    memory_temperature: Option<u32>,
    recovery_action: Option<u32>,
    /// How its memory is repaired; `None` has no ECC.
    repair: Option<Repair>,
    uncounted: &'static [Cause],
}

/// How a GPU takes faulty memory out of use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// Ampere and newer.
    Rows,
    /// Older ones.
    Pages,
}

impl Profile {
    const fn facts(self) -> Facts {
        match self {
            Self::H100 => Facts {
                name: "NVIDIA H100 80GB HBM3",
                memory_mib: (81_559, 551),
                sm_clock: (1_980, 1_980),
                memory_clock: 2_619,
                power_mw: (420_000, 700_000),
                temperature: 52,
                margin: Some(35),
                memory_temperature: Some(61),
                recovery_action: Some(0),
                repair: Some(Repair::Rows),
                uncounted: &[],
            },
            Self::L40S => Facts {
                name: "NVIDIA L40S",
                memory_mib: (46_068, 609),
                sm_clock: (2_520, 2_520),
                memory_clock: 9_000,
                power_mw: (210_000, 350_000),
                temperature: 55,
                margin: Some(32),
                memory_temperature: None,
                recovery_action: Some(0),
                repair: Some(Repair::Rows),
                uncounted: &[],
            },
            Self::T4 => Facts {
                name: "Tesla T4",
                memory_mib: (15_360, 445),
                sm_clock: (1_590, 1_590),
                memory_clock: 5_000,
                power_mw: (48_000, 70_000),
                temperature: 58,
                margin: None,
                memory_temperature: None,
                recovery_action: None,
                repair: Some(Repair::Pages),
                uncounted: &[Cause::BoardLimit, Cause::Reliability],
            },
            Self::Rtx4090 => Facts {
                name: "NVIDIA GeForce RTX 4090",
                memory_mib: (24_564, 347),
                sm_clock: (2_520, 3_105),
                memory_clock: 10_501,
                power_mw: (280_000, 450_000),
                temperature: 57,
                margin: Some(27),
                memory_temperature: None,
                recovery_action: None,
                repair: None,
                uncounted: &[],
            },
        }
    }

    /// One busy, healthy GPU of this model; `ordinal` makes its uuid.
    #[must_use]
    pub fn gpu(self, ordinal: u32) -> Gpu {
        let facts = self.facts();
        let (memory_total_mib, memory_reserved_mib) = facts.memory_mib;
        let by = |repair| (facts.repair == Some(repair)).then_some(0);
        let (rows, pages) = (by(Repair::Rows), by(Repair::Pages));
        Gpu {
            name: facts.name.to_owned(),
            uuid: format!("GPU-5d7a1f00-0000-4000-8000-{ordinal:012x}"),
            memory_total_mib,
            memory_reserved_mib,
            ecc_volatile: facts.repair.map(|_| 0),
            ecc_aggregate: facts.repair.map(|_| 0),
            remapped_rows: rows,
            remap_pending: rows,
            remap_failed: rows,
            retired_pages: pages,
            retirement_pending: pages,
            events: Vec::new(),
            memory_used_mib: memory_total_mib * 9 / 10,
            utilization: Some(87),
            memory_utilization: Some(41),
            sm_clock: Some(facts.sm_clock.0),
            sm_clock_max: Some(facts.sm_clock.1),
            memory_clock: Some(facts.memory_clock),
            power_mw: Some(facts.power_mw.0),
            power_limit_mw: Some(facts.power_mw.1),
            power_limit_default_mw: Some(facts.power_mw.1),
            temperature: Some(facts.temperature),
            margin: facts.margin,
            memory_temperature: facts.memory_temperature,
            recovery_action: facts.recovery_action,
            clocks_event_reasons: None,
            throttle: facts
                .uncounted
                .iter()
                .map(|cause| (*cause, None))
                .collect::<BTreeMap<_, _>>(),
            processes: Vec::new(),
            fail: Vec::new(),
            hang: Vec::new(),
        }
    }
}

impl Scenario {
    /// `count` GPUs of one model under driver 580.95.05 (new field numbering).
    #[must_use]
    pub fn of(profile: Profile, count: u32) -> Self {
        (0..count).fold(Self::new("580.95.05"), |scenario, ordinal| {
            scenario.gpu(profile.gpu(ordinal))
        })
    }
}
