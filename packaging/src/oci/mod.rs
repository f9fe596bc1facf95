//! Images as the OCI describes them: what goes into a layer, the layer as a file, the archive of images.
//!
//! The same input gives the same bytes, on every machine: entries are sorted, belong to root, and bear no time of their own.
//!
//! ```no_run
//! use infmon_packaging::oci::{Compression, Config, Contents, Image, write_archive};
//! # fn main() -> anyhow::Result<()> {
//! let mut contents = Contents::new();
//! contents.file("/usr/local/bin/gateway", "target/release/gateway", 0o755)?;
//! contents.bytes("/etc/motd", "hello\n", 0o644)?;
//! let image = Image {
//!     name: "infmon.test/gateway:1".into(),
//!     layers: vec![contents.write_layer("target/layers".as_ref(), "the gateway", Compression::Fast)?],
//!     config: Config { entrypoint: vec!["/usr/local/bin/gateway".into()], ..Config::default() },
//!     created: None,
//! };
//! write_archive("target/gateway.tar".as_ref(), &[image])?;
//! # Ok(()) }
//! ```

mod archive;
mod contents;
mod digest;
mod layer;
mod name;
mod schema;

pub use archive::{Written, write_archive};
pub use contents::{Contents, Times};
pub use digest::Digest;
pub use layer::{Compression, Layer};
pub use name::full_name;

use std::collections::BTreeMap;

/// An image that is not written yet.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name and tag, such as `inference-monitor-operator:0.1.0` or `infmon.test/gateway:1`; see [`full_name`].
    pub name: String,
    /// From the lowest to the one on top.
    pub layers: Vec<Layer>,
    /// What runs in a container of this image, and how.
    pub config: Config,
    /// When it was made, in seconds since 1970. Part of the digest, so not the clock: a commit's time, or none.
    pub created: Option<i64>,
}

/// What runs in a container, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments after those of the entry point, which whoever runs the container may replace.
    pub command: Vec<String>,
    /// Variables as `NAME=value`.
    pub env: Vec<String>,
    /// `uid:gid`. As numbers: kubelet cannot tell whether a name is root, and refuses it under `runAsNonRoot`.
    pub user: String,
    /// Folder in which the program starts; empty is `/`.
    pub working_dir: String,
    /// Labels, such as `org.opencontainers.image.title`.
    pub labels: BTreeMap<String, String>,
}
