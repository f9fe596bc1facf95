//! The certificate that the servers present, replaced while they run.

use std::{fmt, sync::Arc};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use super::decision;

/// A certificate with its key, ready to be presented.
#[derive(Clone)]
pub struct ServingCertificate {
    certified: Arc<CertifiedKey>,
}

impl ServingCertificate {
    /// From PEM: the chain, the leaf first, and its key.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, String> {
        decision::certified(chain, key).map(|certified| Self {
            certified: Arc::new(certified),
        })
    }
}

impl PartialEq for ServingCertificate {
    /// By what clients see.
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServingCertificate")
            .field("certificates", &self.certified.cert.len())
            .finish_non_exhaustive()
    }
}

/// Presents the newest certificate in every handshake; without one, handshakes fail.
#[derive(Debug)]
pub(super) struct NewestCertificate(pub(super) watch::Receiver<Option<ServingCertificate>>);

impl ResolvesServerCert for NewestCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().as_ref().map(|newest| Arc::clone(&newest.certified))
    }
}
