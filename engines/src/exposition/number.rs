//! Sample values.

/// Reads a sample value: decimal or exponent form, `NaN` and `Inf` in any case and sign. `None` for anything else.
#[must_use]
pub fn parse_value(text: &[u8]) -> Option<f64> {
    fast_float2::parse(text).ok()
}

/// Where the text of a value ends: at the first blank or line end. The layout cache depends on this being the only rule.
pub(crate) fn value_length(text: &[u8]) -> usize {
    text.iter()
        .position(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
        .unwrap_or(text.len())
}

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
    fn what_is_not_a_number_is_refused() {
        for text in [
            "", "-", "1.0x", "1,5", "0x10", "1_000", "one", "1 2", "--1", "e5", "\u{661}",
        ] {
            assert_eq!(parse_value(text.as_bytes()), None, "{text}");
        }
    }
}
