//! Secrets that monitors name: what may be in them, where they may be sent, and what to do about one that cannot be used.
//!
//! No word of an error holds a value of a Secret. Names of Secrets, hosts and keys are told.

mod hosts;
mod parts;
mod secret;

pub use parts::{Fault, authorities, basic, bearer, client_certificate};
pub use secret::{NamedCredentials, SecretData};

use crate::cluster::SecretReading;
use crate::url::Url;
use infmon_crds::v1alpha1::InferenceMonitorSpec;
use infmon_samples::{Credentials, Scheme};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Label that a Secret must carry to be read for a monitor.
pub const LABEL: &str = "inferencemonitor.io/credentials";
/// Annotation that names the hosts that a Secret may be sent to.
pub const HOSTS: &str = "inferencemonitor.io/hosts";

/// Why a Secret cannot be used, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing<'a> {
    /// There is none of that name.
    Secret,
    /// The operator may not read it.
    Permission,
    /// It was not read: a fault that passes, in the words of the client.
    Answer(&'a str),
}

/// The words for a Secret that was not got.
#[must_use]
pub fn not_got(namespace: &str, name: &str, missing: Missing<'_>) -> String {
    match missing {
        Missing::Secret => format!(
            "Secret {name} does not exist: kubectl create secret generic {name} -n {namespace} --from-file=token=FILE, then label and \
             annotate it (docs/security.md#credentials-of-url-endpoints)"
        ),
        Missing::Permission => format!(
            "the operator may not read Secret {name}: ask an administrator to list the namespace {namespace} in the Helm value \
             credentials.namespaces, or to grant get on this one Secret (docs/security.md#credentials-of-url-endpoints)"
        ),
        Missing::Answer(words) => format!("Secret {name} could not be read, which is tried again: {words}"),
    }
}

/// The Secrets that a spec names for servers that may be asked at all. No other Secret is ever read.
#[must_use]
pub fn secrets_named(spec: &InferenceMonitorSpec, policy: &crate::AddressPolicy) -> BTreeSet<String> {
    let named = spec.endpoints.iter().filter_map(|endpoint| {
        let reference = endpoint.credentials_secret_ref.as_ref()?;
        let url = Url::parse(endpoint.url.as_deref()?).ok()?;
        (url.scheme == Scheme::Https && policy.allows(&url)).then(|| reference.name.clone())
    });
    named.collect()
}

/// What an endpoint's Secret gives for its url.
pub(crate) enum Given {
    /// There is nothing to show.
    Nothing,
    /// The Secret is on its way.
    NotYet,
    /// What the server is shown, and the namespace and name of the Secret.
    Credentials(Arc<Credentials>, String),
}

/// Takes the credentials for one url out of what is known of a Secret.
pub(crate) fn given(name: &str, reading: SecretReading, url: &Url) -> Result<Given, String> {
    if url.scheme != Scheme::Https {
        return Err(format!(
            "Secret {name} is not sent to {} in the clear: use https://",
            url.address()
        ));
    }
    match reading {
        SecretReading::NotYet => Ok(Given::NotYet),
        SecretReading::Unusable(words) => Err(words),
        SecretReading::Usable(named) => {
            let owner = format!("{}/{}", named.namespace(), named.name());
            Ok(Given::Credentials(named.for_url(url)?, owner))
        }
    }
}
