//! A small model of an inference server's queue: no clock, no randomness, the same steps give the same loads.

use std::collections::VecDeque;

use crate::load::Load;

/// Time that the model advances at once, seconds; longer steps are divided.
const TICK_SECONDS: f64 = 0.05;
/// Requests that may wait; those that come then are aborted, so that an endless overload has an end.
const WAITING_LIMIT: usize = 10_000;

/// A server's size and speed, and the size of its requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Name of the model.
    pub model: String,
    /// Requests that run at once.
    pub slots: usize,
    /// Tokens that the KV cache holds.
    pub kv_cache_tokens: f64,
    /// Prompt tokens computed per second, per request.
    pub prefill_tokens_per_second: f64,
    /// Tokens generated per second, per request.
    pub tokens_per_second: f64,
    /// Prompt tokens of a mean request; requests vary between a half and one and a half of it.
    pub prompt_tokens: f64,
    /// Generated tokens of a mean request, varied likewise.
    pub output_tokens: f64,
    /// Share of the prompt found in the prefix cache, 0-1.
    pub prefix_hit_share: f64,
}

impl Default for Server {
    /// A mid-size model on one GPU: some 5 requests per second, and a KV cache that a full batch of long requests overfills.
    fn default() -> Self {
        Self {
            model: "simulated-model".to_owned(),
            slots: 32,
            kv_cache_tokens: 32_000.0,
            prefill_tokens_per_second: 8_000.0,
            tokens_per_second: 50.0,
            prompt_tokens: 800.0,
            output_tokens: 300.0,
            prefix_hit_share: 0.3,
        }
    }
}

#[derive(Clone, Debug)]
struct Request {
    arrived_at: f64,
    prompt_tokens: f64,
    output_tokens: f64,
    /// Tokens still to be computed before the next one can be generated.
    to_prefill: f64,
    generated: f64,
    ran_before: bool,
}

impl Request {
    /// Tokens in the KV cache while it runs.
    fn held(&self) -> f64 {
        self.prompt_tokens + self.generated
    }
}

/// Requests that arrive, wait, run and evict each other.
#[derive(Clone, Debug)]
pub struct QueueModel {
    server: Server,
    load: Load,
    now: f64,
    /// The part of the next request that has arrived.
    arriving: f64,
    arrived: u64,
    waiting: VecDeque<Request>,
    /// Oldest first: the newest is evicted first.
    running: Vec<Request>,
    prompt_tokens: f64,
    generated_tokens: f64,
    hit_tokens: f64,
}

impl QueueModel {
    /// An idle server.
    #[must_use]
    pub fn new(server: Server) -> Self {
        let load = Load {
            model: server.model.clone(),
            max_concurrency: server.slots as u64,
            ..Load::default()
        };
        Self {
            server,
            load,
            now: 0.0,
            arriving: 0.0,
            arrived: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            prompt_tokens: 0.0,
            generated_tokens: 0.0,
            hit_tokens: 0.0,
        }
    }

    /// The load after the last step.
    #[must_use]
    pub const fn load(&self) -> &Load {
        &self.load
    }

    /// Advances by `seconds`, with this many requests arriving per second.
    pub fn step(&mut self, seconds: f64, arrivals_per_second: f64) -> &Load {
        let ticks = (seconds / TICK_SECONDS).ceil().max(1.0);
        let tick = seconds.max(0.0) / ticks;
        for _ in 0..ticks as u64 {
            self.tick(tick, arrivals_per_second.max(0.0));
        }
        self.load.running = self.running.len() as u64;
        self.load.waiting = self.waiting.len() as u64;
        self.load.kv_cache_usage = (self.held() / self.server.kv_cache_tokens).min(1.0);
        self.load.prompt_tokens_total = self.prompt_tokens as u64;
        self.load.generated_tokens_total = self.generated_tokens as u64;
        self.load.prefix_cache_hit_tokens_total = self.hit_tokens as u64;
        &self.load
    }

    fn held(&self) -> f64 {
        self.running.iter().map(Request::held).sum()
    }

    fn tick(&mut self, seconds: f64, arrivals_per_second: f64) {
        self.now += seconds;
        self.arrive(seconds * arrivals_per_second);
        self.admit();
        self.run(seconds);
        self.evict();
    }

