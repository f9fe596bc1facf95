//! What passed through the services of late.

use super::{Family, Labels};
use infmon_crds::v1alpha1::Quantile;
use infmon_evaluation::{Estimate, Traffic};
use prometheus_client::registry::Unit;

/// Families with a series per monitor that is known.
pub(super) struct TrafficFamilies {
    tokens: Family,
    requests: Family,
    outcomes: Family,
    preemptions: Family,
    prefix: Family,
    queue_time: Family,
    latency: Family,
}

impl TrafficFamilies {
    pub(super) fn new() -> Self {
        let gauge = Family::gauge;
        Self {
            tokens: gauge(
                "infmon_monitor_tokens_per_second",
                "Tokens per second in the last minute, over all endpoints, prompt or generated",
                None,
            ),
            requests: gauge(
                "infmon_monitor_requests_per_second",
                "Requests per second that ended in the last minute, over all endpoints, by outcome",
                None,
            ),
            outcomes: gauge(
                "infmon_monitor_request_outcomes_per_second",
                "Requests per second that ended in the last minute, over all endpoints, by reason in the words of the engine",
                None,
            ),
            preemptions: gauge(
                "infmon_monitor_preemptions_per_second",
                "Evictions of running requests per second in the last minute, over all endpoints",
                None,
            ),
            prefix: gauge(
                "infmon_monitor_prefix_cache_hits",
                "Share of the prompt tokens of the last minute that were in the prefix cache, 0-1",
                Some(Unit::Ratios),
            ),
            queue_time: gauge(
                "infmon_monitor_queue_time_mean",
                "Mean time in the queue of the requests that began to run in the last 10 to 15 s",
                Some(Unit::Seconds),
            ),
            latency: gauge(
                "infmon_monitor_latency",
                "Quantile of a latency over the requests of the last 30 s; +Inf above the last bucket of the servers",
                Some(Unit::Seconds),
            ),
        }
    }

    /// Adds what is known of one monitor.
    pub(super) fn add(&mut self, labels: &Labels, traffic: &Traffic) {
        let with = |name, value: &str| {
            let mut labels = labels.clone();
            labels.push((name, value.to_owned()));
            labels
        };
        self.tokens
            .add(&with("kind", "prompt"), traffic.prompt_tokens_per_second);
        self.tokens
            .add(&with("kind", "generated"), traffic.generated_tokens_per_second);
        self.requests
            .add(&with("outcome", "succeeded"), traffic.succeeded_per_second);
        self.requests.add(&with("outcome", "failed"), traffic.failed_per_second);
        for (reason, rate) in &traffic.outcomes_per_second {
            self.outcomes.add(&with("reason", reason), Some(*rate));
        }
        self.preemptions.add(labels, traffic.preemptions_per_second);
        self.prefix.add(labels, traffic.prefix_cache_hit_ratio);
        self.queue_time.add(labels, traffic.queue_time_seconds);
        for (kind, quantile, estimate) in &traffic.quantiles {
            let mut labels = with("latency", kind.as_str());
            labels.push(("quantile", label(*quantile).to_owned()));
            // Above every threshold of an alert, and nobody takes it for a measured value.
            let value = match estimate {
                Estimate::About(seconds) => *seconds,
                Estimate::MoreThan(_) => f64::INFINITY,
            };
            self.latency.add(&labels, Some(value));
        }
    }

    pub(super) fn into_families(self) -> [Family; 7] {
        [
            self.tokens,
            self.requests,
            self.outcomes,
            self.preemptions,
            self.prefix,
            self.queue_time,
            self.latency,
        ]
    }
}

/// As Prometheus names quantiles.
const fn label(quantile: Quantile) -> &'static str {
    match quantile {
        Quantile::P50 => "0.5",
        Quantile::P90 => "0.9",
        Quantile::P95 => "0.95",
        Quantile::P99 => "0.99",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_evaluation::LatencyKind;

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let mut families = TrafficFamilies::new();
        let labels = vec![("monitor", "chat".to_owned())];
        families.add(&labels, &Traffic::default());
        let traffic = Traffic {
            generated_tokens_per_second: Some(412.5),
            outcomes_per_second: [("stop".to_owned(), 2.0), ("abort".to_owned(), 0.0)].into(),
            quantiles: vec![
                (LatencyKind::TimeToFirstToken, Quantile::P50, Estimate::About(0.25)),
                (LatencyKind::TimeToFirstToken, Quantile::P99, Estimate::MoreThan(2560.0)),
            ],
            ..Traffic::default()
        };
        families.add(&labels, &traffic);
        let [tokens, requests, outcomes, preemptions, prefix, queue_time, latency] = families.into_families();
        for family in [requests, preemptions, prefix, queue_time] {
            assert!(family.series.is_empty(), "{}", family.name);
        }
        let series = |family: Family| -> Vec<(String, f64)> {
            let told = family.series.into_iter();
            told.map(|(labels, value)| {
                (
                    labels.into_iter().map(|label| label.1).collect::<Vec<_>>().join(" "),
                    value,
                )
            })
            .collect()
        };
        let expected = [("chat abort".to_owned(), 0.0), ("chat stop".to_owned(), 2.0)];
        assert_eq!(series(outcomes), expected);
        assert_eq!(series(tokens), [("chat generated".to_owned(), 412.5)]);
        let expected = [
            ("chat time_to_first_token 0.5".to_owned(), 0.25),
            ("chat time_to_first_token 0.99".to_owned(), f64::INFINITY),
        ];
        assert_eq!(series(latency), expected);
    }
}
