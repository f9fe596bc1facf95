//! Decisions as pure functions: plan, evaluate, status, metric values; no client, no clock, no channel
