//! The images of what runs in pods beside the product.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use infmon_packaging::{
    libraries,
    oci::{Compression, Config, Contents, Image, Layer, write_archive},
};

use crate::{
    llama_root::{LlamaRoot, PROGRAM},
    tiny_model::TinyModel,
};

/// llama-server with a tiny model, on port 8080 of every address; whoever runs it adds `--metrics` and what else is wanted.
///
/// After SIGTERM it computes no more, and still keeps the connections of requests open until their clients go: give its pods a
/// short `terminationGracePeriodSeconds`.
pub const LLAMA_SERVER: &str = "infmon.test/llama-server:1";
/// The program `infmon-gateway`; its first argument is `serve` or `load`.
pub const GATEWAY: &str = "infmon.test/gateway:1";

/// Where the model is in its image.
const MODEL: &str = "/models/tiny.gguf";
/// llama-server takes these from its environment, so that arguments may still change them.
const LLAMA_ENVIRONMENT: [&str; 5] = [
    "LLAMA_ARG_MODEL=/models/tiny.gguf",
    "LLAMA_ARG_HOST=0.0.0.0",
    "LLAMA_ARG_PORT=8080",
    // Without it, answers are kept in memory until that has grown by 8 GiB.
    "LLAMA_ARG_CACHE_RAM=0",
    "LLAMA_ARG_UI=0",
];
const GATEWAY_PROGRAM: &str = "/usr/local/bin/infmon-gateway";
/// User and group of the processes.
const USER: &str = "65532:65532";

/// Writes both images to `workloads.tar` in a folder. `gateway` is the file of the program `infmon-gateway`.
///
/// # Errors
///
/// When llama-server is not there and cannot be installed, or the archive cannot be written.
pub fn write(folder: &Path, gateway: &Path) -> anyhow::Result<PathBuf> {
    let root = LlamaRoot::locate()?;
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let layers = tempfile::tempdir_in(folder).with_context(|| format!("failed to write to {}", folder.display()))?;
    let images = [
        llama_server(layers.path(), &root)?,
        gateway_image(layers.path(), gateway)?,
    ];
    let archive = folder.join("workloads.tar");
    write_archive(&archive, &images)?;
    Ok(archive)
}

fn llama_server(layers: &Path, root: &LlamaRoot) -> anyhow::Result<Image> {
    let mut server = Contents::new();
    server.tree("/", &root.folder, |_| true)?;
    let mut model = Contents::new();
    let mut bytes = Vec::new();
    TinyModel::default().gguf().write(&mut bytes)?;
    model.bytes(MODEL, bytes, 0o644)?;
    let title = format!("llama.cpp {} of Debian", root.version);
    Ok(Image {
        name: LLAMA_SERVER.to_owned(),
        layers: vec![layer(&server, layers, &title)?, layer(&model, layers, "a tiny model")?],
        config: config(PROGRAM, &LLAMA_ENVIRONMENT),
        created: None,
    })
}

fn gateway_image(layers: &Path, program: &Path) -> anyhow::Result<Image> {
    let mut contents = Contents::new();
    for library in libraries::needed(&[program])? {
        libraries::add(&mut contents, &library)?;
    }
    // Without it the order is that of glibc's version.
    contents.bytes("/etc/nsswitch.conf", "hosts: files dns\n", 0o644)?;
    contents.file(GATEWAY_PROGRAM, program, 0o755)?;
    Ok(Image {
        name: GATEWAY.to_owned(),
        layers: vec![layer(&contents, layers, "the gateway")?],
        config: config(GATEWAY_PROGRAM, &[]),
        created: None,
    })
}

/// They are read on this machine only: packing would take longer than it saves.
fn layer(contents: &Contents, folder: &Path, title: &str) -> anyhow::Result<Layer> {
    contents.write_layer(folder, title, Compression::None)
}

fn config(program: &str, environment: &[&str]) -> Config {
    Config {
        entrypoint: vec![program.to_owned()],
        env: environment.iter().map(ToString::to_string).collect(),
        user: USER.to_owned(),
        ..Config::default()
    }
}

#[cfg(test)]
mod tests;
