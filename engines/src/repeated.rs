//! What a series was, for those after it: most lines of a body are one more bucket of the histogram of the line before.

use crate::exposition::Sample;
use crate::histogram;
use crate::plan::Term;

/// What the last series was that says something of those after it.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    /// The number of a name whose series feed nothing, whatever their labels; 0 for none.
    ignored: u32,
    /// The numbers of the name and of the list of labels of a bucket, and what it is.
    bucket: Option<(u32, u32, Term)>,
}

impl Repeated {
    /// Does what was done for the last series, where name and labels are the same but for the bound: adds a bucket to `terms`, whose value has
    /// the number `value`, or nothing. Whether the series feeds something; `None` for one that is not like the last.
    #[inline]
    pub(crate) fn again(&self, sample: &Sample<'_>, value: u32, terms: &mut Vec<Term>) -> Option<bool> {
        if sample.name_number == self.ignored {
            return Some(false);
        }
        let (name, list, term) = self.bucket.as_ref()?;
        if (sample.name_number, sample.labels.list_number()) != (*name, *list) {
            return None;
        }
        let Some(bound) = sample.labels.bound().and_then(histogram::bound) else {
            // A bucket without a bound says nothing.
            return Some(false);
        };
        terms.push(term.bucket(bound, value));
        Some(true)
    }

    /// No series of this name feeds anything.
    pub(crate) fn ignore(&mut self, sample: &Sample<'_>) {
        self.ignored = sample.name_number;
    }

    /// The series is the bucket `term`, and no label but the bound says more of it.
    pub(crate) fn bucket(&mut self, sample: &Sample<'_>, term: &Term) {
        self.bucket = Some((sample.name_number, sample.labels.list_number(), term.clone()));
    }
}
