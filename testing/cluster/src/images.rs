//! The images that the cluster itself needs.

use std::path::{Path, PathBuf};

use anyhow::Context;
use infmon_control_plane::Tools;
use infmon_packaging::oci::{Compression, Config, Contents, Image, write_archive};

/// Holds the namespaces of each pod.
pub const PAUSE: &str = "infmon.test/pause:1";
/// Cluster DNS.
pub const COREDNS: &str = "infmon.test/coredns:1";

/// Writes an archive with the images of the cluster itself into a folder.
///
/// # Errors
///
/// When a program cannot be built or the archive cannot be written.
pub fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    let archive = folder.join("cluster.tar");
    let images = [
        image(folder, PAUSE, "pause", &Tools::pause()?)?,
        image(folder, COREDNS, "coredns", &Tools::coredns()?)?,
    ];
    write_archive(&archive, &images)?;
    for layer in images.iter().flat_map(|image| &image.layers) {
        std::fs::remove_file(&layer.file).with_context(|| format!("failed to remove {}", layer.file.display()))?;
    }
    Ok(archive)
}

/// One program, linked statically, and nothing else.
fn image(folder: &Path, name: &str, program: &str, file: &Path) -> anyhow::Result<Image> {
    let mut contents = Contents::new();
    contents.file(program, file, 0o755)?;
    // It is read on this machine only: packing would take longer than it saves.
    let layer = contents.write_layer(folder, program, Compression::None)?;
    Ok(Image {
        name: name.to_owned(),
        layers: vec![layer],
        config: Config {
            entrypoint: vec![format!("/{program}")],
            ..Config::default()
        },
        created: None,
    })
}
