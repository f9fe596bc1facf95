//! A hash of labels: 64 bits, so that two series of one body have the same by no accident.
//!
//! It is not keyed. Who makes labels collide makes the server's own series one, and could as well publish what it likes.

use crate::exposition::Label;

/// Odd numbers with about as many ones as zeros, without a pattern: digits of pi.
const FIRST: u64 = 0x243f_6a88_85a3_08d3;
const SECOND: u64 = 0x1319_8a2e_0370_7345;

/// Takes labels in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelHash(u64);

impl LabelHash {
    pub(crate) const fn new() -> Self {
        Self(FIRST)
    }

    pub(crate) fn label(&mut self, label: Label<'_>) {
        self.text(label.name);
        self.text(label.raw_value);
    }

    pub(crate) const fn finish(self) -> u64 {
        self.0
    }

    /// The length comes first, so that what follows is none of this text.
    #[inline]
    fn text(&mut self, text: &[u8]) {
        self.word(text.len() as u64);
        let mut words = text.chunks_exact(8);
        for word in &mut words {
            self.word(word.try_into().map_or(0, u64::from_le_bytes));
        }
        let last = words.remainder().iter().rev();
        self.word(last.fold(0, |word, &byte| word << 8 | u64::from(byte)));
    }

    /// Both halves of the product, so that each bit of the word may change each of the hash.
    #[inline]
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(SECOND);
        #[allow(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
        let halves = (product as u64, (product >> 64) as u64);
        self.0 = (halves.0 ^ halves.1).wrapping_add(FIRST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hash(name: &str, value: &str) -> u64 {
        let mut hash = LabelHash::new();
        hash.label(Label {
            name: name.as_bytes(),
            raw_value: value.as_bytes(),
        });
        hash.finish()
    }

    #[test]
    fn labels_that_differ_have_other_hashes() {
        let mut seen = BTreeSet::new();
        for number in 0..100_000 {
            assert!(seen.insert(hash("engine", &number.to_string())), "{number}");
        }
        for length in 0..40 {
            assert!(seen.insert(hash(&"a".repeat(length), "")), "{length}");
            assert!(length == 0 || seen.insert(hash("", &"a".repeat(length))), "{length}");
            assert!(seen.insert(hash("zeros", &"\0".repeat(length))), "{length}");
        }
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
    }
}
