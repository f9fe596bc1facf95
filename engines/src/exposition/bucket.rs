//! The last line whose labels have a bound: those of the other buckets differ from it in the bound and the value, and are most lines of a body.

use super::Sample;
use super::labels::{Labels, plain_quoted};
use super::number::short_count;

/// A line whose labels have a bound.
#[derive(Clone, Debug)]
pub(super) struct Bucket<'a> {
    /// The line up to the bound.
    head: &'a [u8],
    /// From the quote after the bound up to the value.
    tail: &'a [u8],
    name_length: usize,
    name_number: u32,
    /// Where in the line the list of labels begins, and where in `tail` it ends.
    list_at: usize,
    list_end: usize,
    list: u32,
}

impl<'a> Bucket<'a> {
    /// The bucket at the start of `line`, whose value stands at `value_at`.
    pub(super) fn of(
        line: &'a [u8],
        name: (&[u8], u32),
        list_at: usize,
        labels: &Labels<'_>,
        value_at: usize,
    ) -> Option<Self> {
        let (start, end) = labels.bound?;
        Some(Self {
            head: line.get(..list_at + start)?,
            tail: line.get(list_at + end..value_at)?,
            name_length: name.0.len(),
            name_number: name.1,
            list_at,
            list_end: labels.text.len() - end,
            list: labels.list,
        })
    }

    /// The sample of `line` where it is such a bucket with a count as Python writes it, and where the line after it begins; its value stands
    /// after `at` bytes of the body. What stands around the bound has been found well-formed before.
    #[inline]
    pub(super) fn next(&self, line: &'a [u8], at: usize) -> Option<(Sample<'a>, usize)> {
        let rest = line.strip_prefix(self.head)?;
        let length = plain_quoted(rest)?;
        let end = self.head.len() + length;
        let after = rest.get(length..)?.strip_prefix(self.tail)?;
        let (value, value_length) = short_count(after)?;
        let value_at = end + self.tail.len();
        let value_end = value_at + value_length;
        let sample = Sample {
            name: line.get(..self.name_length)?,
            labels: Labels {
                text: line.get(self.list_at..end + self.list_end)?,
                bound: Some((self.head.len() - self.list_at, end - self.list_at)),
                list: self.list,
            },
            value,
            value_at: at + value_at..at + value_end,
            name_number: self.name_number,
        };
        Some((sample, value_end + 1))
    }
}
