//! Numbers: floats, `numeric` as Connect's Decimal, `money`.

use super::values::Work;
use crate::encode::ValueError;
use crate::encode::number::{number, special};
use crate::json;
use config::{Decimal, Fidelity, NumericScale};

/// Writes a float in the server's shortest form; NaN and the infinities are strings, as Jackson
/// writes them.
pub(super) fn float(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if special(text) {
        return Ok(json::string(text, out)?);
    }
    let whole = number(text).ok_or(ValueError::Malformed)?;
    out.extend_from_slice(text);
    if whole {
        out.extend_from_slice(b".0");
    }
    Ok(())
}

/// The value of a float in text form.
pub(super) fn parse_float(text: &[u8]) -> Result<f64, ValueError> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(ValueError::Malformed)
}

/// A decimal in plain form: `-123.4500`.
#[derive(Clone, Copy, Debug)]
struct Plain<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Plain<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
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
    fn scaled(&self, scale: i32) -> Option<(&'a [u8], &'a [u8], usize)> {
        let wanted = usize::try_from(scale).unwrap_or(0);
        let taken = wanted.min(self.fraction.len());
        let (fraction, rest) = self.fraction.split_at(taken);
        let dropped = usize::try_from(scale.saturating_neg()).unwrap_or(0);
        let (integer, low) = self.integer.split_at(self.integer.len().saturating_sub(dropped));
        let zeros = |digits: &[u8]| digits.iter().all(|&digit| digit == b'0');
        (zeros(rest) && zeros(low)).then_some((integer, fraction, wanted - taken))
    }
}

/// Writes `numeric(p,s)` as the unscaled value: two's complement, big-endian, base64.
pub(super) fn fixed(
    text: &[u8],
    scale: i32,
    fidelity: Fidelity,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if let Some(value) = short(text, scale) {
        json::base64(minimal(&value.to_be_bytes()), out);
        return Ok(());
    }
    if special(text) {
        return not_a_number(text, fidelity, out);
    }
    let plain = Plain::parse(text).ok_or(ValueError::Malformed)?;
    let (integer, fraction, zeros) = plain.scaled(scale).ok_or(ValueError::Malformed)?;
    unscaled(plain.negative, integer, fraction, zeros, out);
    Ok(())
}

/// So many digits fit an `i64` for certain.
const I64_DIGITS_MAX: usize = 18;

/// The unscaled value of a decimal that has exactly the digits of its scale, and not many.
fn short(text: &[u8], scale: i32) -> Option<i64> {
    let scale = usize::try_from(scale).ok()?;
    let (negative, unsigned) = match text {
        [b'-', unsigned @ ..] => (true, unsigned),
        unsigned => (false, unsigned),
    };
    if unsigned.is_empty() || I64_DIGITS_MAX < unsigned.len() {
        return None;
    }
    let mut value = 0i64;
    let mut point = None;
    for (at, &byte) in unsigned.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let fraction = point.map_or(0, |point| unsigned.len() - 1 - point);
    (fraction == scale && point != Some(0)).then_some(if negative { -value } else { value })
}

/// Writes plain `numeric` as Debezium's `VariableScaleDecimal`, with or without the trailing zeros of
/// its fraction. Debezium strips them.
pub(super) fn variable(
    text: &[u8],
    scale: NumericScale,
    fidelity: Fidelity,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if special(text) {
        return not_a_number(text, fidelity, out);
    }
    let Plain { negative, integer, fraction } = Plain::parse(text).ok_or(ValueError::Malformed)?;
    let kept = match scale {
        NumericScale::Stored => fraction.len(),
        NumericScale::Stripped => {
            fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1)
        }
    };
    out.extend_from_slice(b"{\"scale\":");
    json::integer(kept, out);
    out.extend_from_slice(b",\"value\":");
    unscaled(negative, integer, &fraction[..kept], 0, out);
    out.push(b'}');
    Ok(())
}

/// NaN and the infinities: null in Debezium; their name where nothing may be lost.
fn not_a_number(text: &[u8], fidelity: Fidelity, out: &mut Vec<u8>) -> Result<(), ValueError> {
    match fidelity {
        Fidelity::Strict => out.extend_from_slice(b"null"),
        Fidelity::Lossless => json::string(text, out)?,
    }
    Ok(())
}

