//! The world as the metrics API reads it.

use crate::metrics_api::selector::LabelSelector;
use crate::metrics_api::source::{MetricError, MetricInfo, MetricReading, MetricSource};
use crate::world::{MonitorKey, SharedWorld};
use infmon_evaluation::metric::{Metric, Reading};

/// The world as the metrics API reads it.
#[derive(Clone, Debug)]
pub struct WorldMetrics {
    world: SharedWorld,
    metrics: Vec<MetricInfo>,
}

impl WorldMetrics {
    /// Metrics of a world.
    #[must_use]
    pub fn new(world: SharedWorld) -> Self {
        let metrics = Metric::ALL
            .into_iter()
            .map(|metric| MetricInfo {
                name: metric.name().into(),
                description: metric.description().into(),
            })
            .collect();
        Self { world, metrics }
    }
}

fn reading(reading: Reading) -> MetricReading {
    MetricReading {
        value: reading.value,
        age: reading.age,
        window: reading.window,
    }
}

impl MetricSource for WorldMetrics {
    fn metrics(&self) -> &[MetricInfo] {
        &self.metrics
    }

    fn monitor(&self, namespace: &str, name: &str, metric: &str) -> Result<MetricReading, MetricError> {
        let metric = Metric::from_name(metric).ok_or(MetricError::UnknownMetric)?;
        let key = MonitorKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.world
            .read(|world, now| world.read_metric(&key, metric, now))
            .ok_or(MetricError::UnknownObject)?
            .map(reading)
            .map_err(|message| MetricError::NotKnown { message })
    }

    fn monitors(
        &self,
        namespace: &str,
        selector: &LabelSelector,
        metric: &str,
    ) -> Result<Vec<(String, MetricReading)>, MetricError> {
        let metric = Metric::from_name(metric).ok_or(MetricError::UnknownMetric)?;
        Ok(self.world.read(|world, now| {
            world
                .monitors()
                .filter(|(key, monitor)| {
                    let labels = monitor.object.metadata.labels.clone().unwrap_or_default();
                    key.namespace == namespace && selector.matches(&labels)
                })
                .filter_map(|(key, _)| {
                    let value = world.read_metric(key, metric, now)?.ok()?;
                    Some((key.name.clone(), reading(value)))
                })
                .collect()
        }))
    }
}
