//! API types of InferenceMonitor and their CustomResourceDefinition
