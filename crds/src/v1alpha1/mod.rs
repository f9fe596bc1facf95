//! Version `v1alpha1`: `InferenceMonitor` and what it is made of.

mod condition;
mod custom;
mod spec;
mod status;
mod thresholds;

pub use condition::{ConditionType, reason};
pub use custom::{CustomField, CustomMapping, SampleField, SeriesAggregation, SeriesUnit};
pub use spec::{
    Endpoint, EngineChoice, InferenceMonitor, InferenceMonitorSpec, LabelSelectorRequirement, PodEndpoint, PodSelector,
    PortReference, Scheme, SecretReference, SelectorOperator, ServiceEndpoint,
};
pub use status::{EndpointStatus, GpuPodStatus, GpuStatus, InferenceMonitorStatus, Load, OomRisk, Summary};
pub use thresholds::{
    FirstTokenThreshold, KvCacheThreshold, LatencyThreshold, MemoryHeadroomThreshold, Quantile, QueueDepthThreshold,
    TemperatureMarginThreshold, TemperatureThreshold, Thresholds, ThrottledThreshold,
};
