//! Writes statuses: the leader only, on transitions at once, for changed numbers rarely, never faster than a budget, always the newest.

use crate::events;
use crate::leadership::Claim;
use crate::world::{MonitorKey, SharedWorld};
use infmon_crds::v1alpha1::{InferenceMonitor, InferenceMonitorStatus};
use infmon_crds::{FIELD_MANAGER, GROUP};
use infmon_evaluation::Moment;
use infmon_evaluation::status::{Change, Transition, transitions};
use infmon_runtime::{Backoff, BackoffPolicy, deadline};
use kube::api::{Api, Patch, PatchParams};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Least time between two writes of one monitor that only change numbers.
const SUMMARY_EVERY: Duration = Duration::from_secs(15);
/// Writes per second over all monitors; transitions come first.
const WRITES_PER_SECOND: f64 = 10.0;
/// Writes that may come at once after a quiet time.
const BURST: f64 = 20.0;
/// How often the writer looks by itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Writes statuses until `shutdown`; `wake` is notified when a judgement found something worth a write.
pub async fn run(
    client: kube::Client,
    world: SharedWorld,
    claim: watch::Receiver<Claim>,
    instance: String,
    wake: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut budget = Budget::new(WRITES_PER_SECOND, BURST, Instant::now());
    let mut failing: BTreeMap<MonitorKey, (Backoff, Instant)> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !claim.borrow().is_current(Instant::now()) {
            continue;
        }
        for intent in world.read(pending) {
            if shutdown.is_cancelled() || !claim.borrow().is_current(Instant::now()) {
                break;
            }
            if failing
                .get(&intent.key)
                .is_some_and(|(_, retry)| Instant::now() < *retry)
            {
                continue;
            }
            if !budget.take(Instant::now()) {
                break;
            }
            match write(&client, &intent).await {
                Ok(()) => {
                    failing.remove(&intent.key);
                    world.note(|world, now| world.status_written(&intent.key, intent.status.clone(), now));
                    tracing::debug!(monitor = %intent.key, change = ?intent.change, "wrote status");
                    let wall = world.clock().wall();
                    let events = intent
                        .transitions
                        .iter()
                        .map(|transition| {
                            events::event(&intent.key, intent.uid.as_deref(), transition, &instance, wall)
                        })
                        .collect();
                    events::publish(&client, events).await;
                }
                Err(error) => {
                    let policy = BackoffPolicy {
                        first: Duration::from_secs(1),
                        max: Duration::from_secs(30),
                    };
                    let (backoff, retry) = failing
                        .entry(intent.key.clone())
                        .or_insert_with(|| (Backoff::new(policy), Instant::now()));
                    *retry = Instant::now() + backoff.next_delay();
                    tracing::warn!(monitor = %intent.key, %error, "failed to write a status");
                }
            }
        }
        let known = world.keys();
        failing.retain(|key, _| known.contains(key));
    }
}

/// A status to write.
struct Intent {
    key: MonitorKey,
    uid: Option<String>,
    change: Change,
    status: InferenceMonitorStatus,
    transitions: Vec<Transition>,
}

/// What is worth a write now, most urgent and longest waiting first.
fn pending(world: &crate::world::World, now: Moment) -> Vec<Intent> {
    let mut intents: Vec<(Change, Moment, Intent)> = world
        .monitors()
        .filter(|(_, monitor)| match monitor.change {
            Change::None => false,
            Change::Summary => monitor.written_at.is_none_or(|at| now.since(at) >= SUMMARY_EVERY),
            Change::Transition => true,
        })
        .filter_map(|(key, monitor)| {
            let (_, verdict) = monitor.verdict.as_ref()?;
            let intent = Intent {
                key: key.clone(),
                uid: monitor.object.metadata.uid.clone(),
                change: monitor.change,
                status: monitor.next.clone(),
                transitions: transitions(verdict, &monitor.written),
            };
            Some((monitor.change, monitor.written_at.unwrap_or_default(), intent))
        })
        .collect();
    intents.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    intents.into_iter().map(|(_, _, intent)| intent).collect()
}

async fn write(client: &kube::Client, intent: &Intent) -> anyhow::Result<()> {
    let api: Api<InferenceMonitor> = Api::namespaced(client.clone(), &intent.key.namespace);
    let body = serde_json::json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "InferenceMonitor",
        // The uid makes the write fail when the monitor was deleted and made anew meanwhile.
        "metadata": {"name": intent.key.name, "namespace": intent.key.namespace, "uid": intent.uid},
        "status": intent.status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let outcome = deadline(
        "status write",
        CALL_DEADLINE,
        api.patch_status(&intent.key.name, &params, &Patch::Apply(&body)),
    )
    .await?;
    match outcome {
        Ok(_) => Ok(()),
        // It is gone, or another one now: the watch will tell.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A token bucket.
#[derive(Debug)]
struct Budget {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Budget {
    fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self {
            per_second,
            burst,
            tokens: burst,
            filled: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.filled = now;
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_allows_a_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut budget = Budget::new(10.0, 20.0, start);
        assert_eq!((0..30).filter(|_| budget.take(start)).count(), 20);
        assert_eq!(
            (0..30).filter(|_| budget.take(start + Duration::from_secs(1))).count(),
            10
        );
        assert_eq!(
            (0..30)
                .filter(|_| budget.take(start + Duration::from_secs(3600)))
                .count(),
            20
        );
    }
}
