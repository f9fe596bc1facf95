//! Small parts of the sentences that people read.

use std::time::Duration;

/// Longest foreign text (of a server, a driver, the loader) inside a message.
const CLAUSE_MAX: usize = 240;

/// A duration: `0.4 s`, `47 s`, `12 min`, `3 h`.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 if seconds == 0.0 => "0 s".into(),
        0..10 if seconds.fract() >= 0.05 && seconds.fract() < 0.95 => format!("{seconds:.1} s"),
        0..120 => format!("{seconds:.0} s"),
        120..7200 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

/// `1 endpoint`, `3 endpoints`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `1 of 3 endpoints has`, `2 of 3 endpoints have`: the subject of what some of them lack.
pub(crate) fn some_have(some: usize, all: usize) -> String {
    format!(
        "{some} of {} {}",
        count(all, "endpoint"),
        if some == 1 { "has" } else { "have" }
    )
}

/// Up to `max` texts joined by `; `, and how many more there are.
pub(crate) fn listed<'a>(texts: impl IntoIterator<Item = &'a str>, max: usize) -> String {
    let mut texts = texts.into_iter();
    let mut list = texts.by_ref().take(max).collect::<Vec<_>>().join("; ");
    let more = texts.count();
    if more > 0 {
        list.push_str(&format!("; and {more} more"));
    }
    list
}

/// Foreign text as a part of a sentence: one line, bounded, without a period at its end.
pub(crate) fn clause(text: &str) -> String {
    let line = text
        .split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    truncated(line.trim_end_matches(['.', ' ']), CLAUSE_MAX)
}

/// The same, with other words where there are none.
pub(crate) fn clause_or(text: &str, otherwise: &str) -> String {
    match clause(text) {
        words if words.is_empty() => otherwise.to_owned(),
        words => words,
    }
}

/// Cuts at a character boundary and says so.
pub(crate) fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

/// A ratio as whole percent. Bounded, since a server may claim anything and the API bounds the text.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.0}%", (ratio * 100.0).clamp(0.0, 999.0))
}

/// Where a reason is explained.
pub(crate) fn anchor(reason: &str) -> String {
    format!("docs/conditions.md#{}", reason.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_well() {
        for (millis, text) in [
            (0, "0 s"),
            (30, "0 s"),
            (400, "0.4 s"),
            (9_970, "10 s"),
            (47_300, "47 s"),
            (119_600, "120 s"),
            (720_000, "12 min"),
            (10_800_000, "3 h"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn counts_follow_the_number() {
        assert_eq!(count(1, "GPU"), "1 GPU");
        assert_eq!(some_have(1, 3), "1 of 3 endpoints has");
        assert_eq!(some_have(1, 1), "1 of 1 endpoint has");
        assert_eq!(some_have(2, 3), "2 of 3 endpoints have");
        assert_eq!(listed(["a", "b", "c"], 2), "a; b; and 1 more");
        assert_eq!(listed(["a", "b"], 2), "a; b");
    }

    #[test]
    fn foreign_text_becomes_one_clause() {
        assert_eq!(clause("connection\r\nrefused.\u{7} "), "connection refused");
        assert_eq!(clause(""), "");
    }

    #[test]
    fn percent_is_bounded() {
        assert_eq!(percent(0.874), "87%");
        assert_eq!(percent(1e30), "999%");
        assert_eq!(percent(-1.0), "0%");
    }

    proptest! {
        #[test]
        fn truncation_keeps_the_bound_and_whole_characters(text in "\\PC{0,80}", max in 4_usize..60) {
            let cut = truncated(&text, max);
            prop_assert!(cut.len() <= max);
            prop_assert!(text.len() > max || cut == text);
            prop_assert!(text.starts_with(cut.trim_end_matches('.')) || cut == text);
        }
    }
}
