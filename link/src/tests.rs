//! Both ends together, over TLS on loopback.

use crate::codec::tests::full_report;
use crate::testing::{Authority, Event, Files, Operator, eventually};
use crate::{LinkClient, LinkClientOptions, LinkServerOptions, OperatorState};
use infmon_runtime::BackoffPolicy;
use infmon_samples::{Plan, Report};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running daemon end.
struct Daemon {
    plan: watch::Receiver<Arc<Plan>>,
    reports: watch::Sender<Arc<Report>>,
    links: watch::Receiver<BTreeMap<SocketAddr, OperatorState>>,
    _stop: DropGuard,
}

impl Daemon {
    fn start(options: LinkClientOptions) -> Self {
        let client = LinkClient::new(options);
        let (plan_sender, plan) = watch::channel(Arc::default());
        let (reports, reports_receiver) = watch::channel(Arc::default());
        let stop = CancellationToken::new();
        let links = client.links();
        tokio::spawn(client.run(plan_sender, reports_receiver, stop.clone()));
        Self {
            plan,
            reports,
            links,
            _stop: stop.drop_guard(),
        }
    }

    fn connected(&self) -> Option<()> {
        let links = self.links.borrow();
        (!links.is_empty() && links.values().all(|state| *state == OperatorState::Connected)).then_some(())
    }

    /// The message of the first link that failed.
    fn failure(&self) -> Option<String> {
        self.links.borrow().values().find_map(|state| match state {
            OperatorState::Failed { message } => Some(message.clone()),
            _ => None,
        })
    }

    fn follows(&self, revision: u64) -> Option<()> {
        (self.plan.borrow().revision == revision).then_some(())
    }
}

fn plan(revision: u64) -> Plan {
    Plan {
        revision,
        ..Plan::default()
    }
}

#[tokio::test]
async fn plans_go_out_and_reports_come_in() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    operator.book.set_plan("node-1", plan(7));
    let files = Files::new(&authority.pem, "good-token");
    let options = files.options("node-1", &[operator.address]);
    let identity = options.identity.clone();
    let daemon = Daemon::start(options);
    eventually("the first plan", || daemon.follows(7)).await;
    eventually("connected", || daemon.connected()).await;
    assert_eq!(operator.book.events()[0], Event::Connected(identity));

    daemon.reports.send_replace(Arc::new(full_report()));
    let reports = eventually("the report", || {
        let reports = operator.book.reports("node-1");
        (!reports.is_empty()).then_some(reports)
    })
    .await;
    assert_eq!(reports, [full_report()]);

    operator.book.set_plan("node-1", plan(8));
    eventually("the changed plan", || daemon.follows(8)).await;

    drop(daemon);
    let gone = Event::Disconnected("node-1".to_owned());
    eventually("disconnected", || operator.book.has(&gone)).await;
    operator.stop().await;
}

#[tokio::test]
async fn a_report_made_before_the_stream_is_not_sent() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    operator.book.set_plan("node-1", plan(1));
    let files = Files::new(&authority.pem, "good-token");
    let daemon = Daemon::start(files.options("node-1", &[operator.address]));
    daemon.reports.send_replace(Arc::new(full_report()));
    eventually("the first plan", || daemon.follows(1)).await;
    let newer = Report {
        plan_revision: 1,
        ..Report::default()
    };
    daemon.reports.send_replace(Arc::new(newer.clone()));
    eventually("a report", || operator.book.reports("node-1").pop()).await;
    assert_eq!(operator.book.reports("node-1"), [newer]);
}

#[tokio::test]
async fn an_operator_of_another_authority_is_refused() {
    let operator = Operator::start(&Authority::new(), LinkServerOptions::default()).await;
    let files = Files::new(&Authority::new().pem, "good-token");
    let daemon = Daemon::start(files.options("node-1", &[operator.address]));
    let message = eventually("a failure", || daemon.failure()).await;
    assert!(
        message.contains("does the CA file belong to this operator?"),
        "{message}"
    );
    assert_eq!(operator.book.events(), []);
}

#[tokio::test]
async fn a_rotated_authority_needs_no_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let operator = Operator::start(&old, LinkServerOptions::default()).await;
    let files = Files::new(&new.pem, "good-token");
    let daemon = Daemon::start(files.options("node-1", &[operator.address]));
    eventually("a failure", || daemon.failure()).await;
    operator.tls.swap(new.server_config());
    eventually("connected after the server's rotation", || daemon.connected()).await;

    let files = Files::new(&old.pem, "good-token");
    let late = Daemon::start(files.options("node-2", &[operator.address]));
    eventually("a failure", || late.failure()).await;
    files.set_ca(&new.pem);
    eventually("connected after the file changed", || late.connected()).await;
}

