//! The first labels of the last list that was read entry by entry: the next one mostly begins with them, and is read on after them.

/// The first labels of a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Stem<'a> {
    text: &'a [u8],
    /// Where in the text each of them ends, after its comma.
    ends: [usize; STEM_LABELS],
    labels: usize,
}

/// Labels of a stem; `engine` and `model_name` come before what else a list has.
const STEM_LABELS: usize = 4;

impl<'a> Stem<'a> {
    pub(super) fn begin(&mut self, text: &'a [u8], labels: usize) {
        self.text = text;
        self.labels = labels;
    }

    /// Takes the entry that ends at `end`, the number `count` of the list. Where no comma ends it, what follows decides how it is read.
    pub(super) fn label(&mut self, count: usize, end: usize) {
        let has_comma = end.checked_sub(1).and_then(|last| self.text.get(last)) == Some(&b',');
        if has_comma
            && count == self.labels + 1
            && let Some(place) = self.ends.get_mut(self.labels)
        {
            *place = end;
            self.labels = count;
        }
    }

    /// How many labels `text` begins with are those of the stem, and where the last of them ends.
    pub(super) fn common(&self, text: &[u8]) -> (usize, usize) {
        let ends = self.ends.iter().take(self.labels).enumerate().rev();
        ends.map(|(number, &end)| (number + 1, end))
            .find(|&(_, end)| self.text.get(..end).is_some_and(|stem| text.starts_with(stem)))
            .unwrap_or_default()
    }
}
