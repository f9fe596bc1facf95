//! `cargo xtask cluster`: a real cluster on this machine, with the product's images in it.

use crate::generate::{NAMESPACE, RELEASE};
use crate::{generate, image, workspace};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use infmon_cluster::{Cluster, Wish, requirements, supervisor};
use infmon_control_plane::{HelmVersion, Tools};
use infmon_packaging::product::{BuiltImage, VERSION};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Which cluster.
#[derive(Args, Clone)]
pub(crate) struct Name {
    /// Name of the cluster: several run beside each other
    #[arg(long, default_value = "dev")]
    pub(crate) name: String,
}

/// What to do with it.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Start it, with the images of the product
    Up {
        #[command(flatten)]
        name: Name,
        /// Number of nodes
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// Simulated GPUs of each node
        #[arg(long, default_value_t = 2)]
        gpus: u8,
        /// How often the HorizontalPodAutoscaler controller looks, seconds; 15 is Kubernetes' own default
        #[arg(long, default_value_t = 15)]
        hpa_sync_seconds: u64,
        /// Images of optimised binaries, as they are released; they take minutes to compile
        #[arg(long)]
        release: bool,
        /// Install the packages that are missing, with apt
        #[arg(long)]
        install: bool,
    },
    /// End it, and remove everything it made
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// Show what runs
    Status,
    /// Build the product again and roll it out
    Reload {
        #[command(flatten)]
        name: Name,
        /// Optimised binaries
        #[arg(long)]
        release: bool,
        /// Given to helm upgrade; values stay for the next reload: -- --set operator.replicas=1
        #[arg(last = true)]
        helm: Vec<String>,
    },
    /// The parent of a cluster's processes
    #[command(hide = true)]
    Supervise {
        #[command(flatten)]
        name: Name,
    },
}

/// How long a rollout of the daemons may take.
const ROLLOUT: Duration = Duration::from_secs(120);

pub(crate) fn run(action: Action) -> anyhow::Result<()> {
    match action {
        Action::Up {
            name,
            nodes,
            gpus,
            hpa_sync_seconds,
            release,
            install,
        } => {
            if install {
                requirements::install(&[])?;
            } else {
                requirements::check(&[])?;
            }
            let images = build_images(release, VERSION)?;
            let wish = Wish {
                nodes,
                gpus,
                hpa_sync_seconds,
                images: images.into_iter().map(|image| image.archive).collect(),
                supervisor: supervisor_arguments(&name.name),
            };
            let cluster = Cluster::up(&name.name, &wish)?;
            print_use(&cluster)
        }
        Action::Down { name } => match Cluster::find(&name.name)? {
            Some(cluster) => cluster.down(),
            None => {
                eprintln!("there is no cluster {}", name.name);
                Ok(())
            }
        },
        Action::Status => status(),
        Action::Reload { name, release, helm } => reload(&running(&name.name)?, release, &helm),
        Action::Supervise { name } => {
            let cluster = Cluster::find(&name.name)?.with_context(|| format!("there is no cluster {}", name.name))?;
            supervisor::run(&cluster)
        }
    }
}

fn build_images(release: bool, tag: &str) -> anyhow::Result<Vec<BuiltImage>> {
    let profile = if release {
        image::Profile::Image
    } else {
        image::Profile::Dev
    };
    image::build(profile, tag, profile.folder())
}

/// How this program is called as the parent of the cluster's processes.
pub(crate) fn supervisor_arguments(name: &str) -> Vec<String> {
    ["cluster", "supervise", "--name", name].map(str::to_owned).to_vec()
}

pub(crate) fn running(name: &str) -> anyhow::Result<Cluster> {
    match Cluster::find(name)? {
        Some(cluster) if cluster.is_running() => Ok(cluster),
        _ => bail!("the cluster {name} does not run: cargo xtask cluster up --name {name}"),
    }
}

