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
//! | `fuzz` | inputs led by coverage, for the reader of bodies |
//! | `instructions` | how many instructions reading a body takes |
//! | `ci` | everything that has to pass before a change is merged |
//! | `workspace` | the repository's folder, its files, programs run in it |

mod ci;
mod cluster;
mod e2e;
mod fuzz;
mod generate;
mod image;
mod instructions;
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
    /// Change bodies by what they make the reader do, for some time, and look for a panic or a difference
    Fuzz(fuzz::Arguments),
    /// Count the instructions that reading a body takes, with valgrind; fail 10 % above what is recorded
    Instructions {
        /// Record the counts instead, in engines/benches/instructions.txt
        #[arg(long)]
        record: bool,
    },
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
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Instructions { record } => instructions::run(record),
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
