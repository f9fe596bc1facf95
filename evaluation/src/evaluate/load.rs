//! Rules of `status.load`, explained to users in docs/conditions.md#load.

use super::{Finding, Outcome};
use crate::{Hold, Moment, Totals};
use infmon_crds::v1alpha1::{Load, OomRisk};
use std::time::Duration;

/// Time for which requests must wait before that makes the load Degraded: one that waits for the next step of the batch is normal.
pub(super) const WAITING_FOR: Duration = Duration::from_secs(5);

pub(super) fn judge(
    totals: &Totals<'_>,
    queue_depth: &Finding,
    throttled: &Finding,
    oom_risk: OomRisk,
    waiting_hold: Hold,
    now: Moment,
) -> (Load, Hold) {
    let known = totals.waiting.zip(totals.running).filter(|_| totals.enough());
    let waiting_hold = waiting_hold.update(known.map(|(waiting, _)| waiting > 0.0), now, WAITING_FOR);
    let load = match known {
        None => Load::Unknown,
        Some(_) if queue_depth.outcome == Outcome::True || oom_risk == OomRisk::High => Load::Overloaded,
        Some(_) if waiting_hold.is_raised() || throttled.outcome == Outcome::True || oom_risk == OomRisk::Medium => {
            Load::Degraded
        }
        Some((waiting, running)) if waiting + running > 0.0 => Load::Healthy,
        Some(_) => Load::Idle,
    };
    (load, waiting_hold)
}
