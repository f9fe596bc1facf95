//! Which plan is followed when several replicas send one. Pure.

use infmon_samples::Plan;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The newest plan of every connected replica, and the one in force.
#[derive(Debug, Default)]
pub(super) struct PlanChoice {
    received: u64,
    /// Plan and order of arrival by replica.
    plans: BTreeMap<SocketAddr, (Arc<Plan>, u64)>,
    current: Option<Arc<Plan>>,
}

impl PlanChoice {
    /// A replica sent a plan. Gives the plan to follow when that changes.
    pub(super) fn received(&mut self, from: SocketAddr, plan: Plan) -> Option<Arc<Plan>> {
        self.received += 1;
        self.plans.insert(from, (Arc::new(plan), self.received));
        self.choose()
    }

    /// The stream to a replica ended. Gives the plan to follow when that changes; without any replica the last plan stays.
    pub(super) fn lost(&mut self, from: SocketAddr) -> Option<Arc<Plan>> {
        self.plans.remove(&from);
        self.choose()
    }

    /// The highest revision is the newest view of the cluster; of equal ones the one that came last.
    fn choose(&mut self) -> Option<Arc<Plan>> {
        let (best, _) = self
            .plans
            .values()
            .max_by_key(|(plan, received)| (plan.revision, *received))?;
        if self.current.as_ref() == Some(best) {
            return None;
        }
        self.current = Some(Arc::clone(best));
        self.current.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn replica(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 9443))
    }

    fn plan(revision: u64, seconds: u64) -> Plan {
        Plan {
            revision,
            period: Duration::from_secs(seconds),
            targets: Vec::new(),
        }
    }

    #[test]
    fn equal_plans_of_several_replicas_change_nothing() {
        let mut choice = PlanChoice::default();
        assert!(choice.received(replica(1), plan(4, 1)).is_some());
        assert!(choice.received(replica(2), plan(4, 1)).is_none());
        assert!(choice.lost(replica(1)).is_none());
    }

    #[test]
    fn the_highest_revision_wins_whoever_sent_it() {
        let mut choice = PlanChoice::default();
        choice.received(replica(1), plan(4, 1));
        assert_eq!(*choice.received(replica(2), plan(5, 2)).unwrap(), plan(5, 2));
        assert!(choice.received(replica(1), plan(3, 9)).is_none());
        assert_eq!(*choice.lost(replica(2)).unwrap(), plan(3, 9));
    }

    #[test]
    fn of_equal_revisions_the_last_to_come_wins() {
        let mut choice = PlanChoice::default();
        choice.received(replica(2), plan(4, 1));
        assert_eq!(*choice.received(replica(1), plan(4, 2)).unwrap(), plan(4, 2));
    }

    #[test]
    fn the_last_plan_stays_while_nobody_is_connected() {
        let mut choice = PlanChoice::default();
        choice.received(replica(1), plan(4, 1));
        assert!(choice.lost(replica(1)).is_none());
        // A restarted operator counts from the start again, and is followed.
        assert_eq!(*choice.received(replica(1), plan(1, 1)).unwrap(), plan(1, 1));
    }
}
