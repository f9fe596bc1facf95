//! What a source file may hold.

use super::{
    Finding,
    rust_code::{code_only, has_word, without_tests},
};
use crate::workspace::TextFile;

/// Where `unsafe` may stand: where C is called, where C is played, and between fork and exec of what tests start.
const UNSAFE_ALLOWED: [&str; 4] = [
    "gpu/src/session/",
    "testing/nvml-stand-in/",
    "testing/control-plane/src/process.rs",
    "testing/end-to-end/src/process.rs",
];
/// Crates whose sources make decisions. The NVML session inside `gpu` is the one edge among them.
const PURE: [&str; 4] = ["engines/src/", "samples/src/", "evaluation/src/", "gpu/src/"];
const SESSION: &str = "gpu/src/session/";
const MOST_LINES: usize = 500;
const BAD_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "misc", "manager"];

/// Words that must not stand in the code of some folders.
struct Words {
    rule: &'static str,
    folders: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const WORDS: [Words; 4] = [
    Words {
        rule: "no clock",
        folders: &PURE,
        words: &[
            "Instant::now",
            "SystemTime::now",
            "Timestamp::now",
            "Zoned::now",
            ".elapsed(",
        ],
        why: "A decision gets the time as an argument, so that a test can choose it (docs/adr/0008-pure-decision-crate.md).",
    },
    Words {
        rule: "no I/O",
        folders: &PURE,
        words: &[
            "tokio::",
            "hyper::",
            "std::fs",
            "std::env",
            "std::process",
            "std::thread",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
        ],
        why: "I/O stands at the edges: operator, node-daemon, infmon (docs/adr/0008-pure-decision-crate.md).",
    },
    Words {
        // Within a workspace build the features of kube are those that the operator asks for, so the compiler lets it through.
        rule: "no Kubernetes client",
        folders: &[
            "crds/src/",
            "engines/src/",
            "samples/src/",
            "evaluation/src/",
            "gpu/src/",
        ],
        words: &[
            "kube::Client",
            "kube::client",
            "kube::Api",
            "kube::api",
            "kube::runtime",
        ],
        why: "Only the operator and the command line talk to the API server.",
    },
    Words {
        rule: "no Kubernetes",
        folders: &["node-daemon/", "link/", "runtime/"],
        words: &["kube::", "k8s_openapi::", "infmon_crds::"],
        why: "A daemon never talks to the API server: what it has to know travels in the Plan (docs/adr/0001-push-over-one-stream.md).",
    },
];

/// Checks one Rust file.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let code = code_only(&file.text);
    let mut findings = unsafe_words(&file.path, &code);
    findings.extend(forbidden_words(&file.path, &code));
    findings.extend(module_name(&file.path));
    findings.extend(length(file));
    findings
}

fn unsafe_words(path: &str, code: &str) -> Vec<Finding> {
    if UNSAFE_ALLOWED.iter().any(|allowed| path.starts_with(allowed)) {
        return Vec::new();
    }
    lines_with(code, "unsafe")
        .map(|line| {
            let why = format!("Only these may hold unsafe code: {}.", super::list(UNSAFE_ALLOWED));
            Finding::new("unsafe", format!("{path}:{line}"), "unsafe code", why)
        })
        .collect()
}

fn forbidden_words(path: &str, code: &str) -> Vec<Finding> {
    if is_test(path) || path.starts_with(SESSION) {
        return Vec::new();
    }
    let code = without_tests(code);
    let mut findings = Vec::new();
    for rule in WORDS
        .iter()
        .filter(|rule| rule.folders.iter().any(|folder| path.starts_with(folder)))
    {
        for word in rule.words {
            for line in lines_with(code, word) {
                let what = format!("uses {}", word.trim_matches([':', '.', '(']));
                findings.push(Finding::new(rule.rule, format!("{path}:{line}"), what, rule.why));
            }
        }
    }
    findings
}

/// Numbers of the lines that have a word.
fn lines_with<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.lines()
        .zip(1..)
        .filter(move |(line, _)| has_word(line, word))
        .map(|(_, number)| number)
}

fn is_test(path: &str) -> bool {
    let names = || path.split('/').map(|name| name.trim_end_matches(".rs"));
    names().any(|name| ["tests", "benches", "examples", "testing"].contains(&name))
}

