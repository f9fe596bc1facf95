//! The writes, each guarded against a change that was not seen, and each with a deadline.

use std::{collections::BTreeMap, future::Future, time::Duration};

use base64::Engine as _;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::deployment::OwnDeployment;

use super::{
    Settings,
    bundle::CA,
    decision::Decision,
    issue::{self, IssueError},
    plan::{self, Action, Known, View},
};

/// The field manager of what is published.
pub const FIELD_MANAGER: &str = "inference-monitor-certificates";

const DEADLINE: Duration = Duration::from_secs(10);

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server refused.
    #[error("failed to {call}")]
    Api {
        /// What was tried.
        call: &'static str,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("failed to {call}: no answer within {} s", DEADLINE.as_secs())]
    Deadline {
        /// What was tried.
        call: &'static str,
    },
    /// Nothing could be issued.
    #[error("failed to issue")]
    Issue(#[from] IssueError),
}

impl WriteError {
    /// Whether somebody else wrote first: the watch brings what they wrote.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == 409))
    }
}

/// What a write made of an object.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
    ApiService(String, Box<APIService>),
    Nothing,
}

impl Written {
    /// Notes it, so that the next plan does not begin with what was before.
    pub(super) fn note(self, view: &mut View) {
        match self {
            Self::Secret(secret) => view.secret = Known::Present(*secret),
            Self::ConfigMap(map) => view.config_map = Known::Present(*map),
            Self::ApiService(name, api_service) => {
                view.api_services.insert(name, Known::Present(*api_service));
            }
            Self::Nothing => {}
        }
    }
}

/// Writes.
pub(super) struct Writer<'a> {
    pub(super) client: &'a Client,
    pub(super) settings: &'a Settings,
}

impl Writer<'_> {
    /// Carries one action out.
    pub(super) async fn write(&self, action: Action, view: &View, now: Timestamp) -> Result<Written, WriteError> {
        match action {
            Action::PublishTrust { trusted } => Ok(Written::ConfigMap(Box::new(self.publish_trust(&trusted).await?))),
            Action::PublishCaBundle {
                name,
                resource_version,
                trusted,
            } => {
                let patched = self
                    .publish_ca_bundle(&name, resource_version.as_deref(), &trusted)
                    .await?;
                Ok(Written::ApiService(name, Box::new(patched)))
            }
            Action::ChangeSecret(decision) => self.change_secret(&decision, view.secret.present(), now).await,
        }
    }

    async fn change_secret(
        &self,
        decision: &Decision,
        current: Option<&Secret>,
        now: Timestamp,
    ) -> Result<Written, WriteError> {
        let bundle = current.and_then(|secret| plan::bundle(secret).ok());
        let Some(bundle) = issue::carry_out(decision, bundle.as_ref(), &self.settings.dns_names, now)? else {
            return Ok(Written::Nothing);
        };
        tracing::info!(?decision, secret = self.settings.secret, "changing the certificates");
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.settings.namespace);
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let data = Some(bundle.to_secret());
        let written = match current {
            // The whole object as it was seen, its resourceVersion included: a change that was not seen is a conflict.
            Some(current) => {
                let secret = Secret {
                    data,
                    string_data: None,
                    ..current.clone()
                };
                call(
                    "replace the Secret",
                    api.replace(&self.settings.secret, &params, &secret),
                )
                .await?
            }
            None => {
                let metadata = self.metadata(&self.settings.secret).await;
                let type_ = Some("kubernetes.io/tls".to_owned());
                let secret = Secret {
                    metadata,
                    data,
                    type_,
                    ..Secret::default()
                };
                call("create the Secret", api.create(&params, &secret)).await?
            }
        };
        Ok(Written::Secret(Box::new(written)))
    }

    async fn publish_trust(&self, trusted: &str) -> Result<ConfigMap, WriteError> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.settings.namespace);
        let name = self.settings.config_map();
        let map = ConfigMap {
            metadata: self.metadata(&name).await,
            data: Some(BTreeMap::from([(CA.to_owned(), trusted.to_owned())])),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        call("apply the ConfigMap", api.patch(&name, &params, &Patch::Apply(map))).await
    }

    /// With the resourceVersion that was judged: an APIService that changed hands since then is a conflict.
    async fn publish_ca_bundle(
        &self,
        name: &str,
        resource_version: Option<&str>,
        trusted: &str,
    ) -> Result<APIService, WriteError> {
        let api = Api::<APIService>::all(self.client.clone());
        let patch = json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": name, "resourceVersion": resource_version},
            "spec": {"caBundle": base64::engine::general_purpose::STANDARD.encode(trusted)},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        call(
            "apply the caBundle of an APIService",
            api.patch(name, &params, &Patch::Apply(patch)),
        )
        .await
    }

    async fn metadata(&self, name: &str) -> ObjectMeta {
        // So that keys go with it.
        let owner = OwnDeployment::new(self.client.clone(), &self.settings.namespace, &self.settings.deployment)
            .owner()
            .await;
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.settings.namespace.clone()),
            labels: Some(self.settings.labels()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }
}

/// A call with a deadline: the client has none of its own for an answer that does not come.
async fn call<T>(call: &'static str, future: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(result) => result.map_err(|source| WriteError::Api {
            call,
            source: Box::new(source),
        }),
        Err(_) => Err(WriteError::Deadline { call }),
    }
}

#[cfg(test)]
mod tests;
