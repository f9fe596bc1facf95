//! Where the operator and the node daemon come from.

use anyhow::{Context, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The project's two programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `infmon-operator`
    pub operator: PathBuf,
    /// `infmon-node-daemon`
    pub node_daemon: PathBuf,
}

impl Programs {
    /// The programs in the folder `INFMON_PROGRAMS`, or those that cargo builds from this tree in the test's own profile. Cargo is
    /// asked once per process, whether they are there or not: old ones would make the result of a test worthless.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn locate() -> anyhow::Result<&'static Self> {
        static PROGRAMS: OnceLock<Result<Programs, String>> = OnceLock::new();
        PROGRAMS
            .get_or_init(|| find().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }
}

fn find() -> anyhow::Result<Programs> {
    let folder = match env::var_os("INFMON_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        None => build()?,
    };
    let program = |name: &str| -> anyhow::Result<PathBuf> {
        let path = folder.join(name);
        path.canonicalize()
            .with_context(|| format!("there is no {}", path.display()))
    };
    Ok(Programs {
        operator: program("infmon-operator")?,
        node_daemon: program("infmon-node-daemon")?,
    })
}

fn build() -> anyhow::Result<PathBuf> {
    let root = repository();
    let release = !cfg!(debug_assertions);
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&root).args(["build", "--quiet", "--bins"]);
    command.args(["--package", "infmon-operator", "--package", "infmon-node-daemon"]);
    if release {
        command.arg("--release");
    }
    let output = command.output().context("failed to run cargo")?;
    if !output.status.success() {
        bail!("cargo build failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder));
    Ok(target.join(if release { "release" } else { "debug" }))
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
