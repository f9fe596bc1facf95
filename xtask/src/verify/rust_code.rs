//! Rust text without what only looks like code.

/// Gives the text with comments, strings and characters blanked; lines stay where they are.
pub(super) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    // The character before, to tell r"..." from the end of a name.
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' | 'b' | 'c' if !is_word(before) => prefixed_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
        } else {
            let (blanked, after) = rest.split_at(length);
            code.extend(
                blanked
                    .chars()
                    .map(|character| if character == '\n' { '\n' } else { ' ' }),
            );
            before = ' ';
            rest = after;
        }
    }
    code
}

/// Code up to the first module of unit tests, which by convention is the last item of a file.
pub(super) fn without_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]") {
        let after = from + at + "#[cfg(test)]".len();
        let next = code[after..].trim_start();
        // `mod tests;` is another file; only `mod tests {` ends this one.
        let declaration = next.split_inclusive(['{', ';']).next().unwrap_or_default();
        if declaration.starts_with("mod ") && declaration.ends_with('{') {
            return &code[..from + at];
        }
        from = after;
    }
    code
}

/// Whether a word stands in the code as a whole.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let mut from = 0;
    while let Some(at) = line[from..].find(word) {
        let start = from + at;
        let end = start + word.len();
        let before = line[..start].chars().next_back().unwrap_or(' ');
        let after = line[end..].chars().next().unwrap_or(' ');
        let free = |edge: Option<char>, other| !edge.is_some_and(is_word) || !is_word(other);
        if free(word.chars().next(), before) && free(word.chars().next_back(), after) {
            return true;
        }
        from = end;
    }
    false
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `b"..."`, `r#"..."#`, `br"..."`, `c"..."`; 0 when it is a name.
fn prefixed_string(text: &str) -> usize {
    let prefix = text.len() - text.trim_start_matches(['r', 'b', 'c']).len();
    let raw = text[..prefix].contains('r');
    let rest = &text[prefix..];
    let hashes = if raw {
        rest.len() - rest.trim_start_matches('#').len()
    } else {
        0
    };
    let quoted = &rest[hashes..];
    if prefix > 2 || !quoted.starts_with('"') {
        return 0;
    }
    if !raw {
        return prefix + string(quoted);
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let length = quoted[1..].find(&end).map_or(quoted.len(), |at| 1 + at + end.len());
    prefix + hashes + length
}

/// `'a'` and `'\n'`; 0 when it is a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        // The character after the backslash may be a quote.
        Some((_, '\\')) => text
            .char_indices()
            .skip(3)
            .find(|(_, character)| *character == '\'')
            .map_or(0, |(at, _)| at + 1),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{code_only, has_word, without_tests};

    #[test]
    fn what_is_no_code_is_blanked() {
        for (text, code) in [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("un\"safe", x)"#, "f(          , x)"),
            ("f(r#\"a\"b\"#, b\"c\", br\"d\\\") + e", "f(        ,     ,       ) + e"),
            ("for r in bar {}", "for r in bar {}"),
            ("x: &'a str = '\"'; y = '\\''; 'b'", "x: &'a str =    ; y =     ;    "),
        ] {
            assert_eq!(code_only(text), code, "{text}");
        }
    }

    #[test]
    fn words_stand_alone() {
        assert!(has_word("#[unsafe(no_mangle)]", "unsafe"));
        assert!(!has_word("#![deny(unsafe_code)]", "unsafe"));
        assert!(has_word("let a = Instant::now();", "Instant::now"));
        assert!(!has_word("MyInstant::now()", "Instant::now"));
        assert!(has_word("began.elapsed()", ".elapsed("));
    }

    #[test]
    fn unit_tests_are_cut_off() {
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\nb\n}"), "a\n");
        assert_eq!(
            without_tests("#[cfg(test)]\nmod tests;\nb"),
            "#[cfg(test)]\nmod tests;\nb"
        );
        assert_eq!(
            without_tests("#[cfg(test)]\nfn f() {}\nb"),
            "#[cfg(test)]\nfn f() {}\nb"
        );
    }
}
