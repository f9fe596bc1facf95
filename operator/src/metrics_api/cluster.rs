//! The calls to the API server: reviews, and the watch of whom the cluster trusts. Everything has a deadline.

use std::{fmt, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::ConfigMap,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use rustls::crypto::CryptoProvider;
use tokio_util::sync::CancellationToken;

use super::{
    authentication::{Authentication, CONFIG_MAP, NAMESPACE, TokenReviewer, Trust},
    authorization::{AccessDecision, AccessRequest, AccessReviewer, Attributes},
    identity::Identity,
    review_cache::ReviewError,
};

/// A watch is begun anew when it has been silent for so long: a connection that died without a word would otherwise hide
/// the next rotation of a CA. The list costs one object.
const SILENCE: Duration = Duration::from_secs(600);

/// Reviews by the API server. The cache that stands before it sets the deadline.
#[derive(Clone)]
pub(super) struct ClusterReviews {
    client: Client,
}

impl ClusterReviews {
    /// Needs `create` on `tokenreviews` and `subjectaccessreviews`: ClusterRole `system:auth-delegator`.
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }
}

impl fmt::Debug for ClusterReviews {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClusterReviews")
    }
}

impl TokenReviewer for ClusterReviews {
    fn review(&self, token: String) -> BoxFuture<'static, Result<Option<Identity>, ReviewError>> {
        let api = Api::<TokenReview>::all(self.client.clone());
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            // Without audiences the token must be meant for the API server itself, as for every aggregated API.
            spec: TokenReviewSpec {
                token: Some(token),
                audiences: None,
            },
            status: None,
        };
        async move {
            let review = api
                .create(&PostParams::default(), &review)
                .await
                .map_err(|error| failed(&error))?;
            Ok(token_identity(review))
        }
        .boxed()
    }
}

fn token_identity(review: TokenReview) -> Option<Identity> {
    let status = review.status?;
    if status.authenticated != Some(true) {
        return None;
    }
    let user = status.user?;
    Some(Identity {
        name: user.username.filter(|name| !name.is_empty())?,
        uid: user.uid.filter(|uid| !uid.is_empty()),
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    })
}

impl AccessReviewer for ClusterReviews {
    fn review(&self, request: AccessRequest) -> BoxFuture<'static, Result<AccessDecision, ReviewError>> {
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let review = access_review(&request);
        async move {
            let review = api
                .create(&PostParams::default(), &review)
                .await
                .map_err(|error| failed(&error))?;
            access_decision(review)
        }
        .boxed()
    }
}

fn access_review(request: &AccessRequest) -> SubjectAccessReview {
    let AccessRequest { identity, attributes } = request;
    let Attributes {
        verb,
        group,
        version,
        resource,
        subresource,
        name,
        namespace,
    } = attributes;
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    SubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SubjectAccessReviewSpec {
            user: Some(identity.name.clone()),
            uid: identity.uid.clone(),
            groups: Some(identity.groups.clone()),
            extra: (!identity.extra.is_empty()).then(|| identity.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some((*verb).to_owned()),
                group: Some((*group).to_owned()),
                version: Some((*version).to_owned()),
                resource: Some(resource.clone()),
                subresource: some(subresource),
                name: some(name),
                namespace: some(namespace),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        status: None,
    }
}

fn access_decision(review: SubjectAccessReview) -> Result<AccessDecision, ReviewError> {
    let status = review
        .status
        .ok_or_else(|| ReviewError::new("the review came back without a status"))?;
    Ok(match status {
        status if status.allowed && status.denied != Some(true) => AccessDecision::Allowed,
        status => AccessDecision::Denied(status.reason.unwrap_or_default()),
    })
}

fn failed(error: &kube::Error) -> ReviewError {
    ReviewError::new(error.to_string())
}

/// Follows the ConfigMap that says whom the cluster trusts, until `shutdown`. What cannot be read leaves the trust as it
/// was: a CA is never forgotten for a broken update.
///
/// Needs `get`, `list`, `watch` on this one ConfigMap: Role `kube-system/extension-apiserver-authentication-reader`.
pub(super) async fn follow_trust(client: Client, authentication: &Authentication, shutdown: CancellationToken) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    shutdown
        .run_until_cancelled(follow(client, authentication, &provider))
        .await;
}

async fn follow(client: Client, authentication: &Authentication, provider: &Arc<CryptoProvider>) {
    let api = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    loop {
        let config = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let mut changes = watcher(api.clone(), config).default_backoff().applied_objects().boxed();
        while let Ok(change) = tokio::time::timeout(SILENCE, changes.try_next()).await {
            match change {
                Ok(Some(map)) => adopt(&map, authentication, provider),
                Ok(None) => break,
                Err(error) => tracing::warn!(%error, "failed to watch ConfigMap {NAMESPACE}/{CONFIG_MAP}"),
            }
        }
    }
}

fn adopt(map: &ConfigMap, authentication: &Authentication, provider: &Arc<CryptoProvider>) {
    let empty = std::collections::BTreeMap::new();
    match Trust::parse(map.data.as_ref().unwrap_or(&empty), provider) {
        Ok(trust) => {
            authentication.set_trust(trust);
            tracing::info!("adopted the trusted callers of ConfigMap {NAMESPACE}/{CONFIG_MAP}");
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::warn!(
                error = format!("{error:#}"),
                "cannot use ConfigMap {NAMESPACE}/{CONFIG_MAP}; nothing changed"
            );
        }
    }
}

#[cfg(test)]
mod tests;
