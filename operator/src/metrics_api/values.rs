//! Metric values as the three list documents (kubernetes/metrics `pkg/apis/{custom,external}_metrics/*/types.go`). Pure.
//!
//! Mind the field names: custom v1beta2 says `windowSeconds`, custom v1beta1 and external v1beta1 say `window`.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    group::{ServedVersion, monitor},
    quantity::{self, QuantityError},
    source::MetricReading,
};

/// A list of values.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ValueList {
    kind: &'static str,
    api_version: String,
    metadata: Map<String, Value>,
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Item {
    CustomV1Beta2 {
        described_object: DescribedObject,
        metric: MetricIdentifier,
        timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        window_seconds: Option<u64>,
        value: String,
    },
    CustomV1Beta1 {
        described_object: DescribedObject,
        metric_name: String,
        timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<u64>,
        value: String,
        selector: Option<()>,
    },
    ExternalV1Beta1 {
        metric_name: String,
        metric_labels: Map<String, Value>,
        timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<u64>,
        value: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribedObject {
    kind: &'static str,
    namespace: String,
    name: String,
    api_version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct MetricIdentifier {
    name: String,
    /// Our metrics have no series of their own to select from.
    selector: Option<()>,
}

impl ValueList {
    /// The values of `metric` for these monitors of one namespace, at the time `now`.
    ///
    /// The error names the monitor whose value is not a quantity.
    pub(super) fn new(
        version: ServedVersion,
        namespace: &str,
        metric: &str,
        readings: Vec<(String, MetricReading)>,
        now: Timestamp,
    ) -> Result<Self, (String, QuantityError)> {
        let items = readings
            .into_iter()
            .map(|(name, reading)| match quantity::format(reading.value) {
                Ok(value) => Ok(item(version, namespace, metric, name, value, &reading, now)),
                Err(error) => Err((name, error)),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            kind: version.list_kind(),
            api_version: version.group_version(),
            metadata: Map::new(),
            items,
        })
    }
}

fn item(
    version: ServedVersion,
    namespace: &str,
    metric: &str,
    name: String,
    value: String,
    reading: &MetricReading,
    now: Timestamp,
) -> Item {
    let timestamp = timestamp(now, reading.age);
    let window = reading
        .window
        .map(|window| window.as_secs())
        .filter(|seconds| *seconds > 0);
    let metric = metric.to_owned();
    let described_object = |name| DescribedObject {
        kind: monitor::KIND,
        namespace: namespace.to_owned(),
        name,
        api_version: monitor::API_VERSION,
    };
    match version {
        ServedVersion::CustomV1Beta2 => Item::CustomV1Beta2 {
            described_object: described_object(name),
            metric: MetricIdentifier {
                name: metric,
                selector: None,
            },
            timestamp,
            window_seconds: window,
            value,
        },
        ServedVersion::CustomV1Beta1 => Item::CustomV1Beta1 {
            described_object: described_object(name),
            metric_name: metric,
            timestamp,
            window,
            value,
            selector: None,
        },
        ServedVersion::ExternalV1Beta1 => Item::ExternalV1Beta1 {
            metric_name: metric,
            metric_labels: Map::from_iter([(monitor::LABEL.to_owned(), Value::String(name))]),
            timestamp,
            window,
            value,
        },
    }
}

/// `metav1.Time`: RFC 3339, UTC, whole seconds.
fn timestamp(now: Timestamp, age: Duration) -> String {
    let taken = now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH);
    taken.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(version: ServedVersion, value: f64, window: Option<Duration>) -> Value {
        let reading = MetricReading {
            value,
            age: Duration::from_millis(1500),
            window,
        };
        let now = "2026-11-22T00:00:01.6Z".parse().expect("time");
        let list = ValueList::new(version, "prod", "queue-depth", vec![("llama".into(), reading)], now);
        serde_json::to_value(list.expect("value")).expect("json")
    }

    #[test]
    fn custom_v1beta2_names_the_window_window_seconds() {
        assert_eq!(
            list(ServedVersion::CustomV1Beta2, 7.0, Some(Duration::from_secs(15))),
            json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {}, "items": [{
                "describedObject": {"kind": "InferenceMonitor", "namespace": "prod", "name": "llama",
                                    "apiVersion": "inferencemonitor.io/v1alpha1"},
                "metric": {"name": "queue-depth", "selector": null},
                "timestamp": "2026-11-22T00:00:00Z", "windowSeconds": 15, "value": "7"}]})
        );
    }

    #[test]
    fn custom_v1beta1_has_name_window_and_selector_at_the_top() {
        assert_eq!(
            list(ServedVersion::CustomV1Beta1, 7.0 / 3.0, Some(Duration::from_secs(15)))["items"][0],
            json!({"describedObject": {"kind": "InferenceMonitor", "namespace": "prod", "name": "llama",
                                       "apiVersion": "inferencemonitor.io/v1alpha1"},
                   "metricName": "queue-depth", "timestamp": "2026-11-22T00:00:00Z", "window": 15, "value": "2333m",
                   "selector": null})
        );
    }

    #[test]
    fn external_v1beta1_labels_the_monitor_and_leaves_out_no_window() {
        assert_eq!(
            list(ServedVersion::ExternalV1Beta1, 0.0, None),
            json!({"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {},
                   "items": [{"metricName": "queue-depth", "metricLabels": {"monitor": "llama"},
                              "timestamp": "2026-11-22T00:00:00Z", "value": "0"}]})
        );
    }

    #[test]
    fn a_window_below_a_second_is_left_out() {
        let list = list(ServedVersion::CustomV1Beta2, 1.0, Some(Duration::from_millis(900)));
        assert_eq!(list["items"][0].get("windowSeconds"), None);
    }

    #[test]
    fn an_age_before_all_time_does_not_fail() {
        assert_eq!(timestamp(Timestamp::UNIX_EPOCH, Duration::MAX), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_not_a_number_fails_the_list_and_names_the_monitor() {
        let reading = |value| MetricReading {
            value,
            age: Duration::ZERO,
            window: None,
        };
        let readings = vec![("a".to_owned(), reading(1.0)), ("b".to_owned(), reading(f64::NAN))];
        let result = ValueList::new(
            ServedVersion::CustomV1Beta2,
            "prod",
            "m",
            readings,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(result, Err(("b".to_owned(), QuantityError::NotFinite)));
    }
}
