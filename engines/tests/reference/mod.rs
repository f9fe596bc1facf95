//! A second parser of the text format, written for being read: no memory of the line before, no search, one byte after the other. What it
//! says is what `infmon_engines::exposition` has to say.

use infmon_engines::exposition::{Exposition, Item};

/// Name, labels and the bits of the value. Every NaN is one NaN.
pub(crate) type Series = (Vec<u8>, Vec<(Vec<u8>, String)>, u64);

/// The series of a body; `None` when a line does not follow the format.
pub(crate) fn series(body: &[u8]) -> Option<Vec<Series>> {
    let mut text = Text { body, at: 0 };
    let mut found = Vec::new();
    loop {
        text.blanks();
        match text.peek() {
            None => return Some(found),
            Some(b'#') => text.rest_of_line(),
            Some(_) if text.line_end() => {}
            Some(_) => found.push(text.sample()?),
        }
    }
}

/// What the parser of the product finds.
pub(crate) fn series_of_product(body: &[u8]) -> Option<Vec<Series>> {
    let mut exposition = Exposition::new(body);
    let mut found = Vec::new();
    while let Some(item) = exposition.next_item().ok()? {
        if let Item::Sample(sample) = item {
            let labels: Vec<(Vec<u8>, String)> = sample
                .labels
                .into_iter()
                .map(|label| (label.name.to_vec(), label.value().into_owned()))
                .collect();
            let le = sample.labels.into_iter().filter(|label| label.name == b"le").last();
            assert_eq!(sample.labels.bound(), le.map(|label| label.raw_value));
            found.push((sample.name.to_vec(), labels, bits(sample.value)));
        }
    }
    Some(found)
}

pub(crate) fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN } else { value }.to_bits()
}

struct Text<'a> {
    body: &'a [u8],
    at: usize,
}

impl Text<'_> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> Vec<u8> {
        let mut taken = Vec::new();
        while let Some(byte) = self.peek().filter(|&byte| wanted(byte)) {
            taken.push(byte);
            self.at += 1;
        }
        taken
    }

    fn blanks(&mut self) {
        self.take_while(|byte| byte == b' ' || byte == b'\t');
    }

    fn rest_of_line(&mut self) {
        self.take_while(|byte| byte != b'\n');
        self.take(b'\n');
    }

    /// Takes a line end: a line feed, with or without a carriage return, or a carriage return that ends the body.
    fn line_end(&mut self) -> bool {
        let start = self.at;
        let returned = self.take(b'\r');
        if self.take(b'\n') || self.peek().is_none() && returned {
            return true;
        }
        self.at = start;
        self.peek().is_none()
    }

    fn name(&mut self, colon: bool) -> Option<Vec<u8>> {
        let name = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || colon && byte == b':');
        let first = *name.first()?;
        (!first.is_ascii_digit() && name.len() <= 1024).then_some(name)
    }

    /// The text in quotes as it is written, the first quote taken before.
    fn quoted(&mut self) -> Option<String> {
        let mut written = Vec::new();
        while !self.take(b'"') {
            if self.peek()? == b'\\' {
                written.push(b'\\');
                self.at += 1;
            }
            written.push(self.peek()?);
            self.at += 1;
        }
        String::from_utf8(written).ok().filter(|text| text.len() <= 65_536)
    }

    fn number(&mut self) -> Option<f64> {
        let word = self.take_while(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        let word = String::from_utf8(word).ok()?;
        // Rust's own reading of numbers, without what the format has no word for.
        word.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            .then(|| word.parse().ok())?
    }

    fn sample(&mut self) -> Option<Series> {
        let mut name = None;
        let mut labels = Vec::new();
        if self.peek() != Some(b'{') {
            name = Some(self.name(true)?);
        }
        let at = self.at;
        self.blanks();
        if self.take(b'{') {
            let mut entries = 0;
            loop {
                self.blanks();
                if self.take(b'}') {
                    break;
                }
                entries += 1;
                if entries > 128 {
                    return None;
                }
                let quoted = self.take(b'"');
                let label = if quoted {
                    self.quoted()?.into_bytes()
                } else {
                    self.name(false)?
                };
                self.blanks();
                if quoted && self.peek() != Some(b'=') {
                    if name.is_some() || label.is_empty() || label.len() > 1024 {
                        return None;
                    }
                    name = Some(label);
                    if !self.take(b',') && self.peek() != Some(b'}') {
                        return None;
                    }
                    continue;
                }
                if label.len() > 1024 || !self.take(b'=') {
                    return None;
                }
                self.blanks();
                if !self.take(b'"') {
                    return None;
                }
                labels.push((label, unescaped(&self.quoted()?)));
                self.blanks();
                self.take(b',');
            }
            self.blanks();
        } else if self.at == at {
            return None;
        }
        let value = self.number()?;
        self.blanks();
        if self.peek() != Some(b'#') && !self.line_end_ahead() {
            self.number().filter(|timestamp| timestamp.is_finite())?;
            self.blanks();
        }
        if self.peek() == Some(b'#') {
            self.rest_of_line();
        } else if !self.line_end() {
            return None;
        }
        Some((name?, labels, bits(value)))
    }

    fn line_end_ahead(&mut self) -> bool {
        let at = self.at;
        let ahead = self.line_end();
        self.at = at;
        ahead
    }
}

fn unescaped(written: &str) -> String {
    let mut value = String::new();
    let mut escape = false;
    for c in written.chars() {
        match (escape, c) {
            (false, '\\') => escape = true,
            (false, c) => value.push(c),
            (true, c) => {
                match c {
                    'n' => value.push('\n'),
                    '\\' | '"' => value.push(c),
                    c => value.extend(['\\', c]),
                }
                escape = false;
            }
        }
    }
    value
}
