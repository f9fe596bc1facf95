//! The host memory of the pods: near their limits, waiting for memory, or killed for it.

use super::device::per_minute;
use super::{Sign, full_in};
use crate::evaluate::{Input, clears};
use crate::memory::{Growth, HostObservation};
use crate::words::{percent, seconds};
use crate::{Hold, Moment, Place, ResolvedEndpoint};
use infmon_crds::v1alpha1::{OomRisk, reason};
use infmon_samples::HostMemory;
use std::time::Duration;

/// Share of the limit from which on it is near.
const NEAR: f64 = 0.90;
/// Once told, it is over below this one.
const NEAR_CLEARS: f64 = 0.85;
/// Share of the limit that is as good as all of it.
const FULL: f64 = 0.97;
/// Share of the time in which every task waits for memory that is too much, percent.
const STALLED_PERCENT: f64 = 10.0;
/// A kill is told for so long.
const KILLED_WITHIN: Duration = Duration::from_secs(10 * 60);
/// Memory that is full within so long is told.
const WARN_WITHIN: Duration = Duration::from_secs(30 * 60);
const SOON: Duration = Duration::from_secs(5 * 60);
/// What a server takes in its first minutes is its start.
const WARM_UP: Duration = Duration::from_secs(120);
/// It must be so for so long, and be over for as long. A kill counts at once.
pub(super) const PRESSED_FOR: Duration = Duration::from_secs(15);
/// The daemon reads every few seconds.
const FRESH_WITHIN: Duration = Duration::from_secs(20);

/// The host memory of one pod.
#[derive(Clone, Copy)]
struct Pod<'a> {
    endpoint: &'a ResolvedEndpoint,
    memory: HostMemory,
    /// Part of the limit that the kernel cannot take back, 0-1.
    share: Option<f64>,
    /// Percent of the time in which every task waits.
    stalled: Option<f64>,
    /// When a process was last killed, and how many were.
    killed: Option<(Moment, u64)>,
    growth: Option<(f64, Duration)>,
}

/// What the pods say.
pub(super) struct Signs<'a> {
    /// The pod that is worst off; `None` where no pod is read.
    worst: Option<Pod<'a>>,
}

impl<'a> Signs<'a> {
    pub(super) fn of(input: &Input<'a>) -> Self {
        let pods = input
            .resolution
            .endpoints
            .iter()
            .filter_map(|endpoint| pod(input, endpoint));
        Self {
            worst: pods.max_by(|a, b| {
                let share = |pod: &Pod<'_>| pod.share.unwrap_or(0.0);
                let risk = a.risk(true).cmp(&b.risk(true));
                risk.then_with(|| share(a).total_cmp(&share(b)))
            }),
        }
    }

    pub(super) const fn is_known(&self) -> bool {
        self.worst.is_some()
    }

    pub(super) fn exhaustion(&self) -> Option<Duration> {
        let (_, time) = self.worst?.growth?;
        Some(time)
    }

    pub(super) fn pressed(&self, input: &Input<'_>, hold: Hold) -> Hold {
        let killed = self.worst.is_some_and(|pod| pod.killed.is_some());
        let hold_for = if killed && !hold.is_raised() {
            Duration::ZERO
        } else {
            PRESSED_FOR
        };
        let beyond = self.worst.map(|pod| pod.risk(hold.is_raised()) > OomRisk::Low);
        hold.update(beyond, input.now, hold_for)
    }

    pub(super) fn sign(&self, input: &Input<'_>, hold: Hold) -> Option<Sign> {
        let pod = self.worst.filter(|_| hold.is_raised())?;
        let over = pod.risk(true) <= OomRisk::Low;
        let message = if over {
            format!("{}: {}.", pod.label(), clears(PRESSED_FOR))
        } else {
            pod.message(input)
        };
        Some(Sign {
            reason: reason::HOST_MEMORY_PRESSURE,
            risk: pod.risk(true).max(OomRisk::Medium),
            message,
        })
    }

