//! The certificates of the servers, made and rotated by the operator itself.
//!
//! * The Secret holds authorities, leaf and keys. The leader alone writes it, guarded by its resourceVersion; all replicas
//!   watch it and present the newest leaf in the next handshake.
//! * What clients trust is published in the ConfigMap `<secret>-ca` (for the node daemons) and in `spec.caBundle` of the
//!   APIServices that send requests to our Service (for the API server). An APIService of somebody else is reported, and
//!   never touched.
//!
//! [`decision`] says what is due, [`plan`](mod@plan) what is to be written; both are pure.

pub mod bundle;
pub mod decision;
mod issue;
mod objects;
pub mod plan;
mod serving;
mod settings;
mod writer;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{Api, Client};
use rustls::{ServerConfig, server::ResolvesServerCert};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{
    issue::IssueError,
    serving::ServingCertificate,
    settings::Settings,
    writer::{FIELD_MANAGER, WriteError},
};
use self::{
    plan::{Known, Ownership, View, plan},
    serving::NewestCertificate,
    writer::Writer,
};
use crate::leadership::Claim;

/// Certificates are looked at so often at least.
const LOOK: Duration = Duration::from_secs(600);
/// The waits after failures: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Makes, rotates, publishes and presents the certificates. Clones share their state.
#[derive(Clone)]
pub struct Certificates {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    settings: Settings,
    view: watch::Sender<View>,
    serving: watch::Sender<Option<ServingCertificate>>,
}

impl Certificates {
    /// Nothing happens before [`Certificates::run`].
    pub fn new(client: Client, settings: Settings) -> Self {
        let api_services = settings
            .api_services
            .iter()
            .map(|name| (name.clone(), Known::NotYet))
            .collect();
        let view = watch::Sender::new(View {
            api_services,
            ..View::default()
        });
        Self {
            inner: Arc::new(Inner {
                client,
                settings,
                view,
                serving: watch::Sender::new(None),
            }),
        }
    }

    /// The newest certificate, `None` before the first.
    pub fn serving(&self) -> watch::Receiver<Option<ServingCertificate>> {
        self.inner.serving.subscribe()
    }

