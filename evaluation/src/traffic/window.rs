//! How much the counters of one server grew over the last minute, and its latencies over the last half of it.

use super::cells::{
    COUNTERS, Counter, buckets_place, comparable, count_place, number_reasons, packed, reason_place, row, sum_place,
    unpacked, usable,
};
use super::{LatencyKind, Part};
use crate::Moment;
use infmon_engines::EngineSample;
use std::collections::VecDeque;
use std::time::Duration;

/// How far back counters are looked at, at most.
const WINDOW: Duration = Duration::from_secs(60);
/// The same for latencies. Half of the default `forSeconds`, so that a rush that is over raises nothing after it.
pub(crate) const LATENCY_WINDOW: Duration = Duration::from_secs(30);
/// What is forgotten at once: twelve rows per server are kept.
const SLOT: Duration = Duration::from_secs(5);
/// A hole in the samples of this length starts the window anew: nobody can say when in it the counters grew. Longer than the longest
/// sample period.
const HOLE: Duration = Duration::from_secs(120);

/// Growth since a moment, packed.
#[derive(Clone, Debug)]
struct Slot {
    from: Moment,
    grown: Box<[u8]>,
}

/// Growth of the counters of one server. Begins anew when a counter goes backwards (restart of the server) or the server gives other
/// counters than before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Begin of the part that has no slot yet, and of the newest sample; `None` before the first sample.
    open: Option<(Moment, Moment)>,
    /// Growth in the open part.
    open_grown: Vec<u64>,
    /// Growth in all slots and the open part.
    grown: Vec<u64>,
    slots: VecDeque<Slot>,
    /// The oldest slots, which only have counters.
    without_latencies: usize,
    /// Reasons that requests ended for, in the order of their places in a row.
    reasons: Vec<String>,
}

impl Window {
    /// Takes a newer sample in.
    pub(crate) fn push(&mut self, previous: Option<&EngineSample>, taken: Moment, sample: &EngineSample) {
        let same_reasons = number_reasons(&mut self.reasons, sample);
        let growth = previous
            .zip(self.open)
            .filter(|(previous, (_, newest))| {
                taken.since(*newest) < HOLE && comparable(previous, sample) && same_reasons
            })
            .and_then(|(previous, _)| growth(&row(previous, &self.reasons), &row(sample, &self.reasons)));
        let (Some(growth), Some((from, _))) = (growth, self.open) else {
            *self = Self {
                open: Some((taken, taken)),
                ..Self::default()
            };
            number_reasons(&mut self.reasons, sample);
            return;
        };
        add(&mut self.open_grown, &growth);
        add(&mut self.grown, &growth);
        self.open = Some((from, taken));
        if taken.since(from) >= SLOT {
            self.slots.push_back(Slot {
                from,
                grown: packed(&self.open_grown),
            });
            self.open_grown.fill(0);
            self.open = Some((taken, taken));
        }
        // Where a sample comes once a minute, its slot is the window.
        while self.slots.len() > 1
            && let Some(old) = self.slots.pop_front_if(|slot| taken.since(slot.from) >= WINDOW)
        {
            subtract(&mut self.grown, unpacked(&old.grown), 0);
            self.without_latencies = self.without_latencies.saturating_sub(1);
        }
        while self.slots.len() > self.without_latencies + 1
            && let Some(slot) = self.slots.get_mut(self.without_latencies)
            && taken.since(slot.from) >= LATENCY_WINDOW
        {
            subtract(&mut self.grown, unpacked(&slot.grown), COUNTERS);
            let counters: Vec<u64> = unpacked(&slot.grown).take(COUNTERS).collect();
            slot.grown = packed(&counters);
            self.without_latencies += 1;
        }
    }

    /// The time that the growth of counters is of.
    pub(crate) fn covered(&self) -> Duration {
        self.since_slot(0)
    }

    /// The time that the latencies are of.
    pub(crate) fn latencies_covered(&self) -> Duration {
        self.since_slot(self.without_latencies)
    }

    fn since_slot(&self, place: usize) -> Duration {
        let Some((open, newest)) = self.open else {
            return Duration::ZERO;
        };
        newest.since(self.slots.get(place).map_or(open, |slot| slot.from))
    }

    /// Growth of a counter; `None` when the server does not give it or fewer than two samples tell.
    pub(crate) fn counter(&self, sample: &EngineSample, counter: Counter) -> Option<u64> {
        counter.of(sample)?;
        self.grown.get(counter.place()).copied()
    }

