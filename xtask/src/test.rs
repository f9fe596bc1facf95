//! The tests, and what they need built before.

use crate::workspace;
use infmon_control_plane::{HelmVersion, Tools};
use std::{env, thread};

/// Binaries that the end-to-end tests start.
const BINARIES: [&str; 4] = [
    "infmon-operator",
    "infmon-node-daemon",
    "infmon-simulated-engine",
    "infmon",
];
/// The package whose tests start them.
const END_TO_END: &str = "infmon-end-to-end";
/// More test threads than this make control planes wait for each other.
const MOST_THREADS: usize = 8;

/// Runs the tests. `arguments` go to `cargo test`; without `-p` it is the whole workspace, doc tests included.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let packages = packages(arguments);
    if packages.is_empty() || packages.contains(&END_TO_END) {
        build_tools()?;
    }

    let mut build = workspace::cargo();
    build.arg("build");
    if packages.is_empty() {
        // Binaries and tests in one resolution: apart, they would ask for different features and build most crates twice.
        workspace::run(with(build, &["--workspace", "--bins", "--tests"]))?;
    } else if packages.contains(&END_TO_END) {
        for package in BINARIES {
            build.args(["--package", package]);
        }
        workspace::run(with(build, &["--bins"]))?;
    }

    let mut test = workspace::cargo();
    test.args(["test", "--no-fail-fast"]);
    if packages.is_empty() {
        test.arg("--workspace");
    }
    if env::var_os("RUST_TEST_THREADS").is_none() {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        test.env("RUST_TEST_THREADS", cores.clamp(2, MOST_THREADS).to_string());
    }
    workspace::run(with(test, arguments))
}

/// Builds the control plane and helm, so that no test waits minutes for a compiler.
pub(crate) fn build_tools() -> anyhow::Result<()> {
    eprintln!(
        "tools of the tests: etcd, kube-apiserver, kube-controller-manager, kubectl, helm (a first build takes about 10 \
         minutes on two cores and is kept)"
    );
    Tools::locate_or_build()?;
    for version in [HelmVersion::V4, HelmVersion::V3] {
        match Tools::helm(version) {
            // Whoever brings a control plane may do without Go, and then without the tests of the chart.
            Err(error) if env::var_os("KUBEBUILDER_ASSETS").is_some() => {
                eprintln!(
                    "warning: no helm {}, so tests of the chart will fail: {error:#}",
                    version.name()
                );
            }
            helm => drop(helm?),
        }
    }
    Ok(())
}

/// What the arguments of `cargo test` name as packages.
fn packages(arguments: &[String]) -> Vec<&str> {
    let mut packages = Vec::new();
    let mut arguments = arguments
        .iter()
        .map(String::as_str)
        .take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        match argument {
            "-p" | "--package" => packages.extend(arguments.next()),
            _ => packages.extend(argument.strip_prefix("--package=").or_else(|| {
                // -pNAME, but not --package and not -- something else that begins with p
                argument.strip_prefix("-p").filter(|name| !name.is_empty())
            })),
        }
    }
    packages
}

fn with(mut command: std::process::Command, arguments: &[impl AsRef<std::ffi::OsStr>]) -> std::process::Command {
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::packages;

    #[test]
    fn packages_are_found_among_the_arguments() {
        for (line, expected) in [
            ("", vec![]),
            ("-p infmon-crds", vec!["infmon-crds"]),
            ("--package infmon-crds -p xtask name", vec!["infmon-crds", "xtask"]),
            ("--package=xtask -pinfmon", vec!["xtask", "infmon"]),
            ("name -- -p not-a-package", vec![]),
            ("--release --profile=ci", vec![]),
        ] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(packages(&arguments), expected, "{line}");
        }
    }
}
