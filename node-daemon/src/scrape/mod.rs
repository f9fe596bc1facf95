//! Scrapes inference servers: one task per target, so that a target that hangs, trickles or floods costs only itself.
//!
//! Targets are hostile: time, bytes and headers are bounded, redirects are not followed, nothing is decompressed, no proxy is asked. A
//! server is shown the credentials that the plan has for it, after it has proved its name, and nobody else is shown any.

mod address;
mod beside;
mod fetch;
mod large;
mod scraper;
mod state;

use crate::metrics::DaemonMetrics;
pub use address::AddressPolicy;
use infmon_runtime::{Backoff, BackoffPolicy};
use infmon_samples::{FailureKind, Plan, Target, TargetId};
use large::LargeBodies;
use scraper::Scraper;

use state::TargetCell;
pub(crate) use state::TargetState;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

/// Faster scraping is load for the servers and no better data: engines update their gauges a few times per second.
const SHORTEST_PERIOD: Duration = Duration::from_millis(50);
/// Scrapes of one node fall on a common beat, so that one report right after it carries all of them while they are young; the beat itself
/// starts with the process, which spreads it over the nodes. Also the longest wait for the first data.
const BEAT: Duration = Duration::from_secs(1);
/// Jitter of each target within the beat.
const SPREAD: Duration = Duration::from_millis(50);
/// A body above the limit costs megabytes each time and will not shrink within a second.
const LONGEST_TOO_LARGE_PAUSE: Duration = Duration::from_secs(30);

/// The scrapers of the plan in force.
#[derive(Debug)]
pub(crate) struct Scrapers {
    policy: AddressPolicy,
    metrics: DaemonMetrics,
    large_bodies: LargeBodies,
    /// Start of the beat.
    epoch: Instant,
    /// Told after each scrape.
    scraped: Arc<Notify>,
    entries: HashMap<TargetId, Entry>,
    /// Order of the plan, for reports that read alike.
    order: Vec<TargetId>,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    cell: Arc<TargetCell>,
    _task: AbortOnDropHandle<()>,
}

impl Scrapers {
    pub(crate) fn new(policy: AddressPolicy, metrics: DaemonMetrics) -> Self {
        Self {
            policy,
            metrics,
            large_bodies: LargeBodies::new(),
            epoch: Instant::now(),
            scraped: Arc::default(),
            entries: HashMap::new(),
            order: Vec::new(),
        }
    }

    /// Follows a new plan: targets that did not change keep their connection and layout, removed ones end.
    pub(crate) fn follow(&mut self, plan: &Plan) {
        let mut before = std::mem::take(&mut self.entries);
        self.order.clear();
        for target in &plan.targets {
            if self.entries.contains_key(&target.id) {
                tracing::warn!(target = target.id.0, "the plan names a target twice");
                continue;
            }
            let entry = match before.remove(&target.id) {
                Some(entry) if entry.target == *target => entry,
                // Only times, limits or credentials changed: what is known of the server stays true. The connection is made anew.
                Some(entry) if is_same_server(&entry.target, target) => self.start(target, entry.cell),
                _ => self.start(target, Arc::default()),
            };
            self.order.push(target.id.clone());
            self.entries.insert(target.id.clone(), entry);
        }
        self.metrics.set_targets(self.order.len());
    }

    fn start(&self, target: &Target, cell: Arc<TargetCell>) -> Entry {
        let scraper = Scraper::new(target, self.policy, self.large_bodies.clone());
        let beat = BEAT.min(target.period.max(SHORTEST_PERIOD));
        let wait = until_beat(self.epoch.elapsed(), beat) + SPREAD.min(beat / 4).mul_f64(rand::random::<f64>());
        let task = tokio::spawn(keep_scraping(
            scraper,
            Instant::now() + wait,
            target.period,
            Arc::clone(&cell),
            self.metrics.clone(),
            Arc::clone(&self.scraped),
        ));
        Entry {
            target: target.clone(),
            cell,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Waits for the end of a scrape.
    pub(crate) async fn scraped(&self) {
        self.scraped.notified().await;
    }

    /// What is known of each target, in the order of the plan.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&Target, TargetState)> {
        let entry = |id: &TargetId| self.entries.get(id);
        self.order
            .iter()
            .filter_map(entry)
            .map(|entry| (&entry.target, entry.cell.state()))
    }
}

fn is_same_server(a: &Target, b: &Target) -> bool {
    a.scheme == b.scheme
        && a.address == b.address
        && a.metrics_path == b.metrics_path
        && a.engine == b.engine
        && a.mapping == b.mapping
}

/// Time from `elapsed` to the next beat.
fn until_beat(elapsed: Duration, beat: Duration) -> Duration {
    let into = elapsed.as_nanos() % beat.as_nanos().max(1);
    beat.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0)))
}

async fn keep_scraping(
    mut scraper: Scraper,
    first: Instant,
    period: Duration,
    cell: Arc<TargetCell>,
    metrics: DaemonMetrics,
    scraped: Arc<Notify>,
) {
    let period = period.max(SHORTEST_PERIOD);
    let mut ticks = tokio::time::interval_at(first, period);
    // A late scrape does not make the next ones come in a burst, and the phase stays.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut pause = Backoff::new(BackoffPolicy {
        first: 2 * period,
        max: LONGEST_TOO_LARGE_PAUSE.max(period),
    });
    let mut resume = None;
    loop {
        let due = ticks.tick().await;
        if resume.is_some_and(|resume| due < resume) {
            continue;
        }
        let began = Instant::now();
        let result = scraper.scrape().await;
        let failure = result.as_ref().err().map(|failure| failure.kind);
        resume = match failure {
            Some(FailureKind::BodyTooLarge) => Some(Instant::now() + pause.next_delay()),
            _ => {
                pause.reset();
                None
            }
        };
        metrics.scraped(failure, began.elapsed());
        if let Some(before) = cell.record(scraper.name(), result) {
            scraper.reuse(before);
        }
        scraped.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapes_fall_on_the_beat() {
        let ms = Duration::from_millis;
        for (elapsed, beat, wait) in [(0, 1000, 1000), (1, 1000, 999), (2999, 1000, 1), (130, 250, 120)] {
            assert_eq!(until_beat(ms(elapsed), ms(beat)), ms(wait), "{elapsed} of {beat}");
        }
    }
}
