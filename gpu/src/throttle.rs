//! From cumulative throttle counters to duty: the share of time in which a cause held clocks down.
//!
//! The counters see what happens between two samples, which a bitmask read now and then does not. They are nanoseconds by NVML's header,
//! and nothing else says so: a duty above [`PLAUSIBLE_DUTY`] means that a unit or a clock is wrong, and is kept apart, never clamped.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sample::{ThrottleCause, ThrottleCounter};

/// Highest duty that is believed. Above 1 for jitter between our clock and the driver's.
pub const PLAUSIBLE_DUTY: f64 = 1.05;

const CAUSES: usize = ThrottleCause::ALL.len();

/// Duty of a cause, with the time it was measured over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CauseDuty {
    /// Why clocks were lost.
    pub cause: ThrottleCause,
    /// Share of that time, 0 to 1 (up to [`PLAUSIBLE_DUTY`] by jitter).
    pub duty: f64,
    /// Time that was covered by counters.
    pub over: Duration,
}

/// Duty by cause between two readings of the counters of one GPU, `elapsed` apart.
///
/// Empty when a counter went backwards: the driver was reloaded in between, and what was lost is not known. A cause that is missing in one
/// reading, or whose duty is not plausible ([`implausible`]), is left out.
#[must_use]
pub fn duty(previous: &[ThrottleCounter], current: &[ThrottleCounter], elapsed: Duration) -> Vec<(ThrottleCause, f64)> {
    duties(previous, current, elapsed)
        .filter(|(_, duty)| *duty <= PLAUSIBLE_DUTY)
        .collect()
}

/// What [`duty`] left out since it is more than the time allows: sign of a wrong unit, to be logged.
#[must_use]
pub fn implausible(
    previous: &[ThrottleCounter],
    current: &[ThrottleCounter],
    elapsed: Duration,
) -> Vec<(ThrottleCause, f64)> {
    duties(previous, current, elapsed)
        .filter(|(_, duty)| *duty > PLAUSIBLE_DUTY)
        .collect()
}

fn duties(
    previous: &[ThrottleCounter],
    current: &[ThrottleCounter],
    elapsed: Duration,
) -> impl Iterator<Item = (ThrottleCause, f64)> {
    let gained = Readings::new(previous)
        .gained_until(&Readings::new(current))
        .filter(|_| !elapsed.is_zero());
    ThrottleCause::ALL.into_iter().filter_map(move |cause| {
        let nanoseconds = gained?[cause as usize]?;
        Some((cause, nanoseconds as f64 / elapsed.as_nanos() as f64))
    })
}

/// The counters of one reading, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Readings([Option<u64>; CAUSES]);

impl Readings {
    fn new(counters: &[ThrottleCounter]) -> Self {
        let mut readings = Self::default();
        for counter in counters {
            readings.0[counter.cause as usize] = Some(counter.nanoseconds);
        }
        readings
    }

    /// Nanoseconds gained by cause; `None` after a reset. One counter that went backwards stands for all: they are reset together.
    fn gained_until(&self, later: &Self) -> Option<[Option<u64>; CAUSES]> {
        let mut gained = [None; CAUSES];
        for (gained, (before, after)) in gained.iter_mut().zip(self.0.iter().zip(later.0)) {
            if let (Some(before), Some(after)) = (before, after) {
                *gained = Some(after.checked_sub(*before)?);
            }
        }
        Some(gained)
    }
}

/// Throttle history of one GPU, for duties over the last seconds or minutes.
///
/// It is made for an operator that holds tens of thousands of GPUs: time without throttling is one entry however long it is, and time with
/// throttling is kept in steps of 1/64 of the history (about 60 bytes each).
#[derive(Clone, Debug)]
pub struct ThrottleWindow {
    retain: Duration,
    segments: VecDeque<Segment>,
    last: Option<(Duration, Readings)>,
}

/// Time between two readings, or several such in a row.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Microseconds since the caller's epoch.
    from: u64,
    to: u64,
    /// Bit by cause: whether it was counted.
    counted: u8,
    /// Microseconds gained by cause.
    gained: [u32; CAUSES],
}

impl Segment {
    fn length(&self) -> u64 {
        self.to - self.from
    }

    fn is_free(&self) -> bool {
        self.gained.iter().all(|gained| *gained == 0)
    }

    /// Takes over `next` if that loses nothing that counts.
    fn absorb(&mut self, next: &Self, step: u64) -> bool {
        let joined = self.to == next.from && self.counted == next.counted;
        let short = self.length() + next.length() <= step;
        if !joined || !(short || (self.is_free() && next.is_free())) {
            return false;
        }
        self.to = next.to;
        for (gained, more) in self.gained.iter_mut().zip(next.gained) {
            *gained = gained.saturating_add(more);
        }
        true
    }
}

