//! Commands of this repository, run as `cargo xtask COMMAND`.
//!
//! | module | owns |
//! |---|---|
//! | `generate` | files made from the API types and the chart |
//! | `verify` | rules of structure that no compiler checks |
//! | `test` | the tests, and what they need built before |
//! | `image` | the container images |
//! | `cluster` | a real cluster on this machine, with the product in it |
//! | `e2e` | the suite on a real cluster |
//! | `ci` | everything that has to pass before a change is merged |
//! | `workspace` | the repository's folder, its files, programs run in it |

mod ci;
mod cluster;
mod e2e;
mod generate;
mod image;
mod test;
mod verify;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Commands of this repository"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write every generated file: CRD, its copy in the chart, docs/api.md, manifests/install.yaml
    Generate {
        /// Write nothing; fail when a file differs from what would be written
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of structure: crate graph, sources, documents, licences
    Verify,
    /// Build what the tests need, then run them all
    Test {
        /// Given to cargo test: -p infmon-crds, a name, -- --nocapture
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the container images, without Docker
    Image(image::Arguments),
    /// A real Kubernetes cluster on this machine
    Cluster {
        #[command(subcommand)]
        action: cluster::Action,
    },
    /// Run the suite on a real cluster: the one of KUBECONFIG, or one that is started for it
    E2e(e2e::Arguments),
    /// Everything that has to pass before a change is merged
    Ci,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Generate { check } => generate::run(check),
        Command::Verify => verify::run(),
        Command::Test { arguments } => test::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Cluster { action } => cluster::run(action),
        Command::E2e(arguments) => e2e::run(&arguments),
        Command::Ci => ci::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
