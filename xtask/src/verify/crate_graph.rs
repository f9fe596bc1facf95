//! What a crate may depend on.

use super::Finding;
use crate::workspace::{cargo, output};

/// A crate, what must not be anywhere below it, and why.
struct Rule {
    crates: &'static [&'static str],
    banned: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 4] = [
    Rule {
        crates: &["infmon-engines", "infmon-samples", "infmon-evaluation", "infmon-gpu"],
        banned: &["tokio", "hyper", "kube-client", "kube-runtime"],
        why: "It decides or reads by pure functions over plain data; I/O stands at the edges: move it to operator, node-daemon \
              or runtime (docs/adr/0008-pure-decision-crate.md).",
    },
    Rule {
        crates: &["infmon-node-daemon", "infmon-link"],
        banned: &["kube", "kube-core", "kube-client", "k8s-openapi", "infmon-crds"],
        why: "A daemon never talks to the API server and has no RBAC: what it has to know travels in the Plan \
              (docs/adr/0001-push-over-one-stream.md).",
    },
    Rule {
        crates: &["infmon-crds"],
        banned: &["kube-client", "kube-runtime", "tokio", "hyper"],
        why: "It holds API types for everybody, so it must not bring a client along.",
    },
    Rule {
        crates: &["infmon-operator", "infmon-node-daemon"],
        banned: &[
            "infmon-simulated-engine",
            "infmon-nvml-stand-in",
            "infmon-control-plane",
        ],
        why: "What is under testing/ must not reach a cluster: make it a dev-dependency.",
    },
];

const RING: &str = "ring";
const RING_WHY: &str = "Two providers of cryptography in one process make rustls panic, and this workspace uses aws-lc-rs: turn off the \
                        default features that bring ring.";

/// Checks the dependencies of every crate that has a rule, and those of the whole workspace.
pub(super) fn check() -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for rule in &RULES {
        for name in rule.crates {
            // One package and its default features: what it asks for by itself, not what others in the workspace add.
            let mut tree = cargo();
            tree.args([
                "tree",
                "--package",
                name,
                "--edges",
                "normal,no-proc-macro",
                "--prefix",
                "depth",
            ]);
            findings.extend(banned(&output(tree)?, rule.banned, rule.why));
        }
    }
    let mut tree = cargo();
    tree.args([
        "tree",
        "--workspace",
        "--all-features",
        "--target",
        "all",
        "--edges",
        "all",
        "--prefix",
        "depth",
    ]);
    findings.extend(banned(&output(tree)?, &[RING], RING_WHY));
    Ok(findings)
}

/// Finds banned packages in what `cargo tree --prefix depth` prints, with the way there.
fn banned(tree: &str, banned: &[&str], why: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut way: Vec<&str> = Vec::new();
    for line in tree.lines() {
        let digits = line.len()
            - line
                .trim_start_matches(|character: char| character.is_ascii_digit())
                .len();
        let (depth, package) = line.split_at(digits);
        let (Ok(depth), Some(name)) = (depth.parse::<usize>(), package.split_whitespace().next()) else {
            continue;
        };
        way.truncate(depth);
        way.push(name);
        let root = way.first().copied().unwrap_or(name);
        let what = format!("depends on {name}");
        let known = findings
            .iter()
            .any(|finding| finding.place == root && finding.what.starts_with(&what));
        if depth > 0 && banned.contains(&name) && !known {
            let what = format!("{what} ({})", way.join(" > "));
            findings.push(Finding::new("crate graph", root, what, why));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::banned;

    const TREE: &str = "\
0infmon-evaluation v0.1.0 (/work/evaluation)
1infmon-crds v0.1.0 (/work/crds)
2kube v5.0.0
3kube-client v5.0.0
4tokio v1.54.0
1jiff v0.2.46
1tokio v1.54.0 (*)
";

    #[test]
    fn a_banned_crate_is_found_with_the_way_to_it() {
        let findings = banned(TREE, &["tokio", "kube-client"], "pure");
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "error: infmon-evaluation: crate graph: depends on kube-client (infmon-evaluation > infmon-crds > kube > \
                 kube-client)\n  pure",
                "error: infmon-evaluation: crate graph: depends on tokio (infmon-evaluation > infmon-crds > kube > \
                 kube-client > tokio)\n  pure",
            ]
        );
    }

    #[test]
    fn a_crate_of_a_similar_name_and_the_crate_itself_are_let_through() {
        assert!(banned(TREE, &["tok", "jif", "infmon-evaluation"], "").is_empty());
    }

    #[test]
    fn a_workspace_tree_has_several_roots() {
        let findings = banned("0a v1\n1ring v1\n\n0b v1\n1c v1\n2ring v1\n", &["ring"], "");
        let said: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(said, ["depends on ring (a > ring)", "depends on ring (b > c > ring)"]);
    }
}
