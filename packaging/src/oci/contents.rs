//! What goes into a layer: folders, files, links, in the order of their paths.

use anyhow::{Context, bail, ensure};
use std::{
    collections::{BTreeMap, btree_map},
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

/// Mode of a folder that was not named, only what is in it.
const PARENT_MODE: u32 = 0o755;
/// Read, write, execute, and the sticky bit. Not set-id: everything belongs to root, so it would give root's rights away.
const MODE_BITS: u32 = 0o1777;

/// Which times of change files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// This one for all, in seconds since 1970.
    Fixed(u64),
    /// The file's own, or this one when that is later. For trees whose programs compare times of files, as Python does.
    AtMost(u64),
}

impl Times {
    fn of_new(self) -> u64 {
        match self {
            Self::Fixed(time) | Self::AtMost(time) => time,
        }
    }

    fn of_file(self, metadata: &Metadata) -> u64 {
        match self {
            Self::Fixed(time) => time,
            Self::AtMost(time) => u64::try_from(metadata.mtime()).unwrap_or(0).min(time),
        }
    }
}

/// What goes into a layer. Files are read when the layer is written.
///
/// Everything belongs to user and group 0; set-id bits are dropped. Folders on the way to an entry are added by themselves.
#[derive(Debug, Clone)]
pub struct Contents {
    times: Times,
    /// Paths without a leading slash. A path is ordered by its parts, so a folder comes before what is in it.
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) modified: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder {
        mode: u32,
    },
    Bytes {
        mode: u32,
        bytes: Vec<u8>,
    },
    File {
        mode: u32,
        source: PathBuf,
        /// Device and inode of a file that has several names; the second of these in a layer becomes a hard link.
        shared: Option<(u64, u64)>,
    },
    Symlink {
        target: PathBuf,
    },
}

impl Default for Contents {
    fn default() -> Self {
        Self::new()
    }
}

impl Contents {
    /// Nothing yet; all times are 0.
    #[must_use]
    pub fn new() -> Self {
        Self::with_times(Times::Fixed(0))
    }

    /// Nothing yet, with a rule for times.
    #[must_use]
    pub fn with_times(times: Times) -> Self {
        Self {
            times,
            entries: BTreeMap::new(),
        }
    }

    /// Adds a folder, or changes the mode of one.
    pub fn folder(&mut self, path: impl AsRef<Path>, mode: u32) -> anyhow::Result<()> {
        let mode = mode & MODE_BITS;
        self.insert(path.as_ref(), Kind::Folder { mode }, self.times.of_new())
    }

    /// Adds a file with this content.
    pub fn bytes(&mut self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>, mode: u32) -> anyhow::Result<()> {
        let kind = Kind::Bytes {
            mode: mode & MODE_BITS,
            bytes: bytes.into(),
        };
        self.insert(path.as_ref(), kind, self.times.of_new())
    }

    /// Adds a file with the content of one on this machine; of a link, what it leads to.
    pub fn file(&mut self, path: impl AsRef<Path>, source: impl AsRef<Path>, mode: u32) -> anyhow::Result<()> {
        let source = source.as_ref();
        let metadata = fs::metadata(source).with_context(|| format!("failed to look at {}", source.display()))?;
        ensure!(metadata.is_file(), "{} is no file", source.display());
        let kind = Kind::File {
            mode: mode & MODE_BITS,
            source: source.to_owned(),
            shared: None,
        };
        self.insert(path.as_ref(), kind, self.times.of_file(&metadata))
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> anyhow::Result<()> {
        let target = target.as_ref().to_owned();
        self.insert(path.as_ref(), Kind::Symlink { target }, self.times.of_new())
    }

    /// Adds what is in a folder of this machine, with its modes and links, below `path`.
    ///
    /// `keep` is asked for each path below the folder; a folder that is not kept is not looked into. Devices, sockets and
    /// pipes are left out: a container has its own.
    pub fn tree(
        &mut self,
        path: impl AsRef<Path>,
        folder: impl AsRef<Path>,
        keep: impl Fn(&Path) -> bool,
    ) -> anyhow::Result<()> {
        let (root, base) = (folder.as_ref(), path.as_ref());
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let on_disk = root.join(&folder);
            let listed = fs::read_dir(&on_disk).with_context(|| format!("failed to list {}", on_disk.display()))?;
            for found in listed {
                let found = found.with_context(|| format!("failed to list {}", on_disk.display()))?;
                let below = folder.join(found.file_name());
                if !keep(&below) {
                    continue;
                }
                let source = found.path();
                let metadata = found
                    .metadata()
                    .with_context(|| format!("failed to look at {}", source.display()))?;
                if metadata.is_dir() {
                    folders.push(below.clone());
                }
                if let Some(kind) = kind_on_disk(source, &metadata)? {
                    self.insert(&base.join(below), kind, self.times.of_file(&metadata))?;
                }
            }
        }
        Ok(())
    }

