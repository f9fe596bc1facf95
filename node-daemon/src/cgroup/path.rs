//! Paths of control groups, as kubelets and container runtimes name them: one place reads every form. Pure.
//!
//! | | |
//! |---|---|
//! | cgroupfs driver | `/kubepods[/burstable or /besteffort]/pod<uid>/<container>` |
//! | systemd driver | `/kubepods.slice/[kubepods-burstable.slice/]kubepods-burstable-pod<uid with _>.slice/<runtime>-<container>.scope` |
//! | a runtime that was told of the wrong driver | `kubepods-burstable-pod<uid with _>.slice:cri-containerd:<container>` |
//! | kind | `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/...` |
//!
//! A reader in a cgroup namespace of its own sees the paths of others as `/../../...`, cut off below what both have in common; the part of
//! the pod is there for every other pod. A static pod has 32 hexadecimal digits for a uid. Kubelet:
//! `pkg/kubelet/cm/cgroup_manager_linux.go` and `pod_container_manager_linux.go` of kubernetes/kubernetes.

use std::borrow::Cow;

/// Hexadecimal digits of a container id.
const CONTAINER_DIGITS: usize = 64;
/// Lengths of the parts of a uid.
const UID_PARTS: [usize; 5] = [8, 4, 4, 4, 12];
const UID_LENGTH: usize = 36;
const STATIC_UID_DIGITS: usize = 32;
/// The process that watches over a container of CRI-O: in its pod, and in none of its containers.
const MONITOR: &str = "conmon-";

/// The pod and the container that a path belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPath<'a> {
    /// Uid, lower case with dashes; 32 digits for a static pod.
    pub(crate) uid: Cow<'a, str>,
    /// Container id; `None` for the pod itself, and for what is in the pod and in no container.
    pub(crate) container: Option<&'a str>,
}

/// The pod of a path; of several, as where a cluster runs in a container, the innermost. `None` where no pod is in it.
pub(crate) fn pod_of(path: &str) -> Option<PodPath<'_>> {
    let mut from = path.len();
    while let Some(at) = path.get(..from)?.rfind("pod") {
        let rest = path.get(at + 3..)?;
        if begins_a_name(path, at)
            && let Some((uid, rest)) = uid(rest)
        {
            return Some(PodPath {
                uid,
                container: container_id_in(rest),
            });
        }
        from = at;
    }
    None
}

/// The pod of a process, from its `/proc/PID/cgroup`: lines `number:controllers:path`, one on a machine with cgroup v2 and one for each
/// hierarchy with v1. The first line that names a container decides, or else the first that names a pod.
pub(crate) fn pod_of_process(lines: &str) -> Option<PodPath<'_>> {
    let mut pods = lines.lines().filter_map(|line| pod_of(line.splitn(3, ':').nth(2)?));
    let first = pods.next()?;
    if first.container.is_some() {
        return Some(first);
    }
    Some(pods.find(|pod| pod.container.is_some()).unwrap_or(first))
}

/// The uid of a pod in the name of its group, with `-`.
pub(crate) fn pod_uid_in(name: &str) -> Option<String> {
    pod_of(name).map(|pod| pod.uid.into_owned())
}

/// Whether the word `pod` at this place stands by itself, or after a dash as in the name of a slice.
fn begins_a_name(path: &str, at: usize) -> bool {
    path.get(..at)
        .is_some_and(|before| before.is_empty() || before.ends_with(['/', '-']))
}

/// The uid at the start of a text, and what follows.
fn uid(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let ends = |length: usize| {
        let rest = text.get(length..)?;
        (rest.is_empty() || rest.starts_with(['/', '.', ':'])).then_some(rest)
    };
    if let Some(rest) = ends(UID_LENGTH) {
        let uid = text.get(..UID_LENGTH)?;
        let mut parts = uid.split(['-', '_']);
        let well_formed = UID_PARTS.iter().all(|length| {
            parts
                .next()
                .is_some_and(|part| part.len() == *length && is_hexadecimal(part))
        });
        let plain = uid
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_digit() || byte.is_ascii_lowercase());
        return well_formed.then(|| {
            let uid = if plain {
                Cow::Borrowed(uid)
            } else {
                Cow::Owned(uid.replace('_', "-").to_ascii_lowercase())
            };
            (uid, rest)
        });
    }
    let rest = ends(STATIC_UID_DIGITS)?;
    let uid = text.get(..STATIC_UID_DIGITS).filter(|uid| is_hexadecimal(uid))?;
    Some((Cow::Borrowed(uid), rest))
}

