//! Licences and sources of the packages in the crate graph.
//!
//! `cargo deny` checks the same from the same list in `deny.toml`, and advisories too; this check needs nothing installed.

use super::Finding;
use crate::workspace::{cargo, output, root};
use anyhow::Context;
use serde::Deserialize;
use std::{collections::BTreeSet, fs};

const LIST: &str = "deny.toml";
const WHY: &str = "Each package must be usable under one of the licences in deny.toml: use another one, or add the licence there after a \
                   look at what it asks for.";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Checks every package that any build of this workspace may take.
pub(super) fn check() -> anyhow::Result<Vec<Finding>> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--all-features"]);
    let metadata: Metadata =
        serde_json::from_str(&output(command)?).context("failed to read what cargo metadata prints")?;
    let list = fs::read_to_string(root().join(LIST)).with_context(|| format!("failed to read {LIST}"))?;
    let allowed = allowed(&list);
    anyhow::ensure!(!allowed.is_empty(), "{LIST} has no list `allow` under [licenses]");
    let mut findings: Vec<Finding> = metadata
        .packages
        .iter()
        .filter_map(|package| licence(package, &allowed))
        .collect();
    findings.extend(sources(&metadata.packages));
    Ok(findings)
}

fn licence(package: &Package, allowed: &BTreeSet<String>) -> Option<Finding> {
    let place = format!("{} {}", package.name, package.version);
    let Some(expression) = &package.license else {
        return Some(Finding::new("licences", place, "names no licence", WHY));
    };
    let what = match satisfied(expression, allowed) {
        Some(true) => return None,
        Some(false) => format!("is under {expression}"),
        None => format!("has a licence that is no SPDX expression: {expression}"),
    };
    Some(Finding::new("licences", place, what, WHY))
}

/// Packages come from one registry or from this repository.
fn sources(packages: &[Package]) -> Vec<Finding> {
    let why = "Only the default registry is a source: a git or second registry can change or vanish under a build.";
    let registry = packages
        .iter()
        .filter_map(|package| package.source.as_deref())
        .find(|source| source.starts_with("registry+"));
    packages
        .iter()
        .filter(|package| package.source.is_some() && package.source.as_deref() != registry)
        .map(|package| {
            let source = package.source.as_deref().unwrap_or_default();
            Finding::new(
                "sources",
                format!("{} {}", package.name, package.version),
                format!("comes from {source}"),
                why,
            )
        })
        .collect()
}

/// The strings of `allow = [...]` in the section `[licenses]`.
fn allowed(list: &str) -> BTreeSet<String> {
    let lines = list
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let section: String = lines
        .skip_while(|line| *line != "[licenses]")
        .skip(1)
        .take_while(|line| !(line.starts_with('[') && line.ends_with(']') && !line.contains('"')))
        .collect();
    let Some((_, rest)) = section.split_once("allow = [") else {
        return BTreeSet::new();
    };
    let inside = rest.split(']').next().unwrap_or_default();
    inside.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with the allowed licences. None when it cannot be read.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> Option<bool> {
    // Old manifests separate with a slash where SPDX has OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    let value = reader.either()?;
    reader.words.is_empty().then_some(value)
}

struct Reader<'a> {
    words: &'a [&'a str],
    allowed: &'a BTreeSet<String>,
}

impl Reader<'_> {
    fn either(&mut self) -> Option<bool> {
        let mut value = self.both()?;
        while self.take("OR") {
            value |= self.both()?;
        }
        Some(value)
    }

    fn both(&mut self) -> Option<bool> {
        let mut value = self.one()?;
        while self.take("AND") {
            value &= self.one()?;
        }
        Some(value)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let value = self.either()?;
            return self.take(")").then_some(value);
        }
        let name = self.word()?;
        let mut name = name.to_owned();
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.word()?);
        }
        Some(self.allowed.contains(&name))
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn word(&mut self) -> Option<String> {
        let (first, rest) = self.words.split_first()?;
        if ["OR", "AND", "WITH", "(", ")"].contains(first) {
            return None;
        }
        self.words = rest;
        Some((*first).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Package, allowed, licence, satisfied, sources};

    const LIST: &str = "[bans]\nallow = [\"X\"]\n[licenses]\n# allow = [\"GPL-3.0\"]\nallow = [\n  \"MIT\", # plain\n  \"ISC\",\n  \"Apache-2.0 WITH LLVM-exception\",\n]\n[sources]\n";

    fn package(license: Option<&str>, source: Option<&str>) -> Package {
        Package {
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
        }
    }

    #[test]
    fn the_list_is_read() {
        let allowed: Vec<String> = allowed(LIST).into_iter().collect();
        assert_eq!(allowed, ["Apache-2.0 WITH LLVM-exception", "ISC", "MIT"]);
    }

    #[test]
    fn expressions_are_weighed() {
        let allowed = allowed(LIST);
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0-only", Some(false)),
            ("MIT OR GPL-3.0-only", Some(true)),
            ("Unlicense/MIT", Some(true)),
            ("MIT AND GPL-3.0-only", Some(false)),
            ("ISC AND (GPL-3.0-only OR MIT)", Some(true)),
            ("GPL-3.0-only OR MIT AND ISC", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("Apache-2.0", Some(false)),
            ("MIT ISC", None),
            ("(MIT", None),
            ("", None),
        ] {
            assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn a_package_without_an_allowed_licence_is_found() {
        let allowed = allowed(LIST);
        for (license, what) in [
            (Some("GPL-3.0-only"), "is under GPL-3.0-only"),
            (Some("MIT or so"), "has a licence that is no SPDX expression: MIT or so"),
            (None, "names no licence"),
        ] {
            assert_eq!(licence(&package(license, None), &allowed).unwrap().what, what);
        }
        assert_eq!(licence(&package(Some("MIT"), None), &allowed), None);
    }

    #[test]
    fn a_second_source_is_found() {
        let packages = [
            package(None, None),
            package(None, Some("registry+one")),
            package(None, Some("git+two")),
        ];
        let findings = sources(&packages);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].what, "comes from git+two");
    }
}
