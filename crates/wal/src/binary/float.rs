//! Floating-point numbers as PostgreSQL 12 and later print them: the shortest digits that read back as the same number.
//!
//! The server never prints a number that lies exactly midway between two others, because readers that do not round to
//! even would take it for the wrong one (PostgreSQL, "Floating-Point Types", on `extra_float_digits`). The crate that
//! finds the digits here does; such a result is looked for anew.

use super::Fault;
use super::read::Reader;
use super::text::Text;
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Below this power of ten numbers are written with an exponent, however wide they are.
const FIXED_FROM: i32 = -4;

/// What the two widths differ in (IEEE 754).
struct Width {
    mantissa_bits: u32,
    /// Power of two of the smallest numbers.
    exponent_min: i32,
    /// Digits that tell any two numbers apart.
    digits_max: usize,
    /// From this power of ten on numbers are written with an exponent.
    fixed_below: i32,
}

const FLOAT4: Width =
    Width { mantissa_bits: 23, exponent_min: -149, digits_max: 9, fixed_below: 6 };
const FLOAT8: Width =
    Width { mantissa_bits: 52, exponent_min: -1074, digits_max: 17, fixed_below: 15 };

/// `digits`·10^`exponent`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Decimal {
    digits: u64,
    exponent: i32,
}

/// `mantissa`·2^`exponent`, positive.
#[derive(Clone, Copy)]
struct Binary {
    mantissa: u64,
    exponent: i32,
    /// The number below is only half as far away as the one above.
    is_lowest: bool,
}

pub(super) fn float4(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let number = value.take().map(f32::from_be_bytes)?;
    if !special(number.into(), out) {
        let magnitude = number.abs();
        digits(magnitude, magnitude.to_bits().into(), &FLOAT4, out);
    }
    Ok(())
}

pub(super) fn float8(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let number = value.take().map(f64::from_be_bytes)?;
    if !special(number, out) {
        let magnitude = number.abs();
        digits(magnitude, magnitude.to_bits(), &FLOAT8, out);
    }
    Ok(())
}

/// Writes the sign, or all of a number that has no digits to be found: whether that is done.
fn special(number: f64, out: &mut Text) -> bool {
    if number.is_nan() {
        out.extend(b"NaN");
        return true;
    }
    if number.is_sign_negative() {
        out.push(b'-');
    }
    if number.is_infinite() {
        out.extend(b"Infinity");
    } else if number == 0.0 {
        out.push(b'0');
    }
    number.is_infinite() || number == 0.0
}

/// Writes a positive number, whose bits these are.
fn digits<F>(magnitude: F, bits: u64, width: &Width, out: &mut Text)
where
    F: ryu::Float + fmt::LowerExp + FromStr + PartialEq,
{
    let found = read_decimal(ryu::Buffer::new().format_finite(magnitude));
    let binary = binary(bits, width);
    let decimal = if binary.is_midway(found) {
        let same = |text: &str| text.parse().is_ok_and(|it: F| it == magnitude);
        longer(found, width.digits_max, &binary, |buffer, decimals| {
            write!(buffer, "{magnitude:.decimals$e}").is_ok_and(|()| same(buffer.as_str()))
        })
    } else {
        found
    };
    lay_out(decimal, width.fixed_below, out);
}

/// Takes the bits of a positive number apart.
fn binary(bits: u64, &Width { mantissa_bits, exponent_min, .. }: &Width) -> Binary {
    let fraction = bits & ((1 << mantissa_bits) - 1);
    match i32::try_from(bits >> mantissa_bits).unwrap_or(i32::MAX) {
        0 => Binary { mantissa: fraction, exponent: exponent_min, is_lowest: false },
        biased => Binary {
            mantissa: fraction | 1 << mantissa_bits,
            exponent: exponent_min + biased - 1,
            is_lowest: fraction == 0 && 1 < biased,
        },
    }
}

impl Binary {
    /// Whether a decimal number lies exactly between this one and its neighbour.
    fn is_midway(&self, decimal: Decimal) -> bool {
        let Self { mantissa, exponent, is_lowest } = *self;
        let below = if is_lowest {
            (4 * mantissa - 1, exponent - 2)
        } else {
            (2 * mantissa - 1, exponent - 1)
        };
        is_same(decimal, 2 * mantissa + 1, exponent - 1) || is_same(decimal, below.0, below.1)
    }
}

