//! Whose control group a path is. Pure.
//!
//! The kubelet makes one group per pod, named by its uid, and the runtime one per container in it, named by its id:
//!
//! | driver | path |
//! |---|---|
//! | cgroupfs | `/kubepods[/burstable\|/besteffort]/pod<uid>/<id>` |
//! | systemd | `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with _>.slice/cri-containerd-<id>.scope` |
//! | kind, kubelets in containers | the same below other groups, for example `/kubelet.slice/kubelet-kubepods.slice/...` |
//! | containerd with a path instead of a slice | `...-pod<uid with _>.slice:cri-containerd:<id>` |
//!
//! The uid of a static pod is the 32 digits of a hash. Sources: Kubernetes `pkg/kubelet/cm/cgroup_manager_linux.go` and
//! `pod_container_manager_linux.go`, containerd `internal/cri/server/container_create_linux.go`, cri-o `internal/config/cgmgr`.

/// Digits of a container's id.
const CONTAINER_DIGITS: usize = 64;
/// Lengths of the groups of a uid.
const UID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
/// Digits of a static pod's hash.
const HASH_DIGITS: usize = 32;

/// Whose a control group is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodCgroup {
    /// Uid of the pod, in lower case with `-`; of a static pod the hash of its file.
    pub pod_uid: String,
    /// Id of the container; `None` for the group of the pod itself, or a group that is no container's.
    pub container_id: Option<String>,
}

impl PodCgroup {
    /// Reads a path as in `/proc/<pid>/cgroup` or below the mount; `None` where it is of no pod.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let mut pod_uid = None;
        let mut container = None;
        for segment in path.split('/') {
            // With several, the innermost pod: a kubelet may run inside a container of another one.
            if let Some(uid) = pod_uid_in(segment) {
                pod_uid = Some(uid);
                container = None;
            }
            if pod_uid.is_some() {
                container = container_id_in(segment).or(container);
            }
        }
        Some(Self {
            pod_uid: pod_uid?,
            container_id: container,
        })
    }
}

/// The uid of a pod in the name of its group.
#[must_use]
pub fn pod_uid_in(name: &str) -> Option<String> {
    name.match_indices("pod")
        .find_map(|(at, word)| uid_at_start(&name[at + word.len()..]))
}

/// The id of a container in the name of its group; that of the process that watches it (`crio-conmon-`) is none.
#[must_use]
pub fn container_id_in(name: &str) -> Option<String> {
    if name.starts_with("crio-conmon-") {
        return None;
    }
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let start = name.len().checked_sub(CONTAINER_DIGITS)?;
    let id = name.get(start..)?;
    let apart = name
        .get(..start)?
        .chars()
        .next_back()
        .is_none_or(|before| matches!(before, '-' | ':'));
    (apart && id.bytes().all(is_digit)).then(|| id.to_ascii_lowercase())
}

fn uid_at_start(text: &str) -> Option<String> {
    grouped(text).or_else(|| {
        let hash = text.get(..HASH_DIGITS)?;
        let ends = text.as_bytes().get(HASH_DIGITS).is_none_or(|next| !is_digit(*next));
        (ends && hash.bytes().all(is_digit)).then(|| hash.to_ascii_lowercase())
    })
}

fn grouped(text: &str) -> Option<String> {
    let mut rest = text;
    let mut groups = Vec::with_capacity(UID_GROUPS.len());
    for (place, length) in UID_GROUPS.into_iter().enumerate() {
        if place > 0 {
            rest = rest.strip_prefix(['-', '_'])?;
        }
        let group = rest.get(..length)?;
        if !group.bytes().all(is_digit) {
            return None;
        }
        groups.push(group);
        rest = &rest[length..];
    }
    let ends = rest.bytes().next().is_none_or(|next| !is_digit(next));
    ends.then(|| groups.join("-").to_ascii_lowercase())
}

const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6fc4a17a-9b0a-4ab4-833e-7004a16f89ce";
    const HASH: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";

    #[test]
    fn every_form_is_known() {
        let id = "d".repeat(64);
        let low = UID.replace('-', "_");
        let cases = [
            (format!("/kubepods/burstable/pod{UID}/{id}"), UID, true),
            (format!("/kubepods/pod{UID}"), UID, false),
            (format!("/kubepods/besteffort/pod{HASH}/{id}"), HASH, true),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice/cri-containerd-{id}.scope"
                ),
                UID,
                true,
            ),
            (
                format!("/kubepods.slice/kubepods-pod{low}.slice/crio-{id}.scope"),
                UID,
                true,
            ),
            (
                format!("/kubepods.slice/kubepods-pod{low}.slice/crio-conmon-{id}.scope"),
                UID,
                false,
            ),
            (
                format!("/kubepods.slice/kubepods-pod{HASH}.slice/docker-{id}.scope"),
                HASH,
                true,
            ),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{low}.slice/cri-containerd-{id}.scope"
                ),
                UID,
                true,
            ),
            (
                format!("/system.slice/containerd.service/kubepods-besteffort-pod{low}.slice:cri-containerd:{id}"),
                UID,
                true,
            ),
            (
                format!("/../../kubepods-pod{low}.slice/cri-containerd-{id}.scope/inner"),
                UID,
                true,
            ),
            (
                // kind: the node itself is a container.
                format!("/docker/{}/kubelet/kubepods/pod{UID}/{id}", "e".repeat(64)),
                UID,
                true,
            ),
        ];
        for (path, uid, in_container) in cases {
            let expected = PodCgroup {
                pod_uid: uid.to_owned(),
                container_id: in_container.then(|| id.clone()),
            };
            assert_eq!(PodCgroup::parse(&path), Some(expected), "{path}");
        }
    }

    #[test]
    fn the_innermost_pod_counts() {
        let inner = UID.replace("6fc4", "7fc4");
        let path = format!("/kubepods/pod{UID}/{}/kubepods/pod{inner}", "a".repeat(64));
        let found = PodCgroup::parse(&path).unwrap();
        assert_eq!((found.pod_uid, found.container_id), (inner, None));
    }

    #[test]
    fn what_is_no_pod_is_none() {
        let paths = [
            "",
            "/",
            "/user.slice/user-1000.slice",
            "/kubepods/burstable",
            "/kubepods.slice",
            "/system.slice/podman.service",
            "/kubepods/pod6fc4a17a-9b0a-4ab4-833e",
            "/kubepods/pod6fc4a17a-9b0a-4ab4-833e-7004a16f89ceff",
            "/kubepods/pod0a1b2c3d4e5f60718293a4b5c6d7e8f9a",
            "/machine.slice/libpod-ünïcode-€",
        ];
        for path in paths {
            assert_eq!(PodCgroup::parse(path), None, "{path}");
        }
    }
}
