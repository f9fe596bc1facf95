//! A daemon is let in only with the token of its own pod on its own node, and is told why it is not.

use anyhow::{Context, ensure};
use infmon_end_to_end::{
    Credentials, DaemonProcess, Monitor, NAMESPACE,
    daemon_process::{AUDIENCE, SERVICE_ACCOUNT},
    eventually,
};
use infmon_nvml_stand_in::Scenario;
use serde_json::json;
use std::time::Duration;

use crate::Shared;

#[test]
fn a_daemon_with_the_wrong_token_is_refused_with_the_reason() -> anyhow::Result<()> {
    let shared = Shared::get()?;
    let cluster = &shared.cluster;
    shared.place("link-a")?;
    cluster.add_node("link-b")?;
    let story = cluster.story("a daemon with the wrong token is refused with the reason");
    // Without a monitor there is no DaemonSet, so no pod and no token.
    Monitor::apply(cluster.api(), "link-a", "any", "any", &json!({}))?;
    let own = Credentials::of_node(cluster, "link-a")?;
    let other = Credentials::of_node(cluster, "link-b")?;
    let token = |audience| {
        cluster
            .plane()
            .service_account_token(NAMESPACE, SERVICE_ACCOUNT, audience, Some(&own.pod))
    };
    let unbound = cluster
        .plane()
        .service_account_token(NAMESPACE, SERVICE_ACCOUNT, Some(AUDIENCE), None)?;
    let with = |token: String| Credentials { token, ..own.clone() };
    let cases = [
        ("of another node", with(other.token.clone()), "bound to node link-b"),
        (
            "of another pod",
            Credentials {
                pod: "somebody".into(),
                ..own.clone()
            },
            "bound to pod",
        ),
        ("for the API server", with(token(None)?), "audience"),
        (
            "for another service",
            with(token(Some("https://elsewhere.example"))?),
            "audience",
        ),
        ("not bound to a pod", with(unbound), "not bound"),
        ("that is no token", with("nonsense".into()), "token is not valid"),
    ];
    for (name, credentials, words) in cases {
        let daemon = refused(&shared, name, &credentials, words)?;
        drop(daemon);
    }

    let mut daemon = DaemonProcess::start_with(cluster, &own, &shared.operators, &Scenario::new("580.95.05"))?;
    eventually("the right token let in", Duration::from_secs(10), || {
        ensure!(daemon.process.log().contains("connected"), "{}", daemon.process.log());
        daemon.process.check()
    })?;
    drop(daemon);

    // The kubelet's pod is gone, and its token with it, whatever the time in it says.
    let pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}?gracePeriodSeconds=0", own.pod);
    cluster.api().delete(&pod)?;
    // The API server remembers a token that it found good for 10 s.
    let begun = std::time::Instant::now();
    eventually("the token of a deleted pod refused", Duration::from_secs(30), || {
        refused(&shared, "of a deleted pod", &own, "token is not valid").map(drop)
    })?;
    infmon_end_to_end::polling::took("pod deleted -> its token is refused", begun);
    story.ends_well();
    Ok(())
}

fn refused(shared: &Shared, name: &str, credentials: &Credentials, words: &str) -> anyhow::Result<DaemonProcess> {
    let cluster = &shared.cluster;
    let daemon = DaemonProcess::start_with(cluster, credentials, &shared.operators, &Scenario::new("580.95.05"))?;
    let line = eventually(&format!("a token {name} refused"), Duration::from_secs(8), || {
        let log = daemon.process.log();
        let line = log.lines().find(|line| line.contains(words));
        Ok(line.with_context(|| format!("no {words:?} in {log}"))?.to_owned())
    })?;
    println!("  a token {name}: {}", line.rsplit("error=").next().unwrap_or(&line));
    ensure!(!daemon.process.log().contains("connected operator"), "it was let in");
    Ok(daemon)
}
