//! The operator: watches monitors, plans, evaluates, writes status, serves the metrics APIs
