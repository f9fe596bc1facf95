//! `infmon`: inference-monitor without a cluster. See `infmon --help`.

use clap::Parser;
use infmon::args::Args;
use std::process::ExitCode;
use std::time::Duration;

/// What still runs after this was told to end and did not, a driver call for example; it must not hold up the exit.
const LEFT_BEHIND: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    infmon_runtime::install_crypto_provider();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no errors.
            let code = if error.use_stderr() { infmon::inspect::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(infmon::run(args));
        runtime.shutdown_timeout(LEFT_BEHIND);
        outcome
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("infmon: {}", infmon_runtime::termination::message(&error));
            ExitCode::FAILURE
        }
    }
}
