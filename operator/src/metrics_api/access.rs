//! Who may read: everybody on this machine, or whom the cluster says.

use std::sync::Arc;

use http::HeaderMap;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::{
    authentication::{Authentication, AuthenticationError, PeerCertificates},
    authorization::{AccessDecision, Attributes, Authorization},
    cluster::{self, ClusterReviews},
    failure::Failure,
    identity::Identity,
};

/// How requests are let in.
#[derive(Clone, Debug)]
pub enum Access {
    /// Authentication and authorisation are delegated to the cluster's API server. The only choice on a network.
    Delegated(Arc<DelegatedAccess>),
    /// **No authentication and no authorisation.** For the standalone mode alone, where the server listens on loopback,
    /// there is no cluster to ask, and whoever can connect can read the same numbers from the process anyway.
    Open,
}

/// Authentication and authorisation by the cluster.
#[derive(Debug)]
pub struct DelegatedAccess {
    authentication: Authentication,
    authorization: Authorization,
}

impl DelegatedAccess {
    /// Asks the API server behind `client`. [`DelegatedAccess::run`] must run beside it.
    pub fn new(client: Client) -> Arc<Self> {
        let reviews = Arc::new(ClusterReviews::new(client));
        Self::with(Authentication::new(reviews.clone()), Authorization::new(reviews))
    }

    /// From parts.
    pub fn with(authentication: Authentication, authorization: Authorization) -> Arc<Self> {
        Arc::new(Self {
            authentication,
            authorization,
        })
    }

    /// Follows the cluster's trusted CAs until `shutdown`.
    pub async fn run(self: Arc<Self>, client: Client, shutdown: CancellationToken) {
        cluster::follow_trust(client, &self.authentication, shutdown).await;
    }

    /// Whether the cluster's trusted CAs are known: before that the API server itself would be turned away, so the replica
    /// should not be ready.
    pub fn is_ready(&self) -> bool {
        self.authentication.has_trust()
    }

    /// Who asks.
    pub(super) async fn authenticate(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<Arc<Identity>, Failure> {
        self.authentication
            .authenticate(peer, headers)
            .await
            .map_err(|error| match error {
                AuthenticationError::Invalid(why) => {
                    tracing::debug!(why, "a caller was turned away");
                    Failure::unauthorized()
                }
                AuthenticationError::Unavailable(why) => {
                    tracing::warn!(why, "failed to review a bearer token");
                    Failure::internal("the bearer token could not be reviewed by the API server")
                }
            })
    }

    /// Whether the caller may read a metric.
    pub(super) async fn authorize(&self, identity: &Arc<Identity>, attributes: Attributes) -> Result<(), Failure> {
        match self.authorization.authorize(identity, attributes.clone()).await {
            Ok(AccessDecision::Allowed) => Ok(()),
            Ok(AccessDecision::Denied(reason)) => {
                Err(Failure::forbidden(attributes.forbidden_message(identity, &reason)))
            }
            Err(error) => {
                tracing::warn!(%error, user = identity.name, "failed to review an access");
                Err(Failure::internal("the access could not be reviewed by the API server"))
            }
        }
    }
}