    fn arrive(&mut self, requests: f64) {
        self.arriving += requests;
        // The sum of many small parts falls short of the whole by rounding.
        while self.arriving > 1.0 - 1e-9 {
            self.arriving -= 1.0;
            self.arrived += 1;
            if self.waiting.len() >= WAITING_LIMIT {
                self.load.requests_aborted_total += 1;
                continue;
            }
            // Multiples of the golden ratio spread evenly over 0-1, whatever their number.
            let spread = |ratio: f64| 0.5 + (self.arrived as f64 * ratio).fract();
            let prompt_tokens = self.server.prompt_tokens * spread(0.618_033_988_749_895);
            let output_tokens = (self.server.output_tokens * spread(0.754_877_666_246_693)).max(1.0);
            let hits = prompt_tokens * self.server.prefix_hit_share.clamp(0.0, 1.0);
            self.waiting.push_back(Request {
                arrived_at: self.now,
                prompt_tokens,
                output_tokens,
                to_prefill: prompt_tokens - hits,
                generated: 0.0,
                ran_before: false,
            });
        }
    }

    fn admit(&mut self) {
        let mut held = self.held();
        while self.running.len() < self.server.slots {
            // A request larger than the cache runs alone rather than never.
            let fits =
                |request: &Request| held + request.held() <= self.server.kv_cache_tokens || self.running.is_empty();
            if !self.waiting.front().is_some_and(fits) {
                return;
            }
            let Some(mut request) = self.waiting.pop_front() else {
                return;
            };
            if !request.ran_before {
                request.ran_before = true;
                self.load.queue_time.observe(self.now - request.arrived_at, 1);
                self.prompt_tokens += request.prompt_tokens;
                self.hit_tokens += request.prompt_tokens - request.to_prefill;
            }
            held += request.held();
            self.running.push(request);
        }
    }

    fn run(&mut self, seconds: f64) {
        let Self {
            server,
            load,
            running,
            generated_tokens,
            now,
            ..
        } = self;
        running.retain_mut(|request| {
            let prefill_seconds = (request.to_prefill / server.prefill_tokens_per_second).min(seconds);
            request.to_prefill = (request.to_prefill - prefill_seconds * server.prefill_tokens_per_second).max(0.0);
            let before = request.generated;
            let wanted = before + (seconds - prefill_seconds) * server.tokens_per_second;
            request.generated = wanted.min(request.output_tokens);
            *generated_tokens += request.generated - before;
            let whole_tokens = request.generated.floor() - before.floor();
            if whole_tokens >= 1.0 {
                load.inter_token
                    .observe(1.0 / server.tokens_per_second, whole_tokens as u64);
            }
            if before < 1.0 && request.generated >= 1.0 {
                load.time_to_first_token.observe(*now - request.arrived_at, 1);
            }
            let done = request.generated >= request.output_tokens;
            if done {
                load.requests_succeeded_total += 1;
                load.end_to_end.observe(*now - request.arrived_at, 1);
            }
            !done
        });
    }

    /// Sends the newest requests back to the front of the queue while the cache is overfull; they compute all their tokens anew.
    fn evict(&mut self) {
        while self.held() > self.server.kv_cache_tokens && self.running.len() > 1 {
            let Some(mut request) = self.running.pop() else { return };
            request.to_prefill = request.held();
            self.load.preemptions_total += 1;
            self.waiting.push_front(request);
        }
    }
}

/// A stretch of a story.
#[derive(Clone, Debug, PartialEq)]
pub struct Chapter {
    /// What a viewer is told.
    pub title: &'static str,
    /// How long it lasts, seconds.
    pub seconds: f64,
    /// Requests that arrive per second.
    pub arrivals_per_second: f64,
}

/// A queue model led through chapters, over and over.
#[derive(Clone, Debug)]
pub struct Story {
    model: QueueModel,
    chapters: Vec<Chapter>,
    chapter: usize,
    into_chapter: f64,
}

impl Story {
    /// Calm, rush, overload and recovery of a [`Server::default`], two minutes in all.
    #[must_use]
    pub fn demo() -> Self {
        let chapter = |title, seconds, arrivals_per_second| Chapter {
            title,
            seconds,
            arrivals_per_second,
        };
        Self::new(
            Server::default(),
            vec![
                chapter("calm", 25.0, 1.5),
                chapter("rush", 25.0, 4.0),
                chapter("overload", 30.0, 9.0),
                chapter("recovery", 40.0, 1.0),
            ],
        )
    }

