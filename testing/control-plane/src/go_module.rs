//! Builds a Go program of this folder once and keeps it in a cache folder.
//!
//! Each program has its own Go module here, so `go.sum` pins every byte that goes into it. A build is kept under a name made
//! of everything that decides its content; it is made under another name first and renamed when it is complete, and a file
//! lock makes parallel test processes build once.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use sha2::{Digest, Sha256};

use crate::process;

/// The oldest Go that can build the modules (their `go` line).
const OLDEST_GO: (u32, u32) = (1, 26);
/// A cold build of the control plane takes 7 minutes with two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);

/// A Go module of this folder that makes one program.
pub(crate) struct GoModule {
    /// The program's name.
    pub(crate) name: &'static str,
    /// The module's folder, relative to this crate.
    pub(crate) folder: &'static str,
    /// The package that holds `main`.
    pub(crate) package: &'static str,
    /// Which version the program calls its own; `None` when nobody asks it.
    pub(crate) version: Option<Version>,
    /// Further linker symbols and their values.
    pub(crate) symbols: &'static [(&'static str, &'static str)],
    /// Names under which the program is linked beside itself.
    pub(crate) links: &'static [&'static str],
}

/// The version that a program tells.
pub(crate) struct Version {
    /// The dependency whose version it is.
    pub(crate) of: &'static str,
    /// Linker symbols that get it.
    pub(crate) symbols: &'static [&'static str],
}

impl GoModule {
    /// The folder that holds the program, which is built if it is not there yet.
    pub(crate) fn build(&self) -> anyhow::Result<PathBuf> {
        let go = go_version()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder);
        let flags = self.linker_flags(&source)?;
        let cache = cache_folder()?;
        let built = cache.join(format!(
            "{}-{}",
            self.name,
            key(&source, &[&go, &flags, self.package, &self.links.join(" ")])?
        ));
        if built.try_exists()? {
            return Ok(built);
        }

        fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
        let lock =
            File::create(cache.join(format!("{}.lock", self.name))).context("failed to create the build's lock")?;
        lock.lock().context("failed to wait for another process that builds")?;
        if built.try_exists()? {
            return Ok(built);
        }

        let partial = cache.join(format!("{}.partial", self.name));
        if partial.try_exists()? {
            fs::remove_dir_all(&partial)?;
        }
        // Not eprintln: the test harness would hide the line until the test ends, which may be minutes later.
        let _ = writeln!(
            io::stderr(),
            "building {} into {} (kept for later runs)",
            self.name,
            cache.display()
        );
        let mut command = Command::new("go");
        command
            .args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-mod=readonly",
                "-ldflags",
                &flags,
                "-o",
            ])
            .arg(partial.join(self.name))
            .arg(self.package)
            .current_dir(&source)
            .envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local"), ("GOWORK", "off")]);
        process::run(command, "", BUILD_LIMIT).with_context(|| format!("failed to build {}", self.name))?;
        for link in self.links {
            std::os::unix::fs::symlink(self.name, partial.join(link))?;
        }
        fs::rename(&partial, &built).with_context(|| format!("failed to move the build to {}", built.display()))?;
        Ok(built)
    }

    fn linker_flags(&self, source: &Path) -> anyhow::Result<String> {
        let Some(Version { of, symbols }) = &self.version else {
            return Ok("-s -w".to_owned());
        };
        let path = source.join("go.mod");
        let go_mod = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let version =
            required_version(&go_mod, of).with_context(|| format!("{} does not require {of}", path.display()))?;
        let mut flags = "-s -w".to_owned();
        for symbol in *symbols {
            flags.push_str(&format!(" -X {symbol}={version}"));
        }
        for (symbol, value) in self.symbols {
            flags.push_str(&format!(" -X {symbol}={value}"));
        }
        Ok(flags)
    }
}

/// Where everything is kept that is made once on a machine: `$INFMON_TOOLS_CACHE`, or a folder of this project in the user's cache
/// folder.
///
/// # Errors
///
/// When neither `INFMON_TOOLS_CACHE` nor `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("INFMON_TOOLS_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("inference-monitor")))
        .or_else(|| Some(set("HOME")?.join(".cache/inference-monitor")))
        .ok_or_else(|| anyhow!("no folder to keep built tools in: set INFMON_TOOLS_CACHE or HOME"))
}

/// What `go version` says, when it is new enough.
fn go_version() -> anyhow::Result<String> {
    let mut command = Command::new("go");
    // Away from any go.mod, and without fetching another Go: what is installed is what counts.
    command
        .arg("version")
        .current_dir(env::temp_dir())
        .env("GOTOOLCHAIN", "local");
    let said = process::run(command, "", Duration::from_secs(30)).ok();
    let found = said.as_deref().map_or("none", str::trim);
    if parse_go_version(found).is_some_and(|version| version >= OLDEST_GO) {
        return Ok(found.to_owned());
    }
    let found = found.strip_prefix("go version ").unwrap_or(found);
    bail!(
        "Go 1.26 or newer is needed to build the control plane for tests (found: {found}). Install it, or set \
         KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager and kubectl."
    )
}

fn parse_go_version(said: &str) -> Option<(u32, u32)> {
    let version = said.strip_prefix("go version go")?;
    let (major, rest) = version.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The version in a line `module version`, with or without `require` before it.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "require");
        (words.next() == Some(module)).then(|| words.next()).flatten()
    })
}

/// A name for everything that decides what a build contains.
fn key(source: &Path, settings: &[&str]) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut files = vec![source.join("go.mod"), source.join("go.sum")];
    for entry in fs::read_dir(source).with_context(|| format!("failed to read {}", source.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "go") {
            files.push(path);
        }
    }
    // The order in a folder is nobody's promise.
    files.sort();
    for path in files {
        let bytes = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        hash.update(bytes.len().to_le_bytes());
        hash.update(&bytes);
    }
    for setting in settings {
        hash.update(setting.len().to_le_bytes());
        hash.update(setting);
    }
    Ok(hash
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{key, parse_go_version, required_version};

    #[test]
    fn go_versions_are_read() {
        for (said, version) in [
            ("go version go1.26.8 linux/amd64", Some((1, 26))),
            ("go version go1.27rc1 linux/arm64", Some((1, 27))),
            ("go version go2.0 linux/amd64", Some((2, 0))),
            ("go version devel linux/amd64", None),
            ("none", None),
        ] {
            assert_eq!(parse_go_version(said), version, "{said}");
        }
    }

    #[test]
    fn the_required_version_is_found() {
        let go_mod = "module m\n\nrequire (\n\tk8s.io/kubernetes v1.37.1\n\tk8s.io/kubectl v0.37.1 // indirect\n)\nrequire a.b/c v1.0.0\n";
        assert_eq!(required_version(go_mod, "k8s.io/kubernetes"), Some("v1.37.1"));
        assert_eq!(required_version(go_mod, "k8s.io/kubectl"), Some("v0.37.1"));
        assert_eq!(required_version(go_mod, "a.b/c"), Some("v1.0.0"));
        assert_eq!(required_version(go_mod, "a.b/d"), None);
    }

    #[test]
    fn the_key_changes_with_each_input() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("go.mod"), "module m").unwrap();
        fs::write(folder.path().join("go.sum"), "").unwrap();
        let first = key(folder.path(), &["go1.26"]).unwrap();
        assert_eq!(first.len(), 16);
        assert_ne!(first, key(folder.path(), &["go1.27"]).unwrap());
        fs::write(folder.path().join("main.go"), "package main").unwrap();
        assert_ne!(first, key(folder.path(), &["go1.26"]).unwrap());
    }
}
