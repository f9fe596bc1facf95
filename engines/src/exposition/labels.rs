//! Label lists, read lazily from the text between the braces.

use std::borrow::Cow;

use memchr::memchr2;

use super::{MAX_LABEL_VALUE_BYTES, MAX_NAME_BYTES, is_blank};

/// One label of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// The name as written, without quotes.
    pub name: &'a [u8],
    /// The value as written, with its escapes.
    pub raw_value: &'a str,
}

impl<'a> Label<'a> {
    /// The value with `\\`, `\"` and `\n` resolved; any other escape is kept as written.
    #[must_use]
    pub fn value(&self) -> Cow<'a, str> {
        if !self.raw_value.contains('\\') {
            return Cow::Borrowed(self.raw_value);
        }
        let mut value = String::with_capacity(self.raw_value.len());
        let mut chars = self.raw_value.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                value.push(c);
                continue;
            }
            match chars.next() {
                Some('n') => value.push('\n'),
                Some(escaped @ ('\\' | '"')) => value.push(escaped),
                Some(other) => value.extend(['\\', other]),
                None => value.push('\\'),
            }
        }
        Cow::Owned(value)
    }
}

/// The labels of a sample: the text between the braces, found well-formed when the line was parsed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    text: &'a [u8],
}

impl<'a> Labels<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text }
    }

    /// The label list as written, without the braces.
    #[must_use]
    pub const fn as_written(&self) -> &'a [u8] {
        self.text
    }

    /// The value of the label `name`, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.into_iter()
            .find(|label| label.name == name.as_bytes())
            .map(|label| label.value())
    }
}

impl<'a> IntoIterator for Labels<'a> {
    type Item = Label<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { text: self.text, at: 0 }
    }
}

/// Walks over a label list.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Label<'a>;

    fn next(&mut self) -> Option<Label<'a>> {
        loop {
            match next_entry(self.text, &mut self.at) {
                Ok(Some(Entry::Label(label))) => return Some(label),
                Ok(Some(Entry::MetricName(_))) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

/// What stands between two commas.
pub(super) enum Entry<'a> {
    Label(Label<'a>),
    /// A quoted metric name, as the 1.0.0 format allows inside the braces.
    MetricName(&'a [u8]),
}

/// Reads the entry at `at` and the comma after it. `None` at the closing brace (or at the end of a list without one), with `at` on it.
pub(super) fn next_entry<'a>(text: &'a [u8], at: &mut usize) -> Result<Option<Entry<'a>>, &'static str> {
    skip_blanks(text, at);
    let name = match text.get(*at) {
        None | Some(b'}') => return Ok(None),
        Some(b'"') => {
            *at += 1;
            let name = quoted(text, at)?;
            skip_blanks(text, at);
            if text.get(*at) != Some(&b'=') {
                comma(text, at)?;
                return Ok(Some(Entry::MetricName(name.as_bytes())));
            }
            name.as_bytes()
        }
        Some(_) => {
            let rest = text.get(*at..).unwrap_or_default();
            let length = name_length(rest, false);
            if length == 0 {
                return Err("expected a label name");
            }
            *at += length;
            rest.get(..length).unwrap_or_default()
        }
    };
    if name.len() > MAX_NAME_BYTES {
        return Err("the label name is too long");
    }
    skip_blanks(text, at);
    if text.get(*at) != Some(&b'=') {
        return Err("expected '=' after the label name");
    }
    *at += 1;
    skip_blanks(text, at);
    if text.get(*at) != Some(&b'"') {
        return Err("expected '\"' before the label value");
    }
    *at += 1;
    let raw_value = quoted(text, at)?;
    skip_blanks(text, at);
    comma(text, at)?;
    Ok(Some(Entry::Label(Label { name, raw_value })))
}

/// The text up to the closing quote, and `at` after the quote.
fn quoted<'a>(text: &'a [u8], at: &mut usize) -> Result<&'a str, &'static str> {
    let rest = text.get(*at..).unwrap_or_default();
    let mut end = 0;
    loop {
        let Some(found) = memchr2(b'"', b'\\', rest.get(end..).unwrap_or_default()) else {
            return Err("expected '\"' after the label value");
        };
        end += found;
        if rest.get(end) == Some(&b'"') {
            break;
        }
        end += 2;
    }
    if end > MAX_LABEL_VALUE_BYTES {
        return Err("the label value is too long");
    }
    *at += end + 1;
    std::str::from_utf8(rest.get(..end).unwrap_or_default()).map_err(|_| "the label value is not UTF-8")
}

fn comma(text: &[u8], at: &mut usize) -> Result<(), &'static str> {
    match text.get(*at) {
        Some(b',') => {
            *at += 1;
            Ok(())
        }
        None | Some(b'}') => Ok(()),
        Some(_) => Err("expected ',' or '}' after the label value"),
    }
}

pub(super) fn skip_blanks(text: &[u8], at: &mut usize) {
    while text.get(*at).is_some_and(|&b| is_blank(b)) {
        *at += 1;
    }
}

/// The length of the name at the start of `text`: letters, digits, `_`, and `:` in metric names; not a digit first.
pub(super) fn name_length(text: &[u8], metric: bool) -> usize {
    if text.first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    text.iter()
        .take_while(|&&b| b.is_ascii_alphanumeric() || b == b'_' || (metric && b == b':'))
        .count()
}
