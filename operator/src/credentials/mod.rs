//! Reads the Secrets that monitors name: one GET each, never a list and never a watch, so that the right to `get` single Secrets is
//! enough. Every replica reads, since every replica plans.
//!
//! Read at once when a monitor that names one comes or changes, and again about every minute, which is how a rotated token is noticed.

mod answer;
mod schedule;
#[cfg(test)]
mod tests;

use crate::world::SharedWorld;
use answer::{Answer, judge};
use infmon_runtime::deadline;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::{GetParams, Request};
use schedule::{Key, Schedule};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the monitors are compared with what is read.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For one GET.
const DEADLINE: Duration = Duration::from_secs(5);
/// GETs at the same time.
const READS_MAX: usize = 4;

/// Keeps the named Secrets in the world until `shutdown`.
pub async fn run(client: kube::Client, world: SharedWorld, shutdown: CancellationToken) {
    let mut schedule = Schedule::default();
    let mut reads = JoinSet::new();
    loop {
        let wanted = world.read(|world, _| world.secrets_in_use());
        for (namespace, name) in schedule.want(wanted, Instant::now()) {
            world.change(|world, _| world.forget_secret(&namespace, &name));
        }
        for ((namespace, name), reading) in schedule.lapsed(Instant::now()) {
            world.change(|world, _| world.apply_secret(&namespace, &name, reading));
        }
        let began = Instant::now();
        for key in schedule.take_due(began, READS_MAX.saturating_sub(reads.len())) {
            reads.spawn(read(client.clone(), key, began));
        }
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(ended) = reads.join_next(), if !reads.is_empty() => ended,
            () = tokio::time::sleep(LOOK_EVERY) => continue,
        };
        // One that panicked is tried again when its time is over.
        let Ok((key, began, answer)) = ended else { continue };
        let words = answer.for_log();
        let noted = schedule.ended(&key, began, answer, Instant::now(), rand::random());
        let (namespace, name) = key;
        if let Some(words) = words.filter(|_| noted.told) {
            tracing::warn!(
                namespace,
                secret = name,
                error = words,
                "cannot use a Secret that a monitor names"
            );
        }
        if let Some(reading) = noted.reading {
            world.change(|world, _| world.apply_secret(&namespace, &name, reading));
        }
    }
}

async fn read(client: kube::Client, key: Key, began: Instant) -> (Key, Instant, Answer) {
    let answer = match deadline("read of a Secret", DEADLINE, get(&client, &key)).await {
        Ok(got) => judge(&key.0, &key.1, got),
        Err(late) => Answer::passing(
            &key.0,
            &key.1,
            "the API server did not answer in time",
            &late.to_string(),
        ),
    };
    (key, began, answer)
}

/// As text, and taken apart here: the client would log an answer that it cannot read, with all that is in it.
async fn get(client: &kube::Client, (namespace, name): &Key) -> kube::Result<String> {
    let request = Request::new(Secret::url_path(&(), Some(namespace)))
        .get(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    client.request_text(request).await
}
