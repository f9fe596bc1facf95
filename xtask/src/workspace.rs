//! The folder of this repository, its files, and programs run in it.

use anyhow::{Context, bail};
use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Folders that hold nothing written by hand.
const SKIPPED: [&str; 4] = ["target", ".git", ".cache", "node_modules"];

/// Folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A file of this repository: path from the root with `/`, content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl TextFile {
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// Every file of this repository that has one of the extensions, in the order of paths.
pub(crate) fn text_files(extensions: &[&str]) -> anyhow::Result<Vec<TextFile>> {
    let root = root();
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("failed to list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !SKIPPED.iter().any(|name| entry.file_name() == *name) {
                    folders.push(path);
                }
            } else if kind.is_file()
                && path
                    .extension()
                    .and_then(OsStr::to_str)
                    .is_some_and(|extension| extensions.contains(&extension))
            {
                files.push(read(&root, &path)?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read(root: &Path, path: &Path) -> anyhow::Result<TextFile> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let path = path.strip_prefix(root).unwrap_or(path).display().to_string();
    Ok(TextFile { path, text })
}

/// A program that runs in the root of this repository and reads no input.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a program whose output the user should see.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let line = line(&command);
    eprintln!("$ {line}");
    let status = match command.status() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("{line}: the program is not installed"),
        status => status.with_context(|| format!("failed to start {line}"))?,
    };
    if status.success() {
        return Ok(());
    }
    bail!("{line}: {status}")
}

/// Runs a `cargo build` and gives the paths of the programs that it built or had built before.
pub(crate) fn executables(mut build: Command) -> anyhow::Result<Vec<PathBuf>> {
    build
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    Ok(output(build)?.lines().filter_map(executable).collect())
}

/// The program that a message of cargo tells of.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message["executable"].as_str().map(PathBuf::from)
}

/// Runs a program and gives its standard output.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let line = line(&command);
    let output = command.output().with_context(|| format!("failed to start {line}"))?;
    if !output.status.success() {
        bail!(
            "{line}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{line}: output is not UTF-8"))
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::executable;
    use std::path::PathBuf;

    #[test]
    fn binaries_are_found_among_the_messages() {
        for (message, path) in [
            (
                r#"{"reason":"compiler-artifact","executable":"/t/infmon-operator"}"#,
                Some("/t/infmon-operator"),
            ),
            (r#"{"reason":"compiler-artifact","executable":null}"#, None),
            (r#"{"reason":"build-finished","success":true}"#, None),
            ("no JSON", None),
        ] {
            assert_eq!(executable(message), path.map(PathBuf::from), "{message}");
        }
    }
}
