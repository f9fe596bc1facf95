//! The operator: watches monitors, plans, evaluates, writes status, serves the metrics APIs.
//!
//! [`world`] holds the state, [`watches`], [`credentials`] and [`node_sessions`] feed it, [`judgement`] turns it into verdicts, [`status_writer`] and
//! [`daemon_sets`] write (the leader only, see [`leadership`]), [`metrics_api`] answers (every replica). The decisions themselves are
//! in the crate `infmon-evaluation`.

pub mod args;
pub mod certificates;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod daemon_sets;
pub mod deployment;
pub mod driver_upgrade;
pub mod events;
pub mod exposition;
pub mod json_api;
pub mod judgement;
pub mod leadership;
pub mod metric_source;
pub mod metrics_api;
pub mod node_sessions;
pub mod run;
pub mod status_writer;
pub mod watches;
pub mod world;