    /// Requests that ended, by reason; `None` when the server does not tell reasons or fewer than two samples do.
    pub(crate) fn outcomes(&self) -> Option<impl Iterator<Item = (&str, u64)>> {
        let grown = self.grown.get(reason_place(0)..).filter(|_| !self.reasons.is_empty())?;
        Some(self.reasons.iter().map(String::as_str).zip(grown.iter().copied()))
    }

    /// The observations of a latency, none at all before the second sample; `None` when the server does not give them.
    pub(crate) fn latency<'a>(&'a self, sample: &'a EngineSample, kind: LatencyKind) -> Option<Part<'a>> {
        let histogram = usable(sample, kind)?;
        Some(Part {
            buckets: &histogram.buckets,
            counts: self.grown.get(buckets_place(sample, kind)).unwrap_or_default(),
            sum_seconds: self.grown.get(sum_place(kind)).copied().unwrap_or(0) as f64 / 1e6,
        })
    }

    /// Number and sum in seconds of the observations of a latency in the newest `slots` and the open part.
    pub(crate) fn newest(&self, sample: &EngineSample, kind: LatencyKind, slots: usize) -> Option<(u64, f64)> {
        usable(sample, kind)?;
        let (count_place, sum_place) = (count_place(kind), sum_place(kind));
        let mut count = *self.open_grown.get(count_place)?;
        let mut sum = *self.open_grown.get(sum_place)?;
        for slot in self.slots.iter().rev().take(slots) {
            for (place, value) in unpacked(&slot.grown).take(count_place + 1).enumerate() {
                if place == count_place {
                    count += value;
                } else if place == sum_place {
                    sum += value;
                }
            }
        }
        Some((count, sum as f64 / 1e6))
    }

    /// Bytes on the heap.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let reasons = self
            .reasons
            .iter()
            .map(|reason| size_of::<String>() + reason.len())
            .sum::<usize>();
        let rows = (self.open_grown.capacity() + self.grown.capacity()) * size_of::<u64>();
        let slots = self.slots.capacity() * size_of::<Slot>();
        reasons + rows + slots + self.slots.iter().map(|slot| slot.grown.len()).sum::<usize>()
    }
}

/// What was added place by place; `None` when anything went backwards: the server has restarted, or lost a part of itself.
fn growth(before: &[u64], after: &[u64]) -> Option<Vec<u64>> {
    before
        .iter()
        .zip(after)
        .map(|(before, after)| after.checked_sub(*before))
        .collect()
}

/// Takes away what is gone, from this place on.
fn subtract(total: &mut [u64], gone: impl Iterator<Item = u64>, from: usize) {
    for (total, gone) in total.iter_mut().zip(gone).skip(from) {
        *total = total.saturating_sub(gone);
    }
}

