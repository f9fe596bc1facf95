//! The processes of a pod, as the machine sees them: what `kill -9` needs.

use std::fs;

/// Process ids of the containers of a pod, by the pod's uid. The process that holds the pod's namespaces is among them, so a program's
/// name goes with the question.
#[must_use]
pub fn of(uid: &str, program: &str) -> Vec<u32> {
    // The cgroupfs driver names the group `pod<uid>`.
    let group = format!("/pod{uid}/");
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| {
            fs::read_to_string(format!("/proc/{id}/cgroup")).is_ok_and(|groups| groups.contains(&group))
                && fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| {
                    line.split(|byte| *byte == 0)
                        .next()
                        .is_some_and(|first| first.ends_with(program.as_bytes()))
                })
        })
        .collect()
}
