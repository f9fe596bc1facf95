//! The memory of the GPUs: what is left, and whether it goes.
//!
//! Engines that reserve nearly all of it ahead make the level say nothing: with them little free memory counts only when more is taken.

use super::room::Room;
use super::{Sign, full_in};
use crate::evaluate::gpus::Serving;
use crate::evaluate::{Input, clears, seconds_of};
use crate::memory::{Growth, GrowthTrend, Unsure};
use crate::{Hold, Moment, TargetObservation};
use infmon_crds::v1alpha1::{InferenceMonitorSpec, OomRisk, reason};
use infmon_engines::Engine;
use std::time::Duration;

/// What a server takes of a GPU in its first minutes is its start: workspaces, graphs, the first requests of each length.
const WARM_UP: Duration = Duration::from_secs(120);
/// Memory that is full within so long is told.
const WARN_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Once told, it is over only when it would take so long.
const CLEAR_BEYOND: Duration = Duration::from_secs(45 * 60);
/// Memory that is full within so long is a high risk.
const SOON: Duration = Duration::from_secs(5 * 60);
/// Growth must be seen for so long, and be gone for as long.
pub(super) const GROWS_FOR: Duration = Duration::from_secs(30);
/// Growth beyond what an engine has reserved that counts where little is free.
const BEYOND_RESERVED_BYTES: u64 = 64 << 20;
/// Later than that nobody wants to be told.
const HORIZON: Duration = Duration::from_secs(24 * 3600);

/// Time for which little memory must be free.
pub(super) fn tight_for(spec: &InferenceMonitorSpec) -> Duration {
    seconds_of(spec.thresholds.gpu_memory_headroom_mib.for_seconds)
}

/// Memory that fills.
#[derive(Clone, Copy)]
struct Filling<'a> {
    room: Room<'a>,
    free_bytes: u64,
    bytes_per_second: f64,
    time_to_exhaustion: Duration,
}

/// What the GPUs say.
pub(super) struct Signs<'a> {
    /// Where the least memory that counts is free, and how much in bytes.
    pub(super) tightest: Option<(Room<'a>, u64)>,
    /// So little free memory is by design, and nothing takes more.
    reserved: bool,
    /// The GPU that is full first.
    filling: Option<Filling<'a>>,
    /// Why growth is not known of some GPU, where none is known to grow.
    unsure: Option<Unsure>,
}

impl<'a> Signs<'a> {
    pub(super) fn of(input: &Input<'_>, gpus: &'a Serving, headroom: Hold) -> Self {
        let bound = bound_bytes(input.spec);
        let mut signs = Self {
            tightest: None,
            reserved: false,
            filling: None,
            unsure: None,
        };
        for room in gpus.verdicts.iter().flat_map(Room::of) {
            let Some(free) = room.free() else {
                continue;
            };
            let trend = room.trend(input);
            let may_grow = trend.is_some_and(GrowthTrend::may_grow);
            // Whose servers they are is looked up only where it matters, which is seldom.
            let servers = (may_grow || free < bound).then(|| Servers::of(input, room));
            let growth = match (trend, &servers) {
                (Some(trend), Some(servers)) if may_grow => match servers.warm_since() {
                    Some(since) => trend.judge(since, free),
                    None => Growth::Unknown(Unsure::Starting),
                },
                (Some(trend), _) if trend.is_long_enough() => Growth::Steady,
                _ => Growth::Unknown(Unsure::TooShort),
            };
            match growth {
                Growth::Steady => {}
                Growth::Unknown(why) => signs.unsure = Some(why),
                Growth::Growing {
                    bytes_per_second,
                    time_to_exhaustion,
                } => {
                    let sooner = signs
                        .filling
                        .is_none_or(|known| time_to_exhaustion < known.time_to_exhaustion);
                    if sooner {
                        signs.filling = Some(Filling {
                            room,
                            free_bytes: free,
                            bytes_per_second,
                            time_to_exhaustion,
                        });
                    }
                }
            }
            let taken = servers
                .as_ref()
                .and_then(|servers| trend?.grown_bytes(servers.warm_since()?));
            // A finding that stood before a restart stands until it is known what was taken.
            let by_design = taken.map_or(!headroom.is_raised(), |taken| taken < BEYOND_RESERVED_BYTES);
            let reserved = free < bound && by_design && servers.is_some_and(|servers| servers.reserve_ahead);
            // What counts comes before what is by design.
            let before = (signs.reserved, signs.tightest.map_or(u64::MAX, |(_, free)| free));
            if signs.tightest.is_none() || (reserved, free) < before {
                signs.tightest = Some((room, free));
                signs.reserved = reserved;
            }
        }
        signs
    }