#[tokio::test]
async fn a_bad_token_is_refused_until_the_file_holds_a_good_one() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    let files = Files::new(&authority.pem, "stolen");
    let daemon = Daemon::start(files.options("node-1", &[operator.address]));
    let message = eventually("a refusal", || daemon.failure()).await;
    assert!(
        message.contains("refuses this node") && message.contains("not one of node node-1"),
        "{message}"
    );
    files.set_token("later");
    eventually("an operator that cannot tell", || {
        daemon.failure().filter(|message| message.contains("API server"))
    })
    .await;
    assert_eq!(operator.book.events(), []);
    files.set_token("good-token");
    eventually("connected", || daemon.connected()).await;
}

#[tokio::test]
async fn missing_files_are_told_with_their_path() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    let files = Files::new(&authority.pem, "good-token");
    std::fs::remove_file(files.token()).unwrap();
    let daemon = Daemon::start(files.options("node-1", &[operator.address]));
    let path = files.token().display().to_string();
    eventually("the path", || {
        daemon.failure().filter(|message| message.contains(&path))
    })
    .await;
}

#[tokio::test]
async fn a_restarted_operator_is_found_again_and_the_plan_stays_meanwhile() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    let address = operator.address;
    operator.book.set_plan("node-1", plan(7));
    let files = Files::new(&authority.pem, "good-token");
    let daemon = Daemon::start(files.options("node-1", &[address]));
    eventually("the first plan", || daemon.follows(7)).await;
    operator.stop().await;
    let message = eventually("the end", || daemon.failure()).await;
    assert!(message.contains("stops") || message.contains("connect"), "{message}");
    assert_eq!(daemon.follows(7), Some(()));

    let operator = Operator::start_at(&authority, LinkServerOptions::default(), address).await;
    operator.book.set_plan("node-1", plan(2));
    eventually("the plan of the new process", || daemon.follows(2)).await;
}

#[tokio::test]
async fn a_stream_is_renewed_before_its_token_expires() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    *operator.book.valid_for.lock().unwrap() = Some(Duration::from_millis(100));
    let files = Files::new(&authority.pem, "good-token");
    let daemon = Daemon::start(files.options("node-1", &[operator.address]));
    let message = eventually("the end of the stream", || daemon.failure()).await;
    assert_eq!(message, "the token is about to expire: connect again");
    eventually("a second stream", || (operator.book.connections() >= 2).then_some(())).await;
}

#[tokio::test]
async fn every_replica_gets_reports_and_the_newest_plan_is_followed() {
    let authority = Authority::new();
    let first = Operator::start(&authority, LinkServerOptions::default()).await;
    let second = Operator::start(&authority, LinkServerOptions::default()).await;
    first.book.set_plan("node-1", plan(4));
    second.book.set_plan("node-1", plan(5));
    let files = Files::new(&authority.pem, "good-token");
    let daemon = Daemon::start(files.options("node-1", &[first.address, second.address]));
    eventually("both connected", || {
        daemon.connected().filter(|()| daemon.links.borrow().len() == 2)
    })
    .await;
    eventually("the newest plan", || daemon.follows(5)).await;
    daemon.reports.send_replace(Arc::new(full_report()));
    for operator in [&first, &second] {
        eventually("the report", || operator.book.reports("node-1").pop()).await;
    }
    second.stop().await;
    eventually("the plan of the replica that is left", || daemon.follows(4)).await;
}

#[tokio::test]
async fn a_new_stream_of_a_node_takes_over() {
    let authority = Authority::new();
    let operator = Operator::start(&authority, LinkServerOptions::default()).await;
    operator.book.set_plan("node-1", plan(1));
    let files = Files::new(&authority.pem, "good-token");
    let old = Daemon::start(LinkClientOptions {
        // Once replaced it stays away long enough to be seen.
        backoff: BackoffPolicy {
            first: Duration::from_secs(1),
            max: Duration::from_secs(1),
        },
        ..files.options("node-1", &[operator.address])
    });
    eventually("the old stream", || old.follows(1)).await;
    let new = Daemon::start(files.options("node-1", &[operator.address]));
    let message = eventually("the end of the old stream", || old.failure()).await;
    assert_eq!(message, "a newer stream of the same node took over");
    eventually("the new stream", || new.connected()).await;
    new.reports.send_replace(Arc::new(full_report()));
    eventually("a report", || operator.book.reports("node-1").pop()).await;
    assert_eq!(operator.book.has(&Event::Disconnected("node-1".to_owned())), None);
}
