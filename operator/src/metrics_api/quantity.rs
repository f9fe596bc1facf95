//! Numbers as Kubernetes quantities (apimachinery `pkg/api/resource/quantity.go`).
//!
//! Only two forms are written, the ones every reader of a quantity understands: an integer (`"7"`) or thousandths
//! (`"2333m"`). The HPA works on `MilliValue()`, so thousandths are all the precision it can use.

/// The largest value written: one million times one million, far inside the range in which both `f64` and the
/// `MilliValue()` of the HPA (an `int64`, which saturates) are exact.
pub const LARGEST: f64 = 1e12;

/// Why a number cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum QuantityError {
    /// NaN or an infinity.
    #[error("the value is not a finite number")]
    NotFinite,
    /// A count, a ratio or a duration below zero is a fault of the source.
    #[error("the value {0} is negative")]
    Negative(f64),
    /// Beyond [`LARGEST`].
    #[error("the value {0:e} is out of range")]
    TooLarge(f64),
}

/// Formats `value` as a quantity, rounded to the nearest thousandth.
///
/// A positive value is never rounded to zero: zero lets an HPA scale to zero, and must mean zero.
pub fn format(value: f64) -> Result<String, QuantityError> {
    if !value.is_finite() {
        return Err(QuantityError::NotFinite);
    }
    if value < 0.0 {
        return Err(QuantityError::Negative(value));
    }
    if value > LARGEST {
        return Err(QuantityError::TooLarge(value));
    }
    if value == 0.0 {
        return Ok("0".to_owned());
    }
    // In range by the checks above: at most 1e15.
    let milli = ((value * 1000.0).round() as u64).max(1);
    Ok(if milli.is_multiple_of(1000) {
        (milli / 1000).to_string()
    } else {
        format!("{milli}m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_integers_or_thousandths() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (7.0, "7"),
            (1000.0, "1000"),
            (2.5, "2500m"),
            (7.0 / 3.0, "2333m"),
            (8.0 / 3.0, "2667m"),
            (0.87, "870m"),
            (0.9999, "1"),
            (1.0004, "1"),
            (0.0005, "1m"),
            (0.000_01, "1m"),
            (f64::MIN_POSITIVE, "1m"),
            (123_456_789.25, "123456789250m"),
            (LARGEST, "1000000000000"),
        ] {
            assert_eq!(format(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_is_not_a_count_is_an_error() {
        assert_eq!(format(f64::NAN), Err(QuantityError::NotFinite));
        assert_eq!(format(f64::INFINITY), Err(QuantityError::NotFinite));
        assert_eq!(format(f64::NEG_INFINITY), Err(QuantityError::NotFinite));
        assert_eq!(format(-1.0), Err(QuantityError::Negative(-1.0)));
        assert_eq!(format(1e13), Err(QuantityError::TooLarge(1e13)));
    }
}
