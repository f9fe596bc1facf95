//! A folder with llama-server and what it needs to run: the root of a container.
//!
//! Older releases of Debian have no llama-server, and that of unstable does not run on their libraries. So debootstrap
//! installs unstable into a folder of its own, and what llama-server does not need is left behind: 43 of 280 MB stay. The result
//! is kept in the cache folder of the tests' tools; to have a newer one, remove it there.

use std::{
    collections::BTreeSet,
    env::{self, consts::ARCH},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use infmon_control_plane::{
    cache_folder,
    process::{self, is_root},
};

use crate::apt_sources;

const SUITE: &str = "sid";
const PACKAGE: &str = "llama.cpp-tools";
/// Path of llama-server in the root.
pub const PROGRAM: &str = "/usr/bin/llama-server";
/// Below these folders are the parts that it chooses by the processor when it starts. All of them stay: the cache may be that of
/// another machine.
const OPENED: &str = "ggml";
/// Changes with what this module puts into the root.
const RECIPE: u32 = 1;
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Programs that it takes, and the Debian packages that have them.
const NEEDED: [(&str, &str); 3] = [
    ("debootstrap", "debootstrap"),
    ("unshare", "util-linux"),
    ("chroot", "coreutils"),
];
/// Runs a command with its output in a file, `$0`, and says what is not mere information when it fails: debootstrap names each of
/// two hundred packages several times, on its standard output.
const QUIETLY: &str = r#""$@" >"$0" 2>&1 || { status=$?; grep -v '^I: ' "$0" >&2; exit $status; }"#;
/// 20 to 40 s are usual.
const INSTALL: Duration = Duration::from_secs(15 * 60);
const SHORT: Duration = Duration::from_secs(60);

/// llama-server in a root of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlamaRoot {
    /// The folder. It has [`PROGRAM`] and no model.
    pub folder: PathBuf,
    /// Version of the package.
    pub version: String,
}

impl LlamaRoot {
    /// The root from the cache, or a new one.
    ///
    /// # Errors
    ///
    /// When there is none in the cache and this machine cannot make one; then it says what is missing.
    pub fn locate() -> anyhow::Result<Self> {
        let cache = cache_folder()?;
        let built = cache.join(format!("llama-server-{SUITE}-{RECIPE}-{ARCH}"));
        if let Some(root) = Self::read(&built)? {
            return Ok(root);
        }
        let missing = missing();
        ensure!(
            missing.is_empty(),
            "llama-server for tests is installed by debootstrap, and this machine lacks {}",
            missing.join("; ")
        );
        fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
        let lock =
            File::create(cache.join("llama-server.lock")).context("failed to create the lock of llama-server")?;
        lock.lock()
            .context("failed to wait for another process that installs llama-server")?;
        if let Some(root) = Self::read(&built)? {
            return Ok(root);
        }
        let partial = cache.join("llama-server.partial");
        remove(&partial)?;
        fs::create_dir_all(&partial).with_context(|| format!("failed to create {}", partial.display()))?;
        // Not eprintln: the test harness would hide the line until the test ends.
        let _ = writeln!(
            io::stderr(),
            "installing llama-server of Debian {SUITE} into {} (kept for later runs)",
            cache.display()
        );
        let done = make(&partial, &built);
        remove(&partial)?;
        done?;
        Self::read(&built)?.with_context(|| format!("{} is not there", built.display()))
    }

