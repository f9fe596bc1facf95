//! The JSON documents of an image. Structs rather than free values: the order of the fields is part of the digest.

use super::{Compression, Digest, Layer};
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The media type of a layer.
pub(super) fn layer(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Fast | Compression::Small => "application/vnd.oci.image.layer.v1.tar+gzip",
    }
}

/// `oci-layout`: says that an archive is one of images.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layout {
    pub(super) image_layout_version: &'static str,
}

/// `index.json`: the images of an archive.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) schema_version: u32,
    pub(super) media_type: &'static str,
    pub(super) manifests: Vec<Descriptor>,
}

/// An image: its configuration and its layers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    pub(super) media_type: &'static str,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a blob is and how it is found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: &'static str,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

impl Descriptor {
    pub(super) fn new(media_type: &'static str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type,
            digest: digest.to_string(),
            size,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

impl From<&Layer> for Descriptor {
    fn from(of: &Layer) -> Self {
        Self::new(layer(of.compression), &of.digest, of.size)
    }
}

/// What an image runs on.
#[derive(Serialize, Clone, Copy)]
pub(super) struct Platform {
    pub(super) architecture: &'static str,
    pub(super) os: &'static str,
}

/// The configuration of an image.
#[derive(Serialize)]
pub(super) struct Configuration<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    #[serde(flatten)]
    pub(super) platform: Platform,
    pub(super) config: Container<'a>,
    pub(super) rootfs: RootFs,
    pub(super) history: Vec<History<'a>>,
}

/// What runs in a container; field names as in Docker's own format, from which this came.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) user: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) env: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) entrypoint: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) cmd: &'a [String],
    pub(super) working_dir: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: &'a BTreeMap<String, String>,
}

/// The uncompressed layers.
#[derive(Serialize)]
pub(super) struct RootFs {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) diff_ids: Vec<String>,
}

/// Where a layer came from.
#[derive(Serialize)]
pub(super) struct History<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    pub(super) created_by: &'a str,
}

/// An image in `manifest.json`, the list that `docker load` reads where its store does not know the OCI's format.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    pub(super) repo_tags: Vec<String>,
    pub(super) layers: Vec<String>,
}
