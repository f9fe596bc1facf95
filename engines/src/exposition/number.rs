//! Sample values.

/// Reads a sample value: decimal or exponent form, `NaN` and `Inf` in any case and sign. `None` for anything else.
#[must_use]
pub fn parse_value(text: &[u8]) -> Option<f64> {
    match plain_number(text) {
        Some((value, length)) if length == text.len() => Some(value),
        _ => fast_float2::parse(text).ok(),
    }
}

/// The value at the start of `text` and its length: it ends at the first blank or line end. The layout cache depends on this being the only
/// rule.
#[inline]
pub(crate) fn value_at_start(text: &[u8]) -> Option<(f64, usize)> {
    match short_count(text) {
        Some(count) => Some(count),
        None => any_value(text),
    }
}

/// Any value, and its length.
#[inline(never)]
fn any_value(text: &[u8]) -> Option<(f64, usize)> {
    if let Some((value, length)) = plain_number(text)
        && text.get(length).is_none_or(|&b| ends_value(b))
    {
        return Some((value, length));
    }
    // The longest number at the start is the value, or nothing is: where it ends before the text does, the text is none.
    let (value, length) = fast_float2::parse_partial(text).ok()?;
    text.get(length)
        .is_none_or(|&b| ends_value(b))
        .then_some((value, length))
}

#[inline]
const fn ends_value(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A count of at most eight digits as Python writes it, `123.0` before a line feed: most values of a body, read without a loop.
#[inline]
pub(super) fn short_count(text: &[u8]) -> Option<(f64, usize)> {
    let digits = u64::from_le_bytes(*text.first_chunk()?) ^ (EACH * 0x30);
    // The highest bit of each byte that is above 9; the lowest one of them is right, above it a carry may have set one.
    let others = (digits.wrapping_add(EACH * 0x76) | digits) & (EACH * 0x80);
    let length = others.trailing_zeros() / 8;
    let end = text.get(length as usize..)?.first_chunk()?;
    if length == 0 || *end != *b".0\n" {
        return None;
    }
    // The last digit to the highest byte, so that zeros come before the first one; then pairs, fours, and all eight.
    let digits = digits << (64 - 8 * length);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    let eight = fours.wrapping_mul(10_000).wrapping_add(fours >> 32);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the upper half is what is left of the fours"
    )]
    Some((f64::from(eight as u32), length as usize + 2))
}

/// Digits with at most one point among them, as most values are: up to 15 digits are exact as an integer, and one division
/// by an exact power of ten rounds once, as the format's value asks for. `None` for any other, which need not be wrong.
#[inline]
fn plain_number(text: &[u8]) -> Option<(f64, usize)> {
    let text = text.get(..EXACT_DIGITS + 2).unwrap_or(text);
    let (mut number, whole) = digits(text, 0);
    let mut length = whole;
    let mut fraction = 0;
    if text.get(whole) == Some(&b'.') {
        (number, fraction) = digits(text.get(whole + 1..)?, number);
        length += 1 + fraction;
    }
    if whole == 0 || whole + fraction > EXACT_DIGITS {
        return None;
    }
    // Exact: below 10^15, far below 2^53.
    #[allow(clippy::cast_precision_loss, reason = "at most 15 digits")]
    let value = number as f64;
    Some((value / POWERS_OF_TEN.get(fraction)?, length))
}

/// The number that `number` becomes with the digits at the start of `text`, and how many these are.
#[inline]
fn digits(text: &[u8], mut number: u64) -> (u64, usize) {
    let mut length = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number * 10 + u64::from(digit);
        length += 1;
    }
    (number, length)
}

/// A one in each byte.
pub(super) const EACH: u64 = 0x0101_0101_0101_0101;
/// Digits whose number every `f64` holds.
const EXACT_DIGITS: usize = 15;
const POWERS_OF_TEN: [f64; EXACT_DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_that_engines_use_are_read() {
        for (text, value) in [
            ("0", 0.0),
            ("0.0", 0.0),
            ("-1.0", -1.0),
            ("+4", 4.0),
            ("3.21457e+06", 3_214_570.0),
            ("1.158e+011", 1.158e11),
            ("1.7953065379484885e+09", 1.795_306_537_948_488_5e9),
            ("+Inf", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
        ] {
            assert_eq!(parse_value(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["NaN", "Nan", "nan"] {
            assert!(parse_value(text.as_bytes()).is_some_and(f64::is_nan), "{text}");
        }
    }

    #[test]
    fn plain_numbers_are_those_that_the_long_way_gives() {
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = (random >> 8) % 10_u64.pow((random >> 60) as u32);
            let point = (random >> 20) as usize % 18;
            let mut text = number.to_string();
            text.insert(point.min(text.len()), '.');
            for text in [text.trim_end_matches('.'), &text, &format!("00{text}0")] {
                let long = text.parse::<f64>().ok().map(f64::to_bits);
                assert_eq!(parse_value(text.as_bytes()).map(f64::to_bits), long, "{text}");
                for end in ["", " ", "\n", "\r\n", "\t1"] {
                    let found = value_at_start(format!("{text}{end}").as_bytes());
                    assert_eq!(
                        found.map(|(value, length)| (value.to_bits(), length)),
                        long.map(|bits| (bits, text.len())),
                        "{text}{end}"
                    );
                }
            }
        }
        assert_eq!(value_at_start(b"1.5x"), None);
        assert_eq!(value_at_start(b""), None);
    }

    #[test]
    fn counts_are_those_that_the_long_way_gives() {
        for length in 1..=9 {
            let least = 10_u32.pow(length - 1);
            for count in [least, least * 9, least * 2 - 1, 1_234_567_890 % (least * 4)] {
                for zeros in 0..3 {
                    let text = format!("{}{count}.0", "0".repeat(zeros));
                    let read = value_at_start(format!("{text}\n").as_bytes());
                    assert_eq!(read, Some((f64::from(count), text.len())), "{text}");
                }
            }
        }
        for text in ["/1.0\n", "1:.0\n", "1.0x\n", ".0\n", "1.\u{660}\n", "\u{661}1.0\n"] {
            let text = format!("{text}aaaaaaaa");
            let long = text.split('\n').next().and_then(|text| text.parse::<f64>().ok());
            assert_eq!(value_at_start(text.as_bytes()).map(|read| read.0), long, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in [
            "", "-", "1.0x", "1,5", "0x10", "1_000", "one", "1 2", "--1", "e5", "\u{661}",
        ] {
            assert_eq!(parse_value(text.as_bytes()), None, "{text}");
        }
    }
}
