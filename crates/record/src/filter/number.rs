//! Exact numbers, with the order and the arithmetic of PostgreSQL's `numeric`.

use num_bigint::BigInt;
use std::cmp::Ordering;

/// A value of a whole-number type or of `numeric`. As in PostgreSQL, NaN equals itself and is greater than
/// all else.
#[derive(Clone, Debug)]
pub(super) enum Number {
    /// Mantissa and number of digits after the point.
    Small(i128, u32),
    Large(Box<BigInt>, u32),
    /// True: above all numbers.
    Infinite(bool),
    NaN,
}

/// Digits whose value surely fits an `i128`.
const SMALL_DIGITS_MAX: usize = 38;

impl Number {
    /// Reads digits with an optional sign and point.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"NaN" => return Some(Self::NaN),
            b"Infinity" => return Some(Self::Infinite(true)),
            b"-Infinity" => return Some(Self::Infinite(false)),
            _ => {}
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let point = digits.iter().position(|&byte| byte == b'.');
        let scale = point.map_or(0, |at| digits.len() - at - 1);
        let count = digits.len() - usize::from(point.is_some());
        let plain = |(at, byte): (usize, &u8)| byte.is_ascii_digit() || Some(at) == point;
        if count == 0 || !digits.iter().enumerate().all(plain) {
            return None;
        }
        let scale = u32::try_from(scale).ok()?;
        let digits = digits.iter().filter(|&&byte| byte != b'.');
        if count <= SMALL_DIGITS_MAX {
            let value = digits.fold(0i128, |value, byte| value * 10 + i128::from(byte - b'0'));
            return Some(Self::Small(if negative { -value } else { value }, scale));
        }
        let digits: Vec<u8> = digits.copied().collect();
        let value = BigInt::parse_bytes(&digits, 10)?;
        Some(Self::Large(Box::new(if negative { -value } else { value }), scale))
    }

    /// Reads `numeric_send`: digits to the base 10,000, of which the first stands `weight` places before
    /// the point.
    pub(super) fn parse_binary(bytes: &[u8]) -> Option<Self> {
        let (head, digits) = bytes.split_first_chunk::<8>()?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let (count, weight, sign) = (word(0), i16::from_be_bytes([head[2], head[3]]), word(4));
        match sign {
            0xC000 => return Some(Self::NaN),
            0xD000 => return Some(Self::Infinite(true)),
            0xF000 => return Some(Self::Infinite(false)),
            0 | 0x4000 => {}
            _ => return None,
        }
        if digits.len() != 2 * usize::from(count) {
            return None;
        }
        let mut text = Vec::with_capacity(4 * usize::from(count) + 2);
        text.push(if sign == 0 { b'+' } else { b'-' });
        text.push(b'0');
        for digit in digits.chunks_exact(2) {
            let digit = u16::from_be_bytes([digit[0], digit[1]]);
            if 9999 < digit {
                return None;
            }
            for place in [1000, 100, 10, 1] {
                text.push(b'0' + u8::try_from(digit / place % 10).ok()?);
            }
        }
        let after_point = (i64::from(count) - 1 - i64::from(weight)) * 4;
        let number = Self::parse(&text)?;
        Some(match u32::try_from(after_point) {
            Ok(scale) => number.with_scale(scale),
            Err(_) => {
                let zeros = u32::try_from(-after_point).ok()?;
                number.multiply(&Self::Large(Box::new(BigInt::from(10).pow(zeros)), 0))
            }
        })
    }

    fn with_scale(self, scale: u32) -> Self {
        match self {
            Self::Small(mantissa, _) => Self::Small(mantissa, scale),
            Self::Large(mantissa, _) => Self::Large(mantissa, scale),
            other @ (Self::Infinite(_) | Self::NaN) => other,
        }
    }

    /// The nearest double; `None` where PostgreSQL says "out of range".
    pub(super) fn to_float(&self) -> Option<f64> {
        let (mantissa, scale) = match self {
            Self::NaN => return Some(f64::NAN),
            Self::Infinite(true) => return Some(f64::INFINITY),
            Self::Infinite(false) => return Some(f64::NEG_INFINITY),
            Self::Small(mantissa, scale) => (mantissa.to_string(), scale),
            Self::Large(mantissa, scale) => (mantissa.to_string(), scale),
        };
        let float: f64 = format!("{mantissa}e-{scale}").parse().ok()?;
        let is_lost = float == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
        (float.is_finite() && !is_lost).then_some(float)
    }

    /// -1, 0, 1; of what is no NaN.
    fn signum(&self) -> i8 {
        match self {
            Self::Small(mantissa, _) => i8::try_from(mantissa.signum()).unwrap_or(0),
            Self::Large(mantissa, _) => match mantissa.sign() {
                num_bigint::Sign::Minus => -1,
                num_bigint::Sign::NoSign => 0,
                num_bigint::Sign::Plus => 1,
            },
            Self::Infinite(positive) => {
                if *positive {
                    1
                } else {
                    -1
                }
            }
            Self::NaN => 0,
        }
    }

    fn parts(&self) -> Option<(BigInt, u32)> {
        match self {
            Self::Small(mantissa, scale) => Some((BigInt::from(*mantissa), *scale)),
            Self::Large(mantissa, scale) => Some(((**mantissa).clone(), *scale)),
            Self::Infinite(_) | Self::NaN => None,
        }
    }

    pub(super) fn negate(&self) -> Self {
        match self {
            Self::Small(mantissa, scale) => Self::Small(-mantissa, *scale),
            Self::Large(mantissa, scale) => Self::Large(Box::new(-&**mantissa), *scale),
            Self::Infinite(positive) => Self::Infinite(!positive),
            Self::NaN => Self::NaN,
        }
    }

    pub(super) fn add(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => return Self::NaN,
            (Self::Infinite(one), Self::Infinite(two)) if one != two => return Self::NaN,
            (Self::Infinite(_), _) => return self.clone(),
            (_, Self::Infinite(_)) => return other.clone(),
            (Self::Small(..) | Self::Large(..), Self::Small(..) | Self::Large(..)) => {}
        }
        if let Some((one, two, scale)) = small(self, other)
            && let Some(sum) = one.checked_add(two)
        {
            return Self::Small(sum, scale);
        }
        match large(self, other) {
            Some((one, two, scale)) => Self::Large(Box::new(one + two), scale),
            None => Self::NaN,
        }
    }

    pub(super) fn multiply(&self, other: &Self) -> Self {
        if let (Self::Small(one, scale), Self::Small(two, other_scale)) = (self, other)
            && let Some(product) = one.checked_mul(*two)
        {
            return Self::Small(product, scale + other_scale);
        }
        if let (Some((one, scale)), Some((two, other_scale))) = (self.parts(), other.parts()) {
            return Self::Large(Box::new(one * two), scale + other_scale);
        }
        if matches!(self, Self::NaN) || matches!(other, Self::NaN) {
            return Self::NaN;
        }
        match self.signum() * other.signum() {
            0 => Self::NaN,
            sign => Self::Infinite(0 < sign),
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let rank = |number: &Self| match number {
            Self::Infinite(false) => 0,
            Self::Small(..) | Self::Large(..) => 1,
            Self::Infinite(true) => 2,
            Self::NaN => 3,
        };
        let by_rank = rank(self).cmp(&rank(other));
        if by_rank != Ordering::Equal || rank(self) != 1 {
            return by_rank;
        }
        if let Some((one, two, _)) = small(self, other) {
            return one.cmp(&two);
        }
        // Saves the common case of very different sizes from being brought to one scale.
        let by_sign = self.signum().cmp(&other.signum());
        if by_sign != Ordering::Equal {
            return by_sign;
        }
        large(self, other).map_or(Ordering::Equal, |(one, two, _)| one.cmp(&two))
    }
}

