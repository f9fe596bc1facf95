//! `infmon-node-daemon`: see the library for what it does.

use clap::Parser as _;
use infmon_node_daemon::{args::Args, run::run};
use infmon_runtime::{install_crypto_provider, telemetry, termination};
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    install_crypto_provider();
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            termination::last_words(&error);
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    telemetry::install(args.log_format, LevelFilter::INFO)?;
    // One thread: the work of a second is a few milliseconds, and what can block (NVML, DNS) has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(Box::pin(run(args)));
    // A thread that hangs in the driver or in DNS must not hold up the exit.
    runtime.shutdown_background();
    result
}
