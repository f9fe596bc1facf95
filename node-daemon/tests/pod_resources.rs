//! The owners of GPUs in reports, with a kubelet that answers, hangs, refuses, restarts and talks nonsense.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::Core;
use harness::kubelet::{Answer, Kubelet, asked_again, gpu, plain, socket_in};
use infmon_node_daemon::{GpuOptions, PodResourcesOptions};
use infmon_runtime::BackoffPolicy;
use infmon_samples::GpuOwners;
use std::path::PathBuf;
use std::time::Duration;
use tonic::Status;

/// As in a cluster, with times short enough for tests.
fn asking(socket: PathBuf) -> PodResourcesOptions {
    PodResourcesOptions {
        period: Duration::from_millis(30),
        deadline: Duration::from_millis(300),
        backoff: BackoffPolicy {
            first: Duration::from_millis(20),
            max: Duration::from_millis(100),
        },
        ..PodResourcesOptions::new(socket, "daemon-x".to_owned())
    }
}

fn start(socket: PathBuf) -> Core {
    Core::start_asking(asking(socket))
}

fn pods(ids: &[&str]) -> Answer {
    let own = ids.iter().map(|id| gpu("prod", "vllm-0", id));
    Answer::Pods(own.chain([plain("daemon-x"), plain("coredns")]).collect())
}

/// Waits for owners of which `condition` holds.
async fn owners(core: &mut Core, what: &str, condition: impl Fn(&GpuOwners) -> bool) -> GpuOwners {
    core.report(what, |report| report.gpus.owners.clone().filter(&condition))
        .await
}

/// Device ids, all in one.
fn ids(owners: &GpuOwners) -> String {
    let ids: Vec<&str> = owners
        .owners
        .iter()
        .flat_map(|owner| owner.devices.iter().map(String::as_str))
        .collect();
    ids.join(" ")
}

/// Waits for a failure whose words contain `words`.
async fn failure(core: &mut Core, words: &str) -> GpuOwners {
    owners(core, words, |owners| {
        owners
            .failure
            .as_ref()
            .is_some_and(|failure| failure.message.contains(words))
    })
    .await
}

#[tokio::test]
async fn owners_are_reported_with_their_age() {
    let folder = tempfile::tempdir().unwrap();
    let both = Answer::Pods(vec![
        plain("daemon-x"),
        gpu("prod", "vllm-0", "GPU-1"),
        gpu("other", "trainer", "GPU-2"),
        ("net", "router", "nvidia.com/hostdev", vec!["0000:3b:00.2".to_owned()]),
    ]);
    let kubelet = Kubelet::start(&socket_in(folder.path()), both);
    let mut core = start(socket_in(folder.path()));
    let known = owners(&mut core, "a list", |owners| owners.age.is_some()).await;
    assert!(
        known.age.unwrap() < Duration::from_secs(5) && known.failure.is_none(),
        "{known:?}"
    );
    let names: Vec<String> = known
        .owners
        .iter()
        .map(|owner| {
            format!(
                "{}/{}/{} {} {}",
                owner.namespace, owner.pod, owner.container, owner.resource, owner.devices[0]
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            "prod/vllm-0/server nvidia.com/gpu GPU-1",
            "other/trainer/server nvidia.com/gpu GPU-2"
        ]
    );

    // The pods go, and the kubelet says so: that is knowledge too.
    kubelet.answer(pods(&[]));
    let none = owners(&mut core, "an empty list", |owners| owners.owners.is_empty()).await;
    assert!(none.age.is_some() && none.failure.is_none(), "{none:?}");
}

#[tokio::test]
async fn a_daemon_that_does_not_ask_reports_no_owners() {
    let mut core = Core::start(GpuOptions::Off, Vec::new());
    let owners = core.report("a report", |report| Some(report.gpus.owners.clone())).await;
    assert_eq!(owners, None);
}

#[tokio::test]
async fn a_kubelet_that_hangs_is_told_and_the_list_grows_old() {
    let folder = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start(&socket_in(folder.path()), pods(&["GPU-1"]));
    let mut core = start(socket_in(folder.path()));
    owners(&mut core, "a list", |owners| owners.age.is_some()).await;

    kubelet.answer(Answer::Hang);
    let told = failure(
        &mut core,
        "the kubelet does not answer: PodResources List did not end within 300 ms",
    )
    .await;
    assert_eq!(ids(&told), "GPU-1", "a failure is no empty list");
    asked_again(&kubelet, 3).await;
    let older = owners(&mut core, "an older list", |owners| owners.age > told.age).await;
    assert!(older.age.unwrap() >= Duration::from_millis(300), "{older:?}");
    assert!(
        older.failure.unwrap().since > told.failure.unwrap().since,
        "it has been failing all the time"
    );
    assert_eq!(kubelet.most_at_once(), 1, "one call at a time");

    kubelet.answer(pods(&["GPU-2"]));
    let again = owners(&mut core, "the new list", |owners| ids(owners) == "GPU-2").await;
    assert_eq!(again.failure, None);
}

#[tokio::test]
async fn a_kubelet_that_restarts_is_found_behind_its_new_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = socket_in(folder.path());
    let mut core = start(socket.clone());
    let none = failure(&mut core, "there is no socket").await;
    assert_eq!((none.age, none.owners.len()), (None, 0));

    let first = Kubelet::start(&socket, pods(&["GPU-1"]));
    owners(&mut core, "the list of the first", |owners| ids(owners) == "GPU-1").await;
    drop(first);
    let alone = failure(&mut core, "the kubelet is down or starting").await;
    assert_eq!(ids(&alone), "GPU-1");

    // It answers before it has heard of its pods: static ones at most.
    let second = Kubelet::start(&socket, Answer::Pods(vec![plain("etcd")]));
    let early = failure(&mut core, "lacks this daemon's own pod daemon-x").await;
    assert_eq!(
        ids(&early),
        "GPU-1",
        "what a starting kubelet does not know is no empty list"
    );
    second.answer(pods(&["GPU-1", "GPU-2"]));
    let known = owners(&mut core, "the list of the second", |owners| {
        ids(owners) == "GPU-1 GPU-2"
    })
    .await;
    assert_eq!(known.failure, None);
}

