//! OOMRisk: the KV cache, the memory of the GPUs, the host memory of the pods. docs/memory-risk.md explains it to users.

mod cache;
mod device;
mod host;
mod room;

use super::gpus::Serving;
use super::{Finding, Input, Outcome, anchor, unknown};
use crate::mapping::unmapped;
use crate::words::{percent, seconds};
use crate::{Hold, Moment, Totals};
use infmon_crds::v1alpha1::{ConditionType, InferenceMonitorSpec, OomRisk, SampleField, reason};
use std::time::Duration;

/// Memory of the signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) kv_cache: Hold,
    pub(super) preemptions: Hold,
    pub(super) headroom: Hold,
    pub(super) growth: Hold,
    pub(super) host: Hold,
}

impl Holds {
    /// When a hold ends if nothing changes.
    pub(super) fn due(self, spec: &InferenceMonitorSpec) -> impl Iterator<Item = Option<Moment>> {
        let Self {
            kv_cache,
            preemptions,
            headroom,
            growth,
            host,
        } = self;
        [
            kv_cache.due(cache::full_for(spec)),
            preemptions.due(super::CLEAR_AFTER_SLOW),
            headroom.due(device::tight_for(spec)),
            growth.due(device::GROWS_FOR),
            host.due(host::PRESSED_FOR),
        ]
        .into_iter()
    }
}

/// What speaks for the risk.
struct Sign {
    reason: &'static str,
    risk: OomRisk,
    /// Numbers, place and next step.
    message: String,
}

/// The judgement of the condition.
pub(super) struct Judgement {
    pub(super) finding: Finding,
    pub(super) risk: OomRisk,
    /// The risk without memory that only fills: that is no load.
    pub(super) load_risk: OomRisk,
    /// Time until memory of a GPU or of a pod is full, where it grows towards that; the shortest.
    pub(super) exhaustion: Option<Duration>,
    pub(super) holds: Holds,
}

/// Everything that is looked at.
struct Signs<'a> {
    cache: cache::Signs,
    device: device::Signs<'a>,
    host: host::Signs<'a>,
}

pub(super) fn judge(input: &Input<'_>, totals: &Totals<'_>, gpus: &Serving, holds: Holds, settling: bool) -> Judgement {
    let signs = Signs {
        cache: cache::Signs::of(totals),
        device: device::Signs::of(input, gpus, holds.headroom),
        host: host::Signs::of(input),
    };
    let holds = Holds {
        kv_cache: signs.cache.full(input, holds.kv_cache),
        preemptions: signs.cache.evicting(input, holds.preemptions),
        headroom: signs.device.tight(input, holds.headroom),
        growth: signs.device.fills(input, holds.growth),
        host: signs.host.pressed(input, holds.host),
    };
    // What ends a server comes before what slows it down, where both are as bad.
    let filling = [
        signs.device.growth_sign(holds.growth),
        signs.host.sign(input, holds.host),
    ];
    let others = [
        signs.cache.exhaustion_sign(input, totals, holds),
        signs.cache.preemption_sign(holds),
        signs.device.headroom_sign(input, holds.headroom),
    ];
    let known = is_known(totals, &signs, holds);
    let calm_risk = if known { OomRisk::Low } else { OomRisk::Unknown };
    let load_risk = others.iter().flatten().map(|sign| sign.risk).max().unwrap_or(calm_risk);
    let found: Vec<Sign> = filling.into_iter().chain(others).flatten().collect();
    let exhaustion = signs
        .device
        .exhaustion()
        .into_iter()
        .chain(signs.host.exhaustion())
        .min();
    let worst = found.iter().map(|sign| sign.risk).max();
    let (finding, risk) = match worst {
        Some(risk) => (told(&found, risk), risk),
        None => (calm(input, totals, &signs, holds, settling), calm_risk),
    };
    Judgement {
        finding,
        risk,
        load_risk,
        exhaustion,
        holds,
    }
}

/// The first of the worst signs, and what else was found.
fn told(found: &[Sign], risk: OomRisk) -> Finding {
    let first = found.iter().position(|sign| sign.risk == risk).unwrap_or(0);
    let Sign { reason, message, .. } = &found[first];
    let others: Vec<&str> = found
        .iter()
        .map(|sign| sign.reason)
        .filter(|other| other != reason)
        // A full cache evicts: that is one thing.
        .filter(|other| *other != reason::PREEMPTIONS || *reason != reason::KV_CACHE_EXHAUSTION)
        .collect();
    let also = if others.is_empty() {
        String::new()
    } else {
        format!(" Also: {}.", others.join(", "))
    };
    Finding {
        kind: ConditionType::OomRisk,
        outcome: Outcome::True,
        reason,
        message: format!("{message}{also} {}", anchor(reason)),
    }
}

/// A sign that stood and is not known now may still stand; without fresh data from the servers nothing is said either.
fn is_known(totals: &Totals<'_>, signs: &Signs<'_>, holds: Holds) -> bool {
    totals.enough() && lost(signs, holds).is_none() && (signs.cache.usage.is_some() || signs.device.tightest.is_some())
}

/// A sign that stood before and is not known any more, as the subject of a sentence.
fn lost(signs: &Signs<'_>, holds: Holds) -> Option<&'static str> {
    [
        (holds.kv_cache, signs.cache.usage.is_some(), "KV cache use is"),
        (holds.preemptions, signs.cache.preemptions.is_some(), "Preemptions are"),
        (holds.headroom, signs.device.tightest.is_some(), "Free GPU memory is"),
        (
            holds.growth,
            signs.device.growth_is_known(),
            "Whether GPU memory still grows is",
        ),
        (holds.host, signs.host.is_known(), "The host memory of the pods is"),
    ]
    .into_iter()
    .find(|(hold, known, _)| hold.is_raised() && !known)
    .map(|(_, _, words)| words)
}

fn calm(input: &Input<'_>, totals: &Totals<'_>, signs: &Signs<'_>, holds: Holds, settling: bool) -> Finding {
    let kind = ConditionType::OomRisk;
    if !totals.enough() {
        return unknown(kind, totals, settling, "the use of memory");
    }
    let unmapped = unmapped(input.spec, &[SampleField::KvCacheUsage]);
    if !is_known(totals, signs, holds) {
        let message = match lost(signs, holds) {
            Some(words) => format!("{words} no longer known."),
            None => "Neither KV cache use nor free GPU memory is known.".to_owned(),
        };
        let next = unmapped
            .filter(|_| signs.cache.usage.is_none())
            .map_or_else(String::new, |next| format!(" Next: {next}."));
        return Finding {
            kind,
            outcome: Outcome::Unknown,
            reason: reason::SERIES_MISSING,
            message: format!("{message}{next} {}", anchor(reason::SERIES_MISSING)),
        };
    }
    let kv_cache = match signs.cache.usage {
        Some(usage) => format!(
            "KV cache at {} (threshold {}%)",
            percent(usage),
            input.spec.thresholds.kv_cache_usage_percent.above
        ),
        None => match unmapped {
            Some(unmapped) => format!("KV cache use is not known ({unmapped})"),
            None => "KV cache use is not published".into(),
        },
    };
    let parts = [
        Some(kv_cache),
        Some(signs.device.calm_words(input)),
        signs.host.calm_words(),
    ];
    Finding {
        kind,
        outcome: Outcome::False,
        reason: reason::BELOW_THRESHOLD,
        message: format!("{}.", parts.into_iter().flatten().collect::<Vec<_>>().join(", ")),
    }
}

/// `full in about 24 min`.
fn full_in(time: Duration) -> String {
    format!("full in about {}", seconds(time))
}
