//! Command line.

use crate::access::AccessFiles;
use crate::inspect::Inspect;
use clap::{Parser, Subcommand};
use infmon_runtime::LogFormat;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// inference-monitor without a cluster: is my inference service healthy, how loaded is it, do its GPUs lose clocks
#[derive(Clone, Debug, Parser)]
#[command(name = "infmon", version)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Watch what runs on this machine; without a server, watch a simulation
    ///
    /// Looks for GPUs, and for inference servers on the ports that they use by default (8000 vLLM, 8080 llama-server). What is found
    /// is watched. Where no server is found, simulated ones are started (and simulated GPUs where there is no GPU) and a story of
    /// rising load and heat is played on them; every view says then that it is a simulation.
    Demo(Demo),
    /// Watch the servers of InferenceMonitor documents, the same YAML as in a cluster
    Run(Box<Run>),
    /// Show what the product sees in what a server exposes: for a first look, and for a bug report
    Inspect(Box<Inspect>),
}

/// `infmon demo`
#[derive(Clone, Debug, clap::Args)]
pub struct Demo {
    /// What both commands have.
    #[command(flatten)]
    pub session: Session,
    /// Simulate, whatever runs on this machine
    #[arg(long)]
    pub simulate: bool,
}

/// `infmon run`
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// File with InferenceMonitor documents whose endpoints have urls; `-` reads standard input. Changes are picked up while it runs
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Host that urls may name besides those of this machine (127.0.0.1, localhost, ::1); may be given several times
    #[arg(long, value_name = "HOST")]
    pub allow_host: Vec<String>,
    /// The NVIDIA driver library; found by itself where it is in a usual place
    #[arg(long, value_name = "PATH", conflicts_with = "no_gpu")]
    pub nvml_library: Option<PathBuf>,
    /// The kernel's log, /dev/kmsg: read XIDs from it, with the process that caused them; it takes root or CAP_SYSLOG
    #[arg(long, value_name = "PATH", conflicts_with = "no_gpu")]
    pub kernel_log: Option<PathBuf>,
    /// Do not look at GPUs
    #[arg(long)]
    pub no_gpu: bool,
    /// What servers are shown by `https://` or on this machine whose endpoint names no Secret; read once, at the start.
    #[command(flatten)]
    pub access: AccessFiles,
    /// What both commands have.
    #[command(flatten)]
    pub session: Session,
}

/// What both commands have.
#[derive(Clone, Debug, clap::Args)]
pub struct Session {
    /// End after this time, for example 60s, 2m or 1m30s; without it, run until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Address of /metrics, the JSON API and the metrics API; loopback only, since nobody is asked for credentials there
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9400", value_parser = loopback)]
    pub listen: SocketAddr,
    /// Logs on standard error: text or json. RUST_LOG sets what is logged
    #[arg(long, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "write a time with its unit, for example 60s, 2m or 1m30s".into())
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "write an address and a port, for example 127.0.0.1:9400 or [::1]:9400".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "{} can be reached from other machines, and there is no authentication here: use 127.0.0.1:{} (and ssh -L to reach it from elsewhere)",
            address.ip(),
            address.port()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("60s", 60), ("2m", 120), ("1m30s", 90), ("1h", 3600), ("90 s", 90)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "60", "0s", "-5s", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_loopback_is_listened_on() {
        for text in ["127.0.0.1:9400", "127.0.0.1:0", "[::1]:9400"] {
            assert!(loopback(text).is_ok(), "{text}");
        }
        for (text, words) in [
            ("0.0.0.0:9400", "no authentication here: use 127.0.0.1:9400"),
            ("[::]:9400", "other machines"),
            ("10.0.0.1:80", "other machines"),
            ("9400", "an address and a port"),
            ("localhost:9400", "an address and a port"),
        ] {
            assert!(loopback(text).is_err_and(|error| error.contains(words)), "{text}");
        }
    }
}
