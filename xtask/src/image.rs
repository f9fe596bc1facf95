//! The container images: builds the programs so that the same sources give the same bytes, and has them packed.

use crate::workspace;
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use infmon_packaging::{
    oci::Compression,
    product::{self, BuiltImage, PROGRAMS, Request},
};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

pub(crate) use infmon_packaging::product::VERSION;

/// Folder of the archives, unless another is asked for.
pub(crate) const FOLDER: &str = "target/images";
/// Where those for a cluster on this machine go: both have the same names.
const DEV_FOLDER: &str = "target/images/dev";
/// Most bytes of an image that goes to users.
const MOST_BYTES: u64 = 25 << 20;
const MIB: f64 = (1 << 20) as f64;
/// Where the sources seem to have been, in every binary.
const SOURCES: &str = "/inference-monitor";
/// Where the sources of dependencies seem to have been.
const DEPENDENCIES: &str = "/dependencies";
/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_END: &str = "\x1f";

/// How the programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// For users: optimized, without symbols and without paths of this machine
    Image,
    /// For a cluster on this machine: as `cargo build` builds them, and not compressed
    Dev,
}

impl Profile {
    /// Where its archives go unless another folder is named.
    pub(crate) fn folder(self) -> &'static Path {
        Path::new(match self {
            Self::Image => FOLDER,
            Self::Dev => DEV_FOLDER,
        })
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder for the archives
    #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
    output: PathBuf,
    /// How the programs are built
    #[arg(long, value_enum, default_value = "image")]
    profile: Profile,
    /// Tag of the images
    #[arg(long, default_value = VERSION)]
    tag: String,
    /// Write no archives but the files of each layer, to this folder; the Dockerfile copies them from there
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["output", "tag"])]
    rootfs: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let profile = arguments.profile;
    if let Some(folder) = &arguments.rootfs {
        return product::write_root_file_systems(binaries(profile)?.path(), &workspace::root().join(folder));
    }
    let built = build(profile, &arguments.tag, &arguments.output)?;
    println!("{}", table(&built));
    if profile == Profile::Image {
        check_size(&built)?;
    }
    Ok(())
}

/// Builds the images into `output`, which is seen from the root of the workspace; each becomes an archive of its own.
pub(crate) fn build(profile: Profile, tag: &str, output: &Path) -> anyhow::Result<Vec<BuiltImage>> {
    let binaries = binaries(profile)?;
    let commit = Commit::read()?;
    let request = Request {
        binaries: binaries.path(),
        tag,
        revision: commit.revision.as_deref(),
        created: commit.time,
        compression: match profile {
            Profile::Image => Compression::Small,
            Profile::Dev => Compression::None,
        },
    };
    product::build(&request, &workspace::root().join(output))
}

fn check_size(built: &[BuiltImage]) -> anyhow::Result<()> {
    for image in built {
        ensure!(
            image.size <= MOST_BYTES,
            "{} has {:.1} MiB: at most {:.0} MiB are allowed",
            image.name,
            image.size as f64 / MIB,
            MOST_BYTES as f64 / MIB
        );
    }
    Ok(())
}

fn table(built: &[BuiltImage]) -> String {
    let width = built.iter().map(|image| image.name.len()).max().unwrap_or_default();
    let mut text = format!("{:<width$}  {:<71}  {:>5}  archive", "image", "digest", "MiB");
    for image in built {
        text.push_str(&format!(
            "\n{:<width$}  {}  {:>5.1}  {}",
            image.name,
            image.digest,
            image.size as f64 / MIB,
            image.archive.display()
        ));
    }
    text
}

/// The commit that is checked out, as far as it is known: a source archive has none.
#[derive(Debug, Default)]
struct Commit {
    revision: Option<String>,
    time: Option<i64>,
}

impl Commit {
    fn read() -> anyhow::Result<Self> {
        let git = |arguments: &[&str]| {
            let mut command = workspace::program("git");
            command.args(arguments);
            workspace::output(command).map(|text| text.trim().to_owned())
        };
        let mut commit = Self::default();
        if let Ok(revision) = git(&["rev-parse", "HEAD"]) {
            let changed = !git(&["status", "--porcelain"])?.is_empty();
            commit.revision = Some(if changed { format!("{revision}-dirty") } else { revision });
            commit.time = Some(git(&["log", "-1", "--format=%ct"])?.parse()?);
        }
        if let Ok(time) = env::var("SOURCE_DATE_EPOCH") {
            let time = time
                .parse()
                .with_context(|| format!("SOURCE_DATE_EPOCH={time} is no time"))?;
            commit.time = Some(time);
        }
        Ok(commit)
    }
}