/// The first container in what follows a pod, or in the name of one group below it; a container within it is its own affair.
pub(crate) fn container_id_in(rest: &str) -> Option<&str> {
    let words = rest.split(['/', '.', ':']);
    words.filter(|word| !word.contains(MONITOR)).find_map(|word| {
        let id = word.rsplit(['-', '_']).next()?;
        (id.len() == CONTAINER_DIGITS && is_hexadecimal(id)).then_some(id)
    })
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6f1c9e52-0b7e-4f8e-9d6b-2f1f3c1d0a11";
    const STATIC: &str = "0123456789abcdef0123456789abcdef";

    /// `P` stands for the uid, `U` for it with low lines, `S` for a static pod's, `C` and `D` for containers.
    fn written(pattern: &str) -> String {
        let id = |digit: &str| digit.repeat(CONTAINER_DIGITS);
        pattern
            .replace("<P>", UID)
            .replace("<U>", &UID.replace('-', "_"))
            .replace("<S>", STATIC)
            .replace("<C>", &id("c"))
            .replace("<D>", &id("d"))
    }

    #[test]
    fn every_form_names_its_pod() {
        let (pod, fixed) = (UID, STATIC);
        let cases = [
            // cgroupfs driver, with the three classes of service.
            ("/kubepods/pod<P>/<C>", pod, "c"),
            ("/kubepods/burstable/pod<P>/<C>", pod, "c"),
            ("/kubepods/besteffort/pod<P>/<C>", pod, "c"),
            ("/kubepods/besteffort/pod<P>", pod, ""),
            // systemd driver.
            (
                "/kubepods.slice/kubepods-pod<U>.slice/cri-containerd-<C>.scope",
                pod,
                "c",
            ),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<U>.slice/cri-containerd-<C>.scope",
                pod,
                "c",
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<U>.slice/crio-<C>.scope/container",
                pod,
                "c",
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<U>.slice/docker-<C>.scope",
                pod,
                "c",
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<U>.slice/crio-conmon-<C>.scope",
                pod,
                "",
            ),
            ("/kubepods.slice/kubepods-pod<U>.slice", pod, ""),
            // The runtime was told of another driver than the kubelet.
            (
                "/system.slice/containerd.service/kubepods-burstable-pod<U>.slice:cri-containerd:<C>",
                pod,
                "c",
            ),
            // kind, and other nodes that are containers.
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod<U>.slice/\
                 cri-containerd-<C>.scope",
                pod,
                "c",
            ),
            (
                "/docker/<D>/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod<U>.slice/cri-containerd-<C>.scope",
                pod,
                "c",
            ),
            ("/docker/<D>/kubepods/burstable/pod<P>/<C>", pod, "c"),
            (
                "/kubepods/pod00000000-0000-0000-0000-000000000000/<D>/kubepods/pod<P>/<C>",
                pod,
                "c",
            ),
            // As seen from another cgroup namespace.
            (
                "/../../kubepods-burstable-pod<U>.slice/cri-containerd-<C>.scope",
                pod,
                "c",
            ),
            ("/../../pod<P>/<C>", pod, "c"),
            ("/../../../kubepods-pod<U>.slice/crio-<C>.scope", pod, "c"),
            // Static pods.
            ("/kubepods/burstable/pod<S>/<C>", fixed, "c"),
            (
                "/kubepods.slice/kubepods-pod<S>.slice/cri-containerd-<C>.scope",
                fixed,
                "c",
            ),
            // A container in the container, and a virtual machine as the container.
            ("/kubepods/pod<P>/<C>/docker/<D>", pod, "c"),
            ("/kubepods/burstable/pod<P>/kata_<C>", pod, "c"),
            ("/kubepods/burstable/pod<P>/kata_overhead", pod, ""),
        ];
        for (pattern, uid, container) in cases {
            let path = written(pattern);
            let found = pod_of(&path);
            let found = found
                .as_ref()
                .map(|pod| (pod.uid.as_ref(), pod.container.unwrap_or_default()));
            let id = container.repeat(CONTAINER_DIGITS);
            assert_eq!(found, Some((uid, id.as_str())), "{pattern}");
        }
    }

    #[test]
    fn what_names_no_pod_is_not_guessed() {
        for path in [
            "",
            "/",
            "/init.scope",
            "/..",
            "/../../../../system.slice/sshd.service",
            "/system.slice/docker-<C>.scope",
            "/user.slice/user-1000.slice/session-3.scope",
            "/kubepods",
            "/kubepods.slice/kubepods-burstable.slice",
            "/machine.slice/libpod-<C>.scope",
            "/machine.slice/libpod_pod_<C>.slice",
            "/kubepods/pod6f1c9e52",
            "/kubepods/pod<P>x/<C>",
            "/kubepods/pod<S>0/<C>",
            "/kubepods/podg1234567-0b7e-4f8e-9d6b-2f1f3c1d0a11/<C>",
            "/kubepods/pod6f1c9e5200b7e04f8e09d6b02f1f3c1d0a11aa/<C>",
            "/tripod<P>/<C>",
            "/kubepods/pod\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(pod_of(&written(path)), None, "{path}");
        }
    }

    #[test]
    fn a_process_is_found_by_any_of_its_hierarchies() {
        let v1 = "12:cpuset:/kubepods/pod<P>/<C>\n5:memory:/kubepods/pod<P>/<C>\n1:name=systemd:/kubepods/pod<P>/<C>\n0::/\n";
        let cases = [
            (
                "0::/kubepods.slice/kubepods-pod<U>.slice/cri-containerd-<C>.scope\n",
                Some("c"),
            ),
            ("0::/../../kubepods-pod<U>.slice/cri-containerd-<C>.scope\n", Some("c")),
            (v1, Some("c")),
            // A hierarchy that the runtime leaves alone, and a colon in the path.
            (
                "3:misc:/\n2:pids:/kubepods/pod<P>\n1:memory:/kubepods/pod<P>/<C>\n",
                Some("c"),
            ),
            (
                "0::/system.slice/containerd.service/kubepods-pod<U>.slice:cri-containerd:<C>\n",
                Some("c"),
            ),
            (
                "0::/kubepods.slice/kubepods-pod<U>.slice/crio-conmon-<C>.scope\n",
                Some(""),
            ),
            ("0::/system.slice/sshd.service\n", None),
            ("", None),
            ("nonsense\n0:\n", None),
        ];
        for (pattern, expected) in cases {
            let lines = written(pattern);
            let found = pod_of_process(&lines);
            let found = found.map(|pod| (pod.uid.into_owned(), pod.container.unwrap_or_default().to_owned()));
            let expected = expected.map(|digit| (UID.to_owned(), digit.repeat(CONTAINER_DIGITS)));
            assert_eq!(found, expected, "{pattern}");
        }
    }
}
