//! Links between documents, and the anchors that messages send people to.

use super::{Finding, rust_code::without_tests};
use crate::workspace::TextFile;
use std::collections::{BTreeMap, BTreeSet};

/// The document that has one heading per condition reason.
pub(super) const CONDITIONS: &str = "docs/conditions.md";

/// This file, whose tests name documents that are not there.
pub(super) const SOURCE: &str = "xtask/src/verify/documents.rs";

const DEAD: &str = "Whoever follows it finds nothing: mend the path or the anchor, or write what it promises.";

/// Every reason is a heading of its own in the document of the conditions.
pub(super) fn check_reasons(reasons: &[&str], conditions: Option<&TextFile>) -> Vec<Finding> {
    let why = "Every condition message ends with a link to the heading of its reason: say there what it means and what to do.";
    let Some(conditions) = conditions else {
        return vec![Finding::new("condition reasons", CONDITIONS, "is missing", why)];
    };
    let anchors = anchors(&conditions.text);
    reasons
        .iter()
        .filter(|reason| !anchors.contains(&reason.to_lowercase()))
        .map(|reason| {
            Finding::new(
                "condition reasons",
                CONDITIONS,
                format!("has no heading for {reason}"),
                why,
            )
        })
        .collect()
}

/// Links of documents to files of this repository and to headings in them.
pub(super) fn check_links(documents: &[TextFile], exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let anchors = anchors_by_path(documents);
    let mut findings = Vec::new();
    for document in documents {
        for (line, target) in links(&document.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() {
                document.path.clone()
            } else {
                resolve(&document.path, path)
            };
            if let Some(what) = dead(&path, anchor, &anchors, exists) {
                let place = format!("{}:{line}", document.path);
                findings.push(Finding::new(
                    "links",
                    place,
                    format!("links to {target}, and {what}"),
                    DEAD,
                ));
            }
        }
    }
    findings
}

/// Documents that are named in messages, comments and charts, as in `docs/conditions.md#timeout`.
pub(super) fn check_mentions(files: &[TextFile], documents: &[TextFile]) -> Vec<Finding> {
    let anchors = anchors_by_path(documents);
    // One finding per target: a document that is not written yet would give one per message otherwise.
    let mut findings: BTreeMap<String, Finding> = BTreeMap::new();
    for file in files {
        for (line, text) in (1..).zip(without_tests(&file.text).lines()) {
            for (path, anchor) in mentions(text) {
                if let Some(what) = dead(path, anchor, &anchors, &|_| false) {
                    let place = format!("{}:{line}", file.path);
                    let what = format!("names {path}#{anchor}, and {what}").replace("#,", ",");
                    let anchor = if anchors.contains_key(path) { anchor } else { "" };
                    findings
                        .entry(format!("{path}#{anchor}"))
                        .or_insert_with(|| Finding::new("mentions", place, what, DEAD));
                }
            }
        }
    }
    findings.into_values().collect()
}

/// Why a target cannot be reached.
fn dead(
    path: &str,
    anchor: &str,
    anchors: &BTreeMap<&str, BTreeSet<String>>,
    exists: &dyn Fn(&str) -> bool,
) -> Option<String> {
    match anchors.get(path) {
        Some(known) if anchor.is_empty() || known.contains(anchor) => None,
        Some(_) => Some(format!("{path} has no heading for #{anchor}")),
        None if exists(path) => None,
        None => Some(format!("there is no {path}")),
    }
}

fn anchors_by_path(documents: &[TextFile]) -> BTreeMap<&str, BTreeSet<String>> {
    documents
        .iter()
        .map(|file| (file.path.as_str(), anchors(&file.text)))
        .collect()
}

/// Lines outside fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, None) => true,
            (None, Some(_)) => {
                fence = mark;
                false
            }
            (Some(open), _) => {
                if mark == Some(open) {
                    fence = None;
                }
                false
            }
        }
    })
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        for attribute in ["id=\"", "name=\""] {
            let named = line.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
            anchors.extend(named.map(str::to_owned));
        }
        let heading = line.trim_start_matches('#');
        if heading.len() < line.len() && heading.starts_with(' ') {
            let anchor = slug(heading);
            // A second heading of the same text gets -1, a third -2.
            let free = (1..)
                .map(|n| format!("{anchor}-{n}"))
                .find(|next| !anchors.contains(next));
            match free {
                Some(next) if anchors.contains(&anchor) => anchors.insert(next),
                _ => anchors.insert(anchor),
            };
        }
    }
    anchors
}

/// The anchor of a heading, as forges make it.
pub(crate) fn slug(heading: &str) -> String {
    // The text of a link stays, its target does not.
    let mut text = String::new();
    let mut rest = heading.trim();
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let kept = text
        .chars()
        .filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Targets of `[text](target)` and `[name]: target`, with line numbers.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        // Every second part is inside backticks.
        let parts: Vec<&str> = line.split('`').collect();
        for (n, part) in parts.iter().enumerate() {
            let inside_code = n % 2 == 1 && n + 1 < parts.len();
            if inside_code {
                continue;
            }
            let targets = part
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split([')', ' ']).next());
            // A target that begins with code is none: the part ends with "](".
            links.extend(
                targets
                    .filter(|target| !target.is_empty())
                    .map(|target| (number, target)),
            );
        }
        if let Some((name, target)) = line.split_once("]: ")
            && name.starts_with('[')
            && !name.starts_with("[^")
        {
            links.extend(target.split_whitespace().next().map(|target| (number, target)));
        }
    }
    links
}

