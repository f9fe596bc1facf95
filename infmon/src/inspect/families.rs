//! What is in a body of something else than an inference server, by its metric families.

use infmon_engines::families;
use std::collections::BTreeMap;

/// Groups that are named; the others are counted.
const GROUPS: usize = 6;

/// Counts families and series by the first word of their names: `12 families with 40 series: go_ 8, process_ 3, up 1`.
pub(crate) fn counted(text: &[u8]) -> String {
    let families = families(text);
    let series: usize = families.iter().map(|family| family.series).sum();
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for family in &families {
        *groups.entry(first_word(&family.name)).or_default() += 1;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut words: Vec<String> = groups
        .iter()
        .take(GROUPS)
        .map(|(name, count)| format!("{name} {count}"))
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

fn first_word(name: &str) -> &str {
    let end = name.find(['_', ':']);
    name.get(..end.map_or(name.len(), |end| end + 1)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

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
