//! Archives as a container runtime reads them: every blob is what its name says, and every reference leads to one.

use infmon_packaging::oci::{Compression, Config, Contents, Digest, Image, Layer, Written, write_archive};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::Path,
};
use tempfile::tempdir;

fn layer(folder: &Path, title: &str, compression: Compression) -> Layer {
    let mut contents = Contents::new();
    contents.bytes("/etc/title", title, 0o644).expect("file");
    contents.write_layer(folder, title, compression).expect("layer")
}

fn image(name: &str, layers: &[&Layer]) -> Image {
    Image {
        name: name.into(),
        layers: layers.iter().copied().cloned().collect(),
        config: Config {
            entrypoint: vec!["/bin/program".into()],
            env: vec!["PATH=/bin".into()],
            user: "65532:65532".into(),
            labels: BTreeMap::from([("org.opencontainers.image.title".into(), name.into())]),
            ..Config::default()
        },
        created: Some(1_795_484_016),
    }
}

/// Two images that share a layer.
fn write(folder: &Path) -> Vec<Written> {
    let layers = folder.join("layers");
    let libraries = layer(&layers, "libraries", Compression::Small);
    let first = layer(&layers, "first", Compression::Fast);
    let second = layer(&layers, "second", Compression::None);
    let images = [
        image("first:1", &[&libraries, &first]),
        image("infmon.test/second:2", &[&libraries, &second]),
    ];
    write_archive(&folder.join("images.tar"), &images).expect("archive")
}

fn files(archive: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(File::open(archive).expect("archive"));
    let read = |entry: std::io::Result<tar::Entry<'_, File>>| {
        let mut entry = entry.expect("entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("content");
        (entry.path().expect("path").display().to_string(), bytes)
    };
    archive.entries().expect("entries").map(read).collect()
}

/// The blob that a descriptor leads to, after a look at its size and digest.
fn follow<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().expect("digest");
    let path = format!("blobs/{}", digest.replace(':', "/"));
    let bytes = files.get(&path).expect(&path);
    assert_eq!(descriptor["size"].as_u64(), Some(bytes.len() as u64), "{path}");
    assert_eq!(Digest::of(bytes).to_string(), digest);
    bytes
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn the_same_images_give_the_same_archive() {
    let (first, second) = (tempdir().expect("folder"), tempdir().expect("folder"));
    assert_eq!(write(first.path()), write(second.path()));
    assert_eq!(
        fs::read(first.path().join("images.tar")).expect("archive"),
        fs::read(second.path().join("images.tar")).expect("archive")
    );
}

#[test]
fn every_reference_leads_to_a_blob() {
    let folder = tempdir().expect("folder");
    let written = write(folder.path());
    let listed = files(&folder.path().join("images.tar"));
    let files: BTreeMap<String, Vec<u8>> = listed.iter().cloned().collect();
    assert_eq!(files.len(), listed.len(), "nothing is there twice");
    assert_eq!(parse(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");

    let index = parse(&files["index.json"]);
    let manifests = index["manifests"].as_array().expect("manifests");
    assert_eq!(manifests.len(), written.len());
    let mut blobs = 0;
    for (descriptor, written) in manifests.iter().zip(&written) {
        assert_eq!(descriptor["digest"], written.digest.to_string());
        for name in ["io.containerd.image.name", "org.opencontainers.image.ref.name"] {
            assert_eq!(descriptor["annotations"][name], written.name);
        }
        let manifest = parse(follow(&files, descriptor));
        let config = parse(follow(&files, &manifest["config"]));
        assert_eq!(config["os"], "linux");
        assert_eq!(config["created"], "2026-11-24T01:33:36Z");
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["WorkingDir"], "/");
        assert_eq!(config["history"].as_array().map(Vec::len), Some(2));
        let layers = manifest["layers"].as_array().expect("layers");
        let mut size = 0;
        for layer in layers.iter().chain([&manifest["config"], descriptor]) {
            size += follow(&files, layer).len() as u64;
        }
        assert_eq!(size, written.size);
        assert_eq!(
            config["rootfs"]["diff_ids"].as_array().map(Vec::len),
            Some(layers.len())
        );
        blobs += layers.len() + 2;
    }
    // The shared layer is there once, and so are the three documents at the top.
    assert_eq!(files.len(), blobs - 1 + 3);
    assert_eq!(written[0].name, "docker.io/library/first:1");
    assert_eq!(written[1].name, "infmon.test/second:2");
}

#[test]
fn the_list_for_docker_names_the_same_blobs() {
    let folder = tempdir().expect("folder");
    let written = write(folder.path());
    let files: BTreeMap<String, Vec<u8>> = files(&folder.path().join("images.tar")).into_iter().collect();
    let docker = parse(&files["manifest.json"]);
    for (image, written) in docker.as_array().expect("list").iter().zip(&written) {
        assert_eq!(image["RepoTags"][0], written.name);
        let layers = image["Layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 2);
        for path in layers.iter().chain([&image["Config"]]) {
            assert!(files.contains_key(path.as_str().expect("path")), "{path}");
        }
    }
}

#[test]
fn two_images_of_one_name_are_refused() {
    let folder = tempdir().expect("folder");
    let layer = layer(folder.path(), "one", Compression::None);
    let images = [image("a:1", &[&layer]), image("docker.io/library/a:1", &[&layer])];
    let error = write_archive(&folder.path().join("images.tar"), &images).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "two images of one archive are called docker.io/library/a:1"
    );
}
