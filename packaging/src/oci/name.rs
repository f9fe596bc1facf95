//! Names of images, in the form in which a container runtime looks them up.

use anyhow::{bail, ensure};

/// Where runtimes look for a name without a registry.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where that registry keeps a name without a folder.
const DEFAULT_FOLDER: &str = "library";

/// The name that kubelet and containerd make of a short one: `gateway:1` becomes `docker.io/library/gateway:1`.
///
/// An image that was imported under the short name is not found by a pod that asks for it. A name that begins with a
/// registry (a dot, a port, or `localhost` before the first slash) stays as it is.
pub fn full_name(name: &str) -> anyhow::Result<String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let Some((_, tag)) = last.split_once(':') else {
        bail!("{name} is no name of an image: there is no tag");
    };
    let repository = &name[..name.len() - tag.len() - 1];
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || more.contains(character))
    };
    ensure!(
        plain(tag, "._-") && repository.split('/').all(|part| plain(part, "._-:")),
        "{name} is no name of an image: expected for example gateway:1 or infmon.test/gateway:1"
    );
    Ok(match repository.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{name}"),
        None => format!("{DEFAULT_REGISTRY}/{DEFAULT_FOLDER}/{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::full_name;

    #[test]
    fn names_are_completed_as_runtimes_do() {
        for (name, full) in [
            ("gateway:1", "docker.io/library/gateway:1"),
            ("team/gateway:1", "docker.io/team/gateway:1"),
            ("infmon.test/gateway:1", "infmon.test/gateway:1"),
            ("localhost/gateway:1", "localhost/gateway:1"),
            ("registry:5000/gateway:0.1.0-a_b", "registry:5000/gateway:0.1.0-a_b"),
        ] {
            assert_eq!(full_name(name).expect(name), full);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [
            "gateway",
            "infmon.test:5000/gateway",
            "a//b:1",
            ":1",
            "gateway:",
            "a b:1",
            "a:1 2",
        ] {
            assert!(full_name(name).is_err(), "{name}");
        }
    }
}