    fn read(built: &Path) -> anyhow::Result<Option<Self>> {
        let version = built.join("version");
        if !version.try_exists()? {
            return Ok(None);
        }
        let version = fs::read_to_string(&version).with_context(|| format!("failed to read {}", version.display()))?;
        Ok(Some(Self {
            folder: built.join("root"),
            version: version.trim().to_owned(),
        }))
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.try_exists()? {
        fs::remove_dir_all(folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    Ok(())
}

/// What this machine lacks, with what to do about it.
fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !is_root() {
        missing.push("root rights: run as root".to_owned());
    }
    let programs = NEEDED.into_iter().filter(|(program, _)| !in_path(program));
    let keyring = (!Path::new(KEYRING).is_file()).then_some((KEYRING, "debian-archive-keyring"));
    let (names, packages): (Vec<_>, Vec<_>) = programs.chain(keyring).unzip();
    if !names.is_empty() {
        missing.push(format!(
            "{}: on Debian, apt-get install --no-install-recommends {}",
            names.join(", "),
            packages.join(" ")
        ));
    }
    missing
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Installs into `partial`, and moves what is needed to `built`.
fn make(partial: &Path, built: &Path) -> anyhow::Result<()> {
    let installed = partial.join("installed");
    install(&installed)?;
    let complete = partial.join("complete");
    let root = complete.join("root");
    for path in files(&installed)? {
        copy(&installed, &root, &path).with_context(|| format!("failed to copy {}", path.display()))?;
    }
    // For those who run it without a volume there.
    let temporary = root.join("tmp");
    fs::create_dir_all(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))?;
    let mut version = chroot(&installed, "dpkg-query");
    version.args(["--show", "--showformat=${Version}", PACKAGE]);
    fs::write(complete.join("version"), process::run(version, "", SHORT)?)?;
    let mut alone = chroot(&root, PROGRAM);
    alone.arg("--version");
    process::run(alone, "", SHORT).context("llama-server does not run with what was kept of its system")?;
    fs::rename(&complete, built).with_context(|| format!("failed to move llama-server to {}", built.display()))
}

/// Installs a minimal system with the package.
///
/// In a mount and a process namespace of its own: what debootstrap mounts and starts ends with it, whatever happens.
fn install(folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .args(["sh", "-c", QUIETLY])
        .arg(folder.with_extension("log"))
        .args(["debootstrap", "--variant=minbase", "--force-check-gpg"])
        .arg(format!("--keyring={KEYRING}"))
        .arg(format!("--include={PACKAGE}"))
        .arg(SUITE)
        .arg(folder)
        .args(apt_sources::mirror());
    process::run(command, "", INSTALL).map(drop)
}

/// A program in a root, without this machine's environment.
fn chroot(root: &Path, program: &str) -> Command {
    let mut command = Command::new("chroot");
    // `chroot` itself is looked for in this PATH, and then what the program starts.
    command
        .arg(root)
        .arg(program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// The program, what it opens while it runs, and all libraries that these load, with the paths under which they are found.
fn files(installed: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::from([PathBuf::from(PROGRAM)]);
    let libraries = installed.join("usr/lib");
    for triplet in fs::read_dir(&libraries).with_context(|| format!("failed to list {}", libraries.display()))? {
        let folder = triplet?.path().join(OPENED);
        if folder.is_dir() {
            libraries_below(&folder, installed, &mut files)?;
        }
    }
    ensure!(
        files.len() > 1,
        "the package has no parts in a folder {OPENED}: the recipe does not fit it any more"
    );
    let mut ldd = chroot(installed, "ldd");
    ldd.args(&files);
    let listed = process::run(ldd, "", SHORT)?;
    if let Some(line) = listed.lines().find(|line| line.contains("not found")) {
        bail!("a library is missing: {}", line.trim());
    }
    files.extend(listed.lines().filter_map(loaded));
    Ok(files)
}

/// The shared objects below a folder, as paths of the root.
fn libraries_below(folder: &Path, root: &Path, into: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            libraries_below(&path, root, into)?;
        } else if path.extension().is_some_and(|extension| extension == "so") {
            into.insert(Path::new("/").join(path.strip_prefix(root)?));
        }
    }
    Ok(())
}

/// The path in a line of ldd: `libm.so.6 => /usr/lib/x86_64-linux-gnu/libm.so.6 (0x0000)` or `/lib64/ld-linux-x86-64.so.2 (0x0000)`.
fn loaded(line: &str) -> Option<PathBuf> {
    let (rest, _) = line.trim().rsplit_once(" (")?;
    let path = rest.rsplit_once(" => ").map_or(rest, |(_, path)| path);
    path.starts_with('/').then(|| path.into())
}

/// Copies a file under the same path, as itself where it is a link: a root needs no links, only the names that are asked for.
fn copy(from: &Path, to: &Path, path: &Path) -> anyhow::Result<()> {
    let relative = path.strip_prefix("/")?;
    // In the root absolute links lead to the root. Debian's lead to what lies beside, through /lib64 -> usr/lib64.
    let source = from.join(relative).canonicalize()?;
    ensure!(
        source.starts_with(from.canonicalize()?),
        "{} leads out of the root",
        path.display()
    );
    let target = to.join(relative);
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(&source, &target)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::{copy, loaded};

    #[test]
    fn the_list_of_ldd_is_read() {
        for (line, path) in [
            ("\tlinux-vdso.so.1 (0x00007f56facaa000)", None),
            (
                "\tlibm.so.6 => /usr/lib/x86_64-linux-gnu/libm.so.6 (0x00007f56f94ea000)",
                Some("/usr/lib/x86_64-linux-gnu/libm.so.6"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x00007f56facac000)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
            ("/usr/bin/llama-server:", None),
            ("\tstatically linked", None),
        ] {
            assert_eq!(loaded(line).as_deref(), path.map(Path::new), "{line}");
        }
    }

    #[test]
    fn files_are_copied_and_links_followed_within_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("usr/lib64")).unwrap();
        fs::write(from.join("usr/lib64/libx.so.1.2"), "x").unwrap();
        symlink("libx.so.1.2", from.join("usr/lib64/libx.so.1")).unwrap();
        symlink("usr/lib64", from.join("lib64")).unwrap();
        symlink("/etc/hostname", from.join("out")).unwrap();
        copy(&from, &to, Path::new("/lib64/libx.so.1")).unwrap();
        let copied = to.join("lib64/libx.so.1");
        assert_eq!(fs::read(&copied).unwrap(), b"x");
        assert!(fs::symlink_metadata(&copied).unwrap().is_file());
        assert!(copy(&from, &to, Path::new("/out")).is_err());
    }
}
