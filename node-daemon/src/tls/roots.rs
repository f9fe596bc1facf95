//! The authorities that are trusted where no `ca.crt` is given.
//!
//! Those of the system, as `SSL_CERT_FILE`, `SSL_CERT_DIR` or the usual places give them; where there are none, as in the image, those
//! that Mozilla trusts, compiled in.

use rustls::RootCertStore;
use std::sync::{Arc, OnceLock};

/// The authorities, read once.
pub(super) fn of_the_system() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "cannot read authorities of the system");
        }
        let store = with_fallback(found.certs);
        tracing::debug!(authorities = store.len(), "authorities are trusted for HTTPS hosts");
        Arc::new(store)
    }))
}

fn with_fallback(system: Vec<rustls::pki_types::CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(system);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_system_has_none_those_of_mozilla_are_trusted() {
        let one = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
        assert_eq!(with_fallback(vec![one.cert.der().clone()]).len(), 1);
        assert!(with_fallback(Vec::new()).len() > 100);
        assert!(with_fallback(vec![vec![0].into()]).len() > 100, "no certificate");
    }
}
