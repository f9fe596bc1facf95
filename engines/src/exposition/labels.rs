//! Label lists, read lazily from the text between the braces.

use std::borrow::Cow;

use memchr::memchr2;

use super::number::EACH;
use super::{MAX_LABEL_VALUE_BYTES, MAX_NAME_BYTES, is_blank};

/// One label of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// The name as written, without quotes.
    pub name: &'a [u8],
    /// The value as written, with its escapes: UTF-8.
    pub raw_value: &'a [u8],
}

impl<'a> Label<'a> {
    /// The value with `\\`, `\"` and `\n` resolved; any other escape is kept as written.
    #[must_use]
    pub fn value(&self) -> Cow<'a, str> {
        // The parser has seen that it is UTF-8.
        let raw = String::from_utf8_lossy(self.raw_value);
        if !self.raw_value.contains(&b'\\') {
            return raw;
        }
        let mut value = String::with_capacity(raw.len());
        let mut chars = raw.chars();
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
    pub(super) text: &'a [u8],
    /// Where in `text` the value of `le` stands, without its quotes.
    pub(super) bound: Option<(usize, usize)>,
    /// Equal for lists of one body that differ in the value of `le` at most. 0 where there is no list.
    pub(super) list: u32,
}

impl<'a> Labels<'a> {
    /// The label list as written, without the braces.
    #[must_use]
    pub const fn as_written(&self) -> &'a [u8] {
        self.text
    }

    /// The value of `le` as written, without its quotes.
    #[must_use]
    pub fn bound(&self) -> Option<&'a [u8]> {
        let (start, end) = self.bound?;
        self.text.get(start..end)
    }

    /// A number that lists of one body share when they are equal but for the value of `le`; 0 without a list.
    #[must_use]
    pub const fn list_number(&self) -> u32 {
        self.list
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
                Ok(Some(Entry::Label { label, .. })) => return Some(label),
                Ok(Some(Entry::MetricName(_))) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

/// What stands between two commas.
pub(super) enum Entry<'a> {
    Label {
        label: Label<'a>,
        /// Where in the text the value stands, after its quote.
        value_at: usize,
    },
    /// A quoted metric name, as the 1.0.0 format allows inside the braces.
    MetricName(&'a [u8]),
}

/// Reads the entry at `at` and the comma after it. `None` at the closing brace (or where a list without one ends), with `at` on it.
pub(super) fn next_entry<'a>(text: &'a [u8], at: &mut usize) -> Result<Option<Entry<'a>>, &'static str> {
    skip_blanks(text, at);
    let name = match text.get(*at) {
        None | Some(b'}' | b'\r' | b'\n') => return Ok(None),
        Some(b'"') => {
            *at += 1;
            let name = quoted(text, at)?;
            skip_blanks(text, at);
            match text.get(*at) {
                Some(b'=') => {}
                Some(b',') => {
                    *at += 1;
                    return Ok(Some(Entry::MetricName(name)));
                }
                None | Some(b'}') => return Ok(Some(Entry::MetricName(name))),
                Some(_) => return Err("expected '=', ',' or '}' after the quoted name"),
            }
            name
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
    let value_at = *at;
    let raw_value = quoted(text, at)?;
    skip_blanks(text, at);
    // Prometheus takes a list without commas too.
    if text.get(*at) == Some(&b',') {
        *at += 1;
    }
    Ok(Some(Entry::Label {
        label: Label { name, raw_value },
        value_at,
    }))
}

/// The length of the text up to the closing quote, where it is plain: ASCII without escapes. `None` for any other.
#[inline]
pub(super) fn plain_quoted(text: &[u8]) -> Option<usize> {
    let text = text.get(..MAX_LABEL_VALUE_BYTES + 1).unwrap_or(text);
    let mut length = 0;
    while let Some(first) = text.get(length..)?.first_chunk() {
        let bytes = u64::from_le_bytes(*first);
        // The highest bit of each byte that is zero; the lowest one of them is right, above it a borrow may have set one.
        let zeros = |bytes: u64| bytes.wrapping_sub(EACH) & !bytes;
        let quotes = zeros(bytes ^ (EACH * u64::from(b'"')));
        let ends = (quotes | zeros(bytes ^ (EACH * u64::from(b'\\'))) | bytes) & (EACH * 0x80);
        if ends != 0 {
            length += ends.trailing_zeros() as usize / 8;
            return (text.get(length) == Some(&b'"')).then_some(length);
        }
        length += 8;
    }
    let last = text.get(length..)?;
    length += last.iter().position(|&b| b == b'"' || b == b'\\' || !b.is_ascii())?;
    (text.get(length) == Some(&b'"')).then_some(length)
}

/// The text up to the closing quote, which is UTF-8, and `at` after the quote. A line feed in it is no end: Prometheus takes one as it is, too.
#[inline]
pub(super) fn quoted<'a>(text: &'a [u8], at: &mut usize) -> Result<&'a [u8], &'static str> {
    let rest = text.get(*at..).unwrap_or_default();
    match plain_quoted(rest) {
        Some(length) => {
            *at += length + 1;
            Ok(rest.get(..length).unwrap_or_default())
        }
        None => any_quoted(rest, at),
    }
}

#[inline(never)]
fn any_quoted<'a>(rest: &'a [u8], at: &mut usize) -> Result<&'a [u8], &'static str> {
    // One byte more than a value may have, and its quote: what is longer is told apart from what does not end.
    let rest = rest.get(..MAX_LABEL_VALUE_BYTES + 2).unwrap_or(rest);
    let mut end = 0;
    loop {
        let Some(found) = memchr2(b'"', b'\\', rest.get(end..).unwrap_or_default()) else {
            return Err(if rest.len() > MAX_LABEL_VALUE_BYTES {
                "the label value is too long"
            } else {
                "expected '\"' after the label value"
            });
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
    let text = rest.get(..end).unwrap_or_default();
    match std::str::from_utf8(text) {
        Ok(_) => Ok(text),
        Err(_) => Err("the label value is not UTF-8"),
    }
}

#[inline]
pub(super) fn skip_blanks(text: &[u8], at: &mut usize) {
    while text.get(*at).is_some_and(|&b| is_blank(b)) {
        *at += 1;
    }
}

/// The length of the name at the start of `text`: letters, digits, `_`, and `:` in metric names; not a digit first. Above
/// [`MAX_NAME_BYTES`] any length above it.
pub(super) fn name_length(text: &[u8], metric: bool) -> usize {
    if text.first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    name_length_from(text, 0, metric)
}

/// The same for a text whose first `known` bytes are a name.
#[inline]
pub(super) fn name_length_from(text: &[u8], known: usize, metric: bool) -> usize {
    let most = text.len().min(MAX_NAME_BYTES + 1);
    let Some(rest) = text.get(known..most) else {
        return known;
    };
    let kinds = if metric { OF_LABEL | OF_METRIC } else { OF_LABEL };
    let found = rest.iter().position(|&b| NAME_BYTES[usize::from(b)] & kinds == 0);
    known + found.unwrap_or(rest.len())
}

/// A byte that all names may have.
const OF_LABEL: u8 = 1;
/// One that names of metrics may have.
const OF_METRIC: u8 = 2;

/// Which names a byte may stand in.
static NAME_BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "below 256")]
        let b = byte as u8;
        if b.is_ascii_alphanumeric() || b == b'_' {
            table[byte] = OF_LABEL;
        }
        byte += 1;
    }
    table[b':' as usize] = OF_METRIC;
    table
};
