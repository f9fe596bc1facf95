//! Which plan is followed when several replicas send one. Pure.

use infmon_samples::{Plan, Target};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long targets with secret credentials stay in the plan while no replica is connected: as long as a replica keeps a Secret that it
/// cannot read.
const SECRETS_KEPT_FOR: Duration = Duration::from_secs(600);

/// The newest plan of every connected replica, and the one in force.
#[derive(Debug, Default)]
pub(super) struct PlanChoice {
    received: u64,
    /// Plan and order of arrival by replica.
    plans: BTreeMap<SocketAddr, (Arc<Plan>, u64)>,
    current: Option<Arc<Plan>>,
    /// Since when no replica with a plan is connected; none before the first.
    alone_since: Option<Instant>,
}

impl PlanChoice {
    /// A replica sent a plan. Gives the plan to follow when that changes.
    pub(super) fn received(&mut self, from: SocketAddr, plan: Plan) -> Option<Arc<Plan>> {
        self.received += 1;
        self.alone_since = None;
        self.plans.insert(from, (Arc::new(plan), self.received));
        self.choose()
    }

    /// The stream to a replica ended. Gives the plan to follow when that changes; without any replica the last plan stays,
    /// and its secrets [for a time](Self::let_go).
    pub(super) fn lost(&mut self, from: SocketAddr, now: Instant) -> Option<Arc<Plan>> {
        if self.plans.remove(&from).is_some() && self.plans.is_empty() {
            self.alone_since = Some(now);
        }
        self.choose()
    }

    /// Gives the plan without the targets that are shown a secret, once nobody has confirmed them for too long. The next plan that comes
    /// has them again.
    pub(super) fn let_go(&mut self, now: Instant) -> Option<Arc<Plan>> {
        let current = self.current.as_ref()?;
        if now < self.alone_since? + SECRETS_KEPT_FOR {
            return None;
        }
        let is_secret = |target: &Target| {
            let credentials = target.access.credentials.as_ref();
            credentials.is_some_and(|credentials| credentials.are_secret())
        };
        if !current.targets.iter().any(is_secret) {
            return None;
        }
        let mut rest = Plan::clone(current);
        rest.targets.retain(|target| !is_secret(target));
        self.current = Some(Arc::new(rest));
        self.current.clone()
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
    use infmon_engines::Mapping;
    use infmon_samples::{Access, Credentials, Hidden, Scheme, TargetId};

    fn replica(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 9443))
    }

    fn plan(revision: u64, seconds: u64) -> Plan {
        Plan {
            revision,
            period: Duration::from_secs(seconds),
            targets: Vec::new(),
            release_gpus: false,
        }
    }

    #[test]
    fn equal_plans_of_several_replicas_change_nothing() {
        let mut choice = PlanChoice::default();
        assert!(choice.received(replica(1), plan(4, 1)).is_some());
        assert!(choice.received(replica(2), plan(4, 1)).is_none());
        assert!(choice.lost(replica(1), Instant::now()).is_none());
    }

    #[test]
    fn the_highest_revision_wins_whoever_sent_it() {
        let mut choice = PlanChoice::default();
        choice.received(replica(1), plan(4, 1));
        assert_eq!(*choice.received(replica(2), plan(5, 2)).unwrap(), plan(5, 2));
        assert!(choice.received(replica(1), plan(3, 9)).is_none());
        assert_eq!(*choice.lost(replica(2), Instant::now()).unwrap(), plan(3, 9));
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
        assert!(choice.lost(replica(1), Instant::now()).is_none());
        // A restarted operator counts from the start again, and is followed.
        assert_eq!(*choice.received(replica(1), plan(1, 1)).unwrap(), plan(1, 1));
    }

    fn target(id: &str, credentials: Option<Credentials>) -> Target {
        Target {
            id: TargetId(id.to_owned()),
            scheme: Scheme::Https,
            address: "llm:443".to_owned(),
            metrics_path: "/metrics".to_owned(),
            engine: None,
            mapping: Mapping::default(),
            period: Duration::from_secs(1),
            deadline: Duration::from_secs(1),
            body_limit_bytes: 1,
            access: Access {
                verify_certificate: true,
                credentials: credentials.map(Arc::new),
            },
            pod_uid: None,
        }
    }

    #[test]
    fn secrets_are_let_go_without_a_replica_and_come_back_with_the_next_plan() {
        let start = Instant::now();
        let secret = Credentials {
            authorization: Some(Hidden::new("Bearer t".to_owned())),
            ..Credentials::default()
        };
        let open = [target("open", None), target("authority", Some(Credentials::default()))];
        let all = Plan {
            targets: open.iter().cloned().chain([target("secret", Some(secret))]).collect(),
            ..plan(4, 1)
        };
        let mut choice = PlanChoice::default();
        assert!(choice.let_go(start + SECRETS_KEPT_FOR).is_none(), "no plan yet");
        choice.received(replica(1), all.clone());
        choice.received(replica(2), all.clone());
        choice.lost(replica(1), start);
        assert!(choice.let_go(start + SECRETS_KEPT_FOR).is_none(), "one is left");
        let lost = start + Duration::from_secs(5);
        choice.lost(replica(2), lost);
        // A try to connect that fails is no later loss.
        choice.lost(replica(1), lost + Duration::from_secs(60));
        assert!(choice.let_go(start + SECRETS_KEPT_FOR).is_none());
        let rest = choice.let_go(lost + SECRETS_KEPT_FOR).unwrap();
        assert_eq!((rest.revision, &rest.targets[..]), (4, &open[..]));
        assert!(choice.let_go(lost + 2 * SECRETS_KEPT_FOR).is_none(), "once");
        assert_eq!(*choice.received(replica(1), all.clone()).unwrap(), all);
        assert!(choice.let_go(lost + 9 * SECRETS_KEPT_FOR).is_none(), "connected");
    }
}
