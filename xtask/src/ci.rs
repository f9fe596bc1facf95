//! Everything that has to pass before a change is merged, with the time that each step took.

use crate::{e2e, generate, image, instructions, test, verify, workspace};
use anyhow::bail;
use infmon_control_plane::{HelmVersion, Tools};
use std::time::{Duration, Instant};

/// One step: what it is called in the table of times, and what it does.
type Step = (&'static str, fn() -> anyhow::Result<()>);

/// Cheap steps and steps that fail often come first.
const STEPS: [Step; 12] = [
    ("format", || {
        workspace::run({
            let mut command = workspace::cargo();
            command.args(["fmt", "--all", "--check"]);
            command
        })
    }),
    ("tools", || {
        test::build_tools()?;
        Tools::parser_peers()?;
        Tools::actionlint().map(drop)
    }),
    ("generated files", || generate::run(true)),
    ("verify", verify::run),
    ("workflows", lint_workflows),
    ("chart", lint_chart),
    ("cargo-deny", deny),
    ("clippy", || {
        let mut command = workspace::cargo();
        command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
        workspace::run(command)
    }),
    ("documentation", || {
        let mut command = workspace::cargo();
        command
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings");
        workspace::run(command)
    }),
    ("tests", tests),
    ("instructions", instructions::run_where_possible),
    ("real cluster", e2e::run_where_possible),
];

/// Runs every step, also after one that failed, and fails at the end if any did.
pub(crate) fn run() -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut results = Vec::new();
    for (name, step) in STEPS {
        eprintln!("\n== {name}");
        let begun = Instant::now();
        let done = step();
        if let Err(error) = &done {
            eprintln!("error: {error:#}");
        }
        results.push((name, begun.elapsed(), done.is_ok()));
    }
    eprintln!("\n{}", table(&results, begun.elapsed()));
    let failed: Vec<&str> = results
        .iter()
        .filter(|(_, _, ok)| !ok)
        .map(|(name, ..)| *name)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

fn table(results: &[(&str, Duration, bool)], total: Duration) -> String {
    let mut text = String::new();
    for (name, took, ok) in results {
        let mark = if *ok { "ok" } else { "FAILED" };
        text.push_str(&format!("{name:<16} {:>7} s  {mark}\n", took.as_secs()));
    }
    text + &format!("{:<16} {:>7} s", "total", total.as_secs())
}

/// The tests, many of which wait more than they compute: meanwhile the images of the last step are compiled. Their compiler
/// ends by itself, and that step waits for it.
fn tests() -> anyhow::Result<()> {
    if e2e::cluster_of_user().is_none() && e2e::prepare().is_ok() {
        image::begin_to_compile()?;
    }
    test::run(&[])
}

fn lint_workflows() -> anyhow::Result<()> {
    let mut command = workspace::program(Tools::actionlint()?);
    // Its helpers are used when they are installed; what is checked should not depend on that.
    command.args(["-shellcheck=", "-pyflakes=", ".github/workflows/ci.yml"]);
    workspace::run(command)
}

fn lint_chart() -> anyhow::Result<()> {
    for version in [HelmVersion::V4, HelmVersion::V3] {
        let mut command = workspace::program(Tools::helm(version)?);
        command.args(["lint", "--strict", generate::CHART]);
        workspace::run(command)?;
    }
    Ok(())
}

/// Licences, bans and sources are checked by `verify` too, so a machine without cargo-deny misses the advisories only.
fn deny() -> anyhow::Result<()> {
    let mut version = workspace::cargo();
    version.args(["deny", "--version"]);
    if workspace::output(version).is_err() {
        eprintln!("skipped: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    let mut command = workspace::cargo();
    command.args(["deny", "--workspace", "check", "licenses", "bans", "sources"]);
    workspace::run(command)
}

#[cfg(test)]
mod tests {
    use super::table;
    use std::time::Duration;

    #[test]
    fn the_table_names_what_failed() {
        let results = [
            ("format", Duration::from_secs(1), true),
            ("tests", Duration::from_secs(754), false),
        ];
        assert_eq!(
            table(&results, Duration::from_secs(755)),
            "format                 1 s  ok\ntests                754 s  FAILED\ntotal                755 s"
        );
    }
}
