//! From a request to an answer: route, who asks, may they, what is it.

use std::{any::Any, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts},
};
use futures::FutureExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{
    access::Access,
    authentication::PeerCertificates,
    connection::Peer,
    discovery::Discovery,
    failure::{self, Failure},
    group::Groups,
    identity::Identity,
    media_type::{self, Representation},
    reader::{self, Selectors},
    route::{self, Route},
    source::MetricSource,
};

/// Whether this replica wants traffic; the error says why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the API serves from. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn MetricSource>,
    access: Access,
    groups: Groups,
    discovery: Discovery,
    readiness: Readiness,
    draining: CancellationToken,
    deadline: Duration,
}

impl ApiState {
    /// Serves these groups; `readiness` decides `/readyz` and nothing else.
    pub fn new(source: Arc<dyn MetricSource>, access: Access, groups: Groups, readiness: Readiness) -> Self {
        let discovery = Discovery::new(groups, source.metrics());
        let draining = CancellationToken::new();
        // Longer than the deadline of one review, shorter than the API server's patience (60 s).
        let deadline = Duration::from_secs(25);
        Self {
            inner: Arc::new(Inner {
                source,
                access,
                groups,
                discovery,
                readiness,
                draining,
                deadline,
            }),
        }
    }

    /// From now on `/readyz` fails, and everything else is answered as before.
    pub fn begin_draining(&self) {
        self.inner.draining.cancel();
    }

    pub(super) fn deadline(&self) -> Duration {
        self.inner.deadline
    }
}

impl fmt::Debug for ApiState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { access, groups, .. } = &*self.inner;
        formatter
            .debug_struct("ApiState")
            .field("access", access)
            .field("groups", groups)
            .finish_non_exhaustive()
    }
}

/// The API as a service. Over plain HTTP it is for [`Access::Open`] on loopback; [`super::serve`] puts TLS before it.
pub fn router(state: ApiState) -> Router {
    Router::new().fallback(handle).with_state(state)
}

async fn handle(State(state): State<ApiState>, request: Request<Body>) -> Response<Body> {
    let (request, _body) = request.into_parts();
    // A panic or a request that hangs costs this one request.
    let answer = AssertUnwindSafe(Box::pin(answer(&state, &request))).catch_unwind();
    let mut response = match tokio::time::timeout(state.deadline(), answer).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(failure))) => failure.into_response(),
        Ok(Err(panic)) => {
            tracing::error!(
                panic = panic_message(&*panic),
                path = request.uri.path(),
                "a request panicked"
            );
            Failure::internal("the request failed for a fault of the server").into_response()
        }
        Err(_) => Failure::timeout().into_response(),
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

async fn answer(state: &ApiState, request: &Parts) -> Result<Response<Body>, Failure> {
    let inner = &*state.inner;
    let route = route::parse(request.uri.path(), inner.groups);
    match route {
        Route::Live => return Ok(text(StatusCode::OK, "ok")),
        Route::Ready => return Ok(ready(inner)),
        Route::OpenApi => return Err(Failure::not_found("OpenAPI documents are not offered")),
        _ => {}
    }

    let identity = authenticate(inner, request, &route).await?;
    if request.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let representation = || {
        // Several Accept headers are one list.
        let accept = request
            .headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let accept = accept.collect::<Vec<_>>().join(",");
        let accept = request.headers.contains_key(header::ACCEPT).then_some(accept.as_str());
        media_type::negotiate(accept, matches!(route, Route::Groups)).ok_or_else(Failure::not_acceptable)
    };
    let document = match &route {
        Route::Values(version, target) => {
            let attributes = reader::attributes(*version, target);
            if let (Access::Delegated(access), Some(identity)) = (&inner.access, &identity) {
                access.authorize(identity, attributes).await?;
            }
            representation()?;
            let query = Query::<Vec<(String, String)>>::try_from_uri(&request.uri)
                .map_err(|error| Failure::bad_request(error.body_text()))?;
            let selectors = Selectors::parse(&query)?;
            let list = reader::read(&*inner.source, *version, target, &selectors, Timestamp::now())?;
            return Ok(failure::json(StatusCode::OK, &list));
        }
        Route::Groups if representation()? == Representation::AggregatedDiscovery => {
            return Ok(aggregated(&inner.discovery, request));
        }
        Route::Groups => Some(inner.discovery.groups()),
        Route::Group(name) => inner.discovery.group(name),
        Route::Resources(version) => inner.discovery.resources(*version),
        Route::Version => Some(inner.discovery.version()),
        _ => None,
    }
    .map(|document| failure::json(StatusCode::OK, document));
    representation()?;
    document.ok_or_else(|| Failure::not_found("the server could not find the requested resource"))
}

/// Who asks; `None` where access is open. A caller without an identity gets no further than this, except to values,
/// where the refusal says of what.
async fn authenticate(inner: &Inner, request: &Parts, route: &Route) -> Result<Option<Arc<Identity>>, Failure> {
    let Access::Delegated(access) = &inner.access else {
        return Ok(None);
    };
    let peer = request.extensions.get::<Arc<Peer>>();
    let nobody = PeerCertificates::default();
    let certificates = peer.map_or(&nobody, |peer| peer.certificates());
    let identity = access.authenticate(certificates, &request.headers).await;
    if let Some(peer) = peer {
        peer.note_authenticated(identity.as_ref().is_ok_and(|identity| identity.is_authenticated()));
    }
    let identity = identity?;
    if !identity.is_authenticated() && !matches!(route, Route::Values(..)) {
        let (user, path) = (&identity.name, request.uri.path());
        return Err(Failure::forbidden(format!(
            "forbidden: User {user:?} cannot get path {path:?}"
        )));
    }
    Ok(Some(identity))
}

fn ready(inner: &Inner) -> Response<Body> {
    let answer = if inner.draining.is_cancelled() {
        Err("shutting down".to_owned())
    } else {
        (inner.readiness)()
    };
    match answer {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

fn aggregated(discovery: &Discovery, request: &Parts) -> Response<Body> {
    let known = request
        .headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| {
        known
            .split(',')
            .any(|etag| matches!(etag.trim(), "*") || etag.trim() == discovery.etag())
    });
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(discovery.aggregated().to_vec()));
        let content_type = HeaderValue::from_static(media_type::AGGREGATED_DISCOVERY);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    };
    if let Ok(etag) = HeaderValue::from_str(discovery.etag()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn text(code: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of an unknown kind")
}

#[cfg(test)]
mod tests;