/// Both mantissas at one scale, where that fits.
fn small(one: &Number, two: &Number) -> Option<(i128, i128, u32)> {
    let (&Number::Small(one, one_scale), &Number::Small(two, two_scale)) = (one, two) else {
        return None;
    };
    let scale = one_scale.max(two_scale);
    let scaled = |mantissa: i128, own: u32| mantissa.checked_mul(10i128.checked_pow(scale - own)?);
    Some((scaled(one, one_scale)?, scaled(two, two_scale)?, scale))
}

fn large(one: &Number, two: &Number) -> Option<(BigInt, BigInt, u32)> {
    let ((one, one_scale), (two, two_scale)) = (one.parts()?, two.parts()?);
    let scale = one_scale.max(two_scale);
    let scaled = |mantissa: BigInt, own: u32| mantissa * BigInt::from(10).pow(scale - own);
    Some((scaled(one, one_scale), scaled(two, two_scale), scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        Number::parse(text.as_bytes()).expect("a number")
    }

    #[test]
    fn numbers_have_one_order() {
        let ascending = ["-Infinity", "-1e0", "0"];
        assert!(Number::parse(ascending[1].as_bytes()).is_none());
        let huge = "9".repeat(60);
        let texts = ["-Infinity", "-1.5", "-1", "0.001", "1.0", "1.01", &huge, "Infinity", "NaN"];
        for pair in texts.windows(2) {
            assert_eq!(number(pair[0]).compare(&number(pair[1])), Ordering::Less, "{pair:?}");
        }
        assert_eq!(number("1.50").compare(&number("1.5")), Ordering::Equal);
        assert_eq!(number("NaN").compare(&number("NaN")), Ordering::Equal);
    }

    #[test]
    fn the_binary_form_is_the_text() {
        // 12345.678: digits 1, 2345, 6780.
        let bytes = [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 9, 41, 26, 124];
        let number_ = Number::parse_binary(&bytes).expect("a number");
        assert_eq!(number_.compare(&number("12345.678")), Ordering::Equal);
        // 10000: one digit with a weight of one.
        let number_ = Number::parse_binary(&[0, 1, 0, 1, 0x40, 0, 0, 0, 0, 1]).expect("a number");
        assert_eq!(number_.compare(&number("-10000")), Ordering::Equal);
        let zero = Number::parse_binary(&[0; 8]).expect("a number");
        assert_eq!(zero.compare(&number("0.00")), Ordering::Equal);
        assert!(Number::parse_binary(&[0, 1, 0, 0, 0, 0, 0, 0]).is_none());
    }

    proptest! {
        #[test]
        fn small_and_large_numbers_agree(
            one in -1_000_000_000_000i64..1_000_000_000_000, two: i64, a in 0u32..20, b in 0u32..20,
        ) {
            let (small, other) = (Number::Small(one.into(), a), Number::Small(two.into(), b));
            let large = Number::Large(Box::new(BigInt::from(one)), a);
            prop_assert_eq!(small.compare(&other), large.compare(&other));
            prop_assert_eq!(small.add(&other).compare(&large.add(&other)), Ordering::Equal);
            let (product, same) = (small.multiply(&other), large.multiply(&other));
            prop_assert_eq!(product.compare(&same), Ordering::Equal);
            prop_assert_eq!(small.add(&small.negate()).compare(&number("0")), Ordering::Equal);
        }
    }
}