    pub(super) fn tight(&self, input: &Input<'_>, hold: Hold) -> Hold {
        let bound = bound_bytes(input.spec);
        let beyond = self.tightest.map(|(_, free)| free < bound && !self.reserved);
        hold.update(beyond, input.now, tight_for(input.spec))
    }

    pub(super) fn fills(&self, input: &Input<'_>, hold: Hold) -> Hold {
        let within = if hold.is_raised() { CLEAR_BEYOND } else { WARN_WITHIN };
        let beyond = match self.filling {
            Some(filling) if filling.time_to_exhaustion < within => Some(true),
            _ => self.growth_is_known().then_some(false),
        };
        hold.update(beyond, input.now, GROWS_FOR)
    }

    /// Whether the growth of every GPU is known, or one is known to grow.
    pub(super) fn growth_is_known(&self) -> bool {
        self.filling.is_some() || (self.tightest.is_some() && self.unsure.is_none())
    }

    /// Time until the first GPU is full.
    pub(super) fn exhaustion(&self) -> Option<Duration> {
        self.filling
            .map(|filling| filling.time_to_exhaustion)
            .filter(|time| *time < HORIZON)
    }

    pub(super) fn growth_sign(&self, hold: Hold) -> Option<Sign> {
        if !hold.is_raised() || !self.growth_is_known() {
            return None;
        }
        let filling = self.filling.filter(|filling| filling.time_to_exhaustion < CLEAR_BEYOND);
        let message = match filling {
            None => format!("GPU memory does not fill any more: {}.", clears(GROWS_FOR)),
            Some(filling) => format!(
                "{} fills beyond what was in use before, by {}: {} MiB free, {}. {} Next: see which process grows (nvidia-smi \
                 --query-compute-apps=pid,used_memory --format=csv) and restart it before that.",
                filling.room.label(),
                per_minute(filling.bytes_per_second),
                filling.free_bytes >> 20,
                full_in(filling.time_to_exhaustion),
                filling.room.serves()
            ),
        };
        Some(Sign {
            reason: reason::DEVICE_MEMORY_GROWTH,
            risk: match filling {
                Some(filling) if filling.time_to_exhaustion < SOON => OomRisk::High,
                _ => OomRisk::Medium,
            },
            message,
        })
    }

    pub(super) fn headroom_sign(&self, input: &Input<'_>, hold: Hold) -> Option<Sign> {
        let (room, free) = self.tightest.filter(|_| hold.is_raised())?;
        Some(Sign {
            reason: reason::LOW_HEADROOM,
            risk: OomRisk::Medium,
            message: headroom_message(input, room, free),
        })
    }

    /// What is said of the GPUs where nothing speaks for a risk.
    pub(super) fn calm_words(&self, input: &Input<'_>) -> String {
        let Some((_, free)) = self.tightest else {
            return "free GPU memory is not known".into();
        };
        let threshold = input.spec.thresholds.gpu_memory_headroom_mib.below;
        let reserved = if self.reserved {
            ", reserved ahead by the server and not growing"
        } else {
            ""
        };
        let fills = self
            .filling
            .filter(|filling| filling.time_to_exhaustion < HORIZON)
            .map_or_else(String::new, |filling| {
                format!(
                    ", {} fills by {} ({})",
                    filling.room.label(),
                    per_minute(filling.bytes_per_second),
                    full_in(filling.time_to_exhaustion)
                )
            });
        format!(
            "{} MiB of GPU memory free (threshold {threshold} MiB){reserved}{fills}",
            free >> 20
        )
    }
}

