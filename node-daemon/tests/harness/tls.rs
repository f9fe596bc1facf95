//! A TLS server that notes what it is asked, and the certificates for it.

use super::LOCAL;
use infmon_samples::{Access, Credentials, Scheme, Target};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority of its own.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub struct Pair {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        infmon_runtime::install_crypto_provider();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `name`; `change` has the last word.
    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server of HTTPS. Heads and connections are noted; each request is answered alike.
pub struct Guarded {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Guarded {
    /// With the certificate `pair`; asks for a client certificate of `clients`, when it is given.
    pub async fn start(pair: &Pair, clients: Option<&Authority>, answer: Vec<u8>) -> Self {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let builder = match clients {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(authority) => {
                let roots = infmon_runtime::tls::authorities(authority.pem.as_bytes()).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(chain.unwrap(), key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_all(acceptor.clone(), stream, answer.clone(), Arc::clone(&noted)));
            }
        });
        Self { address, heads }
    }

    /// The heads of all requests, as they came.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// A target at this server, reached as `credentials` say.
    pub fn target(&self, id: &str, credentials: Credentials) -> Target {
        let mut target = super::target(id, self.address);
        target.scheme = Scheme::Https;
        // A handshake takes a while in a debug build.
        target.deadline = Duration::from_secs(5);
        target.access = Access {
            verify_certificate: true,
            credentials: (credentials != Credentials::default()).then(|| Arc::new(credentials)),
        };
        target
    }
}

async fn answer_all(acceptor: TlsAcceptor, stream: TcpStream, answer: Vec<u8>, heads: Arc<Mutex<Vec<String>>>) {
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut buffer = Vec::new();
    loop {
        while !buffer.windows(4).any(|four| four == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
        let head = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
        heads.lock().unwrap().push(head);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// A server that nobody should ever connect to.
pub struct Canary {
    pub address: SocketAddr,
    connections: Arc<Mutex<usize>>,
}

impl Canary {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(LOCAL).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<Mutex<usize>>::default();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                *counted.lock().unwrap() += 1;
            }
        });
        Self { address, connections }
    }

    pub fn assert_untouched(&self) {
        assert_eq!(*self.connections.lock().unwrap(), 0, "somebody connected to the canary");
    }
}
