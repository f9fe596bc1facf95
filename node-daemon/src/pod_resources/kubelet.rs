//! One call to the kubelet.

use super::wire::pod_resources_lister_client::PodResourcesListerClient;
use super::wire::{ListPodResourcesRequest, ListPodResourcesResponse};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use infmon_runtime::{DeadlineExceeded, deadline};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Status};

/// Largest answer that is read. A node with 250 pods, most of them with exclusive CPUs, stays below 1 MiB.
const ANSWER_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// Why the kubelet gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{}", connect_words(socket, source))]
    Connect { socket: PathBuf, source: io::Error },
    #[error("HTTP/2 on the kubelet's socket failed: {0}")]
    Http(#[source] hyper::Error),
    #[error("the kubelet refuses PodResources List: {}", status_words(.0))]
    Refused(Box<Status>),
    #[error("the kubelet does not answer: {0}")]
    Deadline(#[from] DeadlineExceeded),
}

fn connect_words(socket: &Path, error: &io::Error) -> String {
    let socket = socket.display();
    match error.kind() {
        ErrorKind::NotFound => {
            format!("there is no socket {socket}: does the kubelet keep it there, and is its folder mounted?")
        }
        ErrorKind::PermissionDenied => {
            format!("no permission to connect to {socket}: it belongs to root, so the daemon must run as uid 0")
        }
        ErrorKind::ConnectionRefused => format!("nobody listens on {socket}: the kubelet is down or starting"),
        _ => format!("cannot connect to {socket}: {error}"),
    }
}

fn status_words(status: &Status) -> String {
    match (status.code(), status.message()) {
        (Code::Unimplemented, _) => "it has no PodResources v1".to_owned(),
        (code, "") => code.description().to_owned(),
        (code, message) => format!("{message} ({code:?})"),
    }
}

/// Asks the kubelet for its pods and their devices, on a connection of its own: after a restart the kubelet listens on a new socket of
/// the same name, and a connection per 10 s costs next to nothing.
pub(super) async fn list(socket: &Path, within: Duration) -> Result<ListPodResourcesResponse, CallError> {
    deadline("PodResources List", within, exchange(socket, within)).await?
}

async fn exchange(socket: &Path, within: Duration) -> Result<ListPodResourcesResponse, CallError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| CallError::Connect {
        socket: socket.to_owned(),
        source,
    })?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(CallError::Http)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the kubelet ended");
        }
    }));
    let service = tower::service_fn(move |request| sender.clone().send_request(request));
    // gRPC wants an authority; the socket has none, and servers expect this one.
    let origin = http::Uri::from_static("http://localhost/");
    let mut client =
        PodResourcesListerClient::with_origin(service, origin).max_decoding_message_size(ANSWER_LIMIT_BYTES);
    let mut request = Request::new(ListPodResourcesRequest {});
    // So that the kubelet gives up when we do.
    request.set_timeout(within);
    match client.list(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(CallError::Refused(Box::new(status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_connected_to_is_told_with_its_cause() {
        let cases = [
            (ErrorKind::NotFound, "there is no socket /run/k.sock: "),
            (ErrorKind::PermissionDenied, "must run as uid 0"),
            (ErrorKind::ConnectionRefused, "the kubelet is down or starting"),
            (ErrorKind::OutOfMemory, "cannot connect to /run/k.sock: "),
        ];
        for (kind, words) in cases {
            let error = CallError::Connect {
                socket: PathBuf::from("/run/k.sock"),
                source: kind.into(),
            };
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn refusals_are_told_with_what_the_kubelet_says() {
        for (status, words) in [
            (Status::unimplemented("unknown service"), "it has no PodResources v1"),
            (
                Status::resource_exhausted("rejected by rate limit"),
                "rejected by rate limit (ResourceExhausted)",
            ),
            (Status::unavailable(""), "currently unavailable"),
        ] {
            let error = CallError::Refused(Box::new(status)).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
