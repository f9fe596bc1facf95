//! Up, down, and what is there.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use infmon_control_plane::{Tools, cache_folder, process};
use serde::{Deserialize, Serialize};

use crate::{
    Node, control_groups, images,
    network::{MOST_NODES, Network},
    node, requirements,
};

/// How long a start may take; 15 s is usual.
const START: Duration = Duration::from_secs(300);
/// How long the end of all processes may take.
const END: Duration = Duration::from_secs(20);
/// Folders that a node's mounts cover. The machine keeps none of them that it did not have.
const COVERED: [&str; 8] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/run/containerd",
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/cni",
    "/etc/cni/net.d",
    "/run/nvidia/driver",
];

/// What a cluster was started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Its network, the number of nodes in it.
    pub(crate) network: Network,
    pub(crate) nodes: u8,
    pub(crate) gpus: u8,
    pub(crate) hpa_sync_seconds: u64,
    /// Folders that did not exist before.
    made: Vec<PathBuf>,
    /// Process id of the supervisor, and when it started in ticks since boot: ids are used again.
    supervisor: Option<(u32, u64)>,
}

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Number of nodes.
    pub nodes: u8,
    /// Simulated GPUs of each node.
    pub gpus: u8,
    /// How often the HorizontalPodAutoscaler controller looks, seconds; 15 is Kubernetes' own default.
    pub hpa_sync_seconds: u64,
    /// Archives with images, beside those of the cluster itself.
    pub images: Vec<PathBuf>,
    /// Arguments with which this program calls [`supervisor::run`](crate::supervisor::run) for the cluster.
    pub supervisor: Vec<String>,
}

/// A cluster of this machine, running or not.
#[derive(Debug, Clone)]
pub struct Cluster {
    name: String,
    folder: PathBuf,
    settings: Settings,
}

