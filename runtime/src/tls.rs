//! TLS with one crypto provider for the whole process, and server certificates that can be swapped while connections live.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::{Arc, PoisonError, RwLock};

/// Makes aws-lc-rs the crypto provider of the process; later calls do nothing.
///
/// Called first in every `main`: when two providers are compiled in and none was chosen, rustls panics at the first handshake.
pub fn install_crypto_provider() {
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// PEM that does not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Text that is not PEM.
    #[error("{what} is not PEM")]
    Pem {
        /// Which input.
        what: &'static str,
        /// What the reader says.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// PEM without a certificate.
    #[error("{0} holds no certificate")]
    NoCertificate(&'static str),
    /// Certificate and key that rustls refuses, for example a key of another certificate.
    #[error("certificate and key are refused")]
    Refused(#[source] rustls::Error),
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { what, source })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(what));
    }
    Ok(chain)
}

/// The authorities of a PEM bundle.
///
/// # Errors
/// When the bundle cannot be read or holds no certificate that is an authority.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("CA bundle", pem)? {
        store.add(certificate).map_err(TlsError::Refused)?;
    }
    Ok(store)
}

/// A server configuration without client certificates, for a PEM chain (leaf first) and its PEM key.
///
/// # Errors
/// When the PEM cannot be read, or key and certificate do not belong together.
pub fn server_config(chain_pem: &[u8], key_pem: &[u8], alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
    let chain = certificates("certificate chain", chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|source| TlsError::Pem {
        what: "private key",
        source,
    })?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Refused)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// A client configuration that trusts only the authorities of a PEM bundle and sends no certificate.
///
/// # Errors
/// When the bundle cannot be read.
pub fn client_config(ca_pem: &[u8], alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder()
        .with_root_certificates(authorities(ca_pem)?)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The server configuration in force. Clones share it; a swap holds for every handshake after it and leaves live connections alone.
///
/// The whole configuration is swapped, not only the certificate, so that client authorities can rotate as well.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<RwLock<Arc<ServerConfig>>>);

impl ServerTls {
    /// Starts with `config`.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// The configuration for the next handshake.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `config` in force.
    pub fn swap(&self, config: ServerConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn swaps_what_the_next_handshake_uses() {
        install_crypto_provider();
        let (chain, key) = certificate();
        let tls = ServerTls::new(server_config(chain.as_bytes(), key.as_bytes(), &[b"h2"]).unwrap());
        let before = tls.current();
        assert_eq!(before.alpn_protocols, [b"h2"]);
        let shared = tls.clone();
        shared.swap(server_config(chain.as_bytes(), key.as_bytes(), &[]).unwrap());
        assert!(!Arc::ptr_eq(&before, &tls.current()));
        assert!(tls.current().alpn_protocols.is_empty());
    }

    #[test]
    fn refuses_what_does_not_belong_together() {
        install_crypto_provider();
        let (chain, _) = certificate();
        let (_, other_key) = certificate();
        let refused = |chain: &str, key: &str| {
            server_config(chain.as_bytes(), key.as_bytes(), &[])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused(&chain, &other_key), "certificate and key are refused");
        assert_eq!(refused("", &other_key), "certificate chain holds no certificate");
        assert_eq!(refused(&chain, "no key"), "private key is not PEM");
        assert_eq!(
            authorities(b"").unwrap_err().to_string(),
            "CA bundle holds no certificate"
        );
    }
}
