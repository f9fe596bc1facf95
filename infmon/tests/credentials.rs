//! `infmon inspect` with credentials, as a process: who is shown them, and who is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

const CANARY: &str = "canary-5d41402a";
const BODY: &str = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\n";

/// Writes a body to every request; notes the heads.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(tls: Option<TlsAcceptor>, answer: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, noted) = (tls.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, answer, &noted).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, answer, &noted).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, answer: &str, heads: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn body() -> &'static str {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len()).leak()
}

/// A TLS acceptor for this machine, and the authority of its certificate.
fn tls() -> (TlsAcceptor, String) {
    infmon_runtime::install_crypto_provider();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
    let config = infmon_runtime::tls::server_config(leaf.as_bytes(), key.serialize_pem().as_bytes(), &[]).unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority)
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

/// Runs `infmon inspect`; whatever it says holds no secret.
async fn inspect(arguments: Vec<String>, proxy: Option<SocketAddr>) -> (Output, String) {
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infmon"));
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy"] {
            if let Some(proxy) = proxy {
                command.env(name, format!("http://{proxy}"));
            }
        }
        command.arg("inspect").args(arguments).output().unwrap()
    });
    let output = output.await.unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!said.contains("canary"), "{said}");
    (output, said)
}

fn arguments<const N: usize>(list: [&dyn std::fmt::Display; N]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_the_verified_server_of_the_url_and_to_no_proxy() {
    let (acceptor, authority) = tls();
    let server = Server::start(Some(acceptor), body()).await;
    let files = Files::new();
    let token = files.write("token", CANARY, 0o644).display().to_string();
    let ca = files.write("ca.crt", &authority, 0o644).display().to_string();
    let url = format!("https://{}", server.address);
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let proxy = Some(canary.local_addr().unwrap());

    // Without the authority it gets nothing.
    let with_token = arguments([&url, &"--bearer-token-file", &token]);
    let (output, said) = inspect(with_token.clone(), proxy).await;
    assert!(output.status.code() == Some(1) && said.contains("--ca-file"), "{said}");
    assert!(server.heads().is_empty());

    let with_both = [with_token, arguments([&"--ca-file", &ca])].concat();
    let (output, said) = inspect(with_both, proxy).await;
    assert!(output.status.success(), "{said}");
    assert!(said.contains("can be read by others: chmod 600"), "{said}");
    // `/props` and `/slots` of the same server are guarded by the same key.
    let heads = server.heads();
    assert!(heads.len() >= 3, "{heads:?}");
    for head in heads {
        assert!(head.contains("authorization: Bearer canary-5d41402a\r\n"), "{head}");
    }
    assert!(canary.accept().is_err(), "a proxy was asked");

    // Without credentials nothing is verified and nothing is sent.
    let (output, said) = inspect(vec![url], None).await;
    assert!(output.status.success(), "{said}");
    assert!(
        server
            .heads()
            .last()
            .is_some_and(|head| !head.contains("authorization"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_is_not_shown_what_is_for_the_url() {
    let (main, other) = (Server::start(None, body()).await, Server::start(None, body()).await);
    let files = Files::new();
    let pair = files
        .write("basic", &format!("user:{CANARY}"), 0o600)
        .display()
        .to_string();
    let url = format!("http://{}", main.address);
    let slots = format!("http://{}/slots", other.address);
    let list = arguments([&url, &"--basic-auth-file", &pair, &"--slots", &slots]);
    // The body that it gets for /slots is none, which it says.
    let (_, said) = inspect(list, None).await;
    assert!(said.contains("/slots"), "{said}");
    assert!(main.heads().iter().all(|head| head.contains("authorization: Basic ")));
    let heads = other.heads();
    assert!(heads.len() == 1 && !heads[0].contains("authorization"), "{heads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_go_in_the_clear_or_nowhere_is_refused() {
    let files = Files::new();
    let token = files.write("token", CANARY, 0o600).display().to_string();
    let body = files.write("metrics.txt", BODY, 0o644).display().to_string();
    let spaced = files
        .write("spaced", &format!("{CANARY} x"), 0o600)
        .display()
        .to_string();
    for (list, code, words) in [
        (
            arguments([&"http://llm.invalid", &"--bearer-token-file", &token]),
            64,
            "in the clear",
        ),
        (arguments([&body, &"--bearer-token-file", &token]), 64, "give its URL"),
        (
            arguments([&"https://127.0.0.1:1", &"--bearer-token-file", &spaced]),
            1,
            "has blanks",
        ),
        (
            arguments([&"https://127.0.0.1:1", &"--client-key-file", &token]),
            64,
            "--client-certificate-file",
        ),
    ] {
        let (output, said) = inspect(list, None).await;
        assert!(
            output.status.code() == Some(code) && said.contains(words),
            "{code}: {said}"
        );
    }
}
