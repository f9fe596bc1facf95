//! Who gets what.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;

use super::*;
use crate::metrics_api::{
    access::DelegatedAccess,
    authentication::{Authentication, TokenReviewer},
    authorization::{AccessDecision, AccessRequest, AccessReviewer, Authorization},
    review_cache::ReviewError,
};

/// Tokens are user names; everybody but `mallory` may read the namespace `prod`; the review of `slow` never ends.
#[derive(Default)]
struct Cluster {
    reviews: AtomicUsize,
}

impl TokenReviewer for Cluster {
    fn review(&self, token: String) -> BoxFuture<'static, Result<Option<Identity>, ReviewError>> {
        let identity = (token != "invalid").then(|| Identity {
            name: token,
            ..Identity::default()
        });
        async { Ok(identity) }.boxed()
    }
}

impl AccessReviewer for Cluster {
    fn review(&self, request: AccessRequest) -> BoxFuture<'static, Result<AccessDecision, ReviewError>> {
        self.reviews.fetch_add(1, Ordering::SeqCst);
        let AccessRequest { identity, attributes } = request;
        let may = identity.name != "mallory" && attributes.namespace == "prod" && !attributes.name.is_empty();
        let decision = if may {
            AccessDecision::Allowed
        } else {
            AccessDecision::Denied("no rule".into())
        };
        async move {
            if identity.name == "slow" {
                std::future::pending().await
            } else {
                Ok(decision)
            }
        }
        .boxed()
    }
}

fn delegated() -> (ApiState, Arc<Cluster>) {
    let cluster = Arc::new(Cluster::default());
    let access = DelegatedAccess::with(
        Authentication::new(cluster.clone()),
        Authorization::new(cluster.clone()),
    );
    let groups = Groups {
        custom: true,
        external: true,
    };
    (
        ApiState::new(Arc::new(Monitors::new()), Access::Delegated(access), groups, ready()),
        cluster,
    )
}

#[tokio::test(start_paused = true)]
async fn callers_get_what_they_may() {
    let (state, _) = delegated();
    let value = format!("{CUSTOM}/namespaces/prod/{MONITORS}/llama/queue-depth");
    let elsewhere = format!("{CUSTOM}/namespaces/dev/{MONITORS}/llama/queue-depth");
    let bad = format!("{value}?labelSelector=,");
    for (method, path, user, code) in [
        ("GET", "/livez", None, 200),
        ("GET", "/readyz", None, 200),
        ("GET", "/openapi/v2", None, 404),
        ("GET", "/apis", None, 403),
        ("GET", CUSTOM, None, 403),
        ("GET", "/version", None, 403),
        ("GET", "/nothing", None, 403),
        ("POST", "/apis", None, 403),
        ("GET", &value, None, 403),
        ("GET", &bad, None, 403),
        ("GET", "/apis", Some("invalid"), 401),
        ("GET", &value, Some("invalid"), 401),
        ("GET", "/livez", Some("invalid"), 200),
        ("GET", "/apis", Some("mallory"), 200),
        ("GET", CUSTOM, Some("mallory"), 200),
        ("GET", "/version", Some("mallory"), 200),
        ("GET", "/nothing", Some("mallory"), 404),
        ("POST", "/apis", Some("mallory"), 405),
        ("GET", &value, Some("mallory"), 403),
        ("GET", &bad, Some("mallory"), 403),
        ("GET", &value, Some("jane"), 200),
        ("GET", &bad, Some("jane"), 400),
        ("GET", &elsewhere, Some("jane"), 403),
        ("GET", &value, Some("slow"), 500),
    ] {
        let token = user.map(|user| format!("Bearer {user}"));
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        let (response, body) = send(&state, method, path, &headers).await;
        assert_eq!(response.status().as_u16(), code, "{method} {path} by {user:?}: {body}");
    }
    let headers = [
        ("authorization", "Bearer mallory"),
        ("x-remote-user", "admin"),
        ("x-remote-group", "system:masters"),
    ];
    let (response, body) = send(&state, "GET", &value, &headers).await;
    assert_eq!(response.status(), 403);
    let body: Value = serde_json::from_str(&body).expect("json");
    assert_eq!(
        body["message"],
        "inferencemonitors.inferencemonitor.io.custom.metrics.k8s.io \"llama\" is forbidden: User \"mallory\" cannot get \
         resource \"inferencemonitors.inferencemonitor.io/queue-depth\" in API group \"custom.metrics.k8s.io\" in the \
         namespace \"prod\": no rule"
    );
}

#[tokio::test]
async fn warm_caches_ask_nobody() {
    let (state, cluster) = delegated();
    let value = format!("{CUSTOM}/namespaces/prod/{MONITORS}/llama/queue-depth");
    for _ in 0..50 {
        let (response, _) = send(&state, "GET", &value, &[("authorization", "Bearer jane")]).await;
        assert_eq!(response.status(), 200);
    }
    assert_eq!(cluster.reviews.load(Ordering::SeqCst), 1);
}