impl Cluster {
    /// Starts a cluster and waits until its nodes and its DNS are ready.
    ///
    /// # Errors
    ///
    /// When the machine lacks something, a cluster of this name runs already, or a part does not start; then nothing of it is left
    /// running, and its logs stay until the next start.
    pub fn up(name: &str, wish: &Wish) -> anyhow::Result<Self> {
        requirements::check(&[])?;
        check_name(name)?;
        if wish.nodes == 0 || wish.nodes > MOST_NODES {
            bail!("--nodes must be 1 to {MOST_NODES}, not {}", wish.nodes);
        }
        Tools::node_programs()?;
        let folder = folder_of(name)?;
        let lock = lock()?;
        if let Some(old) = Self::read(name)? {
            if old.is_running() {
                bail!("the cluster {name} runs already: cargo xtask cluster down --name {name}");
            }
            old.clear()?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let settings = Settings {
            network: Network::choose(name, wish.nodes)?,
            nodes: wish.nodes,
            gpus: wish.gpus,
            hpa_sync_seconds: wish.hpa_sync_seconds,
            made: missing_folders(),
            supervisor: None,
        };
        let mut cluster = Self {
            name: name.to_owned(),
            folder,
            settings,
        };
        cluster.write()?;
        if let Err(error) = cluster.start(wish) {
            // The logs stay for whoever looks into it.
            if let Err(also) = cluster.end() {
                eprintln!("warning: {also:#}");
            }
            return Err(error);
        }
        drop(lock);
        Ok(cluster)
    }

    fn start(&mut self, wish: &Wish) -> anyhow::Result<()> {
        let archives = self.folder.join("images");
        fs::create_dir_all(&archives)?;
        images::write(&archives)?;
        for archive in &wish.images {
            let name = archive
                .file_name()
                .ok_or_else(|| anyhow!("{} is no file", archive.display()))?;
            fs::copy(archive, archives.join(name)).with_context(|| format!("failed to copy {}", archive.display()))?;
        }
        self.settings.network.create()?;
        node::create_control_groups(&self.nodes())?;

        // A copy: cargo may replace the program while it runs, as it does in CI, and the cluster outlives it anyway.
        let program = self.folder.join("supervisor");
        fs::copy("/proc/self/exe", &program).context("failed to copy this program")?;
        let log = self.folder.join("supervisor.log");
        let output = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
        // setsid: Ctrl-C in the terminal, or its end, must not reach the cluster.
        let mut supervisor = Command::new("setsid")
            .arg("nsenter")
            .arg(format!(
                "--net={}",
                Network::file(&self.settings.network.namespace()).display()
            ))
            .arg(&program)
            .args(&wish.supervisor)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .current_dir("/")
            .spawn()
            .context("failed to start the supervisor")?;
        self.settings.supervisor = started_at(supervisor.id()).map(|at| (supervisor.id(), at));
        self.write()?;

        let deadline = Instant::now() + START;
        while !self.ready_file().try_exists()? {
            if let Some(status) = supervisor.try_wait()? {
                bail!("the cluster did not start ({status}): {}", tail(&log));
            }
            if Instant::now() > deadline {
                bail!("the cluster did not start within {START:?}: {}", tail(&log));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The cluster of this name, if there is one, running or left over.
    ///
    /// # Errors
    ///
    /// When its state cannot be read.
    pub fn find(name: &str) -> anyhow::Result<Option<Self>> {
        check_name(name)?;
        Self::read(name)
    }

    /// Every cluster of this user, by name.
    ///
    /// # Errors
    ///
    /// When the folder of clusters cannot be read.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let folder = clusters()?;
        if !folder.try_exists()? {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Some(name) = entry.file_name().to_str()
                && let Some(cluster) = Self::read(name)?
            {
                all.push(cluster);
            }
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Ends every process of the cluster and takes away its mounts, interfaces, control groups and data.
    ///
    /// # Errors
    ///
    /// When something of it is left; what, is said.
    pub fn down(&self) -> anyhow::Result<()> {
        let _lock = lock()?;
        self.clear()
    }

    fn clear(&self) -> anyhow::Result<()> {
        let covered = self.end()?;
        if !covered.is_empty()
            && let Some(mut other) = Self::all()?
                .into_iter()
                .find(|other| other.name != self.name && other.is_running())
        {
            other.settings.made.extend(covered);
            other.write()?;
        }
        fs::remove_dir_all(&self.folder).with_context(|| format!("failed to remove {}", self.folder.display()))
    }

    /// Ends what runs, and leaves the folder. Gives those folders of the machine that it made and another cluster has covered by now.
    fn end(&self) -> anyhow::Result<Vec<PathBuf>> {
        if let Some((supervisor, at)) = self.settings.supervisor
            && started_at(supervisor) == Some(at)
        {
            // KILL on purpose: the data is thrown away, and the kernel ends the whole tree below at once.
            process::kill(supervisor)?;
            process::wait_for("the supervisor to end", END, || {
                Ok(started_at(supervisor) != Some(at) || is_zombie(supervisor))
            })?;
        }
        for node in self.nodes() {
            control_groups::remove(&node.control_group())?;
        }
        self.settings.network.remove()?;
        let points = mount_points()?;
        // Where another cluster has it covered, its mount would go with the folder: the kernel detaches it everywhere.
        let (covered, free) = self
            .settings
            .made
            .iter()
            .cloned()
            .partition::<Vec<_>, _>(|folder| points.iter().any(|point| point.starts_with(folder)));
        for folder in free {
            // What somebody has put into it by now stays.
            let _ = fs::remove_dir(folder);
        }
        Ok(covered)
    }

    /// Whether its supervisor lives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.settings
            .supervisor
            .is_some_and(|(id, at)| started_at(id) == Some(at) && !is_zombie(id))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything that it writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Login of its administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        (1..=self.settings.nodes)
            .map(|number| Node::new(&self.name, &self.folder, &self.settings.network, number))
            .collect()
    }

    /// The node of this name.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn node(&self, name: &str) -> anyhow::Result<Node> {
        self.nodes()
            .into_iter()
            .find(|node| node.name() == name)
            .ok_or_else(|| anyhow!("the cluster {} has no node {name}", self.name))
    }

    /// The running cluster whose kubeconfig this is.
    ///
    /// # Errors
    ///
    /// When the folder of clusters cannot be read.
    pub fn of_kubeconfig(kubeconfig: &Path) -> anyhow::Result<Option<Self>> {
        let wanted = fs::canonicalize(kubeconfig).ok();
        Ok(Self::all()?.into_iter().find(|cluster| {
            cluster.is_running() && wanted.is_some() && fs::canonicalize(cluster.kubeconfig()).ok() == wanted
        }))
    }

    pub(crate) fn mark_ready(&self) -> anyhow::Result<()> {
        fs::write(self.ready_file(), "").context("failed to say that the cluster is ready")
    }

    fn ready_file(&self) -> PathBuf {
        self.folder.join("ready")
    }

    fn read(name: &str) -> anyhow::Result<Option<Self>> {
        let folder = folder_of(name)?;
        let path = folder.join("cluster.json");
        if !path.try_exists()? {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let settings = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is of another version: remove the folder when nothing of the cluster runs",
                path.display()
            )
        })?;
        Ok(Some(Self {
            name: name.to_owned(),
            folder,
            settings,
        }))
    }

    fn write(&self) -> anyhow::Result<()> {
        let path = self.folder.join("cluster.json");
        fs::write(&path, serde_json::to_string_pretty(&self.settings)?)
            .with_context(|| format!("failed to write {}", path.display()))
    }
}

fn clusters() -> anyhow::Result<PathBuf> {
    Ok(cache_folder()?.join("clusters"))
}

fn folder_of(name: &str) -> anyhow::Result<PathBuf> {
    Ok(clusters()?.join(name))
}

/// The covered folders that do not exist, and their parents; those below come first.
fn missing_folders() -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = COVERED
        .iter()
        .flat_map(|folder| Path::new(folder).ancestors())
        .filter(|folder| matches!(folder.try_exists(), Ok(false)))
        .map(PathBuf::from)
        .collect();
    missing.sort();
    missing.dedup();
    missing.reverse();
    missing
}