#[tokio::test]
async fn a_kubelet_that_refuses_is_told_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let refusals = [
        (Status::unimplemented("unknown service"), "it has no PodResources v1"),
        (Status::permission_denied("not you"), "not you (PermissionDenied)"),
        (
            Status::resource_exhausted("rejected by rate limit"),
            "rejected by rate limit (ResourceExhausted)",
        ),
    ];
    let kubelet = Kubelet::start(&socket_in(folder.path()), Answer::Hang);
    let mut core = start(socket_in(folder.path()));
    for (status, words) in refusals {
        kubelet.answer(Answer::Refuse(status));
        let told = failure(&mut core, words).await;
        assert_eq!(told.age, None);
    }
}

#[tokio::test]
async fn an_answer_without_bounds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let of = |count: usize| (0..count).map(|number| format!("GPU-{number:060}")).collect();
    let owner = |ids| Answer::Pods(vec![plain("daemon-x"), ("prod", "vllm-0", "nvidia.com/gpu", ids)]);
    // Above what is read at all, and above what fits into a report.
    for (count, words) in [
        (80_000, "decoded message length too large"),
        (8_000, "at most 262144 fit into a report"),
    ] {
        let _kubelet = Kubelet::start(&socket_in(folder.path()), owner(of(count)));
        let mut core = start(socket_in(folder.path()));
        let told = failure(&mut core, words).await;
        assert_eq!((told.age, told.owners.len()), (None, 0));
    }
}

#[tokio::test]
async fn something_else_on_the_socket_is_no_kubelet() {
    let folder = tempfile::tempdir().unwrap();
    let socket = socket_in(folder.path());
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let mut core = start(socket);
    let told = owners(&mut core, "a failure", |owners| owners.failure.is_some()).await;
    assert_eq!(told.age, None);
}

#[tokio::test]
async fn a_kubelet_that_hangs_holds_up_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::start(&socket_in(folder.path()), Answer::Hang);
    let core = Core::start_asking(PodResourcesOptions {
        deadline: Duration::from_secs(60),
        ..asking(socket_in(folder.path()))
    });
    asked_again(&kubelet, usize::from(kubelet.calls() == 0)).await;
    core.shutdown.finish(Duration::from_secs(2)).await.unwrap();
}
