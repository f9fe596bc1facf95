//! `infmon`: inference-monitor in one process, without a cluster.
//!
//! The operator's pipeline and the node daemon's code run side by side, joined by channels instead of the link. Monitors come from
//! [`discovery`], a [`simulation`] or a [`monitor_file`]; what they say goes to a [`table`] on the terminal, a [`summary`] at the end,
//! and the `servers` on loopback. `pipeline` wires it up. [`inspect`](mod@inspect) stands apart: it reads one body and ends.

pub mod access;
pub mod args;
mod counter;
pub mod discovery;
pub mod findings;
pub mod inspect;
pub mod monitor_file;
mod monitors;
mod pipeline;
pub mod scene;
mod schema;
mod screen;
mod servers;
pub mod simulation;
pub mod summary;
pub mod table;
mod terminal;
mod yaml;

use args::{Args, Command};
use infmon_runtime::telemetry;
use std::process::ExitCode;
use tracing::level_filters::LevelFilter;

/// Runs a command until it ends by itself or by a signal. The exit code is that of a command which ended as it should.
///
/// # Errors
/// When the command cannot start; the text says what to change.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Demo(demo) => {
            telemetry::install(demo.session.log_format, LevelFilter::WARN)?;
            Box::pin(scene::demo(demo)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(run) => {
            telemetry::install(run.session.log_format, LevelFilter::WARN)?;
            Box::pin(scene::run(*run)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect(args) => Box::pin(inspect::inspect(*args)).await,
    }
}