fn print_use(cluster: &Cluster) -> anyhow::Result<()> {
    let helm = Tools::helm(HelmVersion::V4)?;
    let kubectl = Tools::node_programs()?.kubectl();
    let folders: Vec<String> = [helm, kubectl]
        .iter()
        .filter_map(|program| Some(program.parent()?.display().to_string()))
        .collect();
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!(
        "export PATH={}:$PATH    # kubectl and helm of this cluster's version",
        folders.join(":")
    );
    Ok(())
}

fn status() -> anyhow::Result<()> {
    let clusters = Cluster::all()?;
    if clusters.is_empty() {
        println!("no cluster: cargo xtask cluster up");
    }
    for cluster in clusters {
        if cluster.is_running() {
            println!("{}: running, in {}", cluster.name(), cluster.folder().display());
            let mut nodes = kubectl(&cluster)?;
            nodes.args(["get", "nodes", "--output=wide"]);
            println!("{}", workspace::output(nodes)?.trim_end());
            print_use(&cluster)?;
        } else {
            println!(
                "{}: does not run; its logs are in {}, and cargo xtask cluster down --name {} removes them",
                cluster.name(),
                cluster.folder().display(),
                cluster.name()
            );
        }
    }
    Ok(())
}

pub(crate) fn kubectl(cluster: &Cluster) -> anyhow::Result<Command> {
    let mut command = workspace::program(Tools::node_programs()?.kubectl());
    command.env("KUBECONFIG", cluster.kubeconfig()).env("KUBERC", "off");
    Ok(command)
}

/// Builds the images under a tag of their own, imports them, and upgrades the release to that tag.
fn reload(cluster: &Cluster, release: bool, helm_arguments: &[String]) -> anyhow::Result<()> {
    let tag = format!("dev-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let images = build_images(release, &tag)?;
    let built = Instant::now();
    for node in cluster.nodes() {
        for image in &images {
            node.import(&image.archive)?;
        }
    }
    let mut helm = workspace::program(Tools::helm(HelmVersion::V4)?);
    helm.env("KUBECONFIG", cluster.kubeconfig())
        .args(["upgrade", "--install", RELEASE, generate::CHART])
        .args(["--namespace", NAMESPACE, "--create-namespace"])
        .args(["--reset-then-reuse-values", "--hide-notes", "--wait", "--timeout=2m"])
        .arg(format!("--set=operator.image.tag={tag},nodeDaemon.image.tag={tag}"))
        .args(helm_arguments);
    workspace::run(helm)?;
    wait_for_daemons(cluster, &tag)?;
    let mut pods = kubectl(cluster)?;
    pods.args(["get", "pods", "--namespace", NAMESPACE, "--output=wide"]);
    workspace::run(pods)?;
    eprintln!("{tag} runs {:.1} s after it was built", built.elapsed().as_secs_f64());
    Ok(())
}

/// The operator rolls the daemons out after Helm is done with the operator.
fn wait_for_daemons(cluster: &Cluster, tag: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + ROLLOUT;
    loop {
        let mut command = kubectl(cluster)?;
        command.args(["get", "daemonsets", "--namespace", NAMESPACE, "--output=json"]);
        let sets: serde_json::Value = serde_json::from_str(&workspace::output(command)?)?;
        let late: Vec<String> = sets["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|set| !is_rolled_out(set, tag))
            .map(|set| set["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        if late.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not rolled out after {ROLLOUT:?}: {}", late.join(", "));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn is_rolled_out(set: &serde_json::Value, tag: &str) -> bool {
    let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
    let status = &set["status"];
    let desired = status["desiredNumberScheduled"].as_u64().unwrap_or(0);
    image.is_some_and(|image| image.ends_with(&format!(":{tag}")))
        && status["observedGeneration"] == set["metadata"]["generation"]
        && status["updatedNumberScheduled"].as_u64().unwrap_or(0) == desired
        && status["numberReady"].as_u64().unwrap_or(0) == desired
}