impl ThrottleWindow {
    const STEPS: u32 = 64;
    /// Bound for a source that resets, pauses or changes what it counts all the time.
    const MAX_SEGMENTS: usize = 4 * Self::STEPS as usize;

    /// A history of `retain`, at most one hour: the longest window that will be asked for.
    #[must_use]
    pub fn new(retain: Duration) -> Self {
        Self {
            retain: retain.min(Duration::from_secs(3600)),
            segments: VecDeque::new(),
            last: None,
        }
    }

    /// Adds a reading taken at `at` (time since an epoch of the caller's choice). One that is not newer than the last is ignored; after a
    /// reset of the counters the time in between is not covered; after a pause longer than the history everything starts again.
    pub fn push(&mut self, at: Duration, counters: &[ThrottleCounter]) {
        let readings = Readings::new(counters);
        let Some((before, earlier)) = self.last else {
            self.last = Some((at, readings));
            return;
        };
        let Some(elapsed) = at.checked_sub(before).filter(|elapsed| !elapsed.is_zero()) else {
            return;
        };
        self.last = Some((at, readings));
        if elapsed > self.retain {
            self.segments.clear();
            return;
        }
        if let Some(gained) = earlier.gained_until(&readings) {
            self.append(segment(before, at, &gained));
        }
        self.forget(at);
    }

    /// When the newest reading was taken, by the caller's epoch.
    #[must_use]
    pub fn latest(&self) -> Option<Duration> {
        self.last.map(|(at, _)| at)
    }

    /// Duty by cause over the last `window` before the newest reading. `over` is the time that was covered: less than `window` while the
    /// history is young or has holes, slightly more where steps do not fit. A cause without any covered time is left out.
    #[must_use]
    pub fn duty_over(&self, window: Duration) -> Vec<CauseDuty> {
        self.duties(window).filter(|duty| duty.duty <= PLAUSIBLE_DUTY).collect()
    }

    /// What [`Self::duty_over`] left out since it is more than the time allows.
    #[must_use]
    pub fn implausible_over(&self, window: Duration) -> Vec<CauseDuty> {
        self.duties(window).filter(|duty| duty.duty > PLAUSIBLE_DUTY).collect()
    }

    fn duties(&self, window: Duration) -> impl Iterator<Item = CauseDuty> {
        let start = self.last.map_or(0, |(at, _)| microseconds(at.saturating_sub(window)));
        let mut covered = [0_u64; CAUSES];
        let mut gained = [0_u64; CAUSES];
        for segment in self.segments.iter().rev().take_while(|segment| segment.to > start) {
            // Where nothing was lost, a part is as good as the whole.
            let length = if segment.is_free() {
                segment.to - segment.from.max(start)
            } else {
                segment.length()
            };
            for cause in 0..CAUSES {
                if segment.counted & (1 << cause) != 0 {
                    covered[cause] += length;
                    gained[cause] += u64::from(segment.gained[cause]);
                }
            }
        }
        ThrottleCause::ALL.into_iter().filter_map(move |cause| {
            let (covered, gained) = (covered[cause as usize], gained[cause as usize]);
            let over = Duration::from_micros(covered);
            (covered > 0).then(|| CauseDuty {
                cause,
                duty: gained as f64 / covered as f64,
                over,
            })
        })
    }

    fn append(&mut self, next: Segment) {
        let step = microseconds(self.retain / Self::STEPS);
        if !self
            .segments
            .back_mut()
            .is_some_and(|newest| newest.absorb(&next, step))
        {
            self.segments.push_back(next);
        }
    }

    fn forget(&mut self, now: Duration) {
        let start = microseconds(now.saturating_sub(self.retain));
        while self.segments.front().is_some_and(|oldest| oldest.to <= start) || self.segments.len() > Self::MAX_SEGMENTS
        {
            self.segments.pop_front();
        }
        if let Some(oldest) = self.segments.front_mut().filter(|oldest| oldest.is_free()) {
            oldest.from = oldest.from.max(start);
        }
    }
}

fn segment(from: Duration, to: Duration, gained: &[Option<u64>; CAUSES]) -> Segment {
    let mut segment = Segment {
        from: microseconds(from),
        to: microseconds(to),
        counted: 0,
        gained: [0; CAUSES],
    };
    for (cause, nanoseconds) in gained.iter().enumerate() {
        if let Some(nanoseconds) = nanoseconds {
            segment.counted |= 1 << cause;
            // Saturates at 71 minutes, which is implausible within an hour anyway.
            segment.gained[cause] = u32::try_from(nanoseconds / 1_000).unwrap_or(u32::MAX);
        }
    }
    segment
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