    /// What is said where nothing speaks for a risk.
    pub(super) fn calm_words(&self) -> Option<String> {
        let share = self.worst?.share?;
        Some(format!(
            "{} of a pod's host memory in use (threshold {}%)",
            percent(share),
            NEAR * 100.0
        ))
    }
}

impl Pod<'_> {
    fn risk(&self, stands: bool) -> OomRisk {
        let near = if stands { NEAR_CLEARS } else { NEAR };
        let share = |bound: f64| self.share.is_some_and(|share| share >= bound);
        let within = |time: Duration| self.growth.is_some_and(|(_, full)| full < time);
        let stalled = self.stalled.is_some_and(|stalled| stalled > STALLED_PERCENT);
        if share(FULL) || stalled || self.killed.is_some() || within(SOON) {
            OomRisk::High
        } else if share(near) || within(WARN_WITHIN) {
            OomRisk::Medium
        } else {
            OomRisk::Low
        }
    }

    /// `Pod vllm-0 on node n1`.
    fn label(&self) -> String {
        match &self.endpoint.place {
            Place::Node(node) => format!("Pod {} on node {node}", self.endpoint.name),
            Place::Anywhere | Place::Nowhere => format!("Pod {}", self.endpoint.name),
        }
    }

    fn message(&self, input: &Input<'_>) -> String {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let held = self.memory.held_bytes();
        let level = match self.memory.limit_bytes.zip(self.share) {
            Some((limit, share)) => format!(
                "{:.1} of {:.1} GiB of host memory ({}, threshold {}%)",
                gib(held),
                gib(limit),
                percent(share),
                NEAR * 100.0
            ),
            None => format!("{:.1} GiB of host memory, without a limit", gib(held)),
        };
        let stalled = self
            .stalled
            .filter(|stalled| *stalled > STALLED_PERCENT)
            .map_or_else(String::new, |stalled| {
                format!(", waits for memory {stalled:.0}% of the time (threshold {STALLED_PERCENT}%)")
            });
        let growth = self
            .growth
            .filter(|(_, time)| *time < WARN_WITHIN)
            .map_or_else(String::new, |(rate, time)| {
                format!(", grows by {} ({})", per_minute(rate), full_in(time))
            });
        let killed = self.killed.map_or_else(String::new, |(at, count)| {
            let processes = if count == 1 {
                "a process".to_owned()
            } else {
                format!("{count} processes")
            };
            format!(
                ", and the kernel killed {processes} of it for lack of memory, {} ago",
                seconds(input.now.since(at))
            )
        });
        format!(
            "{} holds {level}{growth}{stalled}{killed}. Next: raise resources.limits.memory of its containers, or find what grows there.",
            self.label()
        )
    }
}

fn pod<'a>(input: &Input<'a>, endpoint: &'a ResolvedEndpoint) -> Option<Pod<'a>> {
    let target = endpoint.target.as_ref()?;
    let (_, known) = input.observations.target(&endpoint.place, &target.id)?;
    let host: &HostObservation = known.host.as_deref()?;
    let (taken, memory) = host.last?;
    let stale_after = input.spec.stale_after().max(FRESH_WITHIN);
    if input.now.since(taken) > stale_after {
        return None;
    }
    let held = memory.held_bytes();
    let share = memory
        .limit_bytes
        .filter(|limit| *limit > 0)
        .map(|limit| held as f64 / limit as f64);
    let growth = memory.limit_bytes.filter(|_| host.trend.may_grow()).and_then(|limit| {
        let since = known.answering_since?.after(WARM_UP);
        match host.trend.judge(since, limit.saturating_sub(held)) {
            Growth::Growing {
                bytes_per_second,
                time_to_exhaustion,
            } => Some((bytes_per_second, time_to_exhaustion)),
            Growth::Steady | Growth::Unknown(_) => None,
        }
    });
    Some(Pod {
        endpoint,
        memory,
        share,
        stalled: memory
            .pressure_full_percent
            .filter(|percent| (0.0..=100.0).contains(percent)),
        killed: host.killed.filter(|(at, _)| input.now.since(*at) < KILLED_WITHIN),
        growth,
    })
}
