//! From a target to a list of values: asks the [`MetricSource`] and words what it does not know. No I/O.

use jiff::Timestamp;

use super::{
    authorization::Attributes,
    failure::Failure,
    group::{ServedVersion, monitor},
    route::Target,
    selector::{LabelSelector, Operator},
    source::{MetricError, MetricReading, MetricSource},
    values::ValueList,
};

/// How many monitors one external metric may name.
const EXTERNAL_MONITORS: usize = 64;

/// The query parameters that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selectors {
    /// `labelSelector`: of the objects, or of the external metric.
    pub(super) labels: LabelSelector,
    /// `metricLabelSelector`: of the series of a custom metric.
    pub(super) metric_labels: LabelSelector,
}

impl Selectors {
    /// From the query of a request; 400 where a selector is malformed.
    pub(super) fn parse(query: &[(String, String)]) -> Result<Self, Failure> {
        let selector = |parameter: &str| {
            let text = query
                .iter()
                .find(|(name, _)| name == parameter)
                .map_or("", |(_, value)| value.as_str());
            text.parse()
                .map_err(|error| Failure::bad_request(format!("unable to parse {parameter} {text:?}: {error}")))
        };
        Ok(Self {
            labels: selector("labelSelector")?,
            metric_labels: selector("metricLabelSelector")?,
        })
    }
}

/// What a caller must be allowed to do, to read this.
///
/// As apiserver `pkg/endpoints/request/requestinfo.go` reads the paths: mind that an external metric is listed.
pub(super) fn attributes(version: ServedVersion, target: &Target) -> Attributes {
    let verb = if version == ServedVersion::ExternalV1Beta1 {
        "list"
    } else {
        "get"
    };
    let (namespace, resource, name, subresource) = match target.clone() {
        Target::Object {
            namespace,
            resource,
            name,
            metric,
        } => (namespace.unwrap_or_default(), resource, name, metric),
        Target::Namespace { namespace, metric } => (namespace, "metrics".to_owned(), metric, String::new()),
        Target::External { namespace, metric } => (namespace, metric, String::new(), String::new()),
    };
    Attributes {
        verb,
        group: version.group(),
        version: version.version(),
        resource,
        subresource,
        name,
        namespace,
    }
}

/// The values.
pub(super) fn read(
    source: &dyn MetricSource,
    version: ServedVersion,
    target: &Target,
    selectors: &Selectors,
    now: Timestamp,
) -> Result<ValueList, Failure> {
    let (namespace, metric, readings) = match target {
        Target::Object {
            namespace: Some(namespace),
            resource,
            name,
            metric,
        } if resource.eq_ignore_ascii_case(monitor::RESOURCE) => {
            (namespace, metric, custom(source, namespace, name, metric, selectors)?)
        }
        Target::Object {
            resource, name, metric, ..
        } => return Err(no_metric(metric, resource, name)),
        Target::Namespace { namespace, metric } => return Err(no_metric(metric, "namespaces", namespace)),
        Target::External { namespace, metric } => (
            namespace,
            metric,
            external(source, namespace, metric, &selectors.labels)?,
        ),
    };
    ValueList::new(version, namespace, metric, readings, now).map_err(|(name, error)| {
        Failure::internal(format!(
            "InferenceMonitor {namespace}/{name}: {metric} cannot be served: {error}"
        ))
    })
}

fn custom(
    source: &dyn MetricSource,
    namespace: &str,
    name: &str,
    metric: &str,
    selectors: &Selectors,
) -> Result<Vec<(String, MetricReading)>, Failure> {
    // The metrics of a monitor have no labels: a selector that asks for one finds nothing.
    if !selectors.metric_labels.matches_with(|_| None) {
        return Err(Failure::not_found(format!(
            "the server could not find the metric {metric} for {} {name} with the metric selector given: the metrics of a monitor have no labels",
            monitor::RESOURCE
        )));
    }
    if name == "*" {
        let readings = source.monitors(namespace, &selectors.labels, metric);
        return readings.map_err(|error| unknown(error, namespace, name, metric));
    }
    one(source, namespace, name, metric).map(|reading| vec![reading])
}

/// An external metric belongs to the monitors that the selector names. The HPA adds the items up, so a monitor that could
/// not be read must fail the whole: left out, it would make the sum too low and scale down. For the same reason a
/// selector that names no monitor is refused.
fn external(
    source: &dyn MetricSource,
    namespace: &str,
    metric: &str,
    selector: &LabelSelector,
) -> Result<Vec<(String, MetricReading)>, Failure> {
    let named = match selector.requirements() {
        [only] if only.key() == monitor::LABEL && only.operator() == Operator::In => only.values(),
        _ => {
            return Err(Failure::bad_request(format!(
                "external metric {metric}: the selector must name the monitors, as matchLabels {{monitor: NAME}} or as {}",
                "matchExpressions with key monitor, operator In"
            )));
        }
    };
    if named.len() > EXTERNAL_MONITORS {
        return Err(Failure::bad_request(format!(
            "external metric {metric}: more than {EXTERNAL_MONITORS} monitors"
        )));
    }
    named.iter().map(|name| one(source, namespace, name, metric)).collect()
}

fn one(
    source: &dyn MetricSource,
    namespace: &str,
    name: &str,
    metric: &str,
) -> Result<(String, MetricReading), Failure> {
    match source.monitor(namespace, name, metric) {
        Ok(reading) => Ok((name.to_owned(), reading)),
        Err(error) => Err(unknown(error, namespace, name, metric)),
    }
}

fn unknown(error: MetricError, namespace: &str, name: &str, metric: &str) -> Failure {
    match error {
        MetricError::UnknownMetric => no_metric(metric, monitor::RESOURCE, name),
        MetricError::UnknownObject => Failure::not_found(format!(
            "the server could not find the metric {metric} for {} {name}: no InferenceMonitor {namespace}/{name} exists",
            monitor::RESOURCE
        )),
        MetricError::NotKnown { message } => Failure::not_found(message),
    }
}

/// In the words of custom-metrics-apiserver `pkg/provider/errors.go`.
fn no_metric(metric: &str, resource: &str, name: &str) -> Failure {
    Failure::not_found(format!(
        "the server could not find the metric {metric} for {resource} {name}"
    ))
}
