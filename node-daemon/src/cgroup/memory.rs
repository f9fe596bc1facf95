//! The memory of one pod, from the files of its control groups.

use super::counters::{full_average_10, limit, number, value_of};
use super::path::container_id_in;
use super::tree::{Version, folders};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Longest text that is read; `memory.stat` has some 3 KiB.
const TEXT_MAX_BYTES: u64 = 64 * 1024;
/// Containers looked at per pod.
const CONTAINERS_MAX: usize = 64;

/// What the counters of a pod say: its own, or those of its container that is nearest to its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PodMemory {
    pub(crate) working_set_bytes: u64,
    pub(crate) active_file_bytes: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) pressure_full_percent: Option<f64>,
    pub(crate) oom_kills_total: Option<u64>,
}

/// Names of the files and keys of a version.
struct Names {
    usage: &'static str,
    limit: &'static str,
    inactive_file: &'static str,
    active_file: &'static str,
    kills: &'static str,
}

const fn names(version: Version) -> Names {
    match version {
        Version::V1 => Names {
            usage: "memory.usage_in_bytes",
            limit: "memory.limit_in_bytes",
            // Without `total_` they leave out the groups below.
            inactive_file: "total_inactive_file",
            active_file: "total_active_file",
            kills: "memory.oom_control",
        },
        Version::V2 => Names {
            usage: "memory.current",
            limit: "memory.max",
            inactive_file: "inactive_file",
            active_file: "active_file",
            kills: "memory.events",
        },
    }
}

/// Level of one group.
#[derive(Clone, Copy)]
struct Level {
    working_set: u64,
    active_file: Option<u64>,
    limit: Option<u64>,
}

impl Level {
    /// Part of the limit that the kernel cannot take back.
    fn share(&self) -> Option<f64> {
        let limit = self.limit.filter(|limit| *limit > 0)?;
        let held = self.working_set.saturating_sub(self.active_file.unwrap_or(0));
        Some(held as f64 / limit as f64)
    }
}

/// Reads a pod. What the kernel does not have stays `None`; without level there is no reading.
///
/// # Errors
/// When the folder is gone, or usage or statistics cannot be read.
pub(crate) fn read(version: Version, pod: &Path) -> io::Result<PodMemory> {
    let own = level(version, pod)?;
    let own_kills = kills(version, pod);
    let mut nearest = own;
    let mut kills_below = 0_u64;
    let is_container = |folder: &Path| {
        let name = folder.file_name().and_then(|name| name.to_str());
        name.and_then(container_id_in).is_some()
    };
    for container in folders(pod).filter(|folder| is_container(folder)).take(CONTAINERS_MAX) {
        // A container that ends meanwhile is passed over.
        let Ok(level) = level(version, &container) else {
            continue;
        };
        if level.share() > nearest.share() {
            nearest = level;
        }
        kills_below = kills_below.saturating_add(kills(version, &container).unwrap_or(0));
    }
    Ok(PodMemory {
        working_set_bytes: nearest.working_set,
        active_file_bytes: nearest.active_file,
        limit_bytes: nearest.limit,
        pressure_full_percent: text(&pod.join("memory.pressure"))
            .ok()
            .and_then(|text| full_average_10(&text)),
        oom_kills_total: own_kills.map(|own| match version {
            // Each group counts its own.
            Version::V1 => own.saturating_add(kills_below),
            // Counts those below, and keeps them when a container goes; unless mounted with memory_localevents.
            Version::V2 => own.max(kills_below),
        }),
    })
}

fn level(version: Version, folder: &Path) -> io::Result<Level> {
    let names = names(version);
    let unknown = |file: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{file} is not understood"));
    let usage = number(&text(&folder.join(names.usage))?).ok_or_else(|| unknown(names.usage))?;
    let stat = text(&folder.join("memory.stat"))?;
    let inactive = value_of(&stat, names.inactive_file).ok_or_else(|| unknown("memory.stat"))?;
    let working_set = usage.saturating_sub(inactive);
    Ok(Level {
        working_set,
        active_file: value_of(&stat, names.active_file).map(|bytes| bytes.min(working_set)),
        limit: limit(&text(&folder.join(names.limit))?).ok_or_else(|| unknown(names.limit))?,
    })
}

fn kills(version: Version, folder: &Path) -> Option<u64> {
    let text = text(&folder.join(names(version).kills)).ok()?;
    value_of(&text, "oom_kill")
}

/// A file of the tree, bounded. A link is not followed: the tree has none.
fn text(path: &Path) -> io::Result<String> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(TEXT_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
