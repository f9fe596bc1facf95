//! `cargo xtask e2e`: the suite on a real cluster.

use crate::{cluster, image, test, workspace};
use anyhow::{Context, bail};
use clap::Args;
use infmon_cluster::{Cluster, Wish, requirements, traces};
use infmon_packaging::product::VERSION;
use infmon_workloads::llama_root::LlamaRoot;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The test that is the suite, of the package infmon-cluster-tests.
const SUITE: &str = "suite";
/// The program that lets requests wait in front of no server.
const GATEWAY: &str = "infmon-gateway";
/// Where the logs of a failed run stay, below `target`.
const LOGS: &str = "target/e2e-logs";

/// It brings llama-server from the distribution.
const DEBOOTSTRAP: requirements::Program = ("debootstrap", "debootstrap");

/// How the suite is run.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the cluster that is started when KUBECONFIG names none
    #[arg(long, default_value = "e2e")]
    name: String,
    /// Images of binaries that are quick to compile, instead of those that are released
    #[arg(long)]
    dev: bool,
    /// Leave the cluster running
    #[arg(long)]
    keep: bool,
    /// Write the images that the suite needs in a cluster, and do no more
    #[arg(long)]
    images_only: bool,
    /// Install the packages that are missing, with apt
    #[arg(long)]
    install: bool,
    /// Given to the tests: a name, --nocapture
    #[arg(last = true)]
    tests: Vec<String>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            name: "e2e".to_owned(),
            dev: false,
            keep: false,
            images_only: false,
            install: true,
            tests: Vec::new(),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(kubeconfig) = cluster_of_user().filter(|_| !arguments.images_only) {
        eprintln!("on the cluster of KUBECONFIG; the images of cargo xtask e2e --images-only must be in it");
        return suite(&kubeconfig, &arguments.tests);
    }
    if arguments.install {
        requirements::install(&[DEBOOTSTRAP])?;
    } else {
        requirements::check(&[DEBOOTSTRAP])?;
    }
    test::build_tools()?;
    let images = images(arguments.dev)?;
    if arguments.images_only {
        for image in images {
            println!("{}", image.display());
        }
        return Ok(());
    }
    if let Some(left_over) = Cluster::find(&arguments.name)? {
        left_over.down()?;
    }
    let before = traces::look()?;
    let begun = Instant::now();
    let cluster = Cluster::up(
        &arguments.name,
        &Wish {
            nodes: 2,
            gpus: 2,
            // As on any cluster: what the suite measures is what a user sees.
            hpa_sync_seconds: 15,
            images,
            supervisor: cluster::supervisor_arguments(&arguments.name),
        },
    )?;
    eprintln!("the cluster took {:.1} s", begun.elapsed().as_secs_f64());
    let done = suite(&cluster.kubeconfig(), &arguments.tests);
    if let Err(error) = &done {
        match keep_logs(&cluster) {
            Ok(()) => eprintln!("{error:#}; the logs of the cluster are in {LOGS}"),
            Err(also) => eprintln!("warning: the logs of the cluster are lost: {also:#}"),
        }
    }
    if arguments.keep {
        eprintln!("left running: cargo xtask cluster down --name {}", arguments.name);
    } else {
        cluster.down()?;
        let left: Vec<String> = traces::look()?.difference(&before).cloned().collect();
        if !left.is_empty() {
            bail!("the cluster left on this machine:\n{}", left.join("\n"));
        }
    }
    done
}

/// Runs the suite where this machine can, and says clearly where it cannot.
pub(crate) fn run_where_possible() -> anyhow::Result<()> {
    if let Err(error) = prepare() {
        eprintln!("SKIPPED: the suite on a real cluster: {error:#}");
        return Ok(());
    }
    run(&Arguments::default())
}

/// Gets what this machine needs for the suite. An error says nothing about the product: the distribution's archive may be out
/// of reach.
pub(crate) fn prepare() -> anyhow::Result<()> {
    if cluster_of_user().is_some() {
        return Ok(());
    }
    requirements::install(&[DEBOOTSTRAP])?;
    LlamaRoot::locate().map(drop)
}

/// The cluster that KUBECONFIG names: nothing is started then, nor are images brought to it.
pub(crate) fn cluster_of_user() -> Option<PathBuf> {
    env::var_os("KUBECONFIG")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn suite(kubeconfig: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let mut command = workspace::cargo();
    command
        // Asked of its package alone, it would have other features than `cargo xtask test`, and most crates be built again.
        .args(["test", "--workspace", "--test", SUITE])
        .args(["--", "--ignored", "--test-threads=1"])
        .args(arguments)
        .env("KUBECONFIG", kubeconfig);
    workspace::run(command).context("the suite failed")
}

/// The images of the product and of what runs beside it.
fn images(dev: bool) -> anyhow::Result<Vec<PathBuf>> {
    let profile = if dev {
        image::Profile::Dev
    } else {
        image::Profile::Image
    };
    let folder = profile.folder();
    let mut images: Vec<PathBuf> = image::build(profile, VERSION, folder)?
        .into_iter()
        .map(|image| image.archive)
        .collect();
    let mut build = workspace::cargo();
    // With the suite, for the same reason as there.
    build.args(["build", "--workspace", "--bin", GATEWAY, "--test", SUITE]);
    let built = workspace::executables(build)?;
    let gateway = built
        .iter()
        .find(|path| path.ends_with(GATEWAY))
        .with_context(|| format!("cargo built no {GATEWAY}"))?;
    images.push(infmon_workloads::images::write(
        &workspace::root().join(folder),
        gateway,
    )?);
    Ok(images)
}

/// Logs outlive the cluster; its data does not.
fn keep_logs(cluster: &Cluster) -> anyhow::Result<()> {
    let to = workspace::root().join(LOGS);
    if to.try_exists()? {
        fs::remove_dir_all(&to)?;
    }
    let mut folders = vec![
        (cluster.folder().join("control-plane/logs"), to.join("control-plane")),
        (cluster.folder().join("nodes/1/logs"), to.join("node1")),
        (cluster.folder().join("nodes/2/logs"), to.join("node2")),
    ];
    while let Some((from, to)) = folders.pop() {
        if !from.try_exists()? {
            continue;
        }
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), target));
            } else if entry.file_type()?.is_file() {
                fs::copy(entry.path(), target)?;
            }
        }
    }
    Ok(())
}
