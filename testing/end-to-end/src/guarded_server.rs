//! An inference server outside the cluster: HTTPS with a certificate of an authority of its own, and metrics behind a token.

use anyhow::Context;
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{Cluster, addresses};

const PORT: u16 = 8443;
const BODY: &str = "# TYPE vllm:num_requests_running gauge\n\
    vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3\n\
    # TYPE vllm:num_requests_waiting gauge\n\
    vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 1\n\
    # TYPE vllm:kv_cache_usage_perc gauge\n\
    vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.1\n";

/// What the server saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests with the token.
    pub good: usize,
    /// Requests with another one, or with none.
    pub bad: usize,
}

#[derive(Debug, Default)]
struct State {
    token: String,
    seen: Seen,
}

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct GuardedServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The authority that its certificate comes from, PEM.
    pub authority: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl GuardedServer {
    /// Starts one that wants `token`.
    ///
    /// # Errors
    /// When no certificate can be made or the address is taken.
    pub fn start(cluster: &Cluster, token: &str) -> anyhow::Result<Self> {
        let address = SocketAddr::new(addresses::next(), PORT);
        let (config, authority) = certificate(address)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = cluster.runtime().block_on(TcpListener::bind(address))?;
        let state = Arc::new(Mutex::new(State {
            token: token.to_owned(),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let task = cluster.runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // Who does not trust the certificate goes away, and is seen by what the monitor says.
                    let _ = serve(acceptor, stream, &state).await;
                });
            }
        });
        Ok(Self {
            address,
            authority,
            state,
            task,
        })
    }

    /// Wants another token from now on, and counts anew.
    pub fn rotate(&self, token: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        token.clone_into(&mut state.token);
        state.seen = Seen::default();
    }

    /// What it saw since the token changed last.
    pub fn seen(&self) -> Seen {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).seen
    }
}

impl Drop for GuardedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = Vec::new();
    loop {
        while !buffer.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&std::mem::take(&mut buffer)).into_owned();
        let good = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = format!("authorization: Bearer {}", state.token);
            let good = head.lines().any(|line| line == wanted);
            *(if good {
                &mut state.seen.good
            } else {
                &mut state.seen.bad
            }) += 1;
            good
        };
        let (status, body) = if good {
            ("200 OK", BODY)
        } else {
            ("401 Unauthorized", "")
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}

fn certificate(address: SocketAddr) -> anyhow::Result<(ServerConfig, String)> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new([address.ip().to_string()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .context("certificate and key do not belong together")?;
    Ok((config, authority))
}
