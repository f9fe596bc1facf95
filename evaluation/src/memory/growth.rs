//! Growth of memory that does not stop: of a GPU, or of a pod on its host.
//!
//! What is looked at is the envelope of a series, its highest level so far: memory that was in use before and comes back is no growth, so that
//! a model that is loaded again or a load that comes in waves says nothing. On it, growth must go on for long enough, in several
//! separate steps, until now, and not slow down to nothing; one large step (an adapter, another program) begins the series anew.

use super::slope::{rising_share, theil_sen};
use crate::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Time of one point: the highest level in it.
const SLOT: Duration = Duration::from_secs(10);
/// Points kept: 15 minutes, 720 bytes.
const POINTS_MAX: usize = 90;
/// A hole of so many slots begins the series anew: nobody knows what was between.
const HOLE_SLOTS: u32 = 12;
/// Points needed to say anything: 90 s.
const POINTS_LEAST: usize = 10;
/// Growth must last so many slots. A model is loaded in less, from a disk that is not very slow.
const LASTS_SLOTS: u32 = 15;
/// Growth that comes in separate steps needs so many of them, each so many slots after the one before: a caching allocator grows in steps, and
/// two or three prove nothing.
const STEPS_LEAST: usize = 4;
/// Steps of more than this share of all memory are load, models, adapters, unless they are so many: leaks come in small pieces.
const LARGE_STEP_SHARE: f64 = 0.01;
const LARGE_STEPS_LEAST: usize = 6;
const STEP_APART_SLOTS: u32 = 3;
/// More than this share of all growth within one minute is a step, not a trend.
const STEP_SHARE: f64 = 0.6;
const STEP_SLOTS: usize = 6;
/// Share of the pairs of blocks that must rise. A block is as long as the longest pause of the growth, so that waves of load and steps of
/// an allocator do not hide what grows beneath them; there are so many at least.
const RISING_SHARE: f64 = 0.8;
const BLOCKS_LEAST: usize = 5;
/// Growth whose newer half added less than this share of what the older one did slows down, and is taken to go on slowing down.
const SLOWING_SHARE: f64 = 0.75;
/// In fewer separate steps a half may miss one by chance, and nothing is said of slowing down.
const SLOWING_STEPS_LEAST: usize = 8;
/// Growth has ended when nothing was added for so long: at least this, and longer than pauses before.
const ENDED_SLOTS: u32 = 6;
const ENDED_PAUSES: f64 = 1.5;
/// The least growth that counts, KiB, and as a share of all memory.
const GROWN_LEAST_KIB: f64 = 32.0 * 1024.0;
const GROWN_LEAST_SHARE: f64 = 0.001;
/// Levels that differ by less are alike, KiB, and as a share of all memory.
const TIE_KIB: f64 = 1024.0;
const TIE_SHARE: f64 = 0.0001;

/// Why growth cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsure {
    /// The series is too short, or has just begun anew.
    TooShort,
    /// Not every server on it answers yet, or some have not for long: what they take at their start is no trend.
    Starting,
}

/// What a series of memory in use says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// It does not grow, or not any more.
    Steady,
    /// It grows beyond all that it was before.
    Growing {
        /// How fast, bytes per second.
        bytes_per_second: f64,
        /// Time until nothing is free at this rate.
        time_to_exhaustion: Duration,
    },
    /// Nobody can say.
    Unknown(Unsure),
}

/// The highest level within one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    /// Number of the slot since the start of our time.
    slot: u32,
    used_kib: u32,
}

/// Memory in use over the last 15 minutes, one point every 10 s.
#[derive(Clone, Debug, Default)]
pub struct GrowthTrend {
    points: VecDeque<Point>,
    total_kib: u32,
}

impl GrowthTrend {
    /// Takes a sample in: bytes in use, of `total_bytes`. Another total than before begins the series anew.
    pub fn push(&mut self, taken: Moment, used_bytes: u64, total_bytes: u64) {
        let (slot, used_kib, total_kib) = (slot_of(taken), kib(used_bytes), kib(total_bytes));
        if total_kib != self.total_kib {
            self.points.clear();
            self.total_kib = total_kib;
        }
        let oldest = slot.saturating_sub(POINTS_MAX as u32 - 1);
        while self.points.front().is_some_and(|point| point.slot < oldest) {
            self.points.pop_front();
        }
        // All at once and no more: there are as many of these as GPUs in the cluster.
        self.points.reserve_exact(POINTS_MAX - self.points.len());
        match self.points.back_mut() {
            Some(last) if last.slot == slot => last.used_kib = last.used_kib.max(used_kib),
            Some(last) if last.slot > slot => {}
            Some(last) if slot - last.slot >= HOLE_SLOTS => {
                self.points.clear();
                self.points.push_back(Point { slot, used_kib });
            }
            _ => self.points.push_back(Point { slot, used_kib }),
        }
    }

