//! One sample line: `name{labels} value [timestamp] [# exemplar]`.
//!
//! Lines follow each other in families: the name and the labels of a line are mostly those of the line before, but for the
//! bound of a histogram bucket. So what the line before held is compared first, which costs a tenth of reading it again; a list of labels
//! that was well-formed once is well-formed again.

use memchr::memchr;

use super::bucket::Bucket;
use super::labels::{Entry, Labels, name_length_from, next_entry, quoted, skip_blanks};
use super::number::value_at_start;
use super::stem::Stem;
use super::{MAX_LABELS, MAX_NAME_BYTES, Sample};

/// What the lines before held.
#[derive(Clone, Debug, Default)]
pub(super) struct Before<'a> {
    name: &'a [u8],
    /// The number of that name, and how many different ones there were so far.
    name_number: u32,
    names_seen: u32,
    bucket: Option<Bucket<'a>>,
    /// The last family that was declared with a name that needs no quotes.
    pub(super) family: &'a [u8],
    /// The last list of labels without a bound, and the last with one: histograms end in lines without. Lists that begin alike share a place.
    lists: [[Labels<'a>; 2]; PLACES],
    /// How many different lists there were so far.
    lists_seen: u32,
    /// Of lists that begin otherwise, too.
    stems: [Stem<'a>; PLACES],
}

impl<'a> Before<'a> {
    /// The sample at `at` where it is one more bucket, as most are, and the length of its line.
    #[inline]
    pub(super) fn next_bucket(&self, body: &'a [u8], at: usize) -> Option<(Sample<'a>, usize)> {
        self.bucket.as_ref()?.next(body.get(at..)?, at)
    }

    fn new_name(&mut self) {
        self.names_seen = self.names_seen.wrapping_add(1);
        self.name_number = self.names_seen;
    }
}

/// Places for lists that begin otherwise.
const PLACES: usize = 16;

/// The place for a list of labels: several engines of one server differ in the first label, `engine="0"`, and take turns.
#[inline]
fn place(list: &[u8]) -> usize {
    match list {
        [_, _, _, _, _, _, _, _, tens, ones, ..] => usize::from(tens.wrapping_add(*ones)) % PLACES,
        _ => 0,
    }
}

/// Parses the line whose first byte that is not blank stands at `at` in `body`. Gives the sample and where the next line begins.
pub(super) fn parse<'a>(
    body: &'a [u8],
    mut at: usize,
    before: &mut Before<'a>,
) -> Result<(Sample<'a>, usize), &'static str> {
    let line_at = at;
    let line = body.get(at..).unwrap_or_default();
    let mut name = metric_name(body, &mut at, before)?;
    let mut list_at = at;
    let mut labels = Labels::default();
    let before_blanks = at;
    skip_blanks(body, &mut at);
    if body.get(at) == Some(&b'{') {
        at += 1;
        list_at = at;
        labels = match known_list(body, &mut at, before) {
            Some(labels) => labels,
            None => new_list(body, &mut at, &mut name, before)?,
        };
        skip_blanks(body, &mut at);
    } else if before_blanks == at {
        return Err(if is_line_end(body, at) {
            "expected a value"
        } else {
            "expected a blank or '{' after the metric name"
        });
    }
    if name.is_empty() {
        return Err("expected a metric name");
    }

    let name_number = before.name_number;
    // A name inside the list is none that the next line begins with.
    if labels.bound.is_some() && !before.name.is_empty() {
        let bucket = Bucket::of(line, (name, name_number), list_at - line_at, &labels, at - line_at);
        before.bucket = bucket;
    }
    let rest = body.get(at..).unwrap_or_default();
    let (value, length) = value_at_start(rest).ok_or("expected a number as value")?;
    let value_at = at..at + length;
    let next = end_of_line(body, at + length)?;
    let sample = Sample {
        name,
        labels,
        value,
        value_at,
        name_number,
    };
    Ok((sample, next))
}

/// The name at `at`; empty where the line begins with the brace, since the name stands inside then.
fn metric_name<'a>(body: &'a [u8], at: &mut usize, before: &mut Before<'a>) -> Result<&'a [u8], &'static str> {
    let rest = body.get(*at..).unwrap_or_default();
    if rest.first() == Some(&b'{') {
        before.name = b"";
        before.new_name();
        return Ok(b"");
    }
    let known = [before.name, before.family]
        .into_iter()
        .find(|name| rest.starts_with(name))
        .map_or(0, <[u8]>::len);
    if known == 0 && rest.first().is_some_and(u8::is_ascii_digit) {
        return Err("expected a metric name");
    }
    let length = name_length_from(rest, known, true);
    if length == 0 {
        return Err("expected a metric name");
    }
    if length > MAX_NAME_BYTES {
        return Err("the metric name is too long");
    }
    *at += length;
    let name = rest.get(..length).unwrap_or_default();
    if name != before.name {
        before.new_name();
    }
    before.name = name;
    Ok(name)
}

/// The list at `at`, after its brace, if it is one of those before but for its bound; `at` is after it then.
#[inline]
fn known_list<'a>(body: &'a [u8], at: &mut usize, before: &Before<'a>) -> Option<Labels<'a>> {
    let rest = body.get(*at..)?;
    let lists = before.lists.get(place(rest))?;
    // A list with a bound comes more often.
    for list in lists.iter().rev().filter(|list| !list.text.is_empty()) {
        let Some(bound) = list.bound else {
            if rest.starts_with(list.text) && rest.get(list.text.len()) == Some(&b'}') {
                *at += list.text.len() + 1;
                return Some(*list);
            }
            continue;
        };
        let (before, after) = (list.text.get(..bound.0)?, list.text.get(bound.1..)?);
        if !rest.starts_with(before) {
            continue;
        }
        let mut end = bound.0;
        // What is not well-formed is read anew, to say why.
        let end = bound.0 + quoted(rest, &mut end).ok()?.len();
        let tail = rest.get(end..)?;
        if tail.starts_with(after) && tail.get(after.len()) == Some(&b'}') {
            let length = end + after.len();
            *at += length + 1;
            return Some(Labels {
                text: rest.get(..length)?,
                bound: Some((bound.0, end)),
                list: list.list,
            });
        }
    }
    None
}

/// Reads the list at `at`, after its brace, entry by entry.
#[cold]
#[inline(never)]
fn new_list<'a>(
    body: &'a [u8],
    at: &mut usize,
    name: &mut &'a [u8],
    before: &mut Before<'a>,
) -> Result<Labels<'a>, &'static str> {
    let list_start = *at;
    let list = body.get(list_start..).unwrap_or_default();
    // Up to the end of the body, as the next list is looked up before its end is known.
    let place = place(list);
    let mut no_stem = Stem::default();
    let stem = before.stems.get_mut(place).unwrap_or(&mut no_stem);
    let (mut count, known) = stem.common(list);
    *at += known;
    stem.begin(list, count);
    let mut bound = None;
    let mut named_inside = false;
    while let Some(entry) = next_entry(body, at)? {
        count += 1;
        if count > MAX_LABELS {
            return Err("too many labels");
        }
        match entry {
            Entry::MetricName(quoted) => {
                if !name.is_empty() {
                    return Err("expected one metric name, found two");
                }
                if quoted.len() > MAX_NAME_BYTES {
                    return Err("the metric name is too long");
                }
                *name = quoted;
                named_inside = true;
            }
            Entry::Label { label, value_at } => {
                // Neither a bound nor the name of the metric may go unseen.
                if label.name == b"le" {
                    bound = Some((value_at - list_start, value_at - list_start + label.raw_value.len()));
                } else if bound.is_none() && !named_inside {
                    stem.label(count, *at - list_start);
                }
            }
        }
    }
    if body.get(*at) != Some(&b'}') {
        return Err("expected '}' after the labels");
    }
    before.lists_seen = before.lists_seen.wrapping_add(1);
    let labels = Labels {
        text: body.get(list_start..*at).unwrap_or_default(),
        bound,
        list: before.lists_seen,
    };
    *at += 1;
    // A list that names the metric is not the same for the next one.
    if !named_inside
        && let Some(lists) = before.lists.get_mut(place)
        && let Some(place) = lists.get_mut(usize::from(bound.is_some()))
    {
        *place = labels;
    }
    Ok(labels)
}

