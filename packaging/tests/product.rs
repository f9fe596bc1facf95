//! The images of the product, made of stand-ins: what is in them, and that it agrees with the chart and the Dockerfile.

use infmon_packaging::{
    oci::Compression,
    product::{self, BuiltImage, ENVIRONMENT, PROGRAMS, Program, Request, SHARED, USER, VERSION},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::{TempDir, tempdir};

/// A folder with this test in the place of each program.
fn binaries() -> TempDir {
    let folder = tempdir().expect("folder");
    let program = env::current_exe().expect("this program");
    for Program { binary, .. } in PROGRAMS {
        // A link: a debug build is large, and packing follows links to files.
        std::os::unix::fs::symlink(&program, folder.path().join(binary)).expect("link");
    }
    folder
}

fn build(output: &Path) -> Vec<BuiltImage> {
    let binaries = binaries();
    let request = Request {
        binaries: binaries.path(),
        tag: VERSION,
        revision: Some("0123456789abcdef"),
        created: Some(1),
        compression: Compression::Fast,
    };
    product::build(&request, output).expect("images")
}

fn of_repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).expect(path)
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&of_repository(path)).expect(path)
}

/// Every file of a folder, with a leading slash.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("folder") {
            let entry = entry.expect("entry");
            if entry.file_type().expect("type").is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                found.push(Path::new("/").join(path.strip_prefix(folder).expect("below")));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_same_programs_give_the_same_images() {
    let (first, second) = (tempdir().expect("folder"), tempdir().expect("folder"));
    let (one, two) = (build(first.path()), build(second.path()));
    assert_eq!(one.len(), PROGRAMS.len());
    for (one, two) in one.iter().zip(&two) {
        assert_eq!((&one.name, &one.digest, one.size), (&two.name, &two.digest, two.size));
        assert_eq!(
            fs::read(&one.archive).expect("archive"),
            fs::read(&two.archive).expect("archive")
        );
    }
    // The layers were needed only to write the archives.
    assert_eq!(files(first.path()).len(), PROGRAMS.len());
}

#[test]
fn the_chart_asks_for_these_images() {
    let (chart, values) = (
        yaml("charts/inference-monitor/Chart.yaml"),
        yaml("charts/inference-monitor/values.yaml"),
    );
    assert_eq!(chart["appVersion"], VERSION);
    let folder = tempdir().expect("folder");
    for (component, built) in ["operator", "nodeDaemon"].iter().zip(build(folder.path())) {
        let repository = values[component]["image"]["repository"].as_str().expect("repository");
        assert_eq!(values[component]["image"]["tag"], "");
        assert_eq!(built.name, format!("docker.io/library/{repository}:{VERSION}"));
    }
    assert_eq!(values["operator"]["runAsUser"], USER);
}

#[test]
fn nothing_else_is_in_them() {
    let (binaries, output) = (binaries(), tempdir().expect("folder"));
    product::write_root_file_systems(binaries.path(), output.path()).expect("root file systems");
    for program in PROGRAMS {
        let files = files(&output.path().join(program.component));
        assert_eq!(files, [PathBuf::from(program.path())]);
    }
    let shared = output.path().join(SHARED);
    let (libraries, others): (Vec<_>, Vec<_>) = files(&shared).into_iter().partition(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains(".so.") && !path.starts_with("/etc")
    });
    let links = others
        .iter()
        .filter(|path| shared.join(path.strip_prefix("/").expect("/")).is_symlink());
    let expected =
        ["group", "ld.so.cache", "ld.so.conf", "nsswitch.conf", "passwd"].map(|name| Path::new("/etc").join(name));
    // On most systems /lib and /lib64 are links into /usr.
    let plain: Vec<_> = others
        .iter()
        .filter(|path| !links.clone().any(|link| link == *path))
        .collect();
    assert_eq!(plain, expected.iter().collect::<Vec<_>>());
    assert!(
        links
            .clone()
            .all(|link| link.starts_with("/lib") || link.starts_with("/lib64")),
        "{others:?}"
    );
    assert!((8..16).contains(&libraries.len()), "{libraries:?}");
}