/// The servers of a GPU.
struct Servers {
    /// Since when the youngest of them has been answering; `None` where one does not answer.
    answering_since: Option<Moment>,
    /// All that are known are of an engine that reserves its memory ahead.
    reserve_ahead: bool,
}

impl Servers {
    fn of(input: &Input<'_>, room: Room<'_>) -> Self {
        let stale_after = input.spec.stale_after();
        let here = input
            .resolution
            .endpoints
            .iter()
            .filter(|endpoint| room.pods().contains(&endpoint.name));
        let known: Vec<Option<&TargetObservation>> = here
            .map(|endpoint| {
                let target = endpoint.target.as_ref()?;
                input
                    .observations
                    .target(&endpoint.place, &target.id)
                    .map(|(_, target)| target)
            })
            .collect();
        let answering = |target: &Option<&TargetObservation>| {
            let target = (*target)?;
            let (taken, _) = target.last.as_ref()?;
            target
                .answering_since
                .filter(|_| input.now.since(*taken) <= stale_after)
        };
        let since: Option<Vec<Moment>> = known.iter().map(answering).collect();
        let mut engines = known
            .iter()
            .filter_map(|target| target.as_ref()?.last.as_ref()?.1.sample.engine_behind())
            .peekable();
        Self {
            answering_since: since.and_then(|since| since.into_iter().max()),
            reserve_ahead: engines.peek().is_some() && engines.all(reserves_ahead),
        }
    }

    /// From when on growth counts.
    fn warm_since(&self) -> Option<Moment> {
        self.answering_since.map(|since| since.after(WARM_UP))
    }
}

/// Engines that take a share of the GPU for weights and KV cache when they start, and keep to it: vLLM (`gpu_memory_utilization`), SGLang
/// (`mem_fraction_static`), TensorRT-LLM (`free_gpu_memory_fraction`), LMDeploy (`cache_max_entry_count`).
const fn reserves_ahead(engine: Engine) -> bool {
    matches!(
        engine,
        Engine::Vllm | Engine::Sglang | Engine::TensorRtLlm | Engine::LmDeploy
    )
}

fn bound_bytes(spec: &InferenceMonitorSpec) -> u64 {
    u64::try_from(spec.thresholds.gpu_memory_headroom_mib.below).unwrap_or(0) << 20
}

/// `85 MiB/min`; less than ten with one digit.
pub(super) fn per_minute(bytes_per_second: f64) -> String {
    let mib = bytes_per_second * 60.0 / f64::from(1 << 20);
    if mib < 10.0 {
        format!("{mib:.1} MiB/min")
    } else {
        format!("{mib:.0} MiB/min")
    }
}

fn headroom_message(input: &Input<'_>, room: Room<'_>, free: u64) -> String {
    let threshold = &input.spec.thresholds.gpu_memory_headroom_mib;
    let total = room
        .total()
        .map_or_else(String::new, |total| format!(" of {} MiB", total >> 20));
    let numbers = format!(
        "{} has {} MiB free{total} (threshold {} MiB for {} s)",
        room.label(),
        free >> 20,
        threshold.below,
        threshold.for_seconds
    );
    if free >> 20 >= u64::try_from(threshold.below).unwrap_or(0) {
        return format!("{numbers}: {}.", clears(tight_for(input.spec)));
    }
    format!(
        "{numbers}. {} Next: see what else allocates there (nvidia-smi); vLLM: lower --gpu-memory-utilization.",
        room.serves()
    )
}
