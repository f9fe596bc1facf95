//! One sample line: `name{labels} value [timestamp] [# exemplar]`.

use super::labels::{Entry, Labels, name_length, next_entry, skip_blanks};
use super::number::{parse_value, value_length};
use super::{MAX_LABELS, MAX_NAME_BYTES, Sample};

/// Parses `text`, a line without its line end that stands at `start` in the body.
pub(super) fn parse(text: &[u8], start: usize) -> Result<Sample<'_>, &'static str> {
    let mut at = 0;
    skip_blanks(text, &mut at);
    let named = text.get(at) != Some(&b'{');
    let mut name: &[u8] = b"";
    if named {
        let rest = text.get(at..).unwrap_or_default();
        let length = name_length(rest, true);
        if length == 0 {
            return Err("expected a metric name");
        }
        name = rest.get(..length).unwrap_or_default();
        at += length;
    }
    let mut labels = Labels::default();
    let before_blanks = at;
    skip_blanks(text, &mut at);
    if text.get(at) == Some(&b'{') {
        at += 1;
        let list_start = at;
        let mut count = 0;
        while let Some(entry) = next_entry(text, &mut at)? {
            count += 1;
            if count > MAX_LABELS {
                return Err("too many labels");
            }
            if let Entry::MetricName(quoted) = entry {
                if !name.is_empty() {
                    return Err("expected one metric name, found two");
                }
                name = quoted;
            }
        }
        if text.get(at) != Some(&b'}') {
            return Err("expected '}' after the labels");
        }
        labels = Labels::new(text.get(list_start..at).unwrap_or_default());
        at += 1;
        skip_blanks(text, &mut at);
    } else if before_blanks == at {
        return Err(if at == text.len() {
            "expected a value"
        } else {
            "expected a blank or '{' after the metric name"
        });
    }
    if name.is_empty() {
        return Err("expected a metric name");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("the metric name is too long");
    }

    let rest = text.get(at..).unwrap_or_default();
    let length = value_length(rest);
    let value = parse_value(rest.get(..length).unwrap_or_default()).ok_or("expected a number as value")?;
    let value_at = start + at..start + at + length;
    at += length;
    timestamp_and_exemplar(text, at)?;
    Ok(Sample {
        name,
        labels,
        value,
        value_at,
    })
}

fn timestamp_and_exemplar(text: &[u8], mut at: usize) -> Result<(), &'static str> {
    skip_blanks(text, &mut at);
    match text.get(at) {
        // What follows '#' is an exemplar (or a comment of a lax exporter): nothing in it is read.
        None | Some(b'#') => return Ok(()),
        Some(_) => {}
    }
    let rest = text.get(at..).unwrap_or_default();
    let length = value_length(rest);
    if !parse_value(rest.get(..length).unwrap_or_default()).is_some_and(f64::is_finite) {
        return Err("expected a timestamp or the end of the line after the value");
    }
    at += length;
    skip_blanks(text, &mut at);
    match text.get(at) {
        None | Some(b'#') => Ok(()),
        Some(_) => Err("expected the end of the line after the timestamp"),
    }
}
