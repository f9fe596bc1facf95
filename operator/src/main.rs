//! `infmon-operator`: see the crate documentation.

use clap::Parser;
use infmon_operator::args::Args;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    infmon_runtime::install_crypto_provider();
    let args = Args::parse();
    let outcome = infmon_runtime::telemetry::install(args.log_format, tracing::level_filters::LevelFilter::INFO)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            Ok(tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?)
        })
        .and_then(|runtime| runtime.block_on(infmon_operator::run::run(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("infmon-operator: {}", infmon_runtime::termination::message(&error));
            // Outside a pod there is no such file.
            let _ = infmon_runtime::termination_log(Path::new("/dev/termination-log"), &error);
            ExitCode::FAILURE
        }
    }
}
