//! One HTTP/1.1 connection, kept open.

use anyhow::Context;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::api::Answer;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Connection {
    /// Connects without TLS.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn plain(address: SocketAddr) -> anyhow::Result<Self> {
        Self::over(tcp(address).await?, &address.to_string()).await
    }

    /// Speaks HTTP over a stream that is there already.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, and its error shows at the request.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: host.to_owned(),
        })
    }

    /// Asks and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks or the answer takes longer than 10 s.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut request = Request::get(path).header(header::HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new())?;
        tokio::time::timeout(ANSWER, async {
            self.sender.ready().await?;
            answer(self.sender.send_request(request).await?).await
        })
        .await
        .context("no answer in time")?
    }
}

async fn answer(response: Response<Incoming>) -> anyhow::Result<Answer> {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// A TCP connection without delay of small packets.
///
/// # Errors
/// When nobody listens.
pub async fn tcp(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address))
        .await
        .context("no connection in time")?
        .with_context(|| format!("failed to connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