/// Writes `numeric` as the nearest double; too large ones are infinite.
pub(super) fn double(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if special(text) {
        return Ok(json::string(text, out)?);
    }
    number(text).ok_or(ValueError::Malformed)?;
    let value = parse_float(text)?;
    if value.is_infinite() {
        let name = if value < 0.0 { "-Infinity" } else { "Infinity" };
        json::str(name, out);
    } else {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    }
    Ok(())
}

/// So many digits fit an `i128` for certain.
const SHORT_DIGITS_MAX: usize = 38;

fn unscaled(negative: bool, integer: &[u8], fraction: &[u8], zeros: usize, out: &mut Vec<u8>) {
    let digits = || integer.iter().chain(fraction).copied().chain(std::iter::repeat_n(b'0', zeros));
    if integer.len() + fraction.len() + zeros <= SHORT_DIGITS_MAX {
        let value = digits().fold(0i128, |value, digit| value * 10 + i128::from(digit - b'0'));
        let value = if negative { -value } else { value };
        json::base64(minimal(&value.to_be_bytes()), out);
        return;
    }
    let mut bytes = magnitude(digits());
    if negative {
        negate(&mut bytes);
    }
    json::base64(minimal(&bytes), out);
}

/// Two's complement without bytes that only repeat the sign.
fn minimal(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && let Some(next) = rest.first()
        && ((*first == 0 && *next < 0x80) || (*first == 0xFF && 0x80 <= *next))
    {
        bytes = rest;
    }
    bytes
}

/// Decimal digits → big-endian bytes with a clear sign bit. Quadratic: `numeric` has at most 147,455
/// digits.
fn magnitude(digits: impl Iterator<Item = u8>) -> Vec<u8> {
    const CHUNK: u32 = 19;
    let mut limbs: Vec<u64> = Vec::new();
    let mut push = |power: u64, add: u64| {
        let mut carry = u128::from(add);
        for limb in &mut limbs {
            let product = u128::from(*limb) * u128::from(power) + carry;
            *limb = product as u64;
            carry = product >> 64;
        }
        if carry != 0 {
            limbs.push(carry as u64);
        }
    };
    let (mut chunk, mut count) = (0u64, 0u32);
    for digit in digits {
        chunk = chunk * 10 + u64::from(digit - b'0');
        count += 1;
        if count == CHUNK {
            push(10u64.pow(CHUNK), chunk);
            (chunk, count) = (0, 0);
        }
    }
    push(10u64.pow(count), chunk);
    let mut bytes = vec![0];
    bytes.extend(limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()));
    bytes
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
        *byte = sum;
        carry = overflow;
    }
}

/// Writes `money`, which the server prints by `lc_monetary`, with two fraction digits.
///
/// The last `.` or `,` that exactly one or two digits follow is the decimal point; every other sign
/// between digits groups them. Locales with three fraction digits are not told apart.
pub(super) fn money(
    text: &[u8],
    mode: Decimal,
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let amount = &mut work.inner;
    amount.clear();
    if text.iter().any(|byte| matches!(byte, b'-' | b'(')) {
        amount.push(b'-');
    }
    let last = text.iter().rposition(u8::is_ascii_digit).ok_or(ValueError::Malformed)?;
    let first = text.iter().position(u8::is_ascii_digit).ok_or(ValueError::Malformed)?;
    let point = text[first..=last]
        .iter()
        .rposition(|byte| matches!(byte, b'.' | b','))
        .map(|at| first + at)
        .filter(|&at| last - at <= 2);
    let whole = &text[first..point.unwrap_or(last + 1)];
    amount.extend(whole.iter().filter(|byte| byte.is_ascii_digit()));
    amount.push(b'.');
    let fraction = point.map_or(&[][..], |at| &text[at + 1..=last]);
    amount.extend(fraction);
    amount.extend(std::iter::repeat_n(b'0', 2 - fraction.len()));
    match mode {
        Decimal::Precise => fixed(amount, 2, Fidelity::Strict, out),
        Decimal::Double => {
            let value = parse_float(amount)?;
            out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
            Ok(())
        }
        Decimal::String => Ok(json::string(amount, out)?),
    }
}
