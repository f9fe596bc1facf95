//! Brings the DaemonSets of the cluster to what [`super::step`] decides. The leader only.

use super::need::NodeLabels;
use super::{Step, daemon_set, name_of, needed_profiles, overlaps, step};
use crate::config::Config;
use crate::deployment::OwnDeployment;
use crate::leadership::Claim;
use crate::watches::ClusterView;
use crate::world::SharedWorld;
use infmon_crds::FIELD_MANAGER;
use infmon_runtime::deadline;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CALL_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the leader remembers between two looks.
#[derive(Default)]
struct State {
    /// Content hash and generation of the DaemonSet after our last apply, by profile.
    applied: BTreeMap<String, (u64, Option<i64>)>,
    /// Since when a profile's DaemonSet has not been needed.
    unneeded: BTreeMap<String, Instant>,
    /// Next try after a failure.
    retry: BTreeMap<String, Instant>,
    /// Overlaps told already.
    told: Vec<super::Overlap>,
    owner: Option<OwnerReference>,
}

/// What to reconcile with.
pub struct Reconciler {
    /// For the DaemonSets and the operator's own Deployment.
    pub client: kube::Client,
    /// Profiles and daemon.
    pub config: Arc<Config>,
    /// Namespace of the operator and its DaemonSets.
    pub namespace: String,
    /// Monitors.
    pub world: SharedWorld,
    /// Nodes and DaemonSets.
    pub cluster: ClusterView,
    /// Whether the monitors have been listed once.
    pub monitors_listed: watch::Receiver<bool>,
    /// Whether this replica may write.
    pub claim: watch::Receiver<Claim>,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// What is found of one DaemonSet.
#[derive(Clone, Copy, Debug)]
struct Found {
    needed: bool,
    exists: bool,
    in_place: bool,
}

impl Reconciler {
    /// Reconciles until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut state = State::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.cluster.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // Before the first lists nobody knows what is needed: deleting every DaemonSet then would be the worst of mistakes.
            let listed = *self.monitors_listed.borrow() && self.cluster.is_complete();
            if !self.leads() || !listed {
                state = State::default();
                continue;
            }
            self.look(&mut state).await;
        }
    }

    fn leads(&self) -> bool {
        self.claim.borrow().is_current(Instant::now())
    }

    async fn look(&self, state: &mut State) {
        let profiles = &self.config.node_profiles;
        let nodes = self.cluster.nodes();
        report_overlaps(state, &self.config, &nodes);
        let needed = needed_profiles(profiles, &nodes, self.world.keys().len());
        let live = self.cluster.daemon_sets();
        if state.owner.is_none() {
            state.owner = OwnDeployment::new(self.client.clone(), &self.namespace, &self.config.deployment)
                .owner()
                .await;
        }
        for profile in profiles {
            let wanted = daemon_set(&self.config, profile, &self.namespace, state.owner.clone());
            let hash = hash_of(&wanted);
            let generation = live.get(&profile.name).copied();
            let found = Found {
                needed: needed.contains(profile.name.as_str()),
                exists: generation.is_some(),
                in_place: generation
                    .is_some_and(|generation| state.applied.get(&profile.name) == Some(&(hash, generation))),
            };
            self.act(state, &profile.name, Some((&wanted, hash)), found).await;
        }
        // DaemonSets of profiles that the configuration no longer has.
        let gone = Found {
            needed: false,
            exists: true,
            in_place: true,
        };
        for profile in live
            .keys()
            .filter(|name| profiles.iter().all(|profile| profile.name != **name))
        {
            self.act(state, profile, None, gone).await;
        }
    }

    async fn act(&self, state: &mut State, profile: &str, wanted: Option<(&DaemonSet, u64)>, found: Found) {
        let now = Instant::now();
        let unneeded_for = if found.needed {
            state.unneeded.remove(profile);
            Duration::ZERO
        } else {
            now - *state.unneeded.entry(profile.to_owned()).or_insert(now)
        };
        let grace = Duration::from_secs(self.config.node_daemon.removal_grace_seconds);
        let decided = step(found.needed, found.exists, found.in_place, unneeded_for, grace);
        if matches!(decided, Step::Keep | Step::Wait)
            || state.retry.get(profile).is_some_and(|retry| now < *retry)
            || !self.leads()
        {
            return;
        }
        let name = name_of(profile);
        let outcome = match (decided, wanted) {
            (Step::Apply, Some((set, hash))) => self.apply(&name, set).await.map(|generation| {
                tracing::info!(daemon_set = name, profile, "applied the node daemon's DaemonSet");
                state.applied.insert(profile.to_owned(), (hash, generation));
            }),
            _ => self.delete(&name).await.map(|()| {
                tracing::info!(
                    daemon_set = name,
                    profile,
                    "deleted the node daemon's DaemonSet: nothing needs it"
                );
                state.applied.remove(profile);
            }),
        };
        let pause = match outcome {
            // The watch needs a moment to show what was done; without the pause it would be done twice.
            Ok(()) => Duration::from_secs(1),
            Err(error) => {
                tracing::warn!(daemon_set = name, profile, %error, "failed to bring the DaemonSet to what is needed");
                Duration::from_secs(5)
            }
        };
        state.retry.insert(profile.to_owned(), Instant::now() + pause);
    }

    fn api(&self) -> Api<DaemonSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns the generation after the apply.
    async fn apply(&self, name: &str, set: &DaemonSet) -> anyhow::Result<Option<i64>> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api = self.api();
        let patch = Patch::Apply(set);
        Ok(
            deadline("daemon set apply", CALL_DEADLINE, api.patch(name, &params, &patch))
                .await??
                .metadata
                .generation,
        )
    }

    async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let api = self.api();
        match deadline(
            "daemon set delete",
            CALL_DEADLINE,
            api.delete(name, &DeleteParams::background()),
        )
        .await?
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn report_overlaps(state: &mut State, config: &Config, nodes: &NodeLabels) {
    let found = overlaps(&config.node_profiles, nodes);
    if found == state.told {
        return;
    }
    for overlap in &found {
        tracing::error!(
            first = overlap.profiles.0,
            second = overlap.profiles.1,
            node = overlap.node,
            nodes = overlap.nodes,
            "node profiles overlap: the node runs two daemons and only one is heard; make their nodeSelectors exclude each other"
        );
    }
    state.told = found;
}

fn hash_of(set: &DaemonSet) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(set).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
