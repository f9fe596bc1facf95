//! Finds and loads the driver library.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::mem;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::MonitorOptions;
use super::failure::Problem;
use super::heart::Calls;
use crate::sample::DriverProblem;
use crate::snapshot::CallClass;

const LIBRARY: &str = "libnvidia-ml.so.1";

/// Where the library is when the loader does not know it: driver roots of hosts, of the GPU Operator's driver container, and of GKE.
pub(super) fn driver_folders() -> Vec<PathBuf> {
    const ROOTS: [&str; 4] = [
        "/",
        "/run/nvidia/driver",
        "/usr/local/nvidia",
        "/home/kubernetes/bin/nvidia",
    ];
    const FOLDERS: [&str; 6] = [
        "usr/lib64",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "lib64",
        "lib/x86_64-linux-gnu",
        "lib",
    ];
    ROOTS
        .iter()
        .flat_map(|root| FOLDERS.iter().map(move |folder| Path::new(root).join(folder)))
        .collect()
}

/// Loads and initialises the first library that works.
pub(super) fn open(options: &MonitorOptions, calls: &mut Calls<'_>) -> Result<Nvml, Problem> {
    if let Some(path) = &options.library_path {
        return init(path.as_os_str(), calls).map_err(|error| Problem::of(&path.display().to_string(), &error));
    }
    let mut refused = None;
    let mut not_loaded = String::new();
    let by_name = std::iter::once(PathBuf::from(LIBRARY));
    let in_folders = options
        .search_paths
        .iter()
        .map(|folder| folder.join(LIBRARY))
        .filter(|path| path.is_file());
    for path in by_name.chain(in_folders) {
        match init(path.as_os_str(), calls) {
            Ok(nvml) => return Ok(nvml),
            Err(NvmlError::LibloadingError(error)) => _ = write!(not_loaded, "{error}; "),
            // A driver that was found and refuses says more than libraries that were not found. Another one may still fit the kernel module.
            Err(error) => refused = refused.or(Some(Problem::of(&path.display().to_string(), &error))),
        }
    }
    Err(refused.unwrap_or_else(|| Problem {
        category: DriverProblem::LibraryNotFound,
        message: format!("{not_loaded}nor does it load from {}", searched(&options.search_paths)),
        lasting: true,
        failed: Vec::new(),
    }))
}

/// The folders that were searched, for people: those that exist by name, the others by count.
fn searched(folders: &[PathBuf]) -> String {
    let (present, absent): (Vec<_>, Vec<_>) = folders.iter().partition(|folder| folder.is_dir());
    let mut names: Vec<_> = present.iter().map(|folder| folder.display().to_string()).collect();
    names.push(format!("{} folders that do not exist", absent.len()));
    names.join(", ")
}

fn init(path: &OsStr, calls: &mut Calls<'_>) -> Result<Nvml, NvmlError> {
    let nvml = calls.run(CallClass::Init, || Nvml::builder().lib_path(path).init())?;
    if let Err(error) = &nvml.lib().nvmlShutdown {
        // Dropping it would abort the process.
        let error = NvmlError::FailedToLoadSymbol(error.to_string());
        mem::forget(nvml);
        return Err(error);
    }
    Ok(nvml)
}

/// Leaves the driver and unloads its library, so that it can be replaced.
pub(super) fn close(nvml: Nvml, calls: &mut Calls<'_>) {
    // The session is over either way: when this fails, dropping `Nvml` has unloaded the library.
    _ = calls.run(CallClass::Shutdown, || nvml.shutdown());
}