    /// Presents the newest certificate in every handshake.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(NewestCertificate(self.serving()))
    }

    /// TLS for the link to the node daemons: the newest certificate, HTTP/2, no client certificates.
    pub fn link_tls(&self) -> Result<infmon_runtime::ServerTls, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.resolver());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(infmon_runtime::ServerTls::new(config))
    }

    /// Whose the configured APIServices are, as far as it is known.
    pub fn api_services(&self) -> BTreeMap<String, Ownership> {
        ownerships(&self.inner.view.borrow(), &self.inner.settings)
    }

    /// Returns when there is a certificate to present.
    pub async fn wait_until_loaded(&self) {
        // The sender lives in self.
        let _ = self.serving().wait_for(Option::is_some).await;
    }

    /// Follows the objects, and writes them while `claims` says so, until `shutdown`.
    pub async fn run(self, claims: watch::Receiver<Claim>, shutdown: CancellationToken) {
        let follow = async {
            tokio::join!(
                self.follow_secret(),
                self.follow_config_map(),
                self.follow_api_services()
            );
        };
        let work = async {
            tokio::join!(follow, self.report(), self.maintain(claims));
        };
        shutdown.run_until_cancelled(Box::pin(work)).await;
    }

    async fn follow_secret(&self) {
        let Inner {
            client, settings, view, ..
        } = &*self.inner;
        let api = Api::<Secret>::namespaced(client.clone(), &settings.namespace);
        objects::follow(api, &settings.secret, |secret| {
            self.present(&secret);
            view.send_modify(|view| view.secret = secret);
        })
        .await;
    }

    async fn follow_config_map(&self) {
        let Inner {
            client, settings, view, ..
        } = &*self.inner;
        let api = Api::<ConfigMap>::namespaced(client.clone(), &settings.namespace);
        objects::follow(api, &settings.config_map(), |map| {
            view.send_modify(|view| view.config_map = map);
        })
        .await;
    }

    async fn follow_api_services(&self) {
        let Inner {
            client, settings, view, ..
        } = &*self.inner;
        let follow = settings.api_services.iter().map(|name| {
            let api = Api::<APIService>::all(client.clone());
            objects::follow(api, name, |api_service| {
                view.send_modify(|view| {
                    view.api_services.insert(name.clone(), api_service);
                });
            })
        });
        futures::future::join_all(follow).await;
    }

    /// Presents what a Secret holds. A Secret that is gone or broken leaves the last certificate in use.
    fn present(&self, secret: &Known<Secret>) {
        let Some(secret) = secret.present() else { return };
        let text = |key| {
            let value = secret.data.as_ref().and_then(|data| data.get(key));
            value.map(|value| String::from_utf8_lossy(&value.0)).unwrap_or_default()
        };
        match ServingCertificate::from_pem(&text(bundle::LEAF), &text(bundle::LEAF_KEY)) {
            Ok(certificate) => {
                let is_new = self.inner.serving.send_if_modified(|serving| {
                    let is_new = serving.as_ref() != Some(&certificate);
                    *serving = Some(certificate);
                    is_new
                });
                if is_new {
                    tracing::info!(secret = self.inner.settings.secret, "presenting a new certificate");
                }
            }
            Err(why) => tracing::warn!(
                secret = self.inner.settings.secret,
                why,
                "the Secret holds no usable certificate"
            ),
        }
    }

    /// Says in the log whose the APIServices are, when that changes.
    async fn report(&self) {
        let Inner { settings, view, .. } = &*self.inner;
        let mut changes = view.subscribe();
        let mut reported = BTreeMap::new();
        loop {
            let found = ownerships(&changes.borrow_and_update(), settings);
            for (name, ownership) in &found {
                if reported.get(name) == Some(ownership) {
                    continue;
                }
                match ownership {
                    Ownership::Unknown => {}
                    Ownership::Absent => tracing::info!(api_service = name, "nobody serves this API"),
                    Ownership::Ours => tracing::info!(api_service = name, "this API is served by us"),
                    Ownership::Other(owner) => tracing::warn!(
                        api_service = name,
                        owner,
                        "this API belongs to somebody else and is left alone: an HPA does not reach our metrics through it"
                    ),
                }
            }
            reported = found;
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes what is planned, while this replica is the leader.
    async fn maintain(&self, mut claims: watch::Receiver<Claim>) {
        let mut changes = self.inner.view.subscribe();
        let mut backoff = BACKOFF.0;
        loop {
            changes.borrow_and_update();
            let is_leader = claims.borrow_and_update().is_current(Instant::now());
            let wait = if is_leader { self.pass(&claims).await } else { Ok(LOOK) };
            let (wait, is_failure) = match wait {
                Ok(wait) => {
                    backoff = BACKOFF.0;
                    (wait, false)
                }
                Err(error) => {
                    if !error.is_conflict() {
                        let error = anyhow::Error::from(error);
                        tracing::warn!(error = format!("{error:#}"), "failed to maintain the certificates");
                    }
                    let wait = backoff.mul_f32(rand::random_range(0.75..1.25));
                    backoff = (backoff * 2).min(BACKOFF.1);
                    (wait, true)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // A failure is not repeated for each event.
                changed = changes.changed(), if !is_failure => if changed.is_err() { return },
                // A claim is renewed every few seconds: only its beginning is news.
                claim = claims.wait_for(|claim| claim.is_current(Instant::now())), if !is_leader => {
                    if claim.is_err() { return }
                }
            }
        }
    }

    /// Carries out what is planned now; returns the time until the next look.
    async fn pass(&self, claims: &watch::Receiver<Claim>) -> Result<Duration, WriteError> {
        let Inner {
            client, settings, view, ..
        } = &*self.inner;
        let seen = view.borrow().clone();
        let now = Timestamp::now();
        let plan = plan(&seen, &settings.service, &settings.dns_names, now);
        let mut failure = None;
        for action in plan.actions {
            if !claims.borrow().is_current(Instant::now()) {
                return Ok(LOOK);
            }
            // A publication that fails must not hold the others up, nor a leaf that is about to expire.
            match (Writer { client, settings }).write(action, &seen, now).await {
                Ok(written) => {
                    view.send_modify(|view| written.note(view));
                    // This replica need not wait for the watch.
                    self.present(&view.borrow().secret);
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(plan.until.map_or(LOOK, |until| {
                let left = until.duration_since(now).max(jiff::SignedDuration::from_secs(1));
                left.unsigned_abs().min(LOOK)
            })),
        }
    }
}

fn ownerships(view: &View, settings: &Settings) -> BTreeMap<String, Ownership> {
    let ownership = |(name, api_service): (&String, &Known<APIService>)| {
        (name.clone(), plan::ownership(api_service, &settings.service))
    };
    view.api_services.iter().map(ownership).collect()
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Certificates")
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
