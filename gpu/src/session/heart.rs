//! Heartbeat and cost of driver calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::snapshot::{CallClass, CallStats};

/// Initialisation takes 1 to 3 s for each GPU without persistence mode, so it gets more time than other calls.
const INIT_PATIENCE: u32 = 6;

/// Tells readers on other threads which driver call is in progress, and since when.
#[derive(Debug)]
pub(super) struct Heart {
    epoch: Instant,
    /// 0 between calls; else microseconds since the epoch + 1, shifted left by one, and a bit for initialisation.
    call: AtomicU64,
}

impl Heart {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            call: AtomicU64::new(0),
        }
    }

    pub(super) fn begin(&self, class: CallClass, at: Instant) {
        let since = u64::try_from(at.duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX >> 1);
        let initialises = u64::from(class == CallClass::Init);
        self.call.store((since + 1) << 1 | initialises, Ordering::Release);
    }

    pub(super) fn rest(&self) {
        self.call.store(0, Ordering::Release);
    }

    /// How long the call in progress has been running, if that is longer than `patience`.
    pub(super) fn overdue(&self, patience: Duration) -> Option<Duration> {
        let call = self.call.load(Ordering::Acquire);
        let since = Duration::from_micros((call >> 1).checked_sub(1)?);
        let running = self.epoch.elapsed().saturating_sub(since);
        let patience = if call & 1 == 1 {
            patience * INIT_PATIENCE
        } else {
            patience
        };
        (running > patience).then_some(running)
    }
}

/// Times the driver calls of the session thread by class.
#[derive(Debug)]
pub(super) struct Calls<'a> {
    heart: &'a Heart,
    costs: [Cost; CallClass::ALL.len()],
}

/// Most calls take less than a microsecond or two, so that sums are kept finer than they are told.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    count: u64,
    total: Duration,
    longest: Duration,
    of_driver: Option<u64>,
}

impl<'a> Calls<'a> {
    pub(super) fn new(heart: &'a Heart) -> Self {
        Self {
            heart,
            costs: Default::default(),
        }
    }

    /// Every call into the driver goes through here.
    pub(super) fn run<T>(&mut self, class: CallClass, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        self.heart.begin(class, begun);
        let answer = call();
        self.heart.rest();
        let took = begun.elapsed();
        let cost = &mut self.costs[class as usize];
        cost.count += 1;
        cost.total += took;
        cost.longest = cost.longest.max(took);
        answer
    }

    /// Adds what the driver says that a call of this class took, microseconds.
    pub(super) fn reported(&mut self, class: CallClass, microseconds: Option<u64>) {
        if let Some(microseconds) = microseconds {
            let cost = &mut self.costs[class as usize];
            cost.of_driver = Some(cost.of_driver.unwrap_or(0).saturating_add(microseconds));
        }
    }

    pub(super) fn stats(&self) -> Vec<CallStats> {
        let costs = CallClass::ALL
            .into_iter()
            .zip(&self.costs)
            .filter(|(_, cost)| cost.count > 0);
        costs.map(|(class, cost)| stats(class, cost)).collect()
    }
}

fn stats(class: CallClass, cost: &Cost) -> CallStats {
    let microseconds = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    CallStats {
        class,
        count: cost.count,
        total_microseconds: microseconds(cost.total),
        max_microseconds: microseconds(cost.longest),
        driver_microseconds: cost.of_driver,
    }
}
