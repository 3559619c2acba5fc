//! Numbers in the server's text form.

use super::ValueError;

/// What `float8out` and `numeric_out` print for values that are no numbers.
pub(super) fn special(text: &[u8]) -> bool {
    matches!(text, b"NaN" | b"Infinity" | b"-Infinity")
}

/// Whether a JSON number is whole, without point and exponent; `None`: it is no JSON number.
pub(super) fn number(text: &[u8]) -> Option<bool> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let integer = digits(unsigned);
    if integer == 0 || (1 < integer && unsigned[0] == b'0') {
        return None;
    }
    let mut rest = &unsigned[integer..];
    let whole = rest.is_empty();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return None;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            unsigned => unsigned,
        };
        let count = digits(exponent);
        if count == 0 {
            return None;
        }
        rest = &exponent[count..];
    }
    rest.is_empty().then_some(whole)
}

/// The value of a float in text form.
pub(super) fn parse_float(text: &[u8]) -> Result<f64, ValueError> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(ValueError::Malformed)
}

/// The digits of the longest integer type.
const INTEGER_DIGITS_MAX: usize = 20;

/// Digits of an integer type, with a sign where it is negative.
pub(super) fn check_integer(text: &[u8]) -> Result<(), ValueError> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = (1..=INTEGER_DIGITS_MAX).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && (digits[0] != b'0' || digits.len() == 1);
    if plain { Ok(()) } else { Err(ValueError::Malformed) }
}

/// The value of an integer type.
pub(super) fn integer(text: &[u8]) -> Result<i64, ValueError> {
    check_integer(text)?;
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(ValueError::Malformed)
}

/// Digits of the unscaled value, without zeros before them, and of the fraction: precision and scale as
/// `java.math.BigDecimal` counts them. `None`: no decimal in plain form.
pub(super) fn precision_and_scale(text: &[u8]) -> Option<(usize, usize)> {
    let Plain { integer, fraction, .. } = Plain::parse(text)?;
    let zeros = integer.iter().chain(fraction).take_while(|&&digit| digit == b'0').count();
    Some(((integer.len() + fraction.len() - zeros).max(1), fraction.len()))
}

/// A decimal in plain form: `-123.4500`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain<'a> {
    pub(super) negative: bool,
    pub(super) integer: &'a [u8],
    pub(super) fraction: &'a [u8],
}

impl<'a> Plain<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, unsigned) = match text {
            [b'-', unsigned @ ..] => (true, unsigned),
            unsigned => (false, unsigned),
        };
        let point = unsigned.iter().position(|&byte| byte == b'.');
        let (integer, fraction) = match point {
            Some(point) => (&unsigned[..point], &unsigned[point + 1..]),
            None => (unsigned, &[][..]),
        };
        let all_digits = integer.iter().chain(fraction).all(u8::is_ascii_digit);
        let any = !integer.is_empty() || !fraction.is_empty();
        (all_digits && any).then_some(Self { negative, integer, fraction })
    }

    /// The digits of the value times ten to the power of `scale`, where that is whole: three parts,
    /// the last of zeros.
    pub(super) fn scaled(&self, scale: i32) -> Option<(&'a [u8], &'a [u8], usize)> {
        let wanted = usize::try_from(scale).unwrap_or(0);
        let taken = wanted.min(self.fraction.len());
        let (fraction, rest) = self.fraction.split_at(taken);
        let dropped = usize::try_from(scale.saturating_neg()).unwrap_or(0);
        let (integer, low) = self.integer.split_at(self.integer.len().saturating_sub(dropped));
        let zeros = |digits: &[u8]| digits.iter().all(|&digit| digit == b'0');
        (zeros(rest) && zeros(low)).then_some((integer, fraction, wanted - taken))
    }
}
