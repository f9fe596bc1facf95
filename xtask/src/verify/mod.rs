//! Rules of structure that no compiler checks. CONTRIBUTING.md lists them for people.
//!
//! Each rule is a pure function from text to findings, so that its test can show that it fails when it should; this module
//! reads the tree and prints.

mod crate_graph;
mod documents;
mod licences;
mod rust_code;
mod source;

use crate::workspace::{self, TextFile, text_files};
use anyhow::bail;
use std::{collections::BTreeSet, fmt, path::Path};

pub(crate) use documents::slug;

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Name of the rule.
    pub(crate) rule: &'static str,
    /// The crate, or the file and line.
    pub(crate) place: String,
    /// What was found there.
    pub(crate) what: String,
    /// Why it should not be so, and what to do instead.
    pub(crate) why: String,
    /// A warning does not fail the run.
    pub(crate) warning: bool,
}

impl Finding {
    pub(crate) fn new(
        rule: &'static str,
        place: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            place: place.into(),
            what: what.into(),
            why: why.into(),
            warning: false,
        }
    }

    pub(crate) fn warning(self) -> Self {
        Self { warning: true, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.warning { "warning" } else { "error" };
        write!(
            f,
            "{level}: {}: {}: {}\n  {}",
            self.place, self.rule, self.what, self.why
        )
    }
}

/// Checks the tree.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut findings = crate_graph::check()?;
    findings.extend(licences::check()?);

    let rust = text_files(&["rs"])?;
    for file in &rust {
        findings.extend(source::check(file));
    }
    let documents = text_files(&["md"])?;
    findings.extend(documents::check_links(&documents, &existing));
    findings.extend(check_mentions(&rust, &documents)?);
    let conditions = documents.iter().find(|file| file.path == documents::CONDITIONS);
    let reasons = infmon_crds::v1alpha1::reason::ALL;
    findings.extend(documents::check_reasons(&reasons, conditions));

    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    let errors = findings.iter().filter(|finding| !finding.warning).count();
    if errors > 0 {
        bail!("{errors} findings against the rules of CONTRIBUTING.md")
    }
    eprintln!(
        "{} Rust files and {} documents keep the rules; warnings: {}",
        rust.len(),
        documents.len(),
        findings.len()
    );
    Ok(())
}

/// Documents that messages, comments and charts send people to.
fn check_mentions(rust: &[TextFile], documents: &[TextFile]) -> anyhow::Result<Vec<Finding>> {
    let mut files = text_files(&["yaml", "tpl", "txt", "json", "toml"])?;
    files.extend(rust.iter().filter(|file| file.path != documents::SOURCE).cloned());
    Ok(documents::check_mentions(&files, documents))
}

/// Whether a path from the root exists.
fn existing(path: &str) -> bool {
    Path::new(&workspace::root()).join(path).try_exists().unwrap_or(false)
}

/// The words of a text, for messages.
fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: BTreeSet<&str> = words.into_iter().collect();
    words.into_iter().collect::<Vec<_>>().join(", ")
}
