//! Runs one simulated inference server until it is killed. `POST /simulate` changes its load, for example
//! `{"running": 4, "waiting": 12, "kvCacheUsage": 0.9, "mode": "Normal"}`.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};
use infmon_simulated_engine::{Kind, SimulatedEngine};

/// A simulated inference server: real metric bodies, made-up load.
#[derive(Debug, Parser)]
#[command(name = "simulated-engine", version)]
struct Args {
    /// Address to listen on; port 0 takes a free one. The address is printed on one line when it listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Engine to simulate.
    #[arg(long, value_enum, default_value = "vllm")]
    kind: KindArg,
    /// Requests that run.
    #[arg(long, default_value_t = 0)]
    running: u64,
    /// Requests that wait.
    #[arg(long, default_value_t = 0)]
    waiting: u64,
    /// KV cache in use, 0-1.
    #[arg(long, default_value_t = 0.0)]
    kv: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Vllm,
    #[value(alias = "llamacpp")]
    LlamaCpp,
    Homemade,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let kind = match args.kind {
        KindArg::Vllm => Kind::Vllm,
        KindArg::LlamaCpp => Kind::LlamaCpp,
        KindArg::Homemade => Kind::Homemade,
    };
    let engine = SimulatedEngine::start(kind, args.listen).await?;
    engine.change(|load| {
        load.running = args.running;
        load.waiting = args.waiting;
        load.kv_cache_usage = args.kv;
    });
    println!("{}", engine.address());
    tokio::signal::ctrl_c().await?;
    engine.shutdown().await;
    Ok(())
}