/// The loader of the image, told to look nowhere else, finds all that a program of the image asks for.
#[test]
fn the_libraries_are_complete() {
    let (binaries, output) = (binaries(), tempdir().expect("folder"));
    product::write_root_file_systems(binaries.path(), output.path()).expect("root file systems");
    let shared = output.path().join(SHARED);
    let files: Vec<PathBuf> = files(&shared)
        .iter()
        .map(|path| shared.join(path.strip_prefix("/").expect("/")))
        .filter(|path| !path.is_symlink())
        .collect();
    let named = |start: &str| {
        let file = files.iter().find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(start))
        });
        file.expect(start).clone()
    };
    let listed = Command::new(named("ld-linux"))
        .args(["--inhibit-cache", "--list"])
        .arg(output.path().join("operator/usr/local/bin/infmon-operator"))
        .env("LD_LIBRARY_PATH", named("libc.so.6").parent().expect("folder"))
        .output()
        .expect("loader");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let found = listed.lines().filter_map(|line| line.split_once(" => "));
    for (name, path) in found.clone() {
        assert!(Path::new(path).starts_with(&shared), "{name} is {path}");
    }
    assert!(found.count() >= 2, "{listed}");
}

/// What a stage of the Dockerfile sets; a stage has what the one below it has.
#[derive(Debug, Default, Clone)]
struct Stage {
    copied: Vec<String>,
    env: Vec<String>,
    user: String,
    entrypoint: Vec<String>,
    labels: BTreeMap<String, String>,
}

fn stages(dockerfile: &str) -> BTreeMap<String, Stage> {
    let mut stages: BTreeMap<String, Stage> = BTreeMap::new();
    let mut current = String::new();
    let joined = dockerfile.replace("\\\n", " ");
    for line in joined.lines().filter(|line| !line.starts_with('#')) {
        let Some((instruction, rest)) = line.split_once(' ') else {
            continue;
        };
        if instruction == "FROM" {
            let (base, name) = rest.split_once(" AS ").expect("every stage has a name");
            let stage = stages.get(base).cloned().unwrap_or_default();
            stages.insert(name.to_owned(), stage);
            name.clone_into(&mut current);
            continue;
        }
        let stage = stages.get_mut(&current).expect("a stage");
        match instruction {
            "COPY" => stage.copied.push(rest.to_owned()),
            "ENV" => stage.env.push(rest.to_owned()),
            "USER" => rest.clone_into(&mut stage.user),
            "ENTRYPOINT" => stage.entrypoint = serde_json::from_str(rest).expect("JSON"),
            "LABEL" => {
                for label in rest.split("\" ").map(str::trim) {
                    let (name, value) = label.split_once('=').expect("name=value");
                    stage.labels.insert(name.to_owned(), value.trim_matches('"').to_owned());
                }
            }
            // What these do is not part of an image.
            other => assert!(
                ["ARG", "WORKDIR", "RUN"].contains(&other),
                "this test does not know {other}"
            ),
        }
    }
    stages
}

#[test]
fn the_dockerfile_gives_the_same() {
    let dockerfile = of_repository("Dockerfile");
    let stages = stages(&dockerfile);
    for program in PROGRAMS {
        let stage = &stages[program.component];
        let folders = [SHARED, program.component];
        assert_eq!(
            stage.copied,
            folders.map(|folder| format!("--from=build /rootfs/{folder}/ /"))
        );
        assert_eq!(stage.env, ENVIRONMENT);
        assert_eq!(stage.user, format!("{USER}:{USER}"));
        assert_eq!(stage.entrypoint, [program.path()]);
        let mut labels = program.labels();
        labels.insert("org.opencontainers.image.revision".into(), "${REVISION}".into());
        assert_eq!(stage.labels, labels);
        // The commands in its first lines.
        let tag = format!("-t {}:{VERSION} .", program.image);
        assert!(dockerfile.contains(&tag), "{tag}");
    }
    assert!(stages["build"].copied.contains(&". .".to_owned()));
    assert!(dockerfile.contains("cargo xtask image --rootfs /rootfs\n"));
}

#[test]
fn the_dockerfile_compiles_with_the_same_rust() {
    let toolchain = of_repository("rust-toolchain.toml");
    let channel = toolchain.split('"').nth(1).expect("channel");
    let (minor, _) = channel.rsplit_once('.').expect("version");
    let from = format!("FROM rust:{minor}-bookworm AS build\n");
    assert!(of_repository("Dockerfile").contains(&from), "{from}");
}
