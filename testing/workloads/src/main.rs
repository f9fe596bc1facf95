//! The gateway and the load that the tests run in a cluster.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use http::Uri;
use infmon_runtime::{LogFormat, Shutdown, telemetry};
use infmon_workloads::{gateway, load};
use tokio::net::TcpListener;

/// Requests for inference servers: a gateway that holds them, a load that makes them.
#[derive(Debug, Parser)]
#[command(name = "infmon-gateway", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward /v1/... to servers, and hold the requests while there is none
    Serve(Serve),
    /// Keep some completions under way all the time; fails when none is completed
    Load(Load),
}

#[derive(Debug, Args)]
struct Serve {
    /// Address for requests, /metrics and /health
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// host:port of the servers; the name is resolved for each connection
    #[arg(long)]
    backend: String,
    /// Requests that may wait
    #[arg(long, default_value_t = 256)]
    hold_at_most: u64,
    /// Seconds that a request may wait
    #[arg(long, default_value = "300", value_parser = seconds)]
    hold_seconds: Duration,
    /// Seconds that a server may take for an answer
    #[arg(long, default_value = "600", value_parser = seconds)]
    answer_seconds: Duration,
}

#[derive(Debug, Args)]
struct Load {
    /// Where completions are asked for, such as http://gateway:8080/v1/completions
    #[arg(long)]
    url: Uri,
    /// Requests at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Tokens of each answer
    #[arg(long, default_value_t = 200)]
    max_tokens: u32,
    /// Seconds that an answer may take
    #[arg(long, default_value = "300", value_parser = seconds)]
    answer_seconds: Duration,
    /// How long the load lasts, such as 60s; without it, until SIGTERM
    #[arg(long = "for", value_parser = seconds)]
    lasts: Option<Duration>,
}

/// `60`, `60s` or `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .strip_suffix('s')
        .unwrap_or(text)
        .parse()
        .map_err(|_| "expected seconds, such as 60 or 60s".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    telemetry::install(LogFormat::Text, tracing::level_filters::LevelFilter::INFO)?;
    let shutdown = Shutdown::on_signals().context("failed to listen for signals")?;
    match command {
        Command::Serve(serve) => {
            let listener = TcpListener::bind(serve.listen)
                .await
                .with_context(|| format!("failed to listen on {}", serve.listen))?;
            tracing::info!(address = %listener.local_addr()?, backend = serve.backend, "listening");
            let settings = gateway::Settings {
                backend: serve.backend,
                hold_at_most: serve.hold_at_most,
                hold_for: serve.hold_seconds,
                answer_within: serve.answer_seconds,
            };
            gateway::serve(settings, listener, shutdown.token()).await
        }
        Command::Load(load) => {
            let settings = load::Settings {
                url: load.url,
                concurrency: load.concurrency.into(),
                max_tokens: load.max_tokens,
                answer_within: load.answer_seconds,
                lasts: load.lasts,
            };
            load::run(&settings, shutdown.token(), |line| println!("{line}"))
                .await
                .map(drop)
        }
    }
}
