//! A KV cache that fills: the use of one server's cache over the last minute.

use super::slope::{rising_share, theil_sen};
use crate::Moment;
use std::collections::VecDeque;
use std::time::Duration;

const SLOT: Duration = Duration::from_secs(4);
/// One minute.
const POINTS_MAX: usize = 16;
/// Fewer points say nothing: 20 s.
const POINTS_LEAST: usize = 6;
const RISING_SHARE: f64 = 0.8;
/// Uses that differ by less are alike: single requests come and go.
const TIE: f64 = 0.01;
/// The least rise that counts.
const RISEN_LEAST: f64 = 0.05;

/// A cache that fills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheRise {
    /// Share of the cache per second.
    pub per_second: f64,
    /// Time until it is full at this rate.
    pub time_to_full: Duration,
}

/// Use of a KV cache over the last minute, 0-1.
#[derive(Clone, Debug, Default)]
pub struct CacheTrend {
    /// Slot of 4 s, and the newest use in it.
    points: VecDeque<(u32, f32)>,
}

impl CacheTrend {
    pub(crate) fn push(&mut self, taken: Moment, usage: Option<f64>) {
        let Some(usage) = usage.filter(|usage| (0.0..=1.0).contains(usage)) else {
            self.points.clear();
            return;
        };
        let slot = u32::try_from(taken.0.as_secs() / SLOT.as_secs()).unwrap_or(u32::MAX);
        self.points.pop_back_if(|(last, _)| *last == slot);
        self.points.push_back((slot, usage as f32));
        while self
            .points
            .front()
            .is_some_and(|(first, _)| slot.saturating_sub(*first) >= POINTS_MAX as u32)
        {
            self.points.pop_front();
        }
    }

    /// How fast it fills; `None` where it does not, or where too little is known.
    #[must_use]
    pub fn rise(&self) -> Option<CacheRise> {
        let seconds = |slot: u32| f64::from(slot) * SLOT.as_secs_f64();
        let points: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|(slot, usage)| (seconds(*slot), f64::from(*usage)))
            .collect();
        let ((_, first), (_, last)) = (points.first()?, points.last()?);
        if points.len() < POINTS_LEAST || last - first < RISEN_LEAST || rising_share(&points, TIE)? < RISING_SHARE {
            return None;
        }
        let per_second = theil_sen(&points).filter(|slope| *slope > 0.0)?;
        let seconds = ((1.0 - last) / per_second).clamp(0.0, 1e9);
        Some(CacheRise {
            per_second,
            time_to_full: Duration::from_secs_f64(seconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, usage: impl Fn(f64) -> f64) -> Option<CacheRise> {
        let mut trend = CacheTrend::default();
        for second in 0..=seconds {
            trend.push(Moment::from_secs(second), Some(usage(second as f64)));
        }
        trend.rise()
    }

    #[test]
    fn a_cache_that_fills_tells_when_it_is_full() {
        let rise = after(40, |second| 0.1 + 0.02 * second).unwrap();
        assert!((rise.per_second - 0.02).abs() < 1e-3, "{rise:?}");
        assert!((rise.time_to_full.as_secs_f64() - 5.0).abs() < 0.5, "{rise:?}");
    }

    #[test]
    fn what_does_not_fill() {
        assert_eq!(after(10, |second| 0.1 + 0.02 * second), None, "too short");
        assert_eq!(after(60, |_| 0.95), None, "full and still");
        assert_eq!(
            after(60, |second| 0.5 + 0.3 * (second / 3.0).sin()),
            None,
            "comes and goes"
        );
        assert_eq!(after(60, |second| 0.9 - 0.01 * second), None, "empties");
        let mut gone = CacheTrend::default();
        for second in 0..40 {
            gone.push(Moment::from_secs(second), Some(0.02 * second as f64));
        }
        gone.push(Moment::from_secs(41), None);
        assert_eq!(gone.rise(), None, "not told any more");
        assert!(gone.points.capacity() <= 32);
    }
}