    /// Whether the series is long enough to be judged as a whole.
    #[must_use]
    pub fn is_long_enough(&self) -> bool {
        self.points.len() >= POINTS_LEAST
    }

    /// Whether any level is above an earlier one by enough to count. Cheap, and false nearly always: what it excludes does not grow.
    #[must_use]
    pub fn may_grow(&self) -> bool {
        self.may_grow_in(&self.points)
    }

    /// How much the newest level is above the lowest since a moment, bytes; `None` without a point since then.
    #[must_use]
    pub fn grown_bytes(&self, since: Moment) -> Option<u64> {
        let from = first_slot(since);
        let newest = self.points.back().filter(|point| point.slot >= from)?;
        let here = self.points.iter().filter(|point| point.slot >= from);
        let lowest = here.map(|point| point.used_kib).min()?;
        Some(u64::from(newest.used_kib - lowest) << 10)
    }

    /// Judges the series since a moment; what was before it (the start of a server) does not count. `free_bytes` is what is free now.
    #[must_use]
    pub fn judge(&self, since: Moment, free_bytes: u64) -> Growth {
        let from = first_slot(since);
        let points: Vec<Point> = self.points.iter().filter(|point| point.slot >= from).copied().collect();
        if points.len() < POINTS_LEAST {
            return Growth::Unknown(Unsure::TooShort);
        }
        // What grows and is too young to last may be either.
        let young = points.len() <= LASTS_SLOTS as usize + 1 && self.may_grow_in(&points);
        let mut rest = points.as_slice();
        // Each turn takes a step off the front.
        while rest.len() >= POINTS_LEAST {
            match self.look(rest) {
                Look::Steady => break,
                Look::StepUntil(end) => rest = &rest[end..],
                Look::Growing {
                    kib_per_second,
                    still_kib,
                } => {
                    let free_kib = (free_bytes >> 10) as f64;
                    if still_kib < free_kib {
                        break;
                    }
                    let seconds = free_kib / kib_per_second;
                    return Growth::Growing {
                        bytes_per_second: kib_per_second * 1024.0,
                        // Slower than in a million years is the same as then.
                        time_to_exhaustion: Duration::from_secs_f64(seconds.clamp(0.0, 3e13)),
                    };
                }
            }
        }
        if young {
            Growth::Unknown(Unsure::TooShort)
        } else {
            Growth::Steady
        }
    }

    fn may_grow_in<'a>(&self, points: impl IntoIterator<Item = &'a Point>) -> bool {
        let mut lowest = u32::MAX;
        points.into_iter().any(|point| {
            lowest = lowest.min(point.used_kib);
            f64::from(point.used_kib - lowest) >= self.least_kib()
        })
    }

    fn least_kib(&self) -> f64 {
        GROWN_LEAST_KIB.max(f64::from(self.total_kib) * GROWN_LEAST_SHARE)
    }

    fn look(&self, points: &[Point]) -> Look {
        let envelope = envelope(points);
        let (Some(first), Some(last)) = (envelope.first(), envelope.last()) else {
            return Look::Steady;
        };
        let grown = last - first;
        if grown < self.least_kib() {
            return Look::Steady;
        }
        if let Some(end) = step(&envelope, grown) {
            return Look::StepUntil(end);
        }
        // Growth counts from its begin, so that a quiet time before it does not hide how fast it is.
        let begin = envelope
            .iter()
            .rposition(|level| level - first <= 0.05 * grown)
            .unwrap_or(0);
        let (points, envelope) = (&points[begin..], &envelope[begin..]);
        let tie = TIE_KIB.max(f64::from(self.total_kib) * TIE_SHARE);
        let rises = rises(points, envelope, tie);
        let large = LARGE_STEP_SHARE * f64::from(self.total_kib);
        let Some(pace) = pace(points, &rises, grown, large) else {
            return Look::Steady;
        };
        let blocks = blocks(points, pace.pause);
        if rising_share(&blocks, tie).is_none_or(|share| share < RISING_SHARE) {
            return Look::Steady;
        }
        let levels: Vec<(f64, f64)> = points
            .iter()
            .zip(envelope)
            .map(|(point, level)| (seconds(point.slot), *level))
            .collect();
        match rate(&levels, &rises) {
            Some(kib_per_second) if kib_per_second > 0.0 => Look::Growing {
                kib_per_second,
                still_kib: if pace.tells_slowing() {
                    still(&blocks)
                } else {
                    f64::INFINITY
                },
            },
            _ => Look::Steady,
        }
    }
}

enum Look {
    Steady,
    /// One step made most of it; what comes from this point on is to be looked at by itself.
    StepUntil(usize),
    Growing {
        kib_per_second: f64,
        /// What is added at most before growth that slows down comes to its end.
        still_kib: f64,
    },
}

fn envelope(points: &[Point]) -> Vec<f64> {
    let level = |highest: &mut u32, point: &Point| {
        *highest = point.used_kib.max(*highest);
        Some(f64::from(*highest))
    };
    points.iter().scan(0, level).collect()
}

