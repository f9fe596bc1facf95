//! GPUs as they come, for tests and the demo. Names, memory, clocks, limits and what a board does not tell follow data sheets and public
//! `nvidia-smi -q` captures; the load is made up.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::codes::Cause;
use crate::scenario::{Gpu, Scenario};

/// A GPU model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A100 SXM4, 80 GB, 400 W: tells the temperature of its slowdown and not the margin.
    A100,
    /// H100 SXM5, 80 GB, 700 W.
    H100,
    /// H200 SXM5, 141 GB, 700 W.
    H200,
    /// B200, 180 GB, 1000 W: has settings of power smoothing, whose ids others use for throttle counters.
    B200,
    /// L40S, 48 GB, 350 W: no memory temperature.
    L40S,
    /// T4, 16 GB, 70 W: retired pages instead of rows, no margin, no memory temperature, no recovery action, no board limit and reliability
    /// counters.
    T4,
    /// GeForce RTX 4090, 24 GB, 450 W: no ECC, no memory temperature, no recovery action.
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
    heat: Heat,
    memory_temperature: Option<u32>,
    recovery_action: Option<u32>,
    /// How its memory is repaired; `None` has no ECC.
    repair: Option<Repair>,
    uncounted: &'static [Cause],
}

/// How a GPU tells how near it is to its slowdown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heat {
    /// Degrees left (Hopper, Ada and newer).
    Margin(i32),
    /// The temperature itself (before them).
    Slowdown(u32),
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
    /// Every model.
    pub const ALL: [Self; 7] = [
        Self::A100,
        Self::H100,
        Self::H200,
        Self::B200,
        Self::L40S,
        Self::T4,
        Self::Rtx4090,
    ];

    /// Name on a command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A100 => "A100",
            Self::H100 => "H100",
            Self::H200 => "H200",
            Self::B200 => "B200",
            Self::L40S => "L40S",
            Self::T4 => "T4",
            Self::Rtx4090 => "RTX4090",
        }
    }

    const fn facts(self) -> Facts {
        // The data centre's boards since Hopper are alike in what they tell.
        let data_centre = Facts {
            name: "NVIDIA H100 80GB HBM3",
            memory_mib: (81_559, 551),
            sm_clock: (1_980, 1_980),
            memory_clock: 2_619,
            power_mw: (420_000, 700_000),
            temperature: 52,
            heat: Heat::Margin(35),
            memory_temperature: Some(61),
            recovery_action: Some(0),
            repair: Some(Repair::Rows),
            uncounted: &[],
        };
        match self {
            Self::H100 => data_centre,
            Self::A100 => Facts {
                name: "NVIDIA A100-SXM4-80GB",
                memory_mib: (81_920, 624),
                sm_clock: (1_410, 1_410),
                memory_clock: 1_593,
                power_mw: (260_000, 400_000),
                temperature: 54,
                heat: Heat::Slowdown(89),
                ..data_centre
            },
            Self::H200 => Facts {
                name: "NVIDIA H200",
                memory_mib: (143_771, 640),
                memory_clock: 3_201,
                power_mw: (460_000, 700_000),
                ..data_centre
            },
            Self::B200 => Facts {
                name: "NVIDIA B200",
                memory_mib: (183_359, 718),
                sm_clock: (1_965, 1_965),
                memory_clock: 3_996,
                power_mw: (640_000, 1_000_000),
                ..data_centre
            },
            Self::L40S => Facts {
                name: "NVIDIA L40S",
                memory_mib: (46_068, 609),
                sm_clock: (2_520, 2_520),
                memory_clock: 9_000,
                power_mw: (210_000, 350_000),
                temperature: 55,
                heat: Heat::Margin(32),
                memory_temperature: None,
                ..data_centre
            },
            Self::T4 => Facts {
                name: "Tesla T4",
                memory_mib: (15_360, 445),
                sm_clock: (1_590, 1_590),
                memory_clock: 5_000,
                power_mw: (48_000, 70_000),
                temperature: 58,
                heat: Heat::Slowdown(93),
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
                heat: Heat::Margin(27),
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
        let (margin, slowdown) = match facts.heat {
            Heat::Margin(degrees) => (Some(degrees), None),
            Heat::Slowdown(celsius) => (None, Some(celsius)),
        };
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
            margin,
            slowdown,
            power_smoothing: self == Self::B200,
            memory_temperature: facts.memory_temperature,
            recovery_action: facts.recovery_action,
            clocks_event_reasons: None,
            throttle: facts
                .uncounted
                .iter()
                .map(|cause| (*cause, None))
                .collect::<BTreeMap<_, _>>(),
            processes: Vec::new(),
            mig: None,
            fail: Vec::new(),
            hang: Vec::new(),
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL
            .into_iter()
            .find(|profile| profile.as_str().eq_ignore_ascii_case(text));
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("no such GPU: {text}; there are {names}")
        })
    }
}

impl Scenario {
    /// `count` GPUs of one model under driver 580.95.05 (new field numbering).
    #[must_use]
    pub fn of(profile: Profile, count: u32) -> Self {
        Self::with_driver(profile, count, "580.95.05")
    }

    /// `count` GPUs of one model under a driver.
    #[must_use]
    pub fn with_driver(profile: Profile, count: u32, driver: &str) -> Self {
        (0..count).fold(Self::new(driver), |scenario, ordinal| {
            scenario.gpu(profile.gpu(ordinal))
        })
    }
}
