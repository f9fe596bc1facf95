//! Whom the cluster trusts: ConfigMap `kube-system/extension-apiserver-authentication`.
//!
//! Keys as in apiserver `pkg/authentication/request/headerrequest/requestheader_controller.go` and
//! `pkg/server/options/authentication.go`. The API server rewrites the ConfigMap when a CA is rotated, so it is watched.

use std::{collections::BTreeMap, sync::Arc};

use rustls::{RootCertStore, crypto::CryptoProvider, server::WebPkiClientVerifier, server::danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The name of the ConfigMap.
pub const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// Its namespace.
pub const NAMESPACE: &str = "kube-system";

/// What the ConfigMap says.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The CA of ordinary client certificates.
    pub(super) clients: Option<Roots>,
    /// The front proxy (the API server's aggregator), when one is configured in full.
    pub(super) front_proxy: Option<FrontProxy>,
}

/// Who may speak for others, and in which headers.
#[derive(Clone, Debug)]
pub(super) struct FrontProxy {
    pub(super) roots: Roots,
    /// Common names of certificates that may; empty: any that verifies.
    pub(super) allowed_names: Vec<String>,
    pub(super) headers: HeaderNames,
}

/// The names of the headers that carry an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HeaderNames {
    pub(super) user: Vec<String>,
    pub(super) uid: Vec<String>,
    pub(super) group: Vec<String>,
    pub(super) extra_prefix: Vec<String>,
}

/// Trusted CAs, ready to verify client certificates.
#[derive(Clone, Debug)]
pub(super) struct Roots(pub(super) Arc<dyn ClientCertVerifier>);

/// What is wrong with the ConfigMap.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key is not a JSON array of strings.
    #[error("{key} is not a JSON array of strings")]
    NotAList {
        /// The key.
        key: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A key holds no certificate that can be used.
    #[error("{key} holds no usable certificate: {why}")]
    NoCertificate {
        /// The key.
        key: &'static str,
        /// Why.
        why: String,
    },
}

impl Trust {
    /// Reads the data of the ConfigMap.
    pub fn parse(data: &BTreeMap<String, String>, provider: &Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let roots = |key: &'static str| match data.get(key).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(pem) => Roots::parse(key, pem, provider).map(Some),
        };
        let headers = HeaderNames {
            user: list(data, "requestheader-username-headers")?,
            // Not defaulted when absent, deliberately: a header that an older aggregator does not strip must not count.
            uid: list(data, "requestheader-uid-headers")?,
            group: list(data, "requestheader-group-headers")?,
            extra_prefix: list(data, "requestheader-extra-headers-prefix")?,
        };
        let allowed_names = list(data, "requestheader-allowed-names")?;
        let front_proxy = roots("requestheader-client-ca-file")?
            .filter(|_| !headers.user.is_empty())
            .map(|roots| FrontProxy {
                roots,
                allowed_names,
                headers,
            });
        Ok(Self {
            clients: roots("client-ca-file")?,
            front_proxy,
        })
    }
}

fn list(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, TrustError> {
    match data.get(key).map(String::as_str) {
        None | Some("") => Ok(Vec::new()),
        Some(json) => serde_json::from_str(json).map_err(|source| TrustError::NotAList { key, source }),
    }
}

impl Roots {
    fn parse(key: &'static str, pem: &str, provider: &Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let mut store = RootCertStore::empty();
        let mut why = "it is empty".to_owned();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            // One unusable CA among others must not lock everybody out.
            match certificate
                .map_err(|error| error.to_string())
                .and_then(|certificate| store.add(certificate).map_err(|error| error.to_string()))
            {
                Ok(()) => {}
                Err(error) => why = error,
            }
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .build()
            .map(Self)
            .map_err(|_| TrustError::NoCertificate { key, why })
    }
}