/// The end of the steepest minute, where that made most of the growth of a longer time.
fn step(envelope: &[f64], grown: f64) -> Option<usize> {
    let rise = |from: usize| envelope.get(from + STEP_SLOTS).map(|level| level - envelope[from]);
    let (from, most) = (0..envelope.len())
        .filter_map(|from| Some((from, rise(from)?)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    // The level at the end of the step is the first of what comes after it.
    (most > STEP_SHARE * grown).then_some(from + STEP_SLOTS)
}

/// Slots at which the envelope had risen by more than a tie since the last such slot, and the first one.
fn rises(points: &[Point], envelope: &[f64], tie: f64) -> Vec<u32> {
    let mut level = envelope.first().copied().unwrap_or_default();
    let mut slots = Vec::new();
    for (point, now) in points.iter().zip(envelope) {
        if now - level > tie {
            level = *now;
            slots.push(point.slot);
        }
    }
    slots
}

/// How growth goes on.
struct Pace {
    /// Slots between two rises, at most.
    pause: u32,
    /// Steps apart from each other.
    steps: usize,
}

impl Pace {
    fn tells_slowing(&self) -> bool {
        self.pause <= STEP_APART_SLOTS || self.steps >= SLOWING_STEPS_LEAST
    }
}

/// The pace of growth that lasted for long enough, came in enough separate steps, and has not ended; `None` of any other.
fn pace(points: &[Point], rises: &[u32], grown: f64, large: f64) -> Option<Pace> {
    let (first, last, now) = (rises.first()?, rises.last()?, points.last()?);
    let mut steps = 0;
    let mut counted = None;
    for slot in rises {
        if counted.is_none_or(|before| slot - before >= STEP_APART_SLOTS) {
            steps += 1;
            counted = Some(*slot);
        }
    }
    let pause = rises.windows(2).map(|pair| pair[1] - pair[0]).max()?;
    let ended_after = f64::from(ENDED_SLOTS).max(ENDED_PAUSES * f64::from(pause));
    let lasts = last - first >= LASTS_SLOTS && f64::from(now.slot - last) <= ended_after;
    let needed = if grown > large * steps as f64 {
        LARGE_STEPS_LEAST
    } else {
        STEPS_LEAST
    };
    (lasts && steps >= needed).then_some(Pace { pause, steps })
}

/// The highest level of each so many points, the newest ones last and whole.
fn blocks(points: &[Point], pause: u32) -> Vec<(f64, f64)> {
    let length = (pause as usize).min(points.len() / BLOCKS_LEAST).max(1);
    let highest = |block: &[Point]| {
        let level = block.iter().map(|point| point.used_kib).max().unwrap_or(0);
        let slot = block.last().map_or(0, |point| point.slot);
        (seconds(slot), f64::from(level))
    };
    let mut blocks: Vec<(f64, f64)> = points.rchunks(length).map(highest).collect();
    blocks.reverse();
    blocks
}

/// What is added at most before growth that slows down comes to its end: as each half adds the same part of what the half before it did.
/// Without end where it does not slow down.
fn still(blocks: &[(f64, f64)]) -> f64 {
    let (Some((_, first)), Some((_, last))) = (blocks.first(), blocks.last()) else {
        return f64::INFINITY;
    };
    let (_, middle) = blocks[blocks.len() / 2];
    let (older, newer) = (middle - first, last - middle);
    let share = newer / older;
    if older > 0.0 && share < SLOWING_SHARE {
        newer * share / (1.0 - share)
    } else {
        f64::INFINITY
    }
}

/// KiB per second. Where the newer half has enough steps of its own, its rate is the one: growth that slows down or speeds up is told as it is
/// now. Otherwise the whole series', and no more than the newer half added.
fn rate(levels: &[(f64, f64)], rises: &[u32]) -> Option<f64> {
    let all = theil_sen(levels)?;
    let newer = &levels[levels.len() / 2..];
    let (from, level) = *newer.first()?;
    let (to, now) = *levels.last()?;
    let recent = rises.iter().filter(|slot| seconds(**slot) > from).count();
    if recent >= STEPS_LEAST {
        return theil_sen(newer).filter(|rate| *rate > 0.0).or(Some(all));
    }
    Some(all.min((now - level) / (to - from).max(1.0)))
}

fn slot_of(moment: Moment) -> u32 {
    u32::try_from(moment.0.as_secs() / SLOT.as_secs()).unwrap_or(u32::MAX)
}

/// The first slot that lies wholly after a moment.
fn first_slot(since: Moment) -> u32 {
    u32::try_from(since.0.as_secs().div_ceil(SLOT.as_secs())).unwrap_or(u32::MAX)
}

fn seconds(slot: u32) -> f64 {
    f64::from(slot) * SLOT.as_secs_f64()
}

/// Whole KiB; four TiB at most.
fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes >> 10).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
