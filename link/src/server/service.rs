//! The RPC up to the moment when a daemon is let in.

use super::session::Session;
use super::{AuthError, NodeSessions, Shared, count};
use crate::codec::decode_hello;
use crate::wire::node_link_server::NodeLink;
use crate::wire::{FromNode, ToNode, from_node};
use crate::{PROTOCOL_VERSION, wire};
use infmon_runtime::deadline;
use infmon_samples::NodeIdentity;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has proved anything yet.
    Pending,
    /// Its stream was let in.
    Admitted,
    /// Its stream has ended or was refused.
    Ended,
}

/// The stage of one connection, told by its stream.
#[derive(Debug)]
pub(super) struct Admission(watch::Sender<Stage>);

impl Admission {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Stage::Pending))
    }

    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.0.subscribe()
    }

    pub(super) fn is_admitted(&self) -> bool {
        *self.0.borrow() == Stage::Admitted
    }
}

/// Says that the stream of a connection has ended, however it ended.
#[derive(Debug)]
pub(super) struct StreamEnd(Arc<Admission>);

impl Drop for StreamEnd {
    fn drop(&mut self) {
        self.0.0.send_replace(Stage::Ended);
    }
}

/// The RPC service of one connection.
#[derive(Debug)]
pub(super) struct NodeLinkService<S> {
    shared: Arc<Shared<S>>,
    admission: Arc<Admission>,
}

impl<S> NodeLinkService<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, admission: Arc<Admission>) -> Self {
        Self { shared, admission }
    }
}

#[tonic::async_trait]
impl<S: NodeSessions> NodeLink for NodeLinkService<S> {
    type ConnectStream = ReceiverStream<Result<ToNode, Status>>;

    async fn connect(&self, request: Request<Streaming<FromNode>>) -> Result<Response<Self::ConnectStream>, Status> {
        let end = StreamEnd(Arc::clone(&self.admission));
        if *self.admission.0.borrow() != Stage::Pending {
            return Err(Status::resource_exhausted("one stream per connection"));
        }
        let shared = &self.shared;
        let (metadata, _, mut inbound) = request.into_parts();
        let admitted = admit(shared, &metadata, &mut inbound).await.inspect_err(|status| {
            count(&shared.counts.refused);
            tracing::debug!(code = ?status.code(), reason = status.message(), "stream refused");
        });
        let (node, valid_until) = admitted?;
        count(&shared.counts.sessions);
        self.admission.0.send_replace(Stage::Admitted);
        // One place: a plan waits here until the daemon has taken the one before; the newest is encoded when there is room.
        let (to_node, outbound) = mpsc::channel(1);
        let (place, plans) = shared.registry.open(&shared.sessions, node);
        let session = Session {
            place,
            plans,
            inbound,
            to_node,
            valid_until,
            max_reports_per_second: shared.options.max_reports_per_second,
            counts: Arc::clone(&shared.counts),
            shutdown: shared.shutdown.clone(),
        };
        shared.tasks.spawn(async move {
            session.run().await;
            drop(end);
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// Reads the Hello and checks the token.
async fn admit<S: NodeSessions>(
    shared: &Shared<S>,
    metadata: &MetadataMap,
    inbound: &mut Streaming<FromNode>,
) -> Result<(NodeIdentity, Option<Instant>), Status> {
    let bearer = bearer(metadata)?;
    let options = &shared.options;
    let first = deadline("the first message", options.first_message_deadline, inbound.message())
        .await
        .map_err(|error| Status::deadline_exceeded(error.to_string()))??;
    let Some(from_node::Message::Hello(hello)) = first.and_then(|first| first.message) else {
        return Err(Status::invalid_argument("the first message must be a Hello"));
    };
    check_version(&hello)?;
    let node = decode_hello(hello).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let authenticate = async {
        let _place = shared.authentications.acquire().await;
        shared.sessions.authenticate(&node, bearer).await
    };
    let authenticated = deadline("authentication", options.authentication_deadline, authenticate)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?
        .map_err(|error| match error {
            AuthError::Denied(reason) => Status::unauthenticated(reason),
            AuthError::Unavailable(reason) => Status::unavailable(reason),
        })?;
    Ok((node, authenticated.valid_until))
}

fn bearer(metadata: &MetadataMap) -> Result<&str, Status> {
    metadata
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .filter(|token| !token.is_empty())
        .ok_or_else(|| Status::unauthenticated("the metadata holds no bearer token"))
}

fn check_version(hello: &wire::Hello) -> Result<(), Status> {
    if hello.protocol_version == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "the node daemon speaks link protocol {}, this operator {PROTOCOL_VERSION}: run both from the same release",
        hello.protocol_version
    )))
}
