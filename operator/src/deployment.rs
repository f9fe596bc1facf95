//! The operator's own Deployment, as the owner of all that the operator makes: garbage collection takes it along.

use infmon_runtime::deadline;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client};
use std::time::Duration;

/// The client has no deadline of its own for an answer that does not come.
const CALL: Duration = Duration::from_secs(5);

/// The operator's own Deployment.
#[derive(Clone, Debug)]
pub struct OwnDeployment {
    api: Api<Deployment>,
    name: String,
}

impl OwnDeployment {
    /// The Deployment of this name.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
        }
    }

    /// It as an owner; `None` where there is none, as in tests, or where it cannot be read, which is logged.
    pub async fn owner(&self) -> Option<OwnerReference> {
        match deadline("own deployment", CALL, self.api.get_opt(&self.name)).await {
            Ok(Ok(Some(found))) => Some(OwnerReference {
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: self.name.clone(),
                uid: found.metadata.uid?,
                controller: None,
                block_owner_deletion: None,
            }),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => {
                tracing::warn!(deployment = self.name, %error, "failed to read the operator's own Deployment");
                None
            }
            Err(error) => {
                tracing::warn!(deployment = self.name, %error, "failed to read the operator's own Deployment");
                None
            }
        }
    }
}