    /// A story of these chapters, from the first.
    #[must_use]
    pub fn new(server: Server, chapters: Vec<Chapter>) -> Self {
        Self {
            model: QueueModel::new(server),
            chapters,
            chapter: 0,
            into_chapter: 0.0,
        }
    }

    /// The chapter that is told now; `None` for a story without chapters.
    #[must_use]
    pub fn chapter(&self) -> Option<&Chapter> {
        self.chapters.get(self.chapter)
    }

    /// The load after the last step.
    #[must_use]
    pub const fn load(&self) -> &Load {
        self.model.load()
    }

    /// Advances by `seconds`. A step that crosses the end of a chapter belongs to the chapter that it began in.
    pub fn step(&mut self, seconds: f64) -> &Load {
        let arrivals = self.chapter().map_or(0.0, |chapter| chapter.arrivals_per_second);
        self.model.step(seconds, arrivals);
        self.into_chapter += seconds;
        if self
            .chapter()
            .is_some_and(|chapter| self.into_chapter >= chapter.seconds)
        {
            self.into_chapter = 0.0;
            self.chapter = (self.chapter + 1) % self.chapters.len();
        }
        self.model.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_below_its_capacity_keeps_no_queue() {
        let mut model = QueueModel::new(Server::default());
        for _ in 0..120 {
            model.step(1.0, 1.5);
        }
        let load = model.load();
        assert_eq!((load.waiting, load.preemptions_total), (0, 0));
        // Little's law: 1.5 requests per second of about 6 seconds each.
        assert!((6..=13).contains(&load.running), "{}", load.running);
        assert!(load.requests_succeeded_total > 150);
        assert!(load.generated_tokens_total > 150 * 250);
        let (started, answered) = (load.queue_time.count(), load.time_to_first_token.count());
        assert!(
            answered <= started && started - answered <= load.running,
            "{started} {answered}"
        );
        let mean = load.time_to_first_token.sum_seconds() / load.time_to_first_token.count() as f64;
        assert!(mean < 0.5, "{mean}");
    }

    #[test]
    fn an_overload_fills_the_queue_and_the_cache_and_evicts() {
        let mut model = QueueModel::new(Server::default());
        for _ in 0..60 {
            model.step(1.0, 9.0);
        }
        let load = model.load();
        assert!(load.waiting > 100, "{}", load.waiting);
        assert!(load.kv_cache_usage > 0.85, "{}", load.kv_cache_usage);
        assert!(load.preemptions_total > 0);
        assert!(load.running <= 32);
        let full = load.clone();
        for _ in 0..600 {
            model.step(1.0, 0.0);
        }
        let load = model.load();
        assert_eq!((load.waiting, load.running, load.kv_cache_usage), (0, 0, 0.0));
        assert!(load.requests_succeeded_total > full.requests_succeeded_total);
        assert_eq!(load.requests_succeeded_total + load.requests_aborted_total, 540);
    }

    #[test]
    fn the_same_steps_give_the_same_loads() {
        let mut one = Story::demo();
        let mut two = Story::demo();
        for _ in 0..300 {
            assert_eq!(one.step(0.5), two.step(0.5));
        }
    }

    #[test]
    fn the_demo_story_shows_every_state() {
        let mut story = Story::demo();
        let mut seen = Vec::new();
        let mut most_waiting = 0;
        for _ in 0..480 {
            let title = story.chapter().expect("a chapter").title;
            if seen.last() != Some(&title) {
                seen.push(title);
            }
            most_waiting = most_waiting.max(story.step(0.5).waiting);
        }
        assert_eq!(
            seen,
            [
                "calm", "rush", "overload", "recovery", "calm", "rush", "overload", "recovery"
            ]
        );
        assert!(most_waiting > 30, "{most_waiting}");
        assert!(story.load().preemptions_total > 0);
        assert_eq!(story.load().waiting, 0, "the recovery ends the queue");
    }

    #[test]
    fn odd_steps_are_survived() {
        let mut model = QueueModel::new(Server {
            slots: 0,
            kv_cache_tokens: 0.0,
            ..Server::default()
        });
        for seconds in [0.0, -1.0, 1e-9, 100.0] {
            model.step(seconds, 1.0);
        }
        let mut alone = QueueModel::new(Server {
            kv_cache_tokens: 10.0,
            ..Server::default()
        });
        alone.step(60.0, 1.0);
        assert!(alone.load().requests_succeeded_total > 0);
        assert!(alone.load().kv_cache_usage <= 1.0);
    }
}
