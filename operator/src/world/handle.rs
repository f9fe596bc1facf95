//! The world behind a lock, with the signals that wake those who wait for it.

use super::{MonitorKey, World};
use crate::clock::Clock;
use infmon_evaluation::Moment;
use infmon_samples::{NodeIdentity, Plan, Report};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// The world, shared by watches, streams, judgement, writer and servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedWorld {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    world: Mutex<World>,
    clock: Clock,
    /// Something may have to be judged.
    changed: Notify,
    nodes: Nodes,
}

/// Plans on their way to the daemons.
#[derive(Debug, Default)]
pub struct Nodes {
    plans: Mutex<BTreeMap<String, watch::Sender<Arc<Plan>>>>,
}

impl Nodes {
    fn publish(&self, changes: Vec<(String, Arc<Plan>)>) {
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, plan) in changes {
            if let Some(sender) = plans.get(&node) {
                sender.send_replace(plan);
            }
        }
    }
}

impl SharedWorld {
    /// Shares a world.
    #[must_use]
    pub fn new(world: World, clock: Clock) -> Self {
        let inner = Inner {
            world: Mutex::new(world),
            clock,
            changed: Notify::new(),
            nodes: Nodes::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The clock that moments are counted on.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// Reads the world. The closure must be short: everything else waits.
    pub fn read<T>(&self, look: impl FnOnce(&World, Moment) -> T) -> T {
        look(&self.lock(), self.inner.clock.now())
    }

    /// Changes the world, sends out plans that changed by it, and wakes the judgement.
    pub fn change<T>(&self, act: impl FnOnce(&mut World, Moment) -> T) -> T {
        let (result, plans) = {
            let mut world = self.lock();
            let result = act(&mut world, self.inner.clock.now());
            let stamp = u64::try_from(self.inner.clock.wall().as_millisecond()).unwrap_or(0);
            (result, world.take_plan_changes(stamp))
        };
        self.inner.nodes.publish(plans);
        self.inner.changed.notify_one();
        result
    }

    /// Changes the world in a way that needs neither plans nor judgement.
    pub fn note<T>(&self, act: impl FnOnce(&mut World, Moment) -> T) -> T {
        act(&mut self.lock(), self.inner.clock.now())
    }

    /// Waits until something may have to be judged.
    pub(crate) async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    /// A daemon connected: its plans from now on.
    pub fn connect(&self, identity: NodeIdentity) -> watch::Receiver<Arc<Plan>> {
        let node = identity.node.clone();
        let (sender, receiver) = watch::channel(Arc::new(Plan::default()));
        self.inner
            .nodes
            .plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node.clone(), sender);
        self.change(|world, _| world.node_connected(identity));
        // The plan may be the same as before the stream broke, and then `change` did not publish it.
        if let Some(plan) = self.read(|world, _| world.plan_of(&node)) {
            self.inner.nodes.publish(vec![(node, plan)]);
        }
        receiver
    }

    /// A daemon reported.
    pub fn report(&self, node: &str, report: Report) {
        self.change(|world, now| world.node_reported(node, report, now));
    }

    /// A daemon's stream closed.
    pub fn disconnect(&self, node: &str) {
        self.inner
            .nodes
            .plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(node);
        self.change(|world, _| world.node_disconnected(node));
    }

    /// Keys of all monitors.
    #[must_use]
    pub fn keys(&self) -> Vec<MonitorKey> {
        self.read(|world, _| world.monitors().map(|(key, _)| key.clone()).collect())
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        // A panic in a decision must not take every later read with it; the world holds no invariant that a half-done change breaks
        // for good.
        self.inner.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
