//! The metric families of a text, as its `TYPE` lines name them.

use std::collections::{BTreeMap, BTreeSet};

use crate::exposition::{Exposition, Item};

/// What the name of a series has more than that of its family.
const SUFFIXES: [&str; 5] = ["_bucket", "_sum", "_count", "_total", "_created"];

/// A metric family, and how much of it there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// Its name; that of the series where no `TYPE` line names one.
    pub name: String,
    /// Sample lines.
    pub series: usize,
}

/// The families of a text by name; those that are only declared have no series. What follows a malformed line is not looked at.
#[must_use]
pub fn families(text: &[u8]) -> Vec<Family> {
    all(text)
        .into_iter()
        .map(|(name, members)| members.named(name))
        .collect()
}

/// The families of a text that have series, and none of the `used` names.
pub(crate) fn without(text: &[u8], used: &BTreeSet<&[u8]>) -> Vec<Family> {
    all(text)
        .into_iter()
        .filter(|(_, members)| members.series > 0 && members.names.is_disjoint(used))
        .map(|(name, members)| members.named(name))
        .collect()
}

/// The series of one family.
#[derive(Default)]
struct Members<'a> {
    names: BTreeSet<&'a [u8]>,
    series: usize,
}

impl Members<'_> {
    fn named(self, name: &[u8]) -> Family {
        Family {
            name: String::from_utf8_lossy(name).into_owned(),
            series: self.series,
        }
    }
}

fn all(text: &[u8]) -> BTreeMap<&[u8], Members<'_>> {
    let mut families: BTreeMap<&[u8], Members<'_>> = BTreeMap::new();
    let mut declared = BTreeSet::new();
    let mut exposition = Exposition::new(text);
    while let Ok(Some(item)) = exposition.next_item() {
        match item {
            Item::Family(name) => {
                declared.insert(name);
                families.entry(name).or_default();
            }
            Item::Sample(sample) => {
                let members = families.entry(family(sample.name, &declared)).or_default();
                members.names.insert(sample.name);
                members.series += 1;
            }
        }
    }
    families
}

fn family<'a>(name: &'a [u8], declared: &BTreeSet<&[u8]>) -> &'a [u8] {
    if declared.contains(name) {
        return name;
    }
    SUFFIXES
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix.as_bytes()))
        .find(|base| declared.contains(base))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_feeds_something_is_not_ignored() {
        let text =
            b"# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n# TYPE b_count gauge\nb_count 1\n\
            b_count{x=\"1\"} 1\n# TYPE c gauge\n";
        let left = |used: &[&'static str]| {
            let used = used.iter().map(|name| name.as_bytes()).collect();
            let families = without(text, &used).into_iter();
            families.map(|family| (family.name, family.series)).collect::<Vec<_>>()
        };
        assert_eq!(left(&[]), [("a".to_owned(), 3), ("b_count".to_owned(), 2)]);
        assert_eq!(left(&["a_sum"]), [("b_count".to_owned(), 2)]);
        assert_eq!(left(&["b_count", "a_count"]), []);
    }
}
