//! A zero-copy, bounded parser of the Prometheus text format (0.0.4, and the quoted names of 1.0.0).
//!
//! Own code because common Rust parsers refuse names with `:`, which is what vLLM and llama.cpp use. It borrows everything
//! from the body, allocates nothing, never panics, and tells where each value stands, so that a reader can come back
//! to the values alone. One bad sample line fails the body, since half a body must not pass for a whole one.
//!
//! What Prometheus' parsers of the text format and of OpenMetrics accept is accepted, and the same series are found in it
//! (`testing/parser-peers` asks them), except:
//!
//! * names, label values, labels and series above the bounds below;
//! * a value without a blank between it and its name (`up-2`), and names that are empty or no UTF-8;
//! * zero bytes: they end the body for Prometheus and are part of no name here.
//!
//! More than that is accepted of lax servers: carriage returns before line feeds, timestamps with a sign or a point, exemplars in the
//! text format, `NaN` with a sign, numbers too large for a float (which are infinite), and any text in comments.

mod bucket;
mod labels;
mod line;
mod number;
mod stem;

use std::fmt;
use std::ops::Range;

use memchr::{memchr, memchr_iter};

pub use labels::{Label, Labels};
pub use number::parse_value;
pub(crate) use number::value_at_start;

/// Sample lines that one body may hold. The largest real body known (vLLM, 64 data-parallel ranks) has 24,000.
pub const MAX_SERIES: usize = 50_000;
/// Labels that one sample may hold; `vllm:cache_config_info` of 0.33 has 39.
pub const MAX_LABELS: usize = 128;
/// Bytes that one label value may hold, before unescaping.
pub const MAX_LABEL_VALUE_BYTES: usize = 64 * 1024;
/// Bytes that a metric or label name may hold.
pub const MAX_NAME_BYTES: usize = 1024;

/// A line that carries something: a declared family or a sample.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// The metric name of a `# TYPE` line. A family may be declared and have no samples (vLLM V0 before its first request).
    Family(&'a [u8]),
    /// A sample line.
    Sample(Sample<'a>),
}

/// One sample line. Timestamps and exemplars are checked for their shape and dropped: no engine sends them.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// The metric name as written, without quotes.
    pub name: &'a [u8],
    /// The labels as written.
    pub labels: Labels<'a>,
    /// The value.
    pub value: f64,
    /// Where the text of the value stands in the body.
    pub value_at: Range<usize>,
    /// Equal for lines of one body only where their names are.
    pub(crate) name_number: u32,
}

/// Why a body is not the Prometheus text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A sample line does not follow the format.
    Malformed {
        /// Line number, from 1.
        line: usize,
        /// What is wrong, or what was expected.
        reason: &'static str,
    },
    /// More than [`MAX_SERIES`] sample lines.
    TooManySeries,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { line, reason } => write!(f, "line {line}: {reason}"),
            Self::TooManySeries => write!(f, "more than {MAX_SERIES} series"),
        }
    }
}

impl std::error::Error for Fault {}

/// The items of a body, line by line.
#[derive(Clone, Debug)]
pub struct Exposition<'a> {
    body: &'a [u8],
    at: usize,
    series: usize,
    before: line::Before<'a>,
}

impl<'a> Exposition<'a> {
    /// Starts at the first line of `body`.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            at: 0,
            series: 0,
            before: line::Before::default(),
        }
    }

    /// The next item; `None` at the end of the body.
    ///
    /// # Errors
    ///
    /// At the first line that does not follow the format, and above [`MAX_SERIES`] samples. What comes after an error is
    /// not defined.
    #[inline]
    pub fn next_item(&mut self) -> Result<Option<Item<'a>>, Fault> {
        if let Some((sample, length)) = self.before.next_bucket(self.body, self.at)
            && self.series < MAX_SERIES
        {
            self.series += 1;
            self.at += length;
            return Ok(Some(Item::Sample(sample)));
        }
        self.any_item()
    }

    #[inline(never)]
    fn any_item(&mut self) -> Result<Option<Item<'a>>, Fault> {
        loop {
            let mut at = self.at;
            labels::skip_blanks(self.body, &mut at);
            match self.body.get(at) {
                None => {
                    self.at = at;
                    return Ok(None);
                }
                Some(b'#') => {
                    let comment = self.body.get(at + 1..).unwrap_or_default();
                    let length = memchr(b'\n', comment).unwrap_or(comment.len());
                    self.at = at + 1 + length + 1;
                    if let Some((name, plain)) = declared_family(comment.get(..length).unwrap_or_default()) {
                        self.before.family = if plain { name } else { b"" };
                        return Ok(Some(Item::Family(name)));
                    }
                }
                Some(b'\n') => self.at = at + 1,
                Some(b'\r') if line::is_line_end(self.body, at) => self.at = at + 2,
                Some(_) => return self.sample(at).map(|sample| Some(Item::Sample(sample))),
            }
        }
    }

    fn sample(&mut self, at: usize) -> Result<Sample<'a>, Fault> {
        self.series += 1;
        if self.series > MAX_SERIES {
            return Err(Fault::TooManySeries);
        }
        let (sample, next) = line::parse(self.body, at, &mut self.before).map_err(|reason| Fault::Malformed {
            line: memchr_iter(b'\n', self.body.get(..at).unwrap_or_default()).count() + 1,
            reason,
        })?;
        self.at = next;
        Ok(sample)
    }
}

/// The name in the text of a comment after its `#`, where it is a `TYPE` comment, and whether it needs no quotes.
fn declared_family(comment: &[u8]) -> Option<(&[u8], bool)> {
    let mut at = 0;
    labels::skip_blanks(comment, &mut at);
    // Most comments are help, as long as a sample or longer.
    let rest = comment.get(at..)?.strip_prefix(b"TYPE")?;
    at = 0;
    labels::skip_blanks(rest, &mut at);
    if at == 0 {
        return None;
    }
    let rest = rest.get(at..)?;
    let length = labels::name_length(rest, true);
    if length > 0 && rest.get(length).is_some_and(|&b| is_blank(b)) {
        return Some((rest.get(..length)?, true));
    }
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    let name = rest.split(|&b| is_blank(b)).next().filter(|name| !name.is_empty())?;
    let quoted = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
    Some((quoted.unwrap_or(name), false))
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
