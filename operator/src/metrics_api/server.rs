//! The listener: accepts connections up to a limit, and ends without failing a request.

use std::{io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection,
    handler::{ApiState, router},
};

/// Limits and times of the server.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// How long to go on serving as before after the shutdown began and `/readyz` failed: the time it takes until no API
    /// server and no kube-proxy sends requests here any more.
    pub drain: Duration,
    /// After that, how long the requests in flight may take.
    pub finish: Duration,
    /// How many connections may be open.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// After how long without a request a connection is closed.
    pub idle: Duration,
    /// The same, for a connection on which no caller has shown an identity yet.
    pub idle_stranger: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(10),
            finish: Duration::from_secs(30),
            connections: 1024,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            idle_stranger: Duration::from_secs(10),
        }
    }
}

/// Serves the API over TLS until `shutdown`, then for the time of [`ServeOptions::drain`] with `/readyz` failing, and then
/// finishes what is in flight.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    state: ApiState,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let router = router(state.clone());
    let limit = Arc::new(Semaphore::new(options.connections));
    let (connections, closing) = (TaskTracker::new(), CancellationToken::new());

    let accept = async {
        loop {
            let (stream, permit) = accept(&listener, &limit).await;
            let connection = connection::serve(stream, acceptor.clone(), router.clone(), options, closing.clone());
            connections.spawn(async move {
                Box::pin(connection).await;
                drop(permit);
            });
        }
    };
    let drained = async {
        shutdown.cancelled().await;
        state.begin_draining();
        tokio::time::sleep(options.drain).await;
    };
    tokio::select! {
        () = accept => {}
        () = drained => {}
    }

    drop(listener);
    closing.cancel();
    connections.close();
    // Each connection ends by its own deadline; the second one is for the difference.
    if tokio::time::timeout(options.finish + Duration::from_secs(1), connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "connections were cut off at the end of the shutdown"
        );
    }
    Ok(())
}

/// The next connection, once there is room for it: beyond the limit clients wait in the kernel's queue.
async fn accept(listener: &TcpListener, limit: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(limit).acquire_owned().await else {
            std::future::pending().await
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: give connections the time to end.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
