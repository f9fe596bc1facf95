use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::Value;

use super::*;
use crate::certificates::plan::ServiceName;

type Handle = tower_test::mock::Handle<Request<Body>, Response<Body>>;

fn scripted() -> (Client, Handle) {
    let (service, handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    (Client::new(service, "monitoring"), handle)
}

fn settings() -> Settings {
    Settings {
        namespace: "monitoring".into(),
        deployment: "inference-monitor-operator".into(),
        secret: "certificates".into(),
        service: ServiceName {
            namespace: "monitoring".into(),
            name: "inference-monitor".into(),
        },
        api_services: vec!["v1beta2.custom.metrics.k8s.io".into()],
        dns_names: vec!["inference-monitor.monitoring.svc".into()],
    }
}

/// Takes the next request and answers with what it sent, or with a status.
async fn echo(handle: &mut Handle, method: Method, uri: &str, code: u16) -> Value {
    let (request, send) = handle.next_request().await.expect("request");
    assert_eq!((request.method(), request.uri().to_string().as_str()), (&method, uri));
    let sent = request.into_body().collect_bytes().await.expect("body");
    let sent: Value = serde_json::from_slice(&sent).unwrap_or_default();
    let reply = if code < 300 {
        sent.clone()
    } else {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "scripted",
               "reason": "Conflict", "code": code})
    };
    let code = StatusCode::from_u16(code).expect("code");
    let reply = Body::from(reply.to_string().into_bytes());
    send.send_response(Response::builder().status(code).body(reply).expect("response"));
    sent
}

async fn owner(handle: &mut Handle) {
    let (request, send) = handle.next_request().await.expect("request");
    assert_eq!(
        request.uri().path(),
        "/apis/apps/v1/namespaces/monitoring/deployments/inference-monitor-operator"
    );
    let reply = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "inference-monitor-operator", "uid": "1-2-3"}});
    send.send_response(Response::new(Body::from(reply.to_string().into_bytes())));
}

const SECRETS: &str = "/api/v1/namespaces/monitoring/secrets";

#[tokio::test]
async fn the_first_secret_is_created_and_belongs_to_the_deployment() {
    let (client, mut handle) = scripted();
    let (settings, view) = (settings(), View::default());
    let writer = Writer {
        client: &client,
        settings: &settings,
    };
    let create = Action::ChangeSecret(Decision::Create {
        why: "there is none".into(),
    });
    let (written, sent) = tokio::join!(writer.write(create, &view, Timestamp::now()), async {
        owner(&mut handle).await;
        let uri = format!("{SECRETS}?&fieldManager=inference-monitor-certificates");
        echo(&mut handle, Method::POST, &uri, 201).await
    });
    assert_eq!(sent["type"], "kubernetes.io/tls");
    assert_eq!(sent["metadata"]["ownerReferences"][0]["uid"], "1-2-3");
    assert_eq!(sent["data"].as_object().expect("data").len(), 5);
    let mut view = View::default();
    written.expect("written").note(&mut view);
    let secret = view.secret.present().expect("secret");
    assert!(plan::bundle(secret).is_ok());
}

#[tokio::test]
async fn a_change_carries_the_version_that_was_seen_and_a_conflict_is_told() {
    let (client, mut handle) = scripted();
    let settings = settings();
    let writer = Writer {
        client: &client,
        settings: &settings,
    };
    let now = Timestamp::now();
    let bundle = issue::carry_out(&Decision::Create { why: String::new() }, None, &settings.dns_names, now);
    let metadata = ObjectMeta {
        name: Some("certificates".into()),
        resource_version: Some("41".into()),
        annotations: Some([("kept".to_owned(), "yes".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let data = Some(bundle.expect("issued").expect("bundle").to_secret());
    let secret = Secret {
        metadata,
        data,
        ..Secret::default()
    };
    let view = View {
        secret: Known::Present(secret),
        ..View::default()
    };
    for (code, is_conflict) in [(200, None), (409, Some(true)), (403, Some(false))] {
        let uri = format!("{SECRETS}/certificates?&fieldManager=inference-monitor-certificates");
        let (written, sent) = tokio::join!(
            writer.write(Action::ChangeSecret(Decision::AddNextAuthority), &view, now),
            echo(&mut handle, Method::PUT, &uri, code)
        );
        assert_eq!(sent["metadata"]["resourceVersion"], "41");
        assert_eq!(sent["metadata"]["annotations"]["kept"], "yes");
        assert!(sent["data"]["next-ca.key"].is_string());
        assert_eq!(written.err().map(|error| error.is_conflict()), is_conflict);
    }
}

#[tokio::test]
async fn publications_own_their_field_alone() {
    let (client, mut handle) = scripted();
    let (settings, view, now) = (settings(), View::default(), Timestamp::now());
    let writer = Writer {
        client: &client,
        settings: &settings,
    };
    let name = "v1beta2.custom.metrics.k8s.io".to_owned();
    let publish = Action::PublishCaBundle {
        name,
        resource_version: Some("7".into()),
        trusted: "PEM".into(),
    };
    let uri = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta2.custom.metrics.k8s.io?&force=true&fieldManager=inference-monitor-certificates";
    let (written, sent) = tokio::join!(
        writer.write(publish, &view, now),
        echo(&mut handle, Method::PATCH, uri, 200)
    );
    assert!(matches!(written, Ok(Written::ApiService(..))), "{written:?}");
    assert_eq!(
        sent,
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
               "metadata": {"name": "v1beta2.custom.metrics.k8s.io", "resourceVersion": "7"},
               "spec": {"caBundle": "UEVN"}})
    );

    let publish = Action::PublishTrust { trusted: "PEM".into() };
    let uri = "/api/v1/namespaces/monitoring/configmaps/certificates-ca?&force=true&fieldManager=inference-monitor-certificates";
    let (written, sent) = tokio::join!(writer.write(publish, &view, now), async {
        owner(&mut handle).await;
        echo(&mut handle, Method::PATCH, uri, 200).await
    });
    assert!(matches!(written, Ok(Written::ConfigMap(_))), "{written:?}");
    assert_eq!(sent["data"], json!({"ca.crt": "PEM"}));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_fails_the_write_in_time() {
    let (client, mut handle) = scripted();
    let (settings, view, now) = (settings(), View::default(), Timestamp::now());
    let writer = Writer {
        client: &client,
        settings: &settings,
    };
    let publish = Action::PublishCaBundle {
        name: "a".into(),
        resource_version: None,
        trusted: String::new(),
    };
    let begun = tokio::time::Instant::now();
    let (written, held) = tokio::join!(writer.write(publish, &view, now), handle.next_request());
    assert!(matches!(written, Err(WriteError::Deadline { .. })) && held.is_some());
    assert_eq!(begun.elapsed(), DEADLINE);
}
