//! What a machine must have for a cluster.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::bail;
use infmon_control_plane::{
    cache_folder,
    process::{self, is_root},
};

use crate::control_groups;

/// Programs, and the Debian package that has each.
const PROGRAMS: [Program; 9] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("sysctl", "procps"),
];
/// Where distributions put CNI plugins.
const PLUGIN_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
/// The plugins that a node uses.
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];
const PLUGINS_PACKAGE: &str = "containernetworking-plugins";
/// What a node is made of, tried once in namespaces that end with it.
const PROBE: &str = r#"
folder=$(mktemp -d -p "$1") && trap 'umount "$folder/merged" 2>/dev/null; rm -rf "$folder"' EXIT &&
mkdir "$folder/lower" "$folder/upper" "$folder/work" "$folder/merged" &&
mount -t overlay overlay -o "lowerdir=$folder/lower,upperdir=$folder/upper,workdir=$folder/work" "$folder/merged" &&
ip link add one type veth peer name two && ip link add three type bridge && nft list ruleset >/dev/null
"#;
/// How long that may take.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// How long installing packages may take.
const INSTALL: Duration = Duration::from_secs(300);

/// A program and the Debian package that has it.
pub type Program = (&'static str, &'static str);

/// What a machine lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// What no package can mend.
    pub rights: Vec<String>,
    /// Programs that are not installed.
    pub programs: Vec<String>,
    /// Debian packages that have them.
    pub packages: Vec<&'static str>,
}

impl Missing {
    /// Looks at this machine. `further` are programs that a caller needs beside those of a cluster.
    #[must_use]
    pub fn find(further: &[Program]) -> Self {
        let mut missing = Self::default();
        if !is_root() {
            missing
                .rights
                .push("run as root: nodes are made of namespaces and mounts".to_owned());
        }
        let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !filesystems.split_whitespace().any(|word| word == "overlay") {
            missing
                .rights
                .push("the kernel has no overlay file system, which container images are mounted with".to_owned());
        }
        for (program, package) in PROGRAMS.iter().chain(further).copied() {
            if in_path(program).is_none() {
                missing.programs.push(program.to_owned());
                missing.add(package);
            }
        }
        if missing.is_empty()
            && let Err(error) = probe()
        {
            missing.rights.push(format!(
                "namespaces, overlay mounts or bridges are not allowed here: {error:#}"
            ));
        }
        if plugin_folder().is_none() {
            missing.programs.push(format!("the CNI plugins {}", PLUGINS.join(", ")));
            missing.add(PLUGINS_PACKAGE);
        }
        missing
    }

    fn add(&mut self, package: &'static str) {
        if !self.packages.contains(&package) {
            self.packages.push(package);
        }
    }

    /// Nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rights.is_empty() && self.programs.is_empty()
    }

    /// One line: what is missing and what to do about it.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = self.rights.clone();
        if !self.programs.is_empty() {
            words.push(format!(
                "not installed: {}; on Debian: apt-get install --no-install-recommends {}",
                self.programs.join(", "),
                self.packages.join(" ")
            ));
        }
        words.join("; ")
    }
}

/// Fails with one line when this machine cannot run a cluster.
///
/// # Errors
///
/// When something is missing.
pub fn check(further: &[Program]) -> anyhow::Result<()> {
    let missing = Missing::find(further);
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "this machine cannot run a cluster: {}. Any other cluster does as well: set KUBECONFIG for cargo xtask e2e",
        missing.words()
    )
}

/// Installs the missing packages with apt, where that is allowed and possible, and looks again.
///
/// # Errors
///
/// When something is missing afterwards.
pub fn install(further: &[Program]) -> anyhow::Result<()> {
    let missing = Missing::find(further);
    if missing.rights.is_empty() && !missing.packages.is_empty() && in_path("apt-get").is_some() {
        for arguments in [
            vec!["update", "-qq"],
            [
                vec!["install", "-qq", "-y", "--no-install-recommends"],
                missing.packages,
            ]
            .concat(),
        ] {
            let mut command = Command::new("apt-get");
            command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
            if let Err(error) = process::run(command, "", INSTALL) {
                bail!("the packages of a cluster could not be installed: {error:#}");
            }
        }
    }
    check(further)
}

/// Whether root may do here what a node needs; in a container it often may not.
fn probe() -> anyhow::Result<()> {
    let folder = cache_folder()?;
    fs::create_dir_all(&folder)?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
            "sh",
            "-c",
            PROBE,
            "probe",
        ])
        .arg(&folder);
    process::run(command, "", PROBE_LIMIT)?;
    control_groups::create("infmon-probe")?;
    control_groups::remove("infmon-probe")
}

/// The folder with the CNI plugins.
#[must_use]
pub fn plugin_folder() -> Option<PathBuf> {
    PLUGIN_FOLDERS
        .iter()
        .map(PathBuf::from)
        .find(|folder| PLUGINS.iter().all(|plugin| folder.join(plugin).is_file()))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Debian keeps programs for root in folders that a user's PATH lacks.
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::Missing;

    #[test]
    fn the_words_say_what_to_install() {
        let mut missing = Missing::default();
        assert!(missing.is_empty());
        missing.programs = vec!["containerd".into(), "ctr".into()];
        missing.add("containerd");
        missing.add("containerd");
        assert_eq!(
            missing.words(),
            "not installed: containerd, ctr; on Debian: apt-get install --no-install-recommends containerd"
        );
    }
}
