//! Reads from one replica directly, as the API server's aggregator does: with the front proxy's client certificate, so nobody
//! has to be asked whether the caller may.

use anyhow::Context;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio_rustls::TlsConnector;

use crate::{
    api::Answer,
    http_client::{Connection, tcp},
};

/// How to reach the replicas.
#[derive(Debug, Clone)]
pub struct FrontProxy {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl FrontProxy {
    /// With the certificates of a control plane's folder, and the authority that signed the replicas' certificates.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn new(certificates: &Path, authority_pem: &str, server_name: &str) -> anyhow::Result<Self> {
        let chain =
            CertificateDer::pem_file_iter(certificates.join("front-proxy-client.crt"))?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(certificates.join("front-proxy-client.key"))?;
        let roots = infmon_runtime::tls::authorities(authority_pem.as_bytes())?;
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Self {
            config: Arc::new(config),
            server_name: ServerName::try_from(server_name.to_owned())?,
        })
    }

    /// Opens a connection to a replica.
    ///
    /// # Errors
    /// When it does not listen, or its certificate is not signed by the authority for the Service's name.
    pub async fn connect(&self, address: SocketAddr) -> anyhow::Result<DirectConnection> {
        let stream = TlsConnector::from(Arc::clone(&self.config))
            .connect(self.server_name.clone(), tcp(address).await?)
            .await
            .with_context(|| format!("TLS with {address}"))?;
        let connection = Connection::over(stream, &self.server_name.to_str()).await?;
        Ok(DirectConnection(connection))
    }
}

/// A connection to one replica.
#[derive(Debug)]
pub struct DirectConnection(Connection);

impl DirectConnection {
    /// Reads as a member of `system:masters`, who needs no access review.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        let headers = [("x-remote-user", "end-to-end"), ("x-remote-group", "system:masters")];
        self.0.get(path, &headers).await
    }
}