fn add(total: &mut Vec<u64>, growth: &[u64]) {
    total.resize(growth.len(), 0);
    for (total, growth) in total.iter_mut().zip(growth) {
        *total = total.saturating_add(*growth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_engines::{Histogram, Latency};

    /// A sample with `fast` observations of 50 ms and `slow` ones of 700 ms, and as many generated tokens as both.
    fn sample(fast: u64, slow: u64) -> EngineSample {
        let (fast, slow) = (fast as f64, slow as f64);
        EngineSample {
            generated_tokens_total: Some(fast + slow),
            latency: Latency {
                time_to_first_token: Some(Histogram {
                    count: fast + slow,
                    sum_seconds: fast * 0.05 + slow * 0.7,
                    buckets: vec![(Some(0.1), fast), (Some(1.0), fast + slow), (None, fast + slow)],
                }),
                ..Latency::default()
            },
            ..EngineSample::default()
        }
    }

    #[derive(Default)]
    struct Server {
        window: Window,
        last: Option<EngineSample>,
    }

    impl Server {
        fn says(&mut self, second: u64, sample: EngineSample) {
            self.window.push(self.last.as_ref(), Moment::from_secs(second), &sample);
            self.last = Some(sample);
        }

        fn counts(&self) -> Option<Vec<u64>> {
            let part = self
                .window
                .latency(self.last.as_ref()?, LatencyKind::TimeToFirstToken)?;
            Some(part.counts.to_vec())
        }
    }

    #[test]
    fn the_window_holds_the_last_minute_and_half_of_it() {
        let mut server = Server::default();
        for second in 0..=300 {
            server.says(second, sample(second * 2, 0));
            let covered = server.window.covered().as_secs();
            assert!(covered <= 60 && covered >= second.min(55), "{second}: {covered}");
            let latencies = server.window.latencies_covered().as_secs();
            assert!(latencies <= 30 && latencies >= second.min(25), "{second}: {latencies}");
            if second > 0 {
                assert_eq!(server.counts().unwrap(), [latencies * 2, 0, 0], "{second}");
                let last = server.last.as_ref().unwrap();
                let tokens = server.window.counter(last, Counter::GeneratedTokens);
                assert_eq!(tokens, Some(covered * 2), "{second}");
            }
        }
    }

    #[test]
    fn what_happened_at_one_moment_is_gone_within_half_a_minute() {
        for at in 100..110 {
            let mut server = Server::default();
            let mut seen = Vec::new();
            for second in 0..300 {
                server.says(second, sample(second, if second < at { 0 } else { 5 }));
                if server.counts().is_some_and(|counts| counts.get(1) > Some(&0)) {
                    seen.push(second);
                }
            }
            let (first, last) = (seen[0], seen[seen.len() - 1]);
            assert_eq!(first, at);
            assert!(last - first < 30 && last - first >= 20, "{first} to {last}");
        }
    }

    #[test]
    fn a_restart_begins_the_window_anew_and_nothing_is_negative() {
        for (name, after) in [
            ("all counters are 0", sample(0, 0)),
            ("all are lower", sample(10, 5)),
            ("one bucket alone is lower", sample(500, 19)),
            ("a counter alone is lower", {
                let mut sample = sample(500, 20);
                sample.generated_tokens_total = Some(1.0);
                sample
            }),
            ("the sum alone is lower", {
                let mut sample = sample(500, 20);
                if let Some(histogram) = &mut sample.latency.time_to_first_token {
                    histogram.sum_seconds = 1.0;
                }
                sample
            }),
        ] {
            let mut server = Server::default();
            for second in 0..30 {
                server.says(second, sample(second * 10, 20));
            }
            server.says(30, after.clone());
            assert_eq!(
                (server.counts().unwrap(), server.window.covered()),
                (vec![], Duration::ZERO),
                "{name}"
            );
            server.says(31, after);
            assert_eq!(server.counts().unwrap(), [0, 0, 0], "{name}");
        }
    }

    fn ended(of_reasons: &[(&str, f64)]) -> EngineSample {
        EngineSample {
            request_outcomes: of_reasons
                .iter()
                .map(|(reason, total)| ((*reason).to_owned(), *total))
                .collect(),
            ..sample(0, 0)
        }
    }

    #[test]
    fn a_reason_that_appears_ended_nothing_before_and_one_that_goes_begins_the_window_anew() {
        let mut server = Server::default();
        server.says(0, ended(&[("stop", 100.0)]));
        assert!(
            server
                .window
                .outcomes()
                .is_none_or(|mut outcomes| outcomes.next().is_none())
        );
        let outcomes = |server: &Server| -> Vec<(String, u64)> {
            let outcomes = server.window.outcomes();
            outcomes
                .into_iter()
                .flatten()
                .map(|(reason, grown)| (reason.to_owned(), grown))
                .collect()
        };
        let told = |of: &[(&str, u64)]| -> Vec<(String, u64)> {
            of.iter()
                .map(|(reason, grown)| ((*reason).to_owned(), *grown))
                .collect()
        };
        server.says(1, ended(&[("stop", 103.0)]));
        assert_eq!(outcomes(&server), told(&[("stop", 3)]));
        // Sorted before the other, and with a place after it.
        server.says(2, ended(&[("abort", 2.0), ("stop", 104.0)]));
        assert_eq!(outcomes(&server), told(&[("stop", 4), ("abort", 2)]));
        // One reason alone falls: the server has restarted.
        server.says(3, ended(&[("abort", 0.0), ("stop", 104.0)]));
        assert_eq!((outcomes(&server), server.window.covered()), (vec![], Duration::ZERO));
        server.says(4, ended(&[("abort", 1.0), ("stop", 105.0)]));
        assert_eq!(outcomes(&server), told(&[("abort", 1), ("stop", 1)]));
        for (name, next) in [
            ("one reason goes", ended(&[("stop", 110.0)])),
            ("one is no number", ended(&[("abort", f64::NAN), ("stop", 110.0)])),
            ("none is told", ended(&[])),
        ] {
            let mut server = Server::default();
            server.says(0, ended(&[("abort", 1.0), ("stop", 105.0)]));
            server.says(1, ended(&[("abort", 1.0), ("stop", 106.0)]));
            server.says(2, next);
            assert_eq!(
                (outcomes(&server), server.window.covered()),
                (vec![], Duration::ZERO),
                "{name}"
            );
        }
    }

    #[test]
    fn reasons_are_counted_over_the_whole_minute() {
        let mut server = Server::default();
        for second in 0..=200 {
            server.says(second, ended(&[("stop", second as f64 * 3.0)]));
        }
        let covered = server.window.covered().as_secs();
        let stop = server.window.outcomes().into_iter().flatten().next();
        assert!(covered > 50);
        assert_eq!(stop, Some(("stop", covered * 3)));
    }

    #[test]
    fn other_buckets_or_counters_begin_the_window_anew() {
        let other_bound = || {
            let mut sample = sample(100, 20);
            if let Some(histogram) = &mut sample.latency.time_to_first_token {
                histogram.buckets[0].0 = Some(0.2);
            }
            sample
        };
        let without = || EngineSample {
            latency: Latency::default(),
            ..sample(100, 20)
        };
        for next in [other_bound(), without()] {
            let mut server = Server::default();
            for second in 0..30 {
                server.says(second, sample(second, 20));
            }
            server.says(30, next);
            assert!(server.counts().unwrap_or_default().is_empty());
            assert_eq!(server.window.covered(), Duration::ZERO);
        }
    }

    #[test]
    fn a_hole_begins_the_window_anew_and_slow_sampling_does_not() {
        let mut server = Server::default();
        for minute in 0..10 {
            server.says(minute * 60, sample(minute * 6, 0));
        }
        assert_eq!(
            (server.counts().unwrap(), server.window.covered()),
            (vec![6, 0, 0], WINDOW)
        );
        server.says(9 * 60 + 120, sample(1000, 0));
        assert_eq!(
            (server.counts().unwrap(), server.window.covered()),
            (vec![], Duration::ZERO)
        );
    }

    #[test]
    fn the_newest_slots_are_a_part() {
        let mut server = Server::default();
        for second in 0..=100 {
            server.says(second, sample(second, 0));
        }
        let last = server.last.as_ref().unwrap();
        let (count, sum) = server.window.newest(last, LatencyKind::TimeToFirstToken, 3).unwrap();
        assert!(
            (15..20).contains(&count) && (sum / count as f64 - 0.05).abs() < 1e-6,
            "{count} {sum}"
        );
        assert_eq!(server.window.newest(last, LatencyKind::QueueTime, 3), None);
    }

    #[test]
    fn nonsense_is_left_out() {
        let mut broken = sample(10, 5);
        broken.generated_tokens_total = Some(f64::NAN);
        if let Some(histogram) = &mut broken.latency.time_to_first_token {
            histogram.buckets[0].1 = 1e9;
        }
        let mut server = Server::default();
        server.says(0, broken.clone());
        server.says(1, broken.clone());
        assert_eq!(server.counts(), None);
        assert_eq!(server.window.counter(&broken, Counter::GeneratedTokens), None);
    }

    /// A bound, and figures for whoever wonders: `cargo test -p infmon-evaluation bytes -- --nocapture`.
    #[test]
    fn a_server_costs_few_bytes() {
        let spread = |bounds: usize, second: u64, each: u64| Histogram {
            count: (second * each) as f64,
            sum_seconds: (second * each) as f64 * 0.2,
            buckets: (0..=bounds)
                .map(|bucket| {
                    let bound = (bucket < bounds).then_some((bucket + 1) as f64);
                    // Every bucket grows: the worst case.
                    (bound, (second * each * (bucket as u64 + 1)) as f64)
                })
                .collect(),
        };
        for (name, each, limit) in [("idle", 0, 2_800), ("busy", 40, 4_300), ("very busy", 4_000, 5_000)] {
            let mut server = Server::default();
            for second in 0..200 {
                let token = Some((second * each * 100) as f64);
                server.says(
                    second,
                    EngineSample {
                        prompt_tokens_total: token,
                        generated_tokens_total: token,
                        preemptions_total: Some(0.0),
                        request_outcomes: ["stop", "length", "abort", "error", "repetition"]
                            .map(|reason| (reason.to_owned(), (second * each) as f64))
                            .into(),
                        latency: Latency {
                            time_to_first_token: Some(spread(22, second, each)),
                            inter_token: Some(spread(19, second, each * 10)),
                            end_to_end: Some(spread(21, second, each)),
                            queue_time: Some(spread(21, second, each)),
                            ..Latency::default()
                        },
                        ..EngineSample::default()
                    },
                );
            }
            let bytes = server.window.bytes();
            println!("a server with the histograms of vLLM, {name}: {bytes} bytes");
            assert!(bytes < limit, "{name}: {bytes}");
        }
    }
}
