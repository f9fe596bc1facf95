//! A stream that was let in: reports come, plans go.

use super::registry::Place;
use super::{LinkServerCounts, NodeSessions, count};
use crate::codec::{decode_report, encode_plan};
use crate::transit::Transit;
use crate::wire::{FromNode, ToNode, from_node, to_node};
use infmon_samples::{Plan, Report};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// Time for a peer to take the reason why its stream ends.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Session<S: NodeSessions> {
    pub(super) place: Place<S>,
    pub(super) plans: watch::Receiver<Arc<Plan>>,
    pub(super) inbound: Streaming<FromNode>,
    pub(super) to_node: mpsc::Sender<Result<ToNode, Status>>,
    pub(super) valid_until: Option<Instant>,
    pub(super) max_reports_per_second: u32,
    pub(super) counts: Arc<LinkServerCounts>,
    pub(super) shutdown: CancellationToken,
}

impl<S: NodeSessions> Session<S> {
    pub(super) async fn run(mut self) {
        let node = self.place.node.clone();
        tracing::info!(
            node = node.node,
            pod = node.pod,
            version = node.version,
            "node connected"
        );
        let status = self.exchange().await;
        // The node counts as gone before the peer is told, so that its next stream never meets this one.
        let Self { place, to_node, .. } = self;
        drop(place);
        match status {
            Some(status) => {
                tracing::info!(
                    node = node.node,
                    reason = status.message(),
                    "stream ended by the operator"
                );
                let _ = tokio::time::timeout(LAST_WORDS_DEADLINE, to_node.send(Err(status))).await;
            }
            None => tracing::debug!(node = node.node, "stream ended by the node"),
        }
    }

    /// Runs until the stream ends; `None` when the peer ended it.
    async fn exchange(&mut self) -> Option<Status> {
        let opened = Instant::now();
        let mut transit = Transit::default();
        let mut rate = Rate::new(self.max_reports_per_second);
        let mut plan_is_due = true;
        let valid_until = self.valid_until;
        let expired = async {
            match valid_until {
                Some(moment) => tokio::time::sleep_until(moment.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut expired = std::pin::pin!(expired);
        loop {
            tokio::select! {
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => {
                        let now = Instant::now();
                        if !rate.allows(now) {
                            return Some(Status::resource_exhausted(format!(
                                "more than {} messages in a second", self.max_reports_per_second
                            )));
                        }
                        if let Err(status) = self.take(message, &mut transit, now - opened) {
                            return Some(status);
                        }
                    }
                    Ok(None) => return None,
                    // Too large and not decodable are the peer's fault and worth telling; a reset has nobody to tell.
                    Err(status) => return Some(status),
                },
                changed = self.plans.changed() => match changed {
                    Ok(()) => plan_is_due = true,
                    Err(_) => return Some(Status::unavailable("the operator has no plan for this node any more")),
                },
                place = self.to_node.reserve(), if plan_is_due => match place {
                    Ok(place) => {
                        plan_is_due = false;
                        let plan = encode_plan(&self.plans.borrow_and_update());
                        place.send(Ok(ToNode { message: Some(to_node::Message::Plan(plan)) }));
                    }
                    Err(_) => return None,
                },
                () = self.to_node.closed() => return None,
                () = self.place.replaced() => return Some(Status::aborted("a newer stream of the same node took over")),
                () = &mut expired => return Some(Status::unavailable("the token is about to expire: connect again")),
                () = self.shutdown.cancelled() => return Some(Status::unavailable("the operator stops")),
            }
        }
    }

    fn take(&self, message: FromNode, transit: &mut Transit, received: Duration) -> Result<(), Status> {
        match message.message {
            Some(from_node::Message::Report(report)) => {
                let (mut report, sent) =
                    decode_report(report).map_err(|error| Status::invalid_argument(error.to_string()))?;
                add_delay(&mut report, transit.delay(sent, received));
                count(&self.counts.reports);
                self.place.report(report);
                Ok(())
            }
            Some(from_node::Message::Hello(_)) => Err(Status::invalid_argument("a second Hello")),
            // A message that only a newer daemon knows.
            None => Ok(()),
        }
    }
}

/// Makes everything in a report older by the time it spent on its way.
fn add_delay(report: &mut Report, delay: Duration) {
    let owners = report.gpus.owners.iter_mut().flat_map(|owners| {
        let failure = owners.failure.as_mut().map(|failure| &mut failure.since);
        owners.age.iter_mut().chain(failure)
    });
    let targets = report.targets.iter_mut().flat_map(|target| {
        let last = target.last.as_mut().map(|last| &mut last.age);
        last.into_iter()
            .chain(target.failure.as_mut().map(|failure| &mut failure.since))
            .chain(target.host_memory.as_mut().map(|memory| &mut memory.age))
    });
    let outages = report.gpus.outages.iter_mut().map(|outage| &mut outage.since);
    let incidents = report.gpus.incidents.iter_mut();
    let incidents = incidents.flat_map(|incident| [&mut incident.first, &mut incident.last]);
    let switches = report.gpus.switch_incidents.iter_mut();
    let switches = switches.flat_map(|incident| [&mut incident.first, &mut incident.last]);
    let ages = report.gpus.age.iter_mut().chain(owners).chain(targets);
    let ages = ages.chain(outages).chain(incidents).chain(switches);
    for age in ages {
        *age = age.saturating_add(delay);
    }
}

/// Counts messages in windows of one second.
#[derive(Debug)]
struct Rate {
    limit: u32,
    window: Option<Instant>,
    messages: u32,
}

impl Rate {
    const fn new(limit: u32) -> Self {
        Self {
            limit,
            window: None,
            messages: 0,
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if self
            .window
            .is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1))
        {
            self.window = Some(now);
            self.messages = 0;
        }
        self.messages = self.messages.saturating_add(1);
        self.messages <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::full_report;

    #[test]
    fn every_age_of_a_report_grows_by_its_time_on_the_way() {
        let made = full_report();
        let mut arrived = made.clone();
        let delay = Duration::from_secs(3);
        add_delay(&mut arrived, delay);
        let ages = |report: &Report| {
            let owners = report.gpus.owners.clone().unwrap();
            let first = &report.targets[0];
            [
                report.gpus.age.unwrap(),
                owners.age.unwrap(),
                owners.failure.unwrap().since,
                first.last.as_ref().unwrap().age,
                first.host_memory.as_ref().unwrap().age,
                report.targets[2].failure.as_ref().unwrap().since,
                report.gpus.outages[0].since,
                report.gpus.incidents[0].first,
                report.gpus.incidents[0].last,
                report.gpus.switch_incidents[0].first,
                report.gpus.switch_incidents[0].last,
            ]
        };
        assert_eq!(ages(&arrived), ages(&made).map(|age| age + delay));
    }
}
