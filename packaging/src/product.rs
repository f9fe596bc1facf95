//! The images of this product: what is in them, how they run, what they are called.
//!
//! Two layers each. The lower one is the same in both: the libraries of the machine that built it, and the few files in
//! `/etc` that glibc and container runtimes look for. The upper one is the program. There is nothing else: no shell, no
//! package manager.

use crate::{
    libraries,
    oci::{Compression, Config, Contents, Digest, Image, Layer, write_archive},
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Version of the product, which is the default tag of its images.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// User and group of the process.
pub const USER: u32 = 65532;
/// Folder of the programs in the images.
pub const PROGRAMS_FOLDER: &str = "/usr/local/bin";
/// Environment of the process: where `kubectl exec` finds the program, and `nvidia-smi` where a runtime class brings it.
pub const ENVIRONMENT: [&str; 1] = ["PATH=/usr/local/bin:/usr/bin"];
/// Title of the lower layer, and its folder in a root file system.
pub const SHARED: &str = "shared";

const LICENCE: &str = env!("CARGO_PKG_LICENSE");
const FILE: u32 = 0o644;
const FOLDER: u32 = 0o755;
const PROGRAM: u32 = 0o755;
/// Everybody may write, and remove only what is their own.
const TEMPORARY: u32 = 0o1777;

/// A program that has an image of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// What it is called among the components of the product, and as a target of the Dockerfile.
    pub component: &'static str,
    /// Name of the package and of its binary.
    pub binary: &'static str,
    /// Name of the image, as in the values of the chart.
    pub image: &'static str,
    /// For people, in one line.
    pub description: &'static str,
}

/// The programs that have images.
pub const PROGRAMS: [Program; 2] = [
    Program {
        component: "operator",
        binary: "infmon-operator",
        image: "inference-monitor-operator",
        description: "Watches inference monitors and serves their metrics to the HPA",
    },
    Program {
        component: "node-daemon",
        binary: "infmon-node-daemon",
        image: "inference-monitor-node-daemon",
        description: "Reads the inference servers and the GPUs of a node",
    },
];

impl Program {
    /// Its path in the image, which is the entry point.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{PROGRAMS_FOLDER}/{}", self.binary)
    }

    /// The labels of its image, without those that depend on the commit.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = [
            ("title", self.image),
            ("description", self.description),
            ("version", VERSION),
            ("licenses", LICENCE),
        ];
        labels
            .map(|(name, value)| (label(name), value.to_owned()))
            .into_iter()
            .collect()
    }
}

/// What images are made of.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Folder with the programs, under the names of their binaries.
    pub binaries: &'a Path,
    /// Tag of the images, usually [`VERSION`].
    pub tag: &'a str,
    /// Commit that they were built from, where it is known.
    pub revision: Option<&'a str>,
    /// Time of that commit, in seconds since 1970.
    pub created: Option<i64>,
    /// How much work goes into making them small.
    pub compression: Compression,
}

/// An image in an archive of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Name under which a runtime finds it, with the registry.
    pub name: String,
    /// The archive.
    pub archive: PathBuf,
    /// Digest of the manifest, which is the digest of the image.
    pub digest: Digest,
    /// Bytes that are stored and sent.
    pub size: u64,
}

/// Builds the images, each as an archive in `output`: `inference-monitor-operator.tar` and so on.
pub fn build(request: &Request<'_>, output: &Path) -> anyhow::Result<Vec<BuiltImage>> {
    fs::create_dir_all(output).with_context(|| format!("failed to create {}", output.display()))?;
    let layers = tempfile::tempdir_in(output).with_context(|| format!("failed to write to {}", output.display()))?;
    let write = |contents: &Contents, title: &str| contents.write_layer(layers.path(), title, request.compression);
    let lower = write(&shared(request.binaries)?, SHARED)?;
    let mut built = Vec::new();
    for program in PROGRAMS {
        let upper = write(&own(&program, request.binaries)?, program.binary)?;
        let archive = output.join(format!("{}.tar", program.image));
        for written in write_archive(&archive, &[image(&program, request, vec![lower.clone(), upper])])? {
            built.push(BuiltImage {
                name: written.name,
                archive: archive.clone(),
                digest: written.digest,
                size: written.size,
            });
        }
    }
    Ok(built)
}

/// Writes what is in the layers to folders: [`SHARED`], and one for each component.
pub fn write_root_file_systems(binaries: &Path, output: &Path) -> anyhow::Result<()> {
    let write = |name: &str, contents: &Contents| -> anyhow::Result<()> {
        let folder = output.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let layers =
            tempfile::tempdir_in(output).with_context(|| format!("failed to write to {}", output.display()))?;
        contents
            .write_layer(layers.path(), name, Compression::None)?
            .unpack(&folder)
    };
    write(SHARED, &shared(binaries)?)?;
    for program in PROGRAMS {
        write(program.component, &own(&program, binaries)?)?;
    }
    Ok(())
}

/// The lower layer: libraries, and what glibc and container runtimes look for.
fn shared(binaries: &Path) -> anyhow::Result<Contents> {
    let mut contents = Contents::new();
    let programs = PROGRAMS.map(|program| binaries.join(program.binary));
    for library in libraries::needed(&programs.each_ref().map(PathBuf::as_path))? {
        libraries::add(&mut contents, &library)?;
    }
    let users = format!("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n");
    contents.bytes("/etc/passwd", users, FILE)?;
    contents.bytes("/etc/group", format!("root:x:0:\nnonroot:x:{USER}:\n"), FILE)?;
    // Without it the order is that of glibc's version. /etc/hosts comes first: kubelet writes the name of the pod into it.
    contents.bytes(
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
        FILE,
    )?;
    // NVIDIA's runtime hook adds the folder of the driver's libraries to these, but makes no cache where there was none.
    contents.bytes("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n", FILE)?;
    contents.folder("/etc/ld.so.conf.d", FOLDER)?;
    contents.bytes("/etc/ld.so.cache", "", FILE)?;
    contents.folder("/tmp", TEMPORARY)?;
    Ok(contents)
}

/// The upper layer: the program.
fn own(program: &Program, binaries: &Path) -> anyhow::Result<Contents> {
    let mut contents = Contents::new();
    contents.file(program.path(), binaries.join(program.binary), PROGRAM)?;
    Ok(contents)
}

fn image(program: &Program, request: &Request<'_>, layers: Vec<Layer>) -> Image {
    let mut labels = program.labels();
    labels.extend(
        request
            .revision
            .map(|revision| (label("revision"), revision.to_owned())),
    );
    Image {
        name: format!("{}:{}", program.image, request.tag),
        layers,
        config: Config {
            entrypoint: vec![program.path()],
            env: ENVIRONMENT.map(str::to_owned).to_vec(),
            // As numbers: kubelet cannot tell whether a name is root, and refuses it under runAsNonRoot.
            user: format!("{USER}:{USER}"),
            labels,
            ..Config::default()
        },
        created: request.created,
    }
}

/// A label that the OCI gives a meaning.
fn label(name: &str) -> String {
    format!("org.opencontainers.image.{name}")
}
