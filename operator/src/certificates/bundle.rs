//! What the Secret holds: authorities, a leaf, their keys, all as PEM.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The key of the trust bundle, in the Secret and in the ConfigMap for the node daemons.
pub const CA: &str = "ca.crt";
/// The key of the leaf, as in every Secret of type `kubernetes.io/tls`.
pub const LEAF: &str = "tls.crt";
/// The key of the leaf's key.
pub const LEAF_KEY: &str = "tls.key";
const SIGNING: &str = "signing-ca.crt";
const SIGNING_KEY: &str = "signing-ca.key";
const NEXT: &str = "next-ca.crt";
const NEXT_KEY: &str = "next-ca.key";

/// A certificate with its key. The key never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM (PKCS #8).
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// All certificates and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The authority that signs leaves now.
    pub signing: Pair,
    /// During a rotation: the authority that is trusted already, and signs next.
    pub next: Option<Pair>,
    /// After a rotation: authorities that are trusted still. PEM.
    pub previous: Vec<String>,
    /// What the servers present.
    pub leaf: Pair,
}

/// What is wrong with a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A key is absent or not text.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A certificate cannot be read.
    #[error("{0} is not a certificate")]
    NotACertificate(&'static str),
}

/// The time in which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last moment.
    pub not_after: Timestamp,
}

impl Bundle {
    /// Reads the data of the Secret.
    pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Result<Self, BundleError> {
        let text = |key| {
            data.get(key)
                .and_then(|value| String::from_utf8(value.0.clone()).ok())
                .filter(|text| !text.is_empty())
        };
        let required = |key| text(key).ok_or(BundleError::Missing(key));
        let pair = |certificate, key| {
            Ok(Pair {
                certificate: required(certificate)?,
                key: required(key)?,
            })
        };
        let signing = pair(SIGNING, SIGNING_KEY)?;
        let next = if data.contains_key(NEXT) {
            Some(pair(NEXT, NEXT_KEY)?)
        } else {
            None
        };
        let leaf = pair(LEAF, LEAF_KEY)?;
        let active = [Some(&signing), next.as_ref()].map(|pair| pair.and_then(|pair| first(&pair.certificate)));
        let trusted = required(CA)?;
        let previous = CertificateDer::pem_slice_iter(trusted.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| BundleError::NotACertificate(CA))?
            .into_iter()
            .filter(|certificate| !active.contains(&Some(certificate.clone())))
            .map(|certificate| pem(&certificate))
            .collect();
        Ok(Self {
            signing,
            next,
            previous,
            leaf,
        })
    }

    /// The data of the Secret.
    pub fn to_secret(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, value: &str| data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        put(CA, &self.trusted());
        put(SIGNING, &self.signing.certificate);
        put(SIGNING_KEY, &self.signing.key);
        put(LEAF, &self.leaf.certificate);
        put(LEAF_KEY, &self.leaf.key);
        if let Some(next) = &self.next {
            put(NEXT, &next.certificate);
            put(NEXT_KEY, &next.key);
        }
        data
    }

    /// What clients trust: every authority that may have signed, or will soon sign, what they meet.
    pub fn trusted(&self) -> String {
        let mut trusted = self.previous.concat();
        trusted.push_str(&self.signing.certificate);
        trusted.push_str(self.next.as_ref().map_or("", |next| &next.certificate));
        trusted
    }
}

/// The first certificate of a PEM text.
pub(super) fn first(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

/// When the first certificate of a PEM text is valid.
pub(super) fn validity(what: &'static str, pem: &str) -> Result<Validity, BundleError> {
    let read = || {
        let certificate = first(pem)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        let moment = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let validity = parsed.validity();
        Some(Validity {
            not_before: moment(validity.not_before)?,
            not_after: moment(validity.not_after)?,
        })
    };
    read().ok_or(BundleError::NotACertificate(what))
}

/// The common name in the first certificate of a PEM text.
pub(super) fn common_name(pem: &str) -> Option<String> {
    let certificate = first(pem)?;
    let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: every index is a boundary.
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
