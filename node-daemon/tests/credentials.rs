//! What servers outside the cluster are shown, whom it is shown to, and whom not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::tls::{Authority, Canary, Guarded, Pair};
use harness::{Core, eventually};
use infmon_node_daemon::GpuOptions;
use infmon_samples::{Access, ClientCertificate, Credentials, FailureKind, Hidden, Target};
use std::sync::Arc;

const CANARY: &str = "canary-5d41402a";
const BODY: &str = "# TYPE vllm:num_requests_running gauge\n\
    vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n\
    # TYPE vllm:num_requests_waiting gauge\n\
    vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 1.0\n";
const LLAMA_BODY: &str = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\n\
    # TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 0\n";

fn answer(status: &str, head: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{head}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn good() -> Vec<u8> {
    answer("200 OK", "", BODY)
}

/// Credentials of a Secret, with the authority that the server's certificate comes from.
fn of(authority: &Authority) -> Credentials {
    Credentials {
        source: "Secret llm".into(),
        ca_pem: Some(authority.pem.clone()),
        ..Credentials::default()
    }
}

fn bearer(authority: &Authority, token: &str) -> Credentials {
    Credentials {
        authorization: Some(Hidden::new(format!("Bearer {token}"))),
        ..of(authority)
    }
}

fn with_client(authority: &Authority, pair: &Pair) -> Credentials {
    Credentials {
        client_certificate: Some(ClientCertificate {
            chain_pem: Hidden::new(pair.chain.clone()),
            key_pem: Hidden::new(pair.key.clone()),
        }),
        ..of(authority)
    }
}

fn header(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("authorization: "))
}

/// Waits for the failure of one target and checks that it shows nothing.
async fn failure(target: Target) -> infmon_samples::Failure {
    let mut core = Core::start(GpuOptions::Off, vec![target]);
    let failure = core.failure("a").await;
    assert!(!failure.message.contains(CANARY), "{failure:?}");
    assert!(core.reports.borrow().targets[0].last.is_none());
    failure
}

