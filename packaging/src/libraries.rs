//! The shared libraries that a program needs, and where its image must have them.
//!
//! The dynamic loader of this machine says what it would load, so that no rule of its search is written here a second
//! time. A library goes into an image under the path of this machine, with every symbolic link on the way: the loader in
//! the image then finds it as the one here does, whatever the distribution and the processor.

use crate::oci::Contents;
use anyhow::{Context, bail, ensure};
use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
    process::Command,
};

/// The library in whose folder the other parts of glibc are.
const GLIBC: &str = "libc.so.6";
/// What `libnvidia-ml.so.1` and libraries like it need of glibc. They are opened at run time, so no program names them; the
/// first three are empty since glibc 2.34, and a library that was linked against an older one still asks for them.
const FOR_OPENED_LIBRARIES: [&str; 5] = ["libdl.so.2", "libpthread.so.0", "librt.so.1", "libm.so.6", GLIBC];
/// From this version on glibc resolves host names by itself; older ones open a library for each service in nsswitch.conf.
const LEAST_GLIBC: (u32, u32) = (2, 34);
/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;
/// Mode of every library: what the files have here may depend on who installed them.
const MODE: u32 = 0o755;

/// The libraries that some programs need, the loader included, with absolute paths. None for programs without a loader.
pub fn needed(programs: &[&Path]) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let Some(loader) = loader(program).with_context(|| format!("failed to read {}", program.display()))? else {
            continue;
        };
        let listed = run(&loader, &["--list".as_ref(), program])?;
        found.extend(parse_list(&listed).with_context(|| format!("{} cannot run here", program.display()))?);
        let version = run(&loader, &["--version".as_ref()])?;
        check_version(version.lines().next().unwrap_or_default())?;
        found.insert(loader);
    }
    let glibc = found.iter().find(|path| path.ends_with(GLIBC)).cloned();
    for name in FOR_OPENED_LIBRARIES {
        found.extend(glibc.as_ref().map(|glibc| glibc.with_file_name(name)));
    }
    Ok(found)
}

/// Adds a file under its own path, with the links that lead to it.
pub fn add(contents: &mut Contents, path: &Path) -> anyhow::Result<()> {
    let mut done = PathBuf::from("/");
    let mut left: VecDeque<OsString> = parts(path)?;
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            done.pop();
            continue;
        }
        let here = done.join(&part);
        let metadata = fs::symlink_metadata(&here).with_context(|| format!("failed to look at {}", here.display()))?;
        if metadata.is_symlink() {
            links += 1;
            ensure!(links <= MOST_LINKS, "{} is a circle of links", path.display());
            let target = fs::read_link(&here).with_context(|| format!("failed to read {}", here.display()))?;
            contents.symlink(&here, &target)?;
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            for part in parts(&target)?.into_iter().rev() {
                left.push_front(part);
            }
        } else if metadata.is_dir() {
            done = here;
        } else {
            ensure!(left.is_empty(), "{} is no folder", here.display());
            return contents.file(&here, &here, MODE);
        }
    }
    bail!("{} is a folder", path.display())
}

fn parts(path: &Path) -> anyhow::Result<VecDeque<OsString>> {
    let mut parts = VecDeque::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push_back(part.to_owned()),
            Component::ParentDir => parts.push_back("..".into()),
            Component::RootDir | Component::CurDir => {}
            Component::Prefix(_) => bail!("{} is no path of this system", path.display()),
        }
    }
    Ok(parts)
}

fn run(program: &Path, arguments: &[&Path]) -> anyhow::Result<String> {
    // Without the environment: LD_LIBRARY_PATH and its like hold here and not in a container.
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .output()
        .with_context(|| format!("failed to start {}", program.display()))?;
    let text = String::from_utf8(output.stdout).context("the loader wrote what is not UTF-8")?;
    ensure!(
        output.status.success(),
        "{}: {}\n{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(text)
}

/// Reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0000000000)`.
fn parse_list(listed: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in listed.lines().map(str::trim) {
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        ensure!(!path.starts_with("not found"), "{name} is not installed");
        // What has no path is no file: the kernel's linux-vdso.so.1.
        if path.starts_with('/') {
            found.push(path.rsplit_once(" (").map_or(path, |(path, _)| path).into());
        }
    }
    Ok(found)
}

/// Reads `ld.so (Debian GLIBC 2.36-9) stable release version 2.36.`
fn check_version(line: &str) -> anyhow::Result<()> {
    let version = line.split_whitespace().next_back().unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        bail!("cannot tell the version of glibc from: {line}");
    };
    let (least_major, least_minor) = LEAST_GLIBC;
    ensure!(
        (major, minor) >= LEAST_GLIBC,
        "glibc {major}.{minor} would not resolve host names in an image: build it where glibc is {least_major}.{least_minor} \
         or newer"
    );
    Ok(())
}