fn module_name(path: &str) -> Option<Finding> {
    let bad = path
        .split('/')
        .map(|name| name.trim_end_matches(".rs"))
        .find(|name| BAD_NAMES.contains(name))?;
    let why = "A name that says nothing collects everything: name the module after what it holds.";
    Some(Finding::new("module name", path, format!("is called {bad}"), why))
}

fn length(file: &TextFile) -> Option<Finding> {
    let lines = file.text.lines().count();
    let why = format!("More than {MOST_LINES} lines are hard to review: split it by what it owns.");
    (lines > MOST_LINES).then(|| Finding::new("length", &file.path, format!("has {lines} lines"), why).warning())
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::workspace::TextFile;

    fn rules(path: &str, text: &str) -> Vec<(&'static str, String)> {
        let findings = check(&TextFile::new(path, text));
        findings
            .into_iter()
            .map(|finding| (finding.rule, finding.place))
            .collect()
    }

    #[test]
    fn unsafe_is_found_but_where_it_may_stand() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(
            rules("operator/src/run.rs", text),
            [("unsafe", "operator/src/run.rs:2".to_owned())]
        );
        assert_eq!(
            rules("engines/tests/a.rs", text),
            [("unsafe", "engines/tests/a.rs:2".to_owned())]
        );
        for allowed in [
            "gpu/src/session/raw.rs",
            "testing/nvml-stand-in/build.rs",
            "testing/control-plane/src/process.rs",
        ] {
            assert_eq!(rules(allowed, text), [], "{allowed}");
        }
        assert_eq!(rules("operator/src/run.rs", "#![deny(unsafe_code)] // unsafe"), []);
    }

    #[test]
    fn a_clock_is_found_in_a_pure_crate() {
        let text = "use std::time::Instant;\nfn f() -> Instant { Instant::now() }\n";
        assert_eq!(
            rules("evaluation/src/hold.rs", text),
            [("no clock", "evaluation/src/hold.rs:2".to_owned())]
        );
        assert_eq!(rules("gpu/src/throttle.rs", "let t = jiff::Timestamp::now();").len(), 1);
        assert_eq!(rules("engines/src/a.rs", "if begun.elapsed() > limit {}").len(), 1);
        for allowed in [
            "gpu/src/session/heart.rs",
            "operator/src/run.rs",
            "engines/benches/b.rs",
            "engines/src/a/tests.rs",
        ] {
            assert_eq!(rules(allowed, text), [], "{allowed}");
        }
        assert_eq!(
            rules(
                "evaluation/src/hold.rs",
                &format!("#[cfg(test)]\nmod tests {{\n{text}}}")
            ),
            []
        );
    }

    #[test]
    fn io_is_found_in_a_pure_crate() {
        assert_eq!(rules("engines/src/a.rs", "std::fs::read(path)").len(), 1);
        assert_eq!(rules("samples/src/a.rs", "use tokio::sync::mpsc;").len(), 1);
        assert_eq!(rules("evaluation/src/a.rs", "use std::net::IpAddr;"), []);
    }

    #[test]
    fn kubernetes_is_found_where_it_has_no_business() {
        assert_eq!(rules("evaluation/src/a.rs", "use kube::Client;").len(), 1);
        assert_eq!(rules("evaluation/src/a.rs", "use kube::ResourceExt;"), []);
        assert_eq!(
            rules("node-daemon/src/a.rs", "use k8s_openapi::api::core::v1::Pod;").len(),
            1
        );
        assert_eq!(
            rules("link/src/a.rs", "let x = kube::ResourceExt::name_any(&pod);").len(),
            1
        );
        assert_eq!(rules("operator/src/a.rs", "use kube::Client;"), []);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        assert_eq!(rules("operator/src/utils.rs", "").len(), 1);
        assert_eq!(rules("operator/src/common/leases.rs", "").len(), 1);
        assert_eq!(rules("operator/src/leases.rs", ""), []);
    }

    #[test]
    fn long_files_are_a_warning() {
        let findings = check(&TextFile::new("operator/src/a.rs", &"\n".repeat(501)));
        assert!(matches!(findings.as_slice(), [finding] if finding.warning));
        assert_eq!(rules("operator/src/a.rs", &"\n".repeat(500)), []);
    }
}