/// Whether the decimal is `odd`·2^`power`. Both sides are compared without their powers of two.
fn is_same(Decimal { digits, exponent }: Decimal, odd: u64, power: i32) -> bool {
    let twos = digits.trailing_zeros();
    let rest = digits.checked_shr(twos).unwrap_or(0);
    let fives = |count: u32| 5_u128.checked_pow(count);
    let scaled = |number: u64, count| fives(count).and_then(|it| it.checked_mul(number.into()));
    let found = if exponent < 0 {
        (scaled(odd, exponent.unsigned_abs()), Some(u128::from(rest)))
    } else {
        (Some(u128::from(odd)), scaled(rest, exponent.unsigned_abs()))
    };
    found.0.is_some() && found.0 == found.1 && twos.cast_signed() + exponent == power
}

/// The nearest number of as few digits as needed that is not midway. `write` says whether what it wrote reads back.
fn longer(
    found: Decimal,
    digits_max: usize,
    binary: &Binary,
    write: impl Fn(&mut Buffer, usize) -> bool,
) -> Decimal {
    for decimals in 0..digits_max {
        let mut buffer = Buffer::default();
        if write(&mut buffer, decimals) {
            let decimal = read_decimal(buffer.as_str());
            if !binary.is_midway(decimal) {
                return decimal;
            }
        }
    }
    found
}

/// Room for any number with 17 digits and an exponent.
#[derive(Default)]
struct Buffer {
    bytes: [u8; 32],
    length: usize,
}

impl Buffer {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Reads `1.25`, `1e23` and the like; no zeros end the digits.
fn read_decimal(text: &str) -> Decimal {
    let (number, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut exponent: i32 = exponent.parse().unwrap_or(0);
    let (mut digits, mut is_fraction) = (0_u64, false);
    for byte in number.bytes() {
        match byte {
            b'.' => is_fraction = true,
            digit => {
                // At most seventeen digits, or zeros before or after them.
                digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')));
                exponent -= i32::from(is_fraction);
            }
        }
    }
    while digits != 0 && digits.is_multiple_of(10) {
        digits /= 10;
        exponent += 1;
    }
    Decimal { digits, exponent }
}

fn lay_out(Decimal { digits, exponent }: Decimal, fixed_below: i32, out: &mut Text) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(digits).as_bytes();
    let power = exponent + i32::try_from(digits.len()).unwrap_or(i32::MAX) - 1;
    if !(FIXED_FROM..fixed_below).contains(&power) {
        let (first, more) = digits.split_at(1);
        out.extend(first);
        if !more.is_empty() {
            out.push(b'.');
            out.extend(more);
        }
        out.extend(if power < 0 { b"e-" } else { b"e+" });
        if power.unsigned_abs() < 10 {
            out.push(b'0');
        }
        out.number(power.unsigned_abs());
        return;
    }
    match usize::try_from(power) {
        Err(_) => {
            out.extend(b"0.");
            (1..power.unsigned_abs()).for_each(|_| out.push(b'0'));
            out.extend(digits);
        }
        Ok(power) => match digits.split_at_checked(power + 1) {
            Some((whole, [])) => out.extend(whole),
            Some((whole, fraction)) => {
                out.extend(whole);
                out.push(b'.');
                out.extend(fraction);
            }
            None => {
                out.extend(digits);
                (digits.len()..=power).for_each(|_| out.push(b'0'));
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: super::super::Scalar, bytes: &[u8]) -> String {
        let mut out = Text::new(64, 64);
        write(&mut Reader::new(bytes), &mut out).unwrap();
        String::from_utf8(out.as_slice().to_vec()).unwrap()
    }

    #[test]
    fn digits_are_laid_out_as_the_server_does() {
        let eight = |number: f64| text(float8, &number.to_be_bytes());
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (123_456.789, "123456.789"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1.25e100, "1.25e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(eight(number), expected);
        }
        let four = |number: f32| text(float4, &number.to_be_bytes());
        for (number, expected) in
            [(100_000.0, "100000"), (1e6, "1e+06"), (1.1, "1.1"), (1e-45, "1e-45")]
        {
            assert_eq!(four(number), expected);
        }
    }

    #[test]
    fn no_number_lies_midway_between_two_others() {
        let eight = |number: f64| text(float8, &number.to_be_bytes());
        // 1e23 is midway, and reads as the lower one only where ties go to the even one.
        assert_eq!(eight(1e23), "9.999999999999999e+22");
        assert_eq!(eight(1e22), "1e+22");
        assert_eq!(eight(2f64.powi(60)), "1.152921504606847e+18");
    }

    #[test]
    fn every_text_reads_back() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = f64::from_bits(state);
            if number.is_finite() {
                let text = text(float8, &number.to_be_bytes());
                assert_eq!(text.parse::<f64>(), Ok(number), "{text}");
            }
        }
    }
}
