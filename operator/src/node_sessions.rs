//! Who may open a link, and what becomes of what daemons say.
//!
//! A daemon proves itself with a projected ServiceAccount token of the link's own audience. The API server checks it (TokenReview) and
//! tells which pod and node it is bound to: a daemon can only speak for the node it runs on.

use crate::daemon_sets::LINK_AUDIENCE;
use crate::world::SharedWorld;
use infmon_link::{AuthError, Authenticated, NodeSessions};
use infmon_runtime::deadline;
use infmon_samples::{NodeIdentity, Plan, Report};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Keys under which the API server tells what a token is bound to (KEP-4193, stable since Kubernetes 1.32).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Tokens live for an hour and the kubelet renews them at four fifths; a stream asks for a new proof well before.
const PROOF_HOLDS: Duration = Duration::from_secs(30 * 60);

/// Sessions of node daemons.
#[derive(Clone)]
pub struct Sessions {
    client: kube::Client,
    world: SharedWorld,
    /// `system:serviceaccount:<namespace>:<name>`
    user: String,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// Lets in the daemons that run as `service_account` in `namespace`.
    #[must_use]
    pub fn new(client: kube::Client, world: SharedWorld, namespace: &str, service_account: &str) -> Self {
        Self {
            client,
            world,
            user: format!("system:serviceaccount:{namespace}:{service_account}"),
        }
    }
}

/// Judges the answer of the API server: pure.
///
/// # Errors
/// With what is wrong, for the daemon's log.
pub fn judge(status: &TokenReviewStatus, claimed: &NodeIdentity, user: &str) -> Result<(), String> {
    if status.authenticated != Some(true) {
        let why = status.error.as_deref().unwrap_or("the API server does not say why");
        return Err(format!("the token is not valid: {why}"));
    }
    if !status
        .audiences
        .iter()
        .flatten()
        .any(|audience| audience == LINK_AUDIENCE)
    {
        return Err(format!("the token is not for the audience {LINK_AUDIENCE}"));
    }
    let found = status.user.as_ref();
    let name = found.and_then(|user| user.username.as_deref()).unwrap_or_default();
    if name != user {
        return Err(format!("the token belongs to {name}, not to {user}"));
    }
    let bound = |key: &str| {
        found
            .and_then(|user| user.extra.as_ref())
            .and_then(|extra| extra.get(key))
            .and_then(|values| values.first())
            .map_or("", String::as_str)
    };
    for (key, claims, what) in [(NODE_NAME, &claimed.node, "node"), (POD_NAME, &claimed.pod, "pod")] {
        let bound = bound(key);
        if bound.is_empty() {
            return Err(format!(
                "the token is not bound to a {what}: Kubernetes 1.32 or newer and a projected token are needed"
            ));
        }
        if bound != claims {
            return Err(format!(
                "the token is bound to {what} {bound}, but the daemon says it is {claims}"
            ));
        }
    }
    Ok(())
}

impl NodeSessions for Sessions {
    async fn authenticate(&self, claimed: &NodeIdentity, bearer: &str) -> Result<Authenticated, AuthError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(bearer.to_owned()),
                audiences: Some(vec![LINK_AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = deadline(
            "token review",
            Duration::from_secs(4),
            api.create(&PostParams::default(), &review),
        )
        .await
        .map_err(|error| AuthError::Unavailable(error.to_string()))?
        .map_err(|error| AuthError::Unavailable(error.to_string()))?;
        let status = answer.status.unwrap_or_default();
        judge(&status, claimed, &self.user).map_err(AuthError::Denied)?;
        Ok(Authenticated {
            valid_until: Some(Instant::now() + PROOF_HOLDS),
        })
    }

    fn connected(&self, node: &NodeIdentity) -> watch::Receiver<Arc<Plan>> {
        tracing::info!(
            node = node.node,
            pod = node.pod,
            version = node.version,
            "node daemon connected"
        );
        self.world.connect(node.clone())
    }

    fn report(&self, node: &NodeIdentity, report: Report) {
        self.world.report(&node.node, report);
    }

    fn disconnected(&self, node: &NodeIdentity) {
        tracing::info!(node = node.node, pod = node.pod, "node daemon disconnected");
        self.world.disconnect(&node.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;
    use std::collections::BTreeMap;

    const USER: &str = "system:serviceaccount:system:daemon";

    fn good() -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![LINK_AUDIENCE.into()]),
            user: Some(UserInfo {
                username: Some(USER.into()),
                extra: Some(BTreeMap::from([
                    (NODE_NAME.to_owned(), vec!["n1".to_owned()]),
                    (POD_NAME.to_owned(), vec!["p1".to_owned()]),
                ])),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    fn claims(node: &str, pod: &str) -> NodeIdentity {
        NodeIdentity {
            node: node.into(),
            pod: pod.into(),
            version: String::new(),
        }
    }

    #[test]
    fn a_token_of_this_pod_on_this_node_is_good() {
        assert_eq!(judge(&good(), &claims("n1", "p1"), USER), Ok(()));
    }

    #[test]
    fn everything_else_is_refused() {
        let other_audience = TokenReviewStatus {
            audiences: Some(vec!["api".into()]),
            ..good()
        };
        let not_authenticated = TokenReviewStatus {
            authenticated: Some(false),
            error: Some("expired".into()),
            ..good()
        };
        let mut other_user = good();
        other_user.user.as_mut().expect("user").username = Some("system:serviceaccount:a:b".into());
        let mut unbound = good();
        unbound.user.as_mut().expect("user").extra = None;
        let cases = [
            ("other node", good(), claims("n2", "p1"), "bound to node n1"),
            ("other pod", good(), claims("n1", "p2"), "bound to pod p1"),
            ("audience", other_audience, claims("n1", "p1"), "audience"),
            ("expired", not_authenticated, claims("n1", "p1"), "expired"),
            ("user", other_user, claims("n1", "p1"), "belongs to"),
            ("unbound", unbound, claims("n1", "p1"), "not bound"),
        ];
        for (name, status, claimed, words) in cases {
            let error = judge(&status, &claimed, USER).expect_err(name);
            assert!(error.contains(words), "{name}: {error}");
        }
    }
}
