//! A layer as a file: a tar archive, compressed or not, with its digests. It is written as a stream, so its size does not matter.

use super::{
    Contents, Digest,
    contents::{Entry, Kind},
    digest::Hashing,
};
use anyhow::{Context, ensure};
use flate2::{Compression as Level, GzBuilder, read::GzDecoder};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};
use tar::{Archive, Builder, EntryType, Header};
use tempfile::NamedTempFile;

/// Byte of a gzip header for a system that is not told.
const SYSTEM_UNKNOWN: u8 = 255;
/// Mode of links, which nothing looks at.
const LINK_MODE: u32 = 0o777;

/// How much work goes into making a layer small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None: quickest where the archive stays on the machine.
    None,
    /// Gzip, quick.
    Fast,
    /// Gzip, as small as it gets.
    Small,
}

/// A layer that lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The file, named by its digest.
    pub file: PathBuf,
    /// What is in it, for people; it shows in the history of an image.
    pub title: String,
    /// Digest of the file.
    pub digest: Digest,
    /// Digest of the tar archive in it.
    pub diff_id: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// Whether the file is the archive itself or gzip of it.
    pub compression: Compression,
}

impl Contents {
    /// Writes them to a file in `folder`, which is created where it is missing. The file is named by its digest.
    pub fn write_layer(&self, folder: &Path, title: &str, compression: Compression) -> anyhow::Result<Layer> {
        fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let file = NamedTempFile::new_in(folder).with_context(|| format!("failed to write to {}", folder.display()))?;
        let outer = Hashing::new(BufWriter::new(file));
        let level = match compression {
            Compression::None => None,
            Compression::Fast => Some(Level::fast()),
            Compression::Small => Some(Level::best()),
        };
        let (outer, diff_id) = match level {
            None => (self.write_tar(outer)?, None),
            Some(level) => {
                let gzip = GzBuilder::new()
                    .mtime(0)
                    .operating_system(SYSTEM_UNKNOWN)
                    .write(outer, level);
                let (gzip, diff_id, _) = self.write_tar(Hashing::new(gzip))?.finish();
                (gzip.finish().context("failed to compress a layer")?, Some(diff_id))
            }
        };
        let (buffer, digest, size) = outer.finish();
        let extension = if level.is_some() { "tar.gz" } else { "tar" };
        let path = folder.join(format!("{}.{extension}", digest.hex()));
        let file = buffer.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.persist(&path).map_err(|error| error.error))
            .with_context(|| format!("failed to write {}", path.display()))?;
        Ok(Layer {
            file: path,
            title: title.to_owned(),
            diff_id: diff_id.unwrap_or_else(|| digest.clone()),
            digest,
            size,
            compression,
        })
    }

    fn write_tar<W: Write>(&self, writer: W) -> anyhow::Result<W> {
        let mut builder = Builder::new(writer);
        let mut names = HashMap::new();
        for (path, entry) in self.entries() {
            append(&mut builder, path, entry, &mut names)
                .with_context(|| format!("failed to add /{}", path.display()))?;
        }
        builder.into_inner().context("failed to end a layer")
    }
}

/// Adds an entry. `names` has the first name of each file that has several.
fn append<'a, W: Write>(
    builder: &mut Builder<W>,
    path: &'a Path,
    entry: &'a Entry,
    names: &mut HashMap<(u64, u64), &'a Path>,
) -> anyhow::Result<()> {
    // Time, size, user and group are 0 in a new header, and names are empty.
    let mut header = Header::new_gnu();
    header.set_mtime(entry.modified);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match &entry.kind {
        Kind::Folder { mode } => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            // With a slash at the end, as other tools write it.
            builder.append_data(&mut header, path.join(""), io::empty())?;
        }
        Kind::Bytes { mode, bytes } => {
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, bytes.as_slice())?;
        }
        Kind::Symlink { target } => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(LINK_MODE);
            builder.append_link(&mut header, path, target)?;
        }
        Kind::File { mode, source, shared } => {
            header.set_mode(*mode);
            if let Some(first) = shared.and_then(|inode| names.get(&inode)) {
                header.set_entry_type(EntryType::Link);
                builder.append_link(&mut header, path, first)?;
                return Ok(());
            }
            names.extend(shared.map(|inode| (inode, path)));
            append_file(builder, &mut header, path, source)?;
        }
    }
    Ok(())
}

fn append_file<W: Write>(
    builder: &mut Builder<W>,
    header: &mut Header,
    path: &Path,
    source: &Path,
) -> anyhow::Result<()> {
    let from = || format!("failed to read {}", source.display());
    let file = File::open(source).with_context(from)?;
    let size = file.metadata().with_context(from)?.len();
    header.set_size(size);
    let mut bytes = BufReader::new(file).take(size);
    builder.append_data(header, path, &mut bytes)?;
    // The header is written before the content; with less of that, all that follows would be misread.
    ensure!(
        bytes.limit() == 0,
        "{} became shorter while it was read",
        source.display()
    );
    Ok(())
}

