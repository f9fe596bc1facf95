//! Client certificates: the chain, the use, and the name (apiserver `pkg/authentication/request/x509/x509.go`).

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::trust::Roots;
use crate::metrics_api::identity::Identity;

/// The subject of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// The common name; empty where there is none.
    pub(super) common_name: String,
    /// The organisations, which are groups.
    pub(super) organizations: Vec<String>,
}

impl Subject {
    /// The user that an ordinary client certificate stands for; none without a name.
    pub(super) fn into_identity(self) -> Option<Identity> {
        let Self {
            common_name: name,
            organizations: groups,
        } = self;
        (!name.is_empty()).then(|| Identity {
            name,
            groups,
            ..Identity::default()
        })
    }
}

/// Why a certificate does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("the client certificate does not verify: {0}")]
    Unverified(String),
    #[error("the client certificate cannot be read")]
    Malformed,
}

/// Verifies a chain (the client's own certificate first) against trusted CAs, at a time, for use by a client (the
/// extended key usage ClientAuth, where the certificate limits its uses).
pub(super) fn verify(chain: &[CertificateDer<'_>], roots: &Roots, now: UnixTime) -> Result<Subject, CertificateError> {
    let (own, intermediates) = chain.split_first().ok_or(CertificateError::Malformed)?;
    roots
        .0
        .verify_client_cert(own, intermediates, now)
        .map_err(|error| CertificateError::Unverified(error.to_string()))?;
    subject(own)
}

fn subject(certificate: &CertificateDer<'_>) -> Result<Subject, CertificateError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::Malformed)?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute
            .as_str()
            .map(str::to_owned)
            .map_err(|_| CertificateError::Malformed)
    };
    // As in Go's crypto/x509/pkix, the last common name counts.
    let common_name = parsed
        .subject()
        .iter_common_name()
        .last()
        .map(text)
        .transpose()?
        .unwrap_or_default();
    let organizations = parsed
        .subject()
        .iter_organization()
        .map(text)
        .collect::<Result<_, _>>()?;
    Ok(Subject {
        common_name,
        organizations,
    })
}
