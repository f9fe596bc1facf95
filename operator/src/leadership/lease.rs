//! Takes, renews and releases the Lease.

use super::claim::{Claim, Observed, Record};
use crate::deployment::OwnDeployment;
use infmon_runtime::deadline;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, ObjectMeta, PostParams};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Times of the election; the defaults of client-go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long others wait before they take over.
    pub duration: Duration,
    /// How long the holder acts without a renewal.
    pub renew_deadline: Duration,
    /// Time between two tries.
    pub retry: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What is contended for, and as whom.
#[derive(Clone, Debug)]
pub struct Election {
    /// Where the Lease lies.
    pub leases: Api<Lease>,
    /// Its name.
    pub name: String,
    /// Identity of this replica, unique in the cluster.
    pub identity: String,
    /// Deadlines.
    pub times: LeaseTimes,
    /// With what the Lease goes; `None` lets it stay.
    pub owner: Option<OwnDeployment>,
}

/// Runs the election until `shutdown`, then releases the Lease.
///
/// `stopped` is cancelled by the caller when its writes have ended: only then is the Lease released, so that the next holder never
/// writes beside us.
pub async fn run(
    election: Election,
    claim: watch::Sender<Claim>,
    shutdown: CancellationToken,
    stopped: CancellationToken,
) {
    let Election {
        leases,
        name,
        identity,
        times,
        ..
    } = &election;
    let (name, me, times) = (name.as_str(), identity.as_str(), *times);
    let mut observed = Observed::default();
    let mut told: Option<String> = None;
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        // Half of the deadline, so that one call that hangs leaves time for another try.
        let outcome = deadline(
            "lease renewal",
            times.renew_deadline / 2,
            attempt(&election, &mut observed),
        )
        .await;
        match outcome {
            Ok(Ok(true)) => {
                let was = claim.borrow().is_current(Instant::now());
                claim.send_replace(Claim::until(started + times.renew_deadline));
                if !was {
                    tracing::info!(lease = name, identity = me, "became leader");
                    told = None;
                }
            }
            Ok(Ok(false)) => {
                if claim.borrow().is_current(Instant::now()) {
                    tracing::warn!(lease = name, identity = me, "lost the lease to another replica");
                }
                claim.send_replace(Claim::default());
                let holder = observed.other_holder(me, Instant::now()).map(str::to_owned);
                if holder != told && holder.is_some() {
                    tracing::info!(lease = name, holder, "another replica leads");
                    told = holder;
                }
            }
            // A claim that stands runs out by itself; until then the failure changes nothing.
            Ok(Err(error)) => tracing::warn!(lease = name, %error, "failed to renew the lease"),
            Err(error) => tracing::warn!(lease = name, %error, "failed to renew the lease"),
        }
        let wait = times.retry.mul_f64(1.0 + 0.2 * rand::random::<f64>());
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    stopped.cancelled().await;
    if claim.borrow().is_current(Instant::now()) {
        claim.send_replace(Claim::default());
        match deadline("lease release", Duration::from_secs(2), release(leases, name, me)).await {
            Ok(Ok(())) => tracing::info!(lease = name, "released the lease"),
            Ok(Err(error)) => tracing::warn!(lease = name, %error, "failed to release the lease"),
            Err(error) => tracing::warn!(lease = name, %error, "failed to release the lease"),
        }
    }
}

/// One try to take or renew the Lease; true when it is ours now.
async fn attempt(election: &Election, observed: &mut Observed) -> Result<bool, kube::Error> {
    let Election {
        leases, name, times, ..
    } = election;
    let me = election.identity.as_str();
    let now = MicroTime(jiff::Timestamp::now());
    let Some(mut lease) = leases.get_opt(name).await? else {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: owner(election).await,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(me.to_owned()),
                lease_duration_seconds: i32::try_from(times.duration.as_secs()).ok(),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        };
        return conflict_is_loss(leases.create(&PostParams::default(), &lease).await);
    };
    let spec = lease.spec.get_or_insert_default();
    observed.see(record(spec), Instant::now());
    if !observed.may_take(me, Instant::now()) {
        return Ok(false);
    }
    if spec.holder_identity.as_deref() != Some(me) {
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        spec.acquire_time = Some(now.clone());
        // An earlier version made it without.
        if lease.metadata.owner_references.is_none() {
            lease.metadata.owner_references = owner(election).await;
        }
    }
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(me.to_owned());
    spec.lease_duration_seconds = i32::try_from(times.duration.as_secs()).ok();
    spec.renew_time = Some(now);
    // The object still carries the resourceVersion that was read: somebody faster makes this a conflict.
    conflict_is_loss(leases.replace(name, &PostParams::default(), &lease).await)
}

async fn owner(election: &Election) -> Option<Vec<OwnerReference>> {
    let owner = election.owner.as_ref()?.owner().await?;
    Some(vec![owner])
}

async fn release(leases: &Api<Lease>, name: &str, me: &str) -> Result<(), kube::Error> {
    let mut lease = leases.get(name).await?;
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(me) {
        return Ok(());
    }
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    leases.replace(name, &PostParams::default(), &lease).await.map(|_| ())
}

fn record(spec: &LeaseSpec) -> Record {
    Record {
        holder: spec.holder_identity.clone().unwrap_or_default(),
        duration: Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0)),
        fingerprint: format!(
            "{:?}/{:?}",
            spec.renew_time.as_ref().map(|time| time.0),
            spec.lease_transitions
        ),
    }
}

fn conflict_is_loss(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}
