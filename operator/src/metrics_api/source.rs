//! The data behind the API: synchronous, from memory, and never a number for a failure.

use std::time::Duration;

use super::selector::LabelSelector;

/// A metric that the API offers for every monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// The name as it stands in the URL: lower case, no `/` and no `%`.
    pub name: String,
    /// One sentence for people.
    pub description: String,
}

/// One value, with its age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricReading {
    /// The value. A value that is not finite or is negative is answered as an error.
    pub value: f64,
    /// How long ago the newest sample behind the value was taken.
    pub age: Duration,
    /// The time the value was computed over, for rates and quantiles; `None` for an instantaneous value.
    pub window: Option<Duration>,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricError {
    /// No metric of this name is offered.
    UnknownMetric,
    /// No monitor of this name exists in the namespace.
    UnknownObject,
    /// The monitor exists, but its value is stale, missing or not understood.
    NotKnown {
        /// Shown word for word to the user in `kubectl describe hpa`: name the monitor, the cause and the next step.
        message: String,
    },
}

/// What the API reads on each request.
///
/// Every method is called on the request path and must answer from memory: no I/O, no lock that is held over I/O.
pub trait MetricSource: Send + Sync + 'static {
    /// The metrics offered. Constant for the life of the process, since discovery is computed once.
    fn metrics(&self) -> &[MetricInfo];

    /// The value of one monitor.
    fn monitor(&self, namespace: &str, name: &str, metric: &str) -> Result<MetricReading, MetricError>;

    /// The values of the monitors whose labels match, with their names. A monitor whose value is not known is left out.
    fn monitors(
        &self,
        namespace: &str,
        selector: &LabelSelector,
        metric: &str,
    ) -> Result<Vec<(String, MetricReading)>, MetricError>;
}