#[tokio::test]
async fn a_server_whose_authority_is_not_known_gets_nothing() {
    let authority = Authority::new();
    let server = Guarded::start(&authority.issue("127.0.0.1", |_| {}), None, good()).await;
    // Those of the system do not know it, and neither does another authority.
    let system = Credentials {
        ca_pem: None,
        ..bearer(&authority, CANARY)
    };
    for (credentials, words) in [
        (Credentials::default(), "an authority that is not trusted here"),
        (system, "an authority that is not trusted here"),
        (
            bearer(&Authority::new(), CANARY),
            "not come from an authority in ca.crt of Secret llm",
        ),
    ] {
        let failure = failure(server.target("a", credentials)).await;
        assert_eq!(failure.kind, FailureKind::Unreachable);
        assert!(failure.message.contains(words), "{failure:?}");
    }
    assert_eq!(server.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_certificate_must_be_for_the_host_and_of_today() {
    let authority = Authority::new();
    let expired = authority.issue("127.0.0.1", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let to_come = authority.issue("127.0.0.1", |params| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
        params.not_after = rcgen::date_time_ymd(3000, 1, 1);
    });
    for (pair, words) in [
        (authority.issue("other.test", |_| {}), "not for 127.0.0.1"),
        (expired, "has expired"),
        (to_come, "not valid yet"),
    ] {
        let server = Guarded::start(&pair, None, good()).await;
        let failure = failure(server.target("a", bearer(&authority, CANARY))).await;
        assert!(failure.message.contains(words), "{failure:?}");
        assert_eq!(server.heads(), Vec::<String>::new(), "{words}");
    }
}

#[tokio::test]
async fn a_server_that_proves_its_name_is_shown_what_the_plan_has_for_it() {
    let authority = Authority::new();
    let basic = Credentials {
        authorization: Some(Hidden::new("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".into())),
        ..of(&authority)
    };
    for (credentials, shown) in [
        (of(&authority), None),
        (bearer(&authority, CANARY), Some("Bearer canary-5d41402a")),
        (basic, Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
    ] {
        let server = Guarded::start(&authority.issue("127.0.0.1", |_| {}), None, good()).await;
        let mut core = Core::start(GpuOptions::Off, vec![server.target("a", credentials)]);
        assert_eq!(core.good("a").await.sample.running, Some(3.0));
        for head in server.heads() {
            assert_eq!(header(&head), shown, "{head}");
        }
        assert!(!format!("{:?}", core.reports.borrow()).contains(CANARY));
    }
}

#[tokio::test]
async fn paths_beside_the_metrics_are_guarded_by_the_same_key() {
    let authority = Authority::new();
    let pair = authority.issue("127.0.0.1", |_| {});
    let server = Guarded::start(&pair, None, answer("200 OK", "", LLAMA_BODY)).await;
    let mut core = Core::start(GpuOptions::Off, vec![server.target("a", bearer(&authority, CANARY))]);
    core.good("a").await;
    for path in ["/metrics", "/props", "/slots"] {
        let head = eventually(path, || {
            let heads = server.heads();
            heads.into_iter().find(|head| head.starts_with(&format!("GET {path} ")))
        })
        .await;
        assert_eq!(header(&head), Some("Bearer canary-5d41402a"), "{path}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_gets_it() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let pair = authority.issue("127.0.0.1", |_| {});
    let server = Guarded::start(&pair, Some(&clients), good()).await;
    let known = clients.issue("client", |_| {});
    let unknown = Authority::new().issue("client", |_| {});
    for (credentials, words) in [
        (bearer(&authority, CANARY), "wants a client certificate"),
        (
            with_client(&authority, &unknown),
            "refuses the client certificate of Secret llm",
        ),
        (
            with_client(
                &authority,
                &Pair {
                    chain: known.chain.clone(),
                    key: unknown.key.clone(),
                },
            ),
            "tls.crt and tls.key of Secret llm do not belong together",
        ),
    ] {
        let failure = failure(server.target("a", credentials)).await;
        assert!(failure.message.contains(words), "{failure:?}");
    }
    let both = Credentials {
        authorization: Some(Hidden::new(format!("Bearer {CANARY}"))),
        ..with_client(&authority, &known)
    };
    let mut core = Core::start(GpuOptions::Off, vec![server.target("a", both)]);
    core.good("a").await;
    assert_eq!(header(&server.heads()[0]), Some("Bearer canary-5d41402a"));
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_or_without_credentials() {
    let authority = Authority::new();
    let pair = authority.issue("127.0.0.1", |_| {});
    let canary = Canary::start().await;
    for (status, scheme) in [("302 Found", "http"), ("307 Temporary Redirect", "https")] {
        let location = format!("Location: {scheme}://{}/metrics\r\n", canary.address);
        let server = Guarded::start(&pair, None, answer(status, &location, "")).await;
        let failure = failure(server.target("a", bearer(&authority, CANARY))).await;
        assert_eq!(failure.kind, FailureKind::HttpStatus, "{failure:?}");
    }
    canary.assert_untouched();
}

#[tokio::test]
async fn credentials_never_go_to_a_server_that_is_not_verified() {
    let authority = Authority::new();
    let server = Guarded::start(&authority.issue("127.0.0.1", |_| {}), None, good()).await;
    let mut target = server.target("a", bearer(&authority, CANARY));
    // No operator plans this.
    target.access.verify_certificate = false;
    let failure = failure(target).await;
    assert!(failure.message.contains("not sent in the clear"), "{failure:?}");
    // As a pod is planned: read, and shown nothing.
    let pod = Target {
        access: Access::default(),
        ..server.target("a", Credentials::default())
    };
    let mut core = Core::start(GpuOptions::Off, vec![pod]);
    core.good("a").await;
    let heads = server.heads();
    assert!(
        !heads.is_empty() && heads.iter().all(|head| header(head).is_none()),
        "{heads:?}"
    );
}

#[tokio::test]
async fn who_refuses_credentials_is_told_with_their_source() {
    let authority = Authority::new();
    let pair = authority.issue("127.0.0.1", |_| {});
    for (credentials, words) in [
        (
            bearer(&authority, CANARY),
            "it was shown those of Secret llm: correct them",
        ),
        (of(&authority), "it was shown those of Secret llm"),
    ] {
        let server = Guarded::start(&pair, None, answer("401 Unauthorized", "", "")).await;
        let failure = failure(server.target("a", credentials)).await;
        assert_eq!(failure.kind, FailureKind::Unauthorized);
        assert!(failure.message.contains(words), "{failure:?}");
    }
}

#[tokio::test]
async fn a_server_that_echoes_what_it_is_shown_is_not_quoted() {
    let authority = Authority::new();
    let pair = authority.issue("127.0.0.1", |_| {});
    let echo = format!("{{\"error\": {{\"message\": \"you sent Authorization: Bearer {CANARY}\"}}}}");
    for (status, kind, words) in [
        ("200 OK", FailureKind::Malformed, "the body is JSON"),
        ("400 Bad Request", FailureKind::HttpStatus, "answers 400 on /metrics"),
        (
            "500 Internal Server Error",
            FailureKind::HttpStatus,
            "see the server's log",
        ),
    ] {
        let server = Guarded::start(&pair, None, answer(status, "", &echo)).await;
        // It looks for the canary.
        let failure = failure(server.target("a", bearer(&authority, CANARY))).await;
        assert!(
            failure.kind == kind && failure.message.contains(words),
            "{status}: {failure:?}"
        );
        // Where nothing secret is shown its words help.
        let mut core = Core::start(GpuOptions::Off, vec![server.target("a", of(&authority))]);
        let quoted = core.failure("a").await;
        assert!(quoted.message.contains("you sent"), "{status}: {quoted:?}");
    }
    let loading = "{\"error\": {\"message\": \"Loading model\"}}";
    let server = Guarded::start(&pair, None, answer("503 Service Unavailable", "", loading)).await;
    let failure = failure(server.target("a", bearer(&authority, CANARY))).await;
    assert_eq!(failure.kind, FailureKind::Loading, "{failure:?}");
}

#[tokio::test]
async fn changed_credentials_are_shown_and_the_last_sample_stays() {
    let authority = Authority::new();
    let server = Guarded::start(&authority.issue("127.0.0.1", |_| {}), None, good()).await;
    let mut core = Core::start(GpuOptions::Off, vec![server.target("a", bearer(&authority, "old"))]);
    core.good("a").await;
    core.follow(2, vec![server.target("a", bearer(&authority, "new"))]);
    core.report("a report on the new plan, with the sample of before", |report| {
        let kept = report.targets.first().is_some_and(|target| target.last.is_some());
        assert!(report.plan_revision != 2 || kept, "the sample is gone");
        (report.plan_revision == 2).then_some(())
    })
    .await;
    eventually("the new token", || {
        let heads = server.heads();
        heads
            .iter()
            .any(|head| header(head) == Some("Bearer new"))
            .then_some(())
    })
    .await;
    let heads = server.heads();
    let first_new = heads
        .iter()
        .position(|head| header(head) == Some("Bearer new"))
        .unwrap();
    assert!(heads[first_new..].iter().all(|head| header(head) == Some("Bearer new")));
}

#[tokio::test]
async fn proxy_variables_are_not_read() {
    let canary = Canary::start().await;
    let proxy = format!("http://{}", canary.address);
    let test = "a_server_that_proves_its_name_is_shown_what_the_plan_has_for_it";
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        again.env(name, &proxy);
    }
    // Every wait of that test has a limit.
    let output = tokio::task::spawn_blocking(move || again.args(["--exact", test]).output());
    let output = output.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    canary.assert_untouched();
}

#[test]
fn credentials_of_a_target_do_not_show() {
    let credentials = Arc::new(bearer(&Authority::new(), CANARY));
    assert!(!format!("{credentials:?}").contains(CANARY));
}
