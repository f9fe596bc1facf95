//! Under which rights the daemons of a profile run: pure. docs/security.md has the exception of each opt-in.

use crate::config::NodeProfile;
use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

/// User and group of the image.
const UNPRIVILEGED: i64 = 65532;
/// User of a daemon that sees the processes of its node. The one of the image is that of many images: a process may send signals to others
/// of its user, and read their environment.
const OF_NOBODY_ELSE: i64 = 46_532;

/// Of the pod of a profile.
pub(super) fn pod(profile: &NodeProfile) -> PodSecurityContext {
    // The kubelet's folder is open to root alone: root of the container is that user, without any capability. The kernel's log wants
    // CAP_SYSLOG in effect, which a process of another user does not have even in a privileged container.
    let user = match (profile.pod_resources || profile.kmsg, profile.host_pid) {
        (true, _) => 0,
        (false, true) => OF_NOBODY_ELSE,
        (false, false) => UNPRIVILEGED,
    };
    PodSecurityContext {
        run_as_non_root: Some(user != 0),
        run_as_user: Some(user),
        run_as_group: Some(UNPRIVILEGED),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// Of the daemon's container in it.
pub(super) fn container(profile: &NodeProfile) -> SecurityContext {
    if profile.kmsg {
        // A capability alone is not enough: the device cgroup of a container refuses devices that are not its own, and in Kubernetes only
        // `privileged` lifts that. Such a container has every capability, whatever it drops.
        return SecurityContext {
            privileged: Some(true),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        };
    }
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}
