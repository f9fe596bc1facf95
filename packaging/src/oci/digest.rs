//! SHA-256 digests, and a writer that makes one of what passes through it.

use sha2::{Digest as _, Sha256};
use std::{
    fmt::{self, Write as _},
    io::{self, Write},
};

/// A SHA-256 digest, shown as `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    hex: String,
}

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(Sha256::new_with_prefix(bytes))
    }

    /// The digits alone, as in the name of a blob.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl From<Sha256> for Digest {
    fn from(state: Sha256) -> Self {
        let mut hex = String::new();
        for byte in state.finalize() {
            // Writing to a String cannot fail.
            _ = write!(hex, "{byte:02x}");
        }
        Self { hex }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.hex)
    }
}

/// Passes everything on, and keeps its digest and length.
pub(super) struct Hashing<W> {
    inner: W,
    state: Sha256,
    length: u64,
}

impl<W> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            state: Sha256::new(),
            length: 0,
        }
    }

    /// The writer below, the digest and the length of what passed.
    pub(super) fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.state.into(), self.length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.state.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, Hashing};
    use std::io::Write;

    const OF_ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_digest_is_that_of_the_standard() {
        assert_eq!(Digest::of(b"abc").to_string(), OF_ABC);
        let mut hashing = Hashing::new(Vec::new());
        hashing.write_all(b"a").expect("write");
        hashing.write_all(b"bc").expect("write");
        let (inner, digest, length) = hashing.finish();
        assert_eq!(
            (inner.as_slice(), digest.to_string().as_str(), length),
            (&b"abc"[..], OF_ABC, 3)
        );
    }
}