/// A path from the root, for a path that is seen from a document.
fn resolve(document: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    if !path.starts_with('/') {
        parts.extend(document.split('/'));
        parts.pop();
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// What a line names under `docs/`: paths and anchors.
fn mentions(line: &str) -> Vec<(&str, &str)> {
    let part_of_path =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '/' | '-' | '_' | '.');
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = line[from..].find("docs/") {
        let start = from + at;
        from = start + "docs/".len();
        if line[..start].chars().next_back().is_some_and(part_of_path) {
            continue;
        }
        let length = line[start..]
            .find(|character| !part_of_path(character))
            .unwrap_or(line.len() - start);
        let (path, rest) = line[start..].split_at(length);
        let path = path.trim_end_matches('.');
        if !path.ends_with(".md") {
            continue;
        }
        let anchor = rest.strip_prefix('#').unwrap_or_default();
        let end = anchor.find(|character: char| !character.is_ascii_alphanumeric() && character != '-');
        found.push((path, &anchor[..end.unwrap_or(anchor.len())]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{CONDITIONS, anchors, check_links, check_mentions, check_reasons, links, mentions, resolve, slug};
    use crate::workspace::TextFile;

    const PAGE: &str =
        "# The Title\n\n## `Timeout`\n\n```\n# no heading\n[x](gone.md)\n```\n## Twice\n## Twice\n<a id=\"own\"></a>\n";

    #[test]
    fn headings_become_anchors() {
        let anchors: Vec<String> = anchors(PAGE).into_iter().collect();
        assert_eq!(anchors, ["own", "the-title", "timeout", "twice", "twice-1"]);
        for (heading, anchor) in [
            ("spec.endpoints[].pods", "specendpointspods"),
            ("With KEDA", "with-keda"),
            ("See [the page](x.md)!", "see-the-page"),
        ] {
            assert_eq!(slug(heading), anchor);
        }
    }

    #[test]
    fn a_reason_without_a_heading_is_found() {
        let page = TextFile::new(CONDITIONS, PAGE);
        assert_eq!(check_reasons(&["Timeout"], Some(&page)), []);
        let findings = check_reasons(&["Timeout", "Unreachable"], Some(&page));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].what, "has no heading for Unreachable");
        assert_eq!(check_reasons(&["Timeout"], None)[0].what, "is missing");
    }

    #[test]
    fn links_are_found_outside_code() {
        let text =
            "[a](b.md#c) and ![d](e.png \"title\")\n`[x](y)` [`f`](g)\n[h]: ../i.md\n```\n[x](y)\n```\n[^1]: note\n";
        assert_eq!(links(text), [(1, "b.md#c"), (1, "e.png"), (2, "g"), (3, "../i.md")]);
    }

    #[test]
    fn dead_links_are_found() {
        let documents = [
            TextFile::new(
                "README.md",
                "[a](docs/page.md#timeout) [b](docs) [c](https://example.com/x) [d](#top)\n# Top\n",
            ),
            TextFile::new(
                "docs/page.md",
                &format!("{PAGE}[a](../README.md#gone)\n[b](gone.md)\n[c](/README.md)\n"),
            ),
        ];
        let findings = check_links(&documents, &|path| path == "docs");
        let said: Vec<String> = findings
            .iter()
            .map(|finding| format!("{}: {}", finding.place, finding.what))
            .collect();
        assert_eq!(
            said,
            [
                "docs/page.md:12: links to ../README.md#gone, and README.md has no heading for #gone",
                "docs/page.md:13: links to gone.md, and there is no docs/gone.md",
            ]
        );
    }

    #[test]
    fn paths_are_resolved() {
        assert_eq!(resolve("docs/adr/0001.md", "../api.md"), "docs/api.md");
        assert_eq!(resolve("README.md", "./docs/"), "docs");
        assert_eq!(resolve("docs/a.md", "/b.md"), "b.md");
    }

    #[test]
    fn dead_mentions_are_found_once_each() {
        let page = TextFile::new("docs/page.md", PAGE);
        let line = "see docs/page.md#timeout, docs/page.md#gone and docs/none.md. https://x/docs/no.md";
        assert_eq!(mentions(line).len(), 3);
        let files = [TextFile::new("a.rs", line), TextFile::new("b.rs", line)];
        let findings = check_mentions(&files, &[page]);
        let said: Vec<String> = findings
            .iter()
            .map(|finding| format!("{}: {}", finding.place, finding.what))
            .collect();
        assert_eq!(
            said,
            [
                "a.rs:1: names docs/none.md, and there is no docs/none.md",
                "a.rs:1: names docs/page.md#gone, and docs/page.md has no heading for #gone",
            ]
        );
    }
}