/// Builds the programs, and gives a folder with them, stripped.
fn binaries(profile: Profile) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir().context("failed to create a folder")?;
    let built = cargo_build(profile)?;
    for program in PROGRAMS {
        let path = built
            .iter()
            .find(|path| path.ends_with(program.binary))
            .with_context(|| format!("cargo built no {}", program.binary))?;
        // The profile for images strips by itself; of a debug build the symbols are most of the size.
        let mut strip = workspace::program("strip");
        strip.arg("--strip-all").arg("-o");
        strip.arg(folder.path().join(program.binary)).arg(path);
        workspace::output(strip).context("stripping needs binutils, which come with a C compiler")?;
    }
    Ok(folder)
}

/// Begins to build the programs for users at the lowest priority, in the time that whatever runs meanwhile waits. Whoever
/// builds images later has its result, or waits for it, and tells the errors; here they would be in between.
///
/// # Errors
///
/// If no program could be started; that of a build is not known yet.
pub(crate) fn begin_to_compile() -> anyhow::Result<Child> {
    let mut build = workspace::program("nice");
    build
        .args(["-n", "19"])
        .arg(workspace::cargo().get_program())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    arguments_of_build(&mut build, Profile::Image)?;
    build.spawn().context("failed to start nice")
}

/// Builds the programs, and gives the paths of their binaries.
fn cargo_build(profile: Profile) -> anyhow::Result<Vec<PathBuf>> {
    let mut build = workspace::cargo();
    arguments_of_build(&mut build, profile)?;
    workspace::executables(build)
}

fn arguments_of_build(build: &mut Command, profile: Profile) -> anyhow::Result<()> {
    build.args(["build", "--bins"]);
    for program in PROGRAMS {
        build.args(["--package", program.binary]);
    }
    if profile == Profile::Image {
        build.args(["--locked", "--profile", "image"]);
        without_paths(build)?;
    }
    Ok(())
}

/// Replaces the paths of this machine in what is compiled: they would tell who built it where, and differ elsewhere.
fn without_paths(build: &mut Command) -> anyhow::Result<()> {
    let flags: Vec<String> = replaced_paths()?
        .iter()
        .map(|(path, name)| format!("--remap-path-prefix={path}={name}"))
        .collect();
    // Instead of the flags that the environment has: those would make another binary of the same sources.
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join(FLAG_END));
    for name in ["CFLAGS", "CXXFLAGS"] {
        build.env_remove(name);
    }
    Ok(())
}

/// Folders of this machine, and what stands for each in a binary. Of two that fit, rustc takes the later.
fn replaced_paths() -> anyhow::Result<Vec<(String, String)>> {
    let mut metadata = workspace::cargo();
    metadata.args(["metadata", "--locked", "--format-version", "1"]);
    let metadata: Metadata = serde_json::from_str(&workspace::output(metadata)?)?;
    let root = workspace::root().display().to_string();
    let mut replaced = vec![
        (root, SOURCES.to_owned()),
        (metadata.target_directory, format!("{SOURCES}/target")),
    ];
    // Folders of the registry are named after where it was downloaded from, which may be a mirror.
    let dependencies = metadata.packages.iter().filter(|package| package.source.is_some());
    let folders: BTreeSet<&Path> = dependencies
        .filter_map(|package| package.manifest_path.ancestors().nth(2))
        .collect();
    replaced.extend(
        folders
            .iter()
            .map(|folder| (folder.display().to_string(), DEPENDENCIES.to_owned())),
    );
    replaced.extend(replaced_paths_of_rust()?);
    Ok(replaced)
}

/// The toolchain. Where the sources of the standard library are installed, rustc names these; elsewhere it says `/rustc/COMMIT`.
fn replaced_paths_of_rust() -> anyhow::Result<[(String, String); 2]> {
    let rustc = |arguments: &[&str]| {
        let mut command = workspace::program(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        command.args(arguments);
        workspace::output(command)
    };
    let sysroot = rustc(&["--print", "sysroot"])?.trim().to_owned();
    let version = rustc(&["--version", "--verbose"])?;
    let Some(commit) = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")) else {
        bail!("rustc does not tell its commit:\n{version}");
    };
    Ok([
        (sysroot.clone(), "/rust".to_owned()),
        (format!("{sysroot}/lib/rustlib/src/rust"), format!("/rustc/{commit}")),
    ])
}

/// What is used of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    target_directory: String,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    /// None for those of this workspace.
    source: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::table;
    use infmon_packaging::{oci::Digest, product::BuiltImage};

    #[test]
    fn the_table_has_a_line_for_each_image() {
        let image = BuiltImage {
            name: "a/operator:1".into(),
            archive: "target/images/operator.tar".into(),
            digest: Digest::of(b""),
            size: 3 << 19,
        };
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            table(&[image]),
            format!(
                "image         {:<71}    MiB  archive\na/operator:1  {digest}    1.5  target/images/operator.tar",
                "digest"
            )
        );
    }
}
