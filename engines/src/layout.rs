//! The layout of the last body: everything in it but the values, and where each value goes.
//!
//! A server's body changes in its values alone, second after second. Comparing the text between the values and reading the values anew is
//! several times cheaper than parsing names and labels, and gives the same result: a value ends at the first blank or line
//! end in both, so equal text between the values means equal lines, names and labels.

use std::ops::Range;

use crate::exposition::value_at_start;
use crate::plan::Plan;
use crate::reader::Reading;

/// Bodies above this are parsed in full each time, so that one odd target cannot take the daemon's memory. vLLM with 64 data-parallel
/// ranks sends 2.8 MB.
pub(crate) const TEXT_LIMIT: usize = 4 * 1024 * 1024;

/// A value that no field needs; it is still checked, since a body with a bad number is refused as a whole.
const UNMAPPED: u32 = u32::MAX;

/// Set in the number of a value that decides what other values mean: the layout holds only while it is the same.
const DECIDES: u32 = 1 << 31;

/// What an engine does with the value of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing.
    Ignored,
    /// It feeds a field.
    Value,
    /// It decides what other values mean.
    Decides,
}

impl From<bool> for Use {
    fn from(feeds: bool) -> Self {
        if feeds { Self::Value } else { Self::Ignored }
    }
}

/// The layout of a body, with the plan that it led to.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The body without its values.
    text: Vec<u8>,
    /// Per value: the end in `text` of what stands before it, and its number among the values that are kept.
    entries: Vec<(u32, u32)>,
    values: Vec<f64>,
    plan: Plan,
}

/// A layout while its body is parsed.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    body: &'a [u8],
    text: Vec<u8>,
    entries: Vec<(u32, u32)>,
    /// Where the last value ended in the body.
    at: usize,
}

impl<'a> Draft<'a> {
    /// Begins with a body that has about so many values; `None` where it is too large to count in.
    pub(crate) fn new(body: &'a [u8], about: usize) -> Option<Self> {
        u32::try_from(body.len()).ok()?;
        Some(Self {
            body,
            text: Vec::with_capacity(body.len()),
            entries: Vec::with_capacity(about),
            at: 0,
        })
    }

    /// Takes the next value: where its text stands, what it is for, and its number among those that are kept.
    pub(crate) fn value(&mut self, at: &Range<usize>, used: Use, number: u32) {
        let before = self.body.get(self.at..at.start).unwrap_or_default();
        self.text.extend_from_slice(before);
        let number = match used {
            Use::Ignored => UNMAPPED,
            Use::Value => number,
            Use::Decides => number | DECIDES,
        };
        // No longer than the body, which can be counted in.
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.entries.push((end, number));
        self.at = at.end;
    }

    /// The layout of the whole body.
    pub(crate) fn finish(mut self, values: Vec<f64>, plan: Plan) -> Layout {
        self.text
            .extend_from_slice(self.body.get(self.at..).unwrap_or_default());
        // Values are a small part of most bodies, and a smaller place is another one, which is filled anew.
        if self.text.capacity() - self.text.len() > self.text.len() / 8 {
            self.text.shrink_to_fit();
        }
        self.entries.shrink_to_fit();
        Layout {
            text: self.text,
            entries: self.entries,
            values,
            plan,
        }
    }
}

impl Layout {
    /// The plan that the layout led to.
    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The numbers of the series whose values are kept, in the order of these.
    pub(crate) fn mapped_series(&self) -> impl Iterator<Item = usize> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.1 != UNMAPPED)
            .map(|(series, _)| series)
    }

    /// Reads a body that differs from the last one in values only into `reading`; `None` for any other, and `reading` is as it was.
    pub(crate) fn read_into(&mut self, body: &[u8], reading: &mut Reading) -> Option<()> {
        let mut in_text = 0;
        let mut in_body = 0;
        for &(end, mapped) in &self.entries {
            let end = end as usize;
            let expected = self.text.get(in_text..end)?;
            let start = in_body + expected.len();
            if body.get(in_body..start)? != expected {
                return None;
            }
            let (value, length) = value_at_start(body.get(start..)?)?;
            if mapped != UNMAPPED {
                let kept = self.values.get_mut((mapped & !DECIDES) as usize)?;
                if mapped & DECIDES != 0 && *kept != value {
                    return None;
                }
                *kept = value;
            }
            in_text = end;
            in_body = start + length;
        }
        (body.get(in_body..)? == self.text.get(in_text..)?).then(|| self.plan.read_into(&self.values, reading))
    }
}
