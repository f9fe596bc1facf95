//! `cargo xtask instructions`: how many instructions reading a body takes, against what was recorded. No busy machine changes that.

use crate::workspace;
use anyhow::Context;
use infmon_control_plane::process::{self, is_root};
use std::process::Command;
use std::time::Duration;

/// Counts instructions; the package has the same name.
const VALGRIND: &str = "valgrind";
/// How long each call of apt may take.
const INSTALL: Duration = Duration::from_secs(60);
/// How long a program may take to tell its version.
const VERSION: Duration = Duration::from_secs(10);

/// Counts and compares.
pub(crate) fn run(record: bool) -> anyhow::Result<()> {
    let mut command = workspace::cargo();
    command.args(["bench", "--package", "infmon-engines", "--bench", "instructions"]);
    if record {
        command.args(["--", "--record"]);
    }
    workspace::run(command)
}

/// Counts where this machine can, and says clearly where it cannot.
pub(crate) fn run_where_possible() -> anyhow::Result<()> {
    if !is_there()
        && let Err(error) = install()
    {
        eprintln!(
            "skipped: {VALGRIND} is not installed, so nobody counts what reading a body takes ({error:#}); on Debian: apt-get install \
             --no-install-recommends {VALGRIND}"
        );
        return Ok(());
    }
    run(false)
}

fn is_there() -> bool {
    let mut command = Command::new(VALGRIND);
    command.arg("--version");
    process::run(command, "", VERSION).is_ok()
}

/// Installs it with apt, as root.
fn install() -> anyhow::Result<()> {
    anyhow::ensure!(is_root(), "only root may install it");
    for arguments in [
        &["update", "-qq"][..],
        &["install", "-qq", "-y", "--no-install-recommends", VALGRIND][..],
    ] {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        process::run(command, "", INSTALL).context("it could not be installed")?;
    }
    Ok(())
}