    /// Every path in it, with a leading slash, in order.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.entries.keys().map(|path| Path::new("/").join(path))
    }

    pub(super) fn entries(&self) -> btree_map::Iter<'_, PathBuf, Entry> {
        self.entries.iter()
    }

    fn insert(&mut self, path: &Path, kind: Kind, modified: u64) -> anyhow::Result<()> {
        let path = below_root(path)?;
        for parent in path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            let entry = self.entries.entry(parent.to_owned()).or_insert(Entry {
                kind: Kind::Folder { mode: PARENT_MODE },
                modified: self.times.of_new(),
            });
            // A file below a link would replace the link by a folder, and hide what it leads to.
            ensure!(
                matches!(entry.kind, Kind::Folder { .. }),
                "/{} cannot be added: /{} is there and is no folder",
                path.display(),
                parent.display()
            );
        }
        if let Some(there) = self.entries.get(&path) {
            let folders = [&there.kind, &kind].map(|kind| matches!(kind, Kind::Folder { .. }));
            ensure!(
                folders[0] == folders[1],
                "/{} cannot be both a folder and something else",
                path.display()
            );
        }
        self.entries.insert(path, Entry { kind, modified });
        Ok(())
    }
}

/// What a layer holds of something on this machine; none of what does not belong into one.
fn kind_on_disk(source: PathBuf, metadata: &Metadata) -> anyhow::Result<Option<Kind>> {
    let mode = metadata.mode() & MODE_BITS;
    if metadata.is_dir() {
        return Ok(Some(Kind::Folder { mode }));
    }
    if metadata.is_symlink() {
        let target = fs::read_link(&source).with_context(|| format!("failed to read {}", source.display()))?;
        return Ok(Some(Kind::Symlink { target }));
    }
    let shared = (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()));
    Ok(metadata.is_file().then_some(Kind::File { mode, source, shared }))
}

/// A path in the image, without its leading slash.
fn below_root(path: &Path) -> anyhow::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!("{} cannot be added: a path in an image has no ..", path.display())
            }
        }
    }
    ensure!(
        !clean.as_os_str().is_empty(),
        "the root folder cannot be added: it is always there"
    );
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::{Contents, Times};
    use std::{fs, os::unix::net::UnixListener};

    fn paths(contents: &Contents) -> Vec<String> {
        contents.paths().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn folders_on_the_way_come_first() {
        let mut contents = Contents::new();
        contents.bytes("/a/b/c", "", 0o644).expect("file");
        contents.bytes("a.txt", "", 0o644).expect("file");
        contents.folder("/a/b", 0o700).expect("folder");
        assert_eq!(paths(&contents), ["/a", "/a/b", "/a/b/c", "/a.txt"]);
    }

    #[test]
    fn what_would_hide_something_is_refused() {
        let mut contents = Contents::new();
        contents.symlink("/lib", "usr/lib").expect("link");
        contents.folder("/etc", 0o755).expect("folder");
        let refusal = |done: anyhow::Result<()>| done.expect_err("refused").to_string();
        assert_eq!(
            refusal(contents.bytes("/lib/libc.so.6", "", 0o755)),
            "/lib/libc.so.6 cannot be added: /lib is there and is no folder"
        );
        assert_eq!(
            refusal(contents.symlink("/etc", "usr/etc")),
            "/etc cannot be both a folder and something else"
        );
        assert!(refusal(contents.bytes("/a/../b", "", 0o644)).contains("has no .."));
        assert!(refusal(contents.folder("/", 0o700)).contains("always there"));
    }

    #[test]
    fn a_tree_is_taken_without_sockets_and_what_is_not_wanted() {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir_all(folder.path().join("var/cache")).expect("folder");
        fs::write(folder.path().join("var/cache/big"), "x").expect("file");
        fs::write(folder.path().join("var/small"), "x").expect("file");
        let _socket = UnixListener::bind(folder.path().join("socket")).expect("socket");
        let mut contents = Contents::with_times(Times::AtMost(1));
        contents
            .tree("/", folder.path(), |path| !path.ends_with("cache"))
            .expect("tree");
        assert_eq!(paths(&contents), ["/var", "/var/small"]);
    }
}
