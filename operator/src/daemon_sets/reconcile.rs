//! Brings the DaemonSets of the cluster to what [`super::step`] decides. The leader only.

use super::need::NodeLabels;
use super::{Step, daemon_set, name_of, needed_profiles, overlaps, step};
use crate::config::Config;
use crate::leadership::Claim;
use crate::watches::ClusterView;
use crate::world::SharedWorld;
use infmon_crds::FIELD_MANAGER;
use infmon_runtime::deadline;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
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

/// Reconciles until `shutdown`.
pub async fn run(
    client: kube::Client,
    config: Arc<Config>,
    namespace: String,
    world: SharedWorld,
    cluster: ClusterView,
    claim: watch::Receiver<Claim>,
    shutdown: CancellationToken,
) {
    let api: Api<DaemonSet> = Api::namespaced(client.clone(), &namespace);
    let mut state = State::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = cluster.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // Before the first lists nobody knows what is needed: deleting every DaemonSet then would be the worst of mistakes.
        if !claim.borrow().is_current(Instant::now()) || !cluster.is_complete() {
            state = State::default();
            continue;
        }
        let nodes = cluster.nodes();
        report_overlaps(&mut state, &config, &nodes);
        let monitors = world.keys().len();
        let needed = needed_profiles(&config.node_profiles, &nodes, monitors);
        let live = cluster.daemon_sets();
        if state.owner.is_none() {
            state.owner = owner(&client, &config.deployment, &namespace).await;
        }
        for profile in &config.node_profiles {
            let wanted = daemon_set(&config, profile, &namespace, state.owner.clone());
            let hash = hash_of(&wanted);
            let generation = live.get(&profile.name).copied();
            let in_place =
                generation.is_some_and(|generation| state.applied.get(&profile.name) == Some(&(hash, generation)));
            act(
                &api,
                &mut state,
                &profile.name,
                Some((&wanted, hash)),
                needed.contains(profile.name.as_str()),
                generation.is_some(),
                in_place,
                &config,
                &claim,
            )
            .await;
        }
        // DaemonSets of profiles that the configuration no longer has.
        for profile in live
            .keys()
            .filter(|name| config.node_profiles.iter().all(|profile| profile.name != **name))
        {
            act(&api, &mut state, profile, None, false, true, true, &config, &claim).await;
        }
    }
}

#[allow(clippy::too_many_arguments)]
async fn act(
    api: &Api<DaemonSet>,
    state: &mut State,
    profile: &str,
    wanted: Option<(&DaemonSet, u64)>,
    needed: bool,
    exists: bool,
    in_place: bool,
    config: &Config,
    claim: &watch::Receiver<Claim>,
) {
    let now = Instant::now();
    if needed {
        state.unneeded.remove(profile);
    }
    let unneeded_for = if needed {
        Duration::ZERO
    } else {
        now - *state.unneeded.entry(profile.to_owned()).or_insert(now)
    };
    let grace = Duration::from_secs(config.node_daemon.removal_grace_seconds);
    let decided = step(needed, exists, in_place, unneeded_for, grace);
    if matches!(decided, Step::Keep | Step::Wait)
        || state.retry.get(profile).is_some_and(|retry| now < *retry)
        || !claim.borrow().is_current(now)
    {
        return;
    }
    let name = name_of(profile);
    let outcome = match (decided, wanted) {
        (Step::Apply, Some((set, hash))) => {
            let params = PatchParams::apply(FIELD_MANAGER).force();
            match deadline(
                "daemon set apply",
                CALL_DEADLINE,
                api.patch(&name, &params, &Patch::Apply(set)),
            )
            .await
            {
                Ok(Ok(applied)) => {
                    tracing::info!(daemon_set = name, profile, "applied the node daemon's DaemonSet");
                    state
                        .applied
                        .insert(profile.to_owned(), (hash, applied.metadata.generation));
                    Ok(())
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        }
        _ => match deadline(
            "daemon set delete",
            CALL_DEADLINE,
            api.delete(&name, &DeleteParams::background()),
        )
        .await
        {
            Ok(Ok(_)) => {
                tracing::info!(
                    daemon_set = name,
                    profile,
                    "deleted the node daemon's DaemonSet: nothing needs it"
                );
                state.applied.remove(profile);
                Ok(())
            }
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        },
    };
    match outcome {
        // The watch needs a moment to show what was done; without the pause it would be done twice.
        Ok(()) => state
            .retry
            .insert(profile.to_owned(), Instant::now() + Duration::from_secs(1)),
        Err(error) => {
            tracing::warn!(
                daemon_set = name,
                profile,
                error,
                "failed to bring the DaemonSet to what is needed"
            );
            state
                .retry
                .insert(profile.to_owned(), Instant::now() + Duration::from_secs(5))
        }
    };
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

/// The operator's Deployment as owner, so that garbage collection takes the DaemonSets with it.
async fn owner(client: &kube::Client, deployment: &str, namespace: &str) -> Option<OwnerReference> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    match deadline("own deployment", CALL_DEADLINE, api.get_opt(deployment)).await {
        Ok(Ok(Some(found))) => Some(OwnerReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: deployment.to_owned(),
            uid: found.metadata.uid?,
            controller: None,
            block_owner_deletion: None,
        }),
        Ok(Ok(None)) => None,
        Ok(Err(error)) => {
            tracing::warn!(deployment, %error, "failed to read the operator's own Deployment");
            None
        }
        Err(error) => {
            tracing::warn!(deployment, %error, "failed to read the operator's own Deployment");
            None
        }
    }
}

fn hash_of(set: &DaemonSet) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(set).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
