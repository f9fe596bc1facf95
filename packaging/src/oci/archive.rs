//! The archive of images: a tar file of an OCI image layout, which `ctr images import`, `docker load` and others read.

use super::{
    Digest, Image, Layer, full_name,
    schema::{
        self, Configuration, Container, Descriptor, DockerImage, History, Index, Layout, Manifest, Platform, RootFs,
    },
};
use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    env::consts::ARCH,
    fs::{self, File},
    io::{BufReader, BufWriter, IntoInnerError, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tar::{Builder, Header};
use tempfile::NamedTempFile;

/// By which the OCI's format names an image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// By which containerd does. Without it, an import takes the name above for a tag of a name that it makes up.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const MODE: u32 = 0o644;

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Name under which a runtime finds it, with the registry.
    pub name: String,
    /// Digest of the manifest, which is the digest of the image.
    pub digest: Digest,
    /// Bytes that are stored and sent: layers, configuration and manifest.
    pub size: u64,
}

/// Writes images to one archive. A layer that several of them have is in it once.
pub fn write_archive(path: &Path, images: &[Image]) -> anyhow::Result<Vec<Written>> {
    let platform = platform(ARCH)?;
    let mut archive = Archive::default();
    let mut written: Vec<Written> = Vec::new();
    for image in images {
        let name = full_name(&image.name)?;
        ensure!(
            written.iter().all(|other| other.name != name),
            "two images of one archive are called {name}"
        );
        written.push(archive.add(image, name, platform)?);
    }
    archive
        .write(path)
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok(written)
}

/// What goes into an archive.
#[derive(Default)]
struct Archive {
    manifests: Vec<Descriptor>,
    docker: Vec<DockerImage>,
    /// By path, so that each is there once.
    blobs: BTreeMap<String, Blob>,
}

enum Blob {
    Bytes(Vec<u8>),
    File(PathBuf, u64),
}

impl Archive {
    fn add(&mut self, image: &Image, name: String, platform: Platform) -> anyhow::Result<Written> {
        let configuration = json(&configuration(image, platform)?)?;
        let configured = Digest::of(&configuration);
        let manifest = json(&Manifest {
            schema_version: 2,
            media_type: schema::MANIFEST,
            config: Descriptor::new(schema::CONFIG, &configured, configuration.len() as u64),
            layers: image.layers.iter().map(Descriptor::from).collect(),
        })?;
        let digest = Digest::of(&manifest);
        let mut descriptor = Descriptor::new(schema::MANIFEST, &digest, manifest.len() as u64);
        descriptor.annotations = BTreeMap::from([(CONTAINERD_NAME, name.clone()), (REF_NAME, name.clone())]);
        descriptor.platform = Some(platform);
        self.manifests.push(descriptor);
        self.docker.push(DockerImage {
            config: blob_path(&configured),
            repo_tags: vec![name.clone()],
            layers: image.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
        });

        let layers: BTreeMap<&Digest, &Layer> = image.layers.iter().map(|layer| (&layer.digest, layer)).collect();
        let size = layers.values().map(|layer| layer.size).sum::<u64>() + (configuration.len() + manifest.len()) as u64;
        for (digest, layer) in layers {
            self.blobs
                .insert(blob_path(digest), Blob::File(layer.file.clone(), layer.size));
        }
        self.blobs.insert(blob_path(&configured), Blob::Bytes(configuration));
        self.blobs.insert(blob_path(&digest), Blob::Bytes(manifest));
        Ok(Written { name, digest, size })
    }

    fn write(self, path: &Path) -> anyhow::Result<()> {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        // Beside it first, so that nobody reads half an archive.
        let mut builder = Builder::new(BufWriter::new(NamedTempFile::new_in(folder)?));
        let documents = [
            (
                "oci-layout",
                json(&Layout {
                    image_layout_version: "1.0.0",
                })?,
            ),
            (
                "index.json",
                json(&Index {
                    schema_version: 2,
                    media_type: schema::INDEX,
                    manifests: self.manifests,
                })?,
            ),
            ("manifest.json", json(&self.docker)?),
        ];
        for (name, bytes) in documents {
            append(&mut builder, name, bytes.len() as u64, bytes.as_slice())?;
        }
        for (name, blob) in self.blobs {
            match blob {
                Blob::Bytes(bytes) => append(&mut builder, &name, bytes.len() as u64, bytes.as_slice())?,
                Blob::File(file, size) => {
                    let bytes = File::open(&file).with_context(|| format!("failed to read {}", file.display()))?;
                    append(&mut builder, &name, size, BufReader::new(bytes))?;
                }
            }
        }
        let file = builder.into_inner()?.into_inner().map_err(IntoInnerError::into_error)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(MODE))?;
        file.persist(path)?;
        Ok(())
    }
}

fn append<W: Write>(builder: &mut Builder<W>, name: &str, size: u64, bytes: impl Read) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(MODE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    let mut bytes = bytes.take(size);
    builder.append_data(&mut header, name, &mut bytes)?;
    ensure!(bytes.limit() == 0, "{name} is shorter than it was when it was written");
    Ok(())
}

fn configuration(image: &Image, platform: Platform) -> anyhow::Result<Configuration<'_>> {
    let created = match image.created {
        Some(seconds) => Some(Timestamp::from_second(seconds)?.to_string()),
        None => None,
    };
    let config = &image.config;
    Ok(Configuration {
        config: Container {
            user: &config.user,
            env: &config.env,
            entrypoint: &config.entrypoint,
            cmd: &config.command,
            working_dir: if config.working_dir.is_empty() {
                "/"
            } else {
                &config.working_dir
            },
            labels: &config.labels,
        },
        rootfs: RootFs {
            kind: "layers",
            diff_ids: image.layers.iter().map(|layer| layer.diff_id.to_string()).collect(),
        },
        history: image
            .layers
            .iter()
            .map(|layer| History {
                created: created.clone(),
                created_by: &layer.title,
            })
            .collect(),
        created,
        platform,
    })
}

/// What an image of this machine runs on, in the words of the OCI.
fn platform(architecture: &str) -> anyhow::Result<Platform> {
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no images for {other}: only x86_64 and aarch64 are known here"),
    };
    Ok(Platform {
        architecture,
        os: "linux",
    })
}

fn json(document: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(document).context("failed to write JSON")
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