/// The dynamic loader that an ELF file of 64 bits asks for; none when it is linked statically.
fn loader(program: &Path) -> anyhow::Result<Option<PathBuf>> {
    const MAGIC_OF_64_BITS_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    const PT_INTERP: u32 = 3;
    let mut file = File::open(program)?;
    let mut header = [0; 64];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => bail!("it is too short for a program"),
        read => read?,
    }
    ensure!(
        header.starts_with(MAGIC_OF_64_BITS_LITTLE_ENDIAN),
        "it is no ELF file of 64 bits"
    );
    let (table, size, count) = (
        u64_at(&header, 32)?,
        u64::from(u16_at(&header, 54)?),
        u64::from(u16_at(&header, 56)?),
    );
    for n in 0..count {
        let mut segment = [0; 56];
        file.seek(SeekFrom::Start(table + n * size))?;
        file.read_exact(&mut segment)?;
        if u32_at(&segment, 0)? != PT_INTERP {
            continue;
        }
        let mut path = Vec::new();
        file.seek(SeekFrom::Start(u64_at(&segment, 8)?))?;
        file.take(u64_at(&segment, 32)?).read_to_end(&mut path)?;
        path.retain(|byte| *byte != 0);
        return Ok(Some(OsString::from_vec(path).into()));
    }
    Ok(None)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    let found = bytes.get(at..at + N).context("it ends too early")?;
    Ok(found.try_into()?)
}

fn u16_at(bytes: &[u8], at: usize) -> anyhow::Result<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> anyhow::Result<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::{add, check_version, needed, parse_list};
    use crate::oci::Contents;
    use std::{env, fs, os::unix::fs::symlink, path::Path};
    use tempfile::tempdir;

    #[test]
    fn the_list_of_the_loader_is_read() {
        let listed = "\tlinux-vdso.so.1 (0x00007fe37a9db000)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fe377c1e000)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007fe37a9dd000)\n";
        assert_eq!(
            parse_list(listed).expect("list"),
            [
                Path::new("/lib/x86_64-linux-gnu/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        let error = parse_list("\tlibnone.so.1 => not found\n").expect_err("refused");
        assert_eq!(error.to_string(), "libnone.so.1 is not installed");
    }

    #[test]
    fn a_glibc_that_opens_services_is_refused() {
        check_version("ld.so (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.").expect("2.36");
        check_version("ld.so (GNU libc) stable release version 3.0.").expect("3.0");
        for line in [
            "ld.so (GNU libc) stable release version 2.31.",
            "musl libc (x86_64)",
            "",
        ] {
            assert!(check_version(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_program_needs_its_loader_and_what_opened_libraries_ask_for() {
        let program = env::current_exe().expect("this program");
        let needed = needed(&[&program]).expect("libraries");
        let names: Vec<String> = needed
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        for name in [
            "libc.so.6",
            "libgcc_s.so.1",
            "libdl.so.2",
            "libpthread.so.0",
            "librt.so.1",
            "libm.so.6",
        ] {
            assert!(names.iter().any(|there| there == name), "{name} among {names:?}");
        }
        assert!(names.iter().any(|name| name.starts_with("ld-linux")), "{names:?}");
        assert!(needed.iter().all(|path| path.is_file()), "{needed:?}");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(needed(&[&manifest]).is_err());
    }

    #[test]
    fn a_library_comes_with_the_links_to_it() {
        let folder = tempdir().expect("folder");
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("usr/lib/multi")).expect("folder");
        fs::write(at("usr/lib/multi/libx.so.1.2"), "x").expect("file");
        symlink("usr/lib", at("lib")).expect("link");
        symlink("../multi/libx.so.1.2", at("usr/lib/multi/libx.so.1")).expect("link");
        symlink(at("lib/multi/libx.so.1"), at("libx.so")).expect("link");
        symlink("circle", at("circle")).expect("link");

        let mut contents = Contents::new();
        add(&mut contents, &at("libx.so")).expect("added");
        let paths: Vec<_> = contents
            .paths()
            .filter(|path| path.starts_with(folder.path()))
            .collect();
        let expected = [
            "lib",
            "libx.so",
            "usr",
            "usr/lib",
            "usr/lib/multi",
            "usr/lib/multi/libx.so.1",
            "usr/lib/multi/libx.so.1.2",
        ];
        assert_eq!(paths[1..], expected.map(at));
        for path in ["circle", "usr/lib", "gone"] {
            assert!(add(&mut contents, &at(path)).is_err(), "{path}");
        }
    }
}
