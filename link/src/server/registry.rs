//! Which stream is the current one of each node.

use super::NodeSessions;
use infmon_samples::{NodeIdentity, Plan, Report};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Slot {
    /// False once another stream took over. Held while a report is handed on, so that no report comes after the take-over.
    current: Mutex<bool>,
    replaced: CancellationToken,
}

/// The current stream of every node.
#[derive(Debug, Default)]
pub(super) struct Registry {
    nodes: Mutex<HashMap<String, Arc<Slot>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One stream's place; dropping it ends the session.
#[derive(Debug)]
pub(super) struct Place<S: NodeSessions> {
    registry: Arc<Registry>,
    sessions: Arc<S>,
    slot: Arc<Slot>,
    pub(super) node: NodeIdentity,
}

impl Registry {
    /// Makes a new stream the current one of its node.
    pub(super) fn open<S: NodeSessions>(
        self: &Arc<Self>,
        sessions: &Arc<S>,
        node: NodeIdentity,
    ) -> (Place<S>, watch::Receiver<Arc<Plan>>) {
        let slot = Arc::new(Slot {
            current: Mutex::new(true),
            replaced: CancellationToken::new(),
        });
        let mut nodes = lock(&self.nodes);
        if let Some(old) = nodes.insert(node.node.clone(), Arc::clone(&slot)) {
            *lock(&old.current) = false;
            old.replaced.cancel();
        }
        // Under the lock, so that two streams of one node are announced in the order in which they took the place.
        let plans = sessions.connected(&node);
        drop(nodes);
        let place = Place {
            registry: Arc::clone(self),
            sessions: Arc::clone(sessions),
            slot,
            node,
        };
        (place, plans)
    }
}

impl<S: NodeSessions> Place<S> {
    /// Hands a report on, unless another stream took over.
    pub(super) fn report(&self, report: Report) {
        let current = lock(&self.slot.current);
        if *current {
            self.sessions.report(&self.node, report);
        }
    }

    /// Ends when another stream took over.
    pub(super) async fn replaced(&self) {
        self.slot.replaced.cancelled().await;
    }
}

impl<S: NodeSessions> Drop for Place<S> {
    fn drop(&mut self) {
        let mut nodes = lock(&self.registry.nodes);
        if nodes
            .get(&self.node.node)
            .is_some_and(|slot| Arc::ptr_eq(slot, &self.slot))
        {
            nodes.remove(&self.node.node);
            self.sessions.disconnected(&self.node);
        }
    }
}