/// Where the line after this one begins, when nothing but a timestamp and an exemplar stands at `at`, after the value.
fn end_of_line(body: &[u8], mut at: usize) -> Result<usize, &'static str> {
    if body.get(at) == Some(&b'\n') {
        return Ok(at + 1);
    }
    skip_blanks(body, &mut at);
    if !is_line_end(body, at) && body.get(at) != Some(&b'#') {
        let rest = body.get(at..).unwrap_or_default();
        let Some((_, length)) = value_at_start(rest).filter(|(timestamp, _)| timestamp.is_finite()) else {
            return Err("expected a timestamp or the end of the line after the value");
        };
        at += length;
        skip_blanks(body, &mut at);
    }
    let rest = body.get(at..).unwrap_or_default();
    match rest {
        // What follows '#' is an exemplar (or a comment of a lax exporter): nothing in it is read.
        [b'#', ..] => Ok(at + memchr(b'\n', rest).map_or(rest.len(), |length| length + 1)),
        [b'\n', ..] | [b'\r'] => Ok(at + 1),
        [b'\r', b'\n', ..] => Ok(at + 2),
        [] => Ok(at),
        _ => Err("expected the end of the line after the timestamp"),
    }
}

/// True at a line feed, a carriage return before one, and the end of the body.
pub(super) fn is_line_end(body: &[u8], at: usize) -> bool {
    matches!(
        body.get(at..).unwrap_or_default(),
        [] | [b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..]
    )
}
