//! One HTTP/1.1 request over a connection of its own.
//!
//! No connection is kept for the next request: behind a Service each new one may reach another pod, so a pod that came a second
//! ago gets its share, and none is asked that has gone. Names are resolved for each connection for the same reason.

use std::{io, net::SocketAddr, time::Duration};

use axum::body::{Body, Bytes};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

/// Why a server did not take a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{server} does not resolve: {source}")]
    Resolve { server: String, source: io::Error },
    #[error("{server} has no address")]
    NoAddress { server: String },
    #[error("no connection to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("no connection to {server} within {} ms", within.as_millis())]
    Timeout { server: String, within: Duration },
    #[error("no HTTP with {server}: {source}")]
    Handshake { server: String, source: hyper::Error },
}

/// A connection for one request. Dropping it, or the answer it gave, closes it, and the server stops working on the request.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Connects to the first address of `host:port` that takes the connection.
    pub(crate) async fn open(server: &str, within: Duration) -> Result<Self, ConnectError> {
        let server = server.to_owned();
        let stream = match timeout(within, connect(&server)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(ConnectError::Timeout { server, within }),
        };
        let (sender, driver) = handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ConnectError::Handshake { server, source })?;
        // Its error reaches whoever waits for the answer.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(driver.await) }));
        Ok(Self { sender, driver })
    }

    /// Sends the request and waits for the head of the answer. The answer's body keeps the connection.
    pub(crate) async fn send(self, request: Request<Full<Bytes>>) -> Result<Response<Body>, hyper::Error> {
        let Self { mut sender, driver } = self;
        let answer = sender.send_request(request).await?;
        Ok(answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _kept = &driver;
                frame
            }))
        }))
    }
}

async fn connect(server: &str) -> Result<TcpStream, ConnectError> {
    let addresses = lookup_host(server).await.map_err(|source| ConnectError::Resolve {
        server: server.to_owned(),
        source,
    })?;
    let mut last = ConnectError::NoAddress {
        server: server.to_owned(),
    };
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small writes that wait for an acknowledgement would add 40 ms to a request; without it only that is lost.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => last = ConnectError::Connect { address, source },
        }
    }
    Err(last)
}
