//! TLS to servers: those outside the cluster must prove their name, pods cannot. Nothing secret is shown to a server that did not.

mod refusal;
mod roots;
mod unverified;

pub use refusal::explain;

use infmon_samples::{Access, ClientCertificate, Credentials};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, Error, RootCertStore};
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// Why no TLS connection can be tried.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The given authorities cannot be read.
    #[error(
        "ca.crt of {0} holds a certificate that is no authority or is damaged; put the CA of the server there, in PEM"
    )]
    Authorities(String),
    /// The given client certificate cannot be used.
    #[error(
        "tls.crt and tls.key of {0} do not belong together or are damaged; put a chain, leaf first, and its key there"
    )]
    ClientCertificate(String),
    /// The library refuses its own settings.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] Error),
}

/// A connector as `access` says. Reads files of the system once in the life of the process, so it may block for some milliseconds.
///
/// # Errors
/// When the credentials do not hold what they promise.
pub fn connector(access: &Access) -> Result<TlsConnector, SetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let mut config = if access.verify_certificate {
        let credentials = access.credentials.as_deref();
        let builder = builder.with_root_certificates(authorities(credentials)?);
        shown(builder, credentials)?
    } else {
        let verifier = Arc::new(unverified::AnyCertificate::new(provider));
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(credentials: Option<&Credentials>) -> Result<Arc<RootCertStore>, SetupError> {
    let Some((credentials, pem)) = credentials.and_then(|given| Some((given, given.ca_pem.as_ref()?))) else {
        return Ok(roots::of_the_system());
    };
    let damaged = || SetupError::Authorities(credentials.source.clone());
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| damaged())?;
        store.add(certificate).map_err(|_| damaged())?;
    }
    if store.is_empty() {
        return Err(damaged());
    }
    Ok(Arc::new(store))
}

fn shown(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    credentials: Option<&Credentials>,
) -> Result<ClientConfig, SetupError> {
    let Some((credentials, certificate)) =
        credentials.and_then(|given| Some((given, given.client_certificate.as_ref()?)))
    else {
        return Ok(builder.with_no_client_auth());
    };
    // The parser's error says nothing that the user could use, and must not say anything of the key.
    let damaged = || SetupError::ClientCertificate(credentials.source.clone());
    let (chain, key) = pair(certificate).ok_or_else(damaged)?;
    builder.with_client_auth_cert(chain, key).map_err(|_| damaged())
}

fn pair(certificate: &ClientCertificate) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.chain_pem.reveal().as_bytes()).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty())?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.reveal().as_bytes()).ok()?;
    Some((chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_samples::Hidden;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["llm.test".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn with(credentials: Credentials) -> Access {
        Access {
            verify_certificate: true,
            credentials: Some(Arc::new(Credentials {
                source: "Secret llm".into(),
                ..credentials
            })),
        }
    }

    fn client(chain: &str, key: &str) -> Access {
        with(Credentials {
            client_certificate: Some(ClientCertificate {
                chain_pem: Hidden::new(chain.into()),
                key_pem: Hidden::new(key.into()),
            }),
            ..Credentials::default()
        })
    }

    fn authority(pem: &str) -> Access {
        with(Credentials {
            ca_pem: Some(pem.into()),
            ..Credentials::default()
        })
    }

    #[test]
    fn what_fits_together_is_taken() {
        let (chain, key) = made();
        let verified = Access {
            verify_certificate: true,
            credentials: None,
        };
        for access in [Access::default(), verified, client(&chain, &key), authority(&chain)] {
            assert!(connector(&access).is_ok(), "{access:?}");
        }
    }

    #[test]
    fn what_does_not_is_named_without_its_content() {
        let ((chain, key), (_, other)) = (made(), made());
        let damaged = chain.replace("MII", "AAA");
        for (access, words) in [
            (client(&chain, &other), "tls.crt and tls.key of Secret llm"),
            (client(&chain, ""), "tls.crt and tls.key of Secret llm"),
            (client("", &key), "tls.crt and tls.key of Secret llm"),
            (authority(&damaged), "ca.crt of Secret llm"),
            (authority(&format!("{chain}{damaged}")), "ca.crt of Secret llm"),
            (authority(""), "ca.crt of Secret llm"),
        ] {
            let error = connector(&access).err().unwrap().to_string();
            assert!(error.contains(words) && error.len() < 200, "{error}");
        }
    }
}