impl Layer {
    /// Writes what is in it to a folder of this machine.
    pub fn unpack(&self, folder: &Path) -> anyhow::Result<()> {
        let file = File::open(&self.file).with_context(|| format!("failed to read {}", self.file.display()))?;
        let file = BufReader::new(file);
        let bytes: Box<dyn Read> = match self.compression {
            Compression::None => Box::new(file),
            Compression::Fast | Compression::Small => Box::new(GzDecoder::new(file)),
        };
        let mut archive = Archive::new(bytes);
        archive.set_preserve_permissions(true);
        archive
            .unpack(folder)
            .with_context(|| format!("failed to unpack {} to {}", self.title, folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Compression, Layer};
    use crate::oci::{Contents, Digest};
    use std::{
        fs::{self, File},
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        path::Path,
        time::{Duration, SystemTime},
    };
    use tempfile::tempdir;

    /// A tree with all that a layer can hold; the order and the times in which it is made depend on `reversed`.
    fn tree(root: &Path, reversed: bool) {
        let mut names = vec!["a", "b", "c"];
        if reversed {
            names.reverse();
        }
        for name in names {
            fs::create_dir_all(root.join("folder")).expect("folder");
            let file = root.join("folder").join(name);
            fs::write(&file, name.repeat(10_000)).expect("file");
            let age = Duration::from_secs(if reversed { 1000 } else { 10 });
            let open = File::options().write(true).open(&file).expect("open");
            open.set_modified(SystemTime::now() - age).expect("time");
        }
        fs::set_permissions(root.join("folder/b"), fs::Permissions::from_mode(0o4750)).expect("mode");
        fs::hard_link(root.join("folder/a"), root.join("folder/z")).expect("hard link");
        symlink("../folder/a", root.join("folder/link")).expect("link");
        // More than the 100 bytes that the plain format has for a name.
        fs::write(root.join("folder").join("n".repeat(200)), "long").expect("file");
    }

    fn layer(out: &Path, reversed: bool, compression: Compression) -> Layer {
        let root = tempdir().expect("folder");
        tree(root.path(), reversed);
        let mut contents = Contents::new();
        contents.tree("/opt", root.path(), |_| true).expect("tree");
        contents.write_layer(out, "a tree", compression).expect("layer")
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let out = tempdir().expect("folder");
        for compression in [Compression::None, Compression::Fast, Compression::Small] {
            let (first, second) = (
                layer(out.path(), false, compression),
                layer(out.path(), true, compression),
            );
            assert_eq!(first, second);
            let bytes = fs::read(&first.file).expect("layer");
            assert_eq!(first.digest, Digest::of(&bytes));
            assert_eq!(first.size, bytes.len() as u64);
            assert_eq!(
                first.diff_id,
                layer(out.path(), false, Compression::None).digest,
                "the archive is the same, however it is compressed"
            );
        }
    }

    #[test]
    fn a_layer_holds_what_the_tree_held() {
        let out = tempdir().expect("folder");
        for compression in [Compression::None, Compression::Small] {
            let root = tempdir().expect("folder");
            layer(out.path(), false, compression)
                .unpack(root.path())
                .expect("unpacked");
            let folder = root.path().join("opt/folder");
            let of = |name: &str| fs::symlink_metadata(folder.join(name)).expect(name);
            assert_eq!(fs::read(folder.join("c")).expect("content"), b"c".repeat(10_000));
            assert_eq!(fs::read(folder.join("n".repeat(200))).expect("content"), b"long");
            assert_eq!(of("b").mode() & 0o7777, 0o750, "no set-id");
            assert_eq!(of("a").ino(), of("z").ino());
            assert_eq!(
                fs::read_link(folder.join("link")).expect("link"),
                Path::new("../folder/a")
            );
        }
    }

    #[test]
    fn entries_belong_to_root_and_have_no_time() {
        let out = tempdir().expect("folder");
        let layer = layer(out.path(), false, Compression::None);
        let mut archive = tar::Archive::new(File::open(&layer.file).expect("layer"));
        for entry in archive.entries().expect("entries") {
            let entry = entry.expect("entry");
            let header = entry.header();
            assert_eq!((header.uid().expect("uid"), header.gid().expect("gid")), (0, 0));
            assert_eq!(header.mtime().expect("time"), 0);
            assert_eq!(header.username_bytes().unwrap_or_default(), b"");
            assert_eq!(header.groupname_bytes().unwrap_or_default(), b"");
        }
    }
}