/// Where something is mounted in any mount namespace of this machine.
fn mount_points() -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut points = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        // A process may end between the two.
        let Ok(mounts) = fs::read_to_string(entry?.path().join("mountinfo")) else {
            continue;
        };
        points.extend(
            mounts
                .lines()
                .filter_map(|line| line.split(' ').nth(4))
                .map(PathBuf::from),
        );
    }
    Ok(points)
}

/// Keeps commands that start or end clusters apart, until it is dropped: they share folders and address ranges.
fn lock() -> anyhow::Result<File> {
    let folder = clusters()?;
    fs::create_dir_all(&folder)?;
    let path = folder.join("lock");
    let lock = File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("failed to lock {}", path.display()))?;
    Ok(lock)
}

/// The name becomes part of interface names, of which the kernel takes 15 characters.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = (1..=10).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fits {
        return Ok(());
    }
    bail!("the name of a cluster is 1 to 10 small letters and digits, not {name:?}")
}

/// When a process started, in ticks since boot: with its id it names one process for ever. `None` when there is none.
fn started_at(id: u32) -> Option<u64> {
    stat(id)?.split_whitespace().nth(19)?.parse().ok()
}

fn is_zombie(id: u32) -> bool {
    stat(id).is_some_and(|fields| fields.starts_with('Z'))
}

/// The fields after the name, from the state on.
fn stat(id: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(line.rsplit_once(") ")?.1.to_owned())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!(
        "last lines of {}:\n{}",
        log.display(),
        lines[lines.len().saturating_sub(30)..].join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::{check_name, started_at};

    #[test]
    fn names_that_do_not_fit_an_interface_are_refused() {
        for (name, fits) in [
            ("e2e", true),
            ("infmon", true),
            ("", false),
            ("longer-name", false),
            ("Upper", false),
            ("elevenchars", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = std::process::id();
        assert!(started_at(own).is_some());
        assert_eq!(started_at(own), started_at(own));
        assert_eq!(started_at(u32::MAX), None);
    }
}
