//! Numbers: floats, `numeric` as Connect's Decimal, `money`.

use super::kind::Beyond;
use super::values::Work;
use crate::encode::ValueError;
use crate::encode::number::{Plain, number, parse_float, special};
use crate::json;
use config::{Decimal, NumericScale};

/// Why NaN and the infinities are refused, as decimals and as JSON's numbers.
pub(super) const NOT_A_NUMBER: &str = "NaN and the infinities are no decimals";
const NO_JSON: &str = "JSON has no NaN and no infinities";

/// Writes a float in the server's shortest form; NaN and the infinities are strings, as Jackson
/// writes them.
pub(super) fn float(text: &[u8], beyond: Beyond, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if special(text) {
        return named(text, beyond, out);
    }
    let whole = number(text).ok_or(ValueError::Malformed)?;
    out.extend_from_slice(text);
    if whole {
        out.extend_from_slice(b".0");
    }
    Ok(())
}

/// Writes `numeric(p,s)` as the unscaled value: two's complement, big-endian, base64.
pub(super) fn fixed(
    text: &[u8],
    scale: i32,
    beyond: Beyond,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if special(text) {
        return not_a_number(text, beyond, out);
    }
    fixed_bytes(text, scale, |bytes| json::base64(bytes, out))
}

/// The unscaled value of `numeric(p,s)`: two's complement, big-endian.
pub(super) fn fixed_bytes(
    text: &[u8],
    scale: i32,
    write: impl FnOnce(&[u8]),
) -> Result<(), ValueError> {
    if let Some(value) = short(text, scale) {
        write(minimal(&value.to_be_bytes()));
        return Ok(());
    }
    let plain = Plain::parse(text).ok_or(ValueError::Malformed)?;
    let (integer, fraction, zeros) = plain.scaled(scale).ok_or(ValueError::Malformed)?;
    unscaled(plain.negative, integer, fraction, zeros, write);
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
    beyond: Beyond,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if special(text) {
        return not_a_number(text, beyond, out);
    }
    variable_bytes(text, scale, |scale, bytes| {
        out.extend_from_slice(b"{\"scale\":");
        json::integer(scale, out);
        out.extend_from_slice(b",\"value\":");
        json::base64(bytes, out);
        out.push(b'}');
    })
}

/// Scale and unscaled value of plain `numeric`.
pub(super) fn variable_bytes(
    text: &[u8],
    kept: NumericScale,
    write: impl FnOnce(usize, &[u8]),
) -> Result<(), ValueError> {
    let Plain { negative, integer, fraction } = Plain::parse(text).ok_or(ValueError::Malformed)?;
    let scale = match kept {
        NumericScale::Stored => fraction.len(),
        NumericScale::Stripped => {
            fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1)
        }
    };
    unscaled(negative, integer, &fraction[..scale], 0, |bytes| write(scale, bytes));
    Ok(())
}

/// NaN and the infinities: null in Debezium; their name where nothing may be lost.
fn not_a_number(text: &[u8], beyond: Beyond, out: &mut Vec<u8>) -> Result<(), ValueError> {
    match beyond {
        Beyond::Strict => out.extend_from_slice(b"null"),
        Beyond::Text => json::string(text, out)?,
        Beyond::Refused => return Err(ValueError::OutOfRange(NOT_A_NUMBER)),
    }
    Ok(())
}

/// A decimal as Debezium's text (`SpecialValueDecimal` of its connectors).
pub(super) fn word(text: &[u8]) -> &[u8] {
    match text {
        b"NaN" => b"NAN",
        b"Infinity" => b"POSITIVE_INFINITY",
        b"-Infinity" => b"NEGATIVE_INFINITY",
        digits => digits,
    }
}

/// Writes the name of a double that is no number: Debezium, too, has a string there.
fn named(name: &[u8], beyond: Beyond, out: &mut Vec<u8>) -> Result<(), ValueError> {
    match beyond {
        Beyond::Strict | Beyond::Text => Ok(json::string(name, out)?),
        Beyond::Refused => Err(ValueError::OutOfRange(NO_JSON)),
    }
}

/// Writes `numeric` as the nearest double; too large ones are infinite.
pub(super) fn double(text: &[u8], beyond: Beyond, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if special(text) {
        return named(text, beyond, out);
    }
    number(text).ok_or(ValueError::Malformed)?;
    let value = parse_float(text)?;
    if value.is_infinite() {
        let name: &[u8] = if value < 0.0 { b"-Infinity" } else { b"Infinity" };
        return named(name, beyond, out);
    }
    out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    Ok(())
}

/// So many digits fit an `i128` for certain.
const SHORT_DIGITS_MAX: usize = 38;

fn unscaled(
    negative: bool,
    integer: &[u8],
    fraction: &[u8],
    zeros: usize,
    write: impl FnOnce(&[u8]),
) {
    let digits = || integer.iter().chain(fraction).copied().chain(std::iter::repeat_n(b'0', zeros));
    if integer.len() + fraction.len() + zeros <= SHORT_DIGITS_MAX {
        let value = digits().fold(0i128, |value, digit| value * 10 + i128::from(digit - b'0'));
        let value = if negative { -value } else { value };
        write(minimal(&value.to_be_bytes()));
        return;
    }
    let mut bytes = magnitude(digits());
    if negative {
        negate(&mut bytes);
    }
    write(minimal(&bytes));
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
pub(super) fn money(
    text: &[u8],
    mode: Decimal,
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let amount = &mut work.inner;
    money_amount(text, amount)?;
    match mode {
        Decimal::Precise | Decimal::Bytes => fixed(amount, 2, Beyond::Strict, out),
        Decimal::Double => {
            let value = parse_float(amount)?;
            out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
            Ok(())
        }
        Decimal::String => Ok(json::string(amount, out)?),
    }
}

/// `money` in plain form, in place of what `amount` held.
///
/// The last `.` or `,` that exactly one or two digits follow is the decimal point; every other sign
/// between digits groups them. Locales with three fraction digits are not told apart.
pub(super) fn money_amount(text: &[u8], amount: &mut Vec<u8>) -> Result<(), ValueError> {
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
    Ok(())
}
