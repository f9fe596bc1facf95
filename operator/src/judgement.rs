//! Judges monitors whenever something happened to them or their time has come.

use crate::world::{Judged, MonitorKey, SharedWorld, World};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Reports of many nodes arrive in bursts; judging once per burst is enough and adds next to nothing to the delay.
const GATHER: Duration = Duration::from_millis(20);
/// How often silent nodes are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Runs until `shutdown`; tells `seen` of every judgement.
pub async fn run(world: SharedWorld, mut seen: impl FnMut(&MonitorKey, &Judged) + Send, shutdown: CancellationToken) {
    let clock = world.clock();
    let mut forget = Instant::now() + FORGET_EVERY;
    loop {
        for key in world.note(World::take_due) {
            // One lock per monitor, so that reads of an HPA do not wait for ten thousand judgements.
            if let Some(judged) = world.note(|world, now| world.judge(&key, now, clock.wall())) {
                seen(&key, &judged);
            }
        }
        if Instant::now() >= forget {
            world.note(World::forget_silent_nodes);
            forget = Instant::now() + FORGET_EVERY;
        }
        let due = world
            .read(|world, _| world.next_due())
            .map_or(forget, |due| Instant::from_std(clock.instant(due)));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = world.changed() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep_until(due.min(forget)) => {}
        }
    }
}
