//! The metric families of a body, as its `TYPE` lines name them: those that feed nothing, and what is in a body of something else.

use infmon_engines::exposition::{Exposition, Item};
use infmon_engines::{FieldSource, IgnoredFamily};
use std::collections::{BTreeMap, BTreeSet};

/// What the name of a series has more than that of its family.
const SUFFIXES: [&str; 5] = ["_bucket", "_sum", "_count", "_total", "_created"];
/// Groups that are named; the others are counted.
const GROUPS: usize = 6;

/// The families of a text by name, each with the names of its series and how many it has; those that are only declared have none.
fn all(text: &[u8]) -> BTreeMap<&[u8], (BTreeSet<&[u8]>, usize)> {
    let mut families: BTreeMap<&[u8], (BTreeSet<&[u8]>, usize)> = BTreeMap::new();
    let mut declared = BTreeSet::new();
    let mut exposition = Exposition::new(text);
    while let Ok(Some(item)) = exposition.next_item() {
        match item {
            Item::Family(name) => {
                declared.insert(name);
                families.entry(name).or_default();
            }
            Item::Sample(sample) => {
                let (names, series) = families.entry(family(sample.name, &declared)).or_default();
                names.insert(sample.name);
                *series += 1;
            }
        }
    }
    families
}

/// The families of a text that have series, and none of `used`.
pub(crate) fn without(text: &[u8], used: &[FieldSource]) -> Vec<IgnoredFamily> {
    let is_used = |name: &[u8]| {
        let mut names = used.iter().flat_map(|source| &source.names);
        names.any(|used| used.as_bytes() == name)
    };
    all(text)
        .into_iter()
        .filter(|(_, (names, _))| !names.is_empty() && !names.iter().any(|name| is_used(name)))
        .map(|(name, (_, series))| IgnoredFamily {
            name: String::from_utf8_lossy(name).into_owned(),
            series,
        })
        .collect()
}

/// Counts families and series by the first word of their names: `12 families with 40 series: go_ 8, process_ 3, up 1`.
pub(crate) fn counted(text: &[u8]) -> String {
    let families = all(text);
    let series: usize = families.values().map(|(_, series)| series).sum();
    let mut groups: BTreeMap<&[u8], usize> = BTreeMap::new();
    for family in families.keys() {
        *groups.entry(first_word(family)).or_default() += 1;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut words: Vec<String> = groups
        .iter()
        .take(GROUPS)
        .map(|(name, count)| format!("{} {count}", String::from_utf8_lossy(name)))
        .collect();
    if groups.len() > GROUPS {
        words.push(format!("{} other words", groups.len() - GROUPS));
    }
    let families = plural(families.len(), "family", "families");
    let colon = if words.is_empty() { "" } else { ": " };
    format!("{families} with {series} series{colon}{}", words.join(", "))
}

/// `1 family`, `2 families`.
pub(crate) fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
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

fn first_word(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|b| matches!(b, b'_' | b':'));
    name.get(..end.map_or(name.len(), |end| end + 1)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_feeds_something_is_not_ignored() {
        let text =
            b"# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n# TYPE b_count gauge\nb_count 1\n\
            b_count{x=\"1\"} 1\n# TYPE c gauge\n";
        let used = |name: &str| FieldSource {
            names: vec![name.to_owned()],
            ..FieldSource::default()
        };
        let left = |used: &[FieldSource]| {
            let families = without(text, used).into_iter();
            families.map(|family| (family.name, family.series)).collect::<Vec<_>>()
        };
        assert_eq!(left(&[]), [("a".to_owned(), 3), ("b_count".to_owned(), 2)]);
        assert_eq!(left(&[used("a_sum")]), [("b_count".to_owned(), 2)]);
        assert_eq!(left(&[used("b_count"), used("a_count")]), []);
    }

    #[test]
    fn families_are_counted_by_their_first_word() {
        let body = b"# TYPE go_x histogram\ngo_x_bucket{le=\"+Inf\"} 1\ngo_x_sum 1\ngo_x_count 1\ngo_y_count 1\nup 1\n";
        assert_eq!(counted(body), "3 families with 5 series: go_ 2, up 1");
        assert_eq!(counted(b"# TYPE a gauge\n"), "1 family with 0 series: a 1");
        assert_eq!(counted(b""), "0 families with 0 series");
        assert_eq!(
            counted(b"a 1\nb 1\nc 1\nd 1\ne 1\nf 1\ng 1\nh 1\n"),
            "8 families with 8 series: a 1, b 1, c 1, d 1, e 1, f 1, 2 other words"
        );
    }
}
