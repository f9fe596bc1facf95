use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::metrics_api::{
    authorization::Authorization,
    identity::{AUTHENTICATED, MASTERS},
};

type Handle = tower_test::mock::Handle<Request<Body>, Response<Body>>;

fn scripted() -> (Client, Handle) {
    let (service, handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    (Client::new(service, "default"), handle)
}

/// Answers the next request with `status` added to what was sent; returns what was sent.
async fn answer(handle: &mut Handle, path: &str, status: Value) -> Value {
    let (request, send) = handle.next_request().await.expect("request");
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", path));
    let sent = request.into_body().collect_bytes().await.expect("body");
    let sent: Value = serde_json::from_slice(&sent).expect("json");
    let mut reply = sent.clone();
    reply["status"] = status;
    send.send_response(
        Response::builder()
            .status(201)
            .body(Body::from(reply.to_string().into_bytes()))
            .expect("reply"),
    );
    sent
}

#[tokio::test]
async fn a_token_review_becomes_an_identity() {
    const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
    for (status, expected) in [
        (
            json!({"authenticated": true, "user": {"username": "jane", "uid": "7", "groups": ["dev"],
                                                    "extra": {"scopes": ["a"]}}}),
            Some(Identity {
                name: "jane".into(),
                uid: Some("7".into()),
                groups: vec!["dev".into()],
                extra: [("scopes".to_owned(), vec!["a".to_owned()])].into(),
            }),
        ),
        (json!({"authenticated": true, "user": {"username": ""}}), None),
        (json!({"authenticated": true}), None),
        (json!({"authenticated": false, "error": "expired"}), None),
        (json!({}), None),
    ] {
        let (client, mut handle) = scripted();
        let reviews = ClusterReviews::new(client);
        let (identity, sent) = tokio::join!(
            TokenReviewer::review(&reviews, "secret".into()),
            answer(&mut handle, PATH, status.clone())
        );
        assert_eq!(sent["spec"], json!({"token": "secret"}));
        assert_eq!(identity, Ok(expected), "{status}");
    }
}

fn request() -> AccessRequest {
    let identity = Identity {
        name: "jane".into(),
        uid: Some("7".into()),
        groups: vec![AUTHENTICATED.into()],
        extra: [("scopes".to_owned(), vec!["a".to_owned()])].into(),
    };
    AccessRequest {
        identity: Arc::new(identity),
        attributes: Attributes {
            verb: "get",
            group: "custom.metrics.k8s.io",
            version: "v1beta2",
            resource: "inferencemonitors.inferencemonitor.io".into(),
            subresource: "queue-depth".into(),
            name: "llama".into(),
            namespace: "prod".into(),
        },
    }
}

#[tokio::test]
async fn an_access_review_says_all_and_only_a_clear_yes_counts() {
    const PATH: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (status, expected) in [
        (json!({"allowed": true, "reason": "RBAC"}), AccessDecision::Allowed),
        (
            json!({"allowed": true, "denied": true, "reason": "both"}),
            AccessDecision::Denied("both".into()),
        ),
        (
            json!({"allowed": false, "reason": "no rule"}),
            AccessDecision::Denied("no rule".into()),
        ),
        (
            json!({"allowed": false, "evaluationError": "role not found"}),
            AccessDecision::Denied(String::new()),
        ),
    ] {
        let (client, mut handle) = scripted();
        let reviews = ClusterReviews::new(client);
        let (decision, sent) = tokio::join!(
            AccessReviewer::review(&reviews, request()),
            answer(&mut handle, PATH, status.clone())
        );
        assert_eq!(
            sent["spec"],
            json!({"user": "jane", "uid": "7", "groups": ["system:authenticated"], "extra": {"scopes": ["a"]},
                   "resourceAttributes": {"verb": "get", "group": "custom.metrics.k8s.io", "version": "v1beta2",
                       "resource": "inferencemonitors.inferencemonitor.io", "subresource": "queue-depth",
                       "name": "llama", "namespace": "prod"}})
        );
        assert_eq!(decision, Ok(expected), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_fails_the_review_in_time() {
    let (client, mut handle) = scripted();
    let authorization = Authorization::new(Arc::new(ClusterReviews::new(client)));
    let AccessRequest { identity, attributes } = request();
    let asked = tokio::time::Instant::now();
    let (decision, held) = tokio::join!(
        authorization.authorize(&identity, attributes.clone()),
        handle.next_request()
    );
    assert!(decision.is_err() && held.is_some());
    assert_eq!(asked.elapsed().as_secs(), 10);
    let masters = Arc::new(Identity {
        groups: vec![MASTERS.into()],
        ..Identity::default()
    });
    assert_eq!(
        authorization.authorize(&masters, attributes).await,
        Ok(AccessDecision::Allowed)
    );
}

#[tokio::test]
async fn a_broken_config_map_changes_nothing() {
    let (client, _handle) = scripted();
    let authentication = Authentication::new(Arc::new(ClusterReviews::new(client)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let map = |data: &[(&str, &str)]| ConfigMap {
        data: Some(
            data.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        ),
        ..ConfigMap::default()
    };
    adopt(&map(&[("client-ca-file", "broken")]), &authentication, &provider);
    assert!(!authentication.has_trust());
    adopt(&map(&[]), &authentication, &provider);
    assert!(authentication.has_trust());
}

#[tokio::test]
async fn the_config_map_alone_is_watched() {
    let (client, mut handle) = scripted();
    let authentication = Authentication::new(Arc::new(ClusterReviews::new(client.clone())));
    let shutdown = CancellationToken::new();
    let script = async {
        let (list, send) = handle.next_request().await.expect("list");
        assert_eq!(list.uri().path(), "/api/v1/namespaces/kube-system/configmaps");
        let query = list.uri().query().unwrap_or_default();
        assert!(
            query.contains("fieldSelector=metadata.name%3Dextension-apiserver-authentication"),
            "{query}"
        );
        let reply = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [
            {"metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE}, "data": {"requestheader-allowed-names": "[]"}}]});
        send.send_response(Response::new(Body::from(reply.to_string().into_bytes())));
        let _watch = handle.next_request().await.expect("watch");
        assert!(authentication.has_trust());
        shutdown.cancel();
    };
    tokio::join!(follow_trust(client, &authentication, shutdown.clone()), script);
}
