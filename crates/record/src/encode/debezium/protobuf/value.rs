//! One value → Protobuf, by its [`Form`].

use super::super::kind::{Beyond, Unit};
use super::super::numeric;
use super::super::time;
use super::super::values::Work;
use super::form::{Form, Scalar};
use crate::encode::array::{self, Step};
use crate::encode::protobuf::{self, Wire};
use crate::encode::{ValueError, bytea, clock, number};
use config::NumericScale;

/// Fields of the messages that [`super::message`] describes.
const DECIMAL_SCALE: u32 = 1;
const DECIMAL_VALUE: u32 = 2;
const ARRAY_ITEMS: u32 = 1;
const ARRAY_LOWER_BOUNDS: u32 = 2;
const ITEM_VALUE: u32 = 1;
const ITEM_ARRAY: u32 = 2;

/// Writes a value that the server sent as `text` as the field with that number.
///
/// # Errors
/// When `text` is no value of the form, or does not fit; `out` then ends somewhere in it.
pub(super) fn write(
    form: &Form,
    number: u32,
    text: &[u8],
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    match form {
        Form::Scalar(kind) => scalar(*kind, number, text, work, out),
        Form::Array { element, delimiter } => protobuf::nested(number, out, |out| {
            items(text, *element, *delimiter, work, out)?;
            lower_bounds(text, out)
        }),
    }
}

/// Writes what stands for a value that was not logged.
///
/// # Errors
/// Where the type has room for no such thing.
pub(super) fn unavailable(
    form: &Form,
    number: u32,
    placeholder: &str,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let scalar = match form {
        Form::Scalar(scalar) | Form::Array { element: scalar, .. } => *scalar,
    };
    let is_array = matches!(form, Form::Array { .. });
    match scalar.words().0 {
        "string" | "bytes" if is_array => protobuf::nested(number, out, |out| {
            protobuf::nested(ARRAY_ITEMS, out, |out| {
                protobuf::bytes(ITEM_VALUE, placeholder.as_bytes(), out);
                Ok(())
            })
        }),
        "string" | "bytes" => {
            protobuf::bytes(number, placeholder.as_bytes(), out);
            Ok(())
        }
        _ => Err(ValueError::OutOfRange(
            "it is unchanged and was not logged, and its type has no room to say so (with REPLICA \
             IDENTITY FULL it is logged)",
        )),
    }
}

fn scalar(
    scalar: Scalar,
    field: u32,
    text: &[u8],
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    match scalar {
        Scalar::Bool => {
            let value = match text {
                b"t" => 1,
                b"f" => 0,
                _ => return Err(ValueError::Malformed),
            };
            protobuf::int(field, value, out);
        }
        Scalar::Int32 | Scalar::Int64 => protobuf::int(field, number::integer(text)?, out),
        Scalar::Float => {
            protobuf::tag(field, Wire::Fixed32, out);
            // The server's text is the shortest that gives the same four bytes again.
            out.extend_from_slice(&(number::parse_float(text)? as f32).to_le_bytes());
        }
        Scalar::Double => {
            protobuf::tag(field, Wire::Fixed64, out);
            out.extend_from_slice(&number::parse_float(text)?.to_le_bytes());
        }
        Scalar::Text => {
            std::str::from_utf8(text).map_err(|_| ValueError::NotUtf8)?;
            protobuf::bytes(field, text, out);
        }
        Scalar::Bytes => {
            let digits = text.strip_prefix(b"\\x").ok_or(ValueError::Malformed)?;
            bytea::unhex(digits, &mut work.inner)?;
            protobuf::bytes(field, &work.inner, out);
        }
        Scalar::Decimal => decimal(field, text, out)?,
        Scalar::Date => {
            finite(text)?;
            protobuf::int(field, clock::day(text)?.days(), out);
        }
        Scalar::IsoDate => {
            iso(field, work, out, |out| time::date(text, true, Beyond::Text, out))?;
        }
        Scalar::Time(Unit::Iso) => {
            iso(field, work, out, |out| time::time(text, Unit::Iso, out))?;
        }
        Scalar::Time(unit) => {
            protobuf::int(field, time::in_unit(clock::time_of_day(text)?, unit)?, out);
        }
        Scalar::Timestamp(unit @ Unit::Iso) => {
            iso(field, work, out, |out| time::timestamp(text, unit, Beyond::Text, out))?;
        }
        Scalar::Timestamp(unit) => {
            finite(text)?;
            let (day, micros) = clock::day_and_time(text)?;
            protobuf::int(field, time::in_unit(time::since_1970(day, micros)?, unit)?, out);
        }
        Scalar::TimeTz => iso(field, work, out, |out| time::time_tz(text, out))?,
        Scalar::TimestampTz { digits } => {
            iso(field, work, out, |out| time::timestamp_tz(text, digits, out))?;
        }
    }
    Ok(())
}

fn decimal(field: u32, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if number::special(text) {
        return Err(ValueError::OutOfRange("NaN and the infinities are no decimals"));
    }
    protobuf::nested(field, out, |out| {
        numeric::variable_bytes(text, NumericScale::Stored, |scale, bytes| {
            // `numeric` has scales up to 16383.
            protobuf::int(DECIMAL_SCALE, i64::try_from(scale).unwrap_or(i64::MAX), out);
            protobuf::bytes(DECIMAL_VALUE, bytes, out);
        })
    })
}

fn finite(text: &[u8]) -> Result<(), ValueError> {
    match clock::infinite(text) {
        None => Ok(()),
        Some(_) => Err(ValueError::OutOfRange("an infinite date has no number")),
    }
}

/// Writes a date or time in ISO 8601; an infinite one is its name.
fn iso(
    field: u32,
    work: &mut Work,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let quoted = &mut work.inner;
    quoted.clear();
    write(quoted)?;
    // Its JSON form has no escapes.
    let text = quoted.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    protobuf::bytes(field, text.ok_or(ValueError::Malformed)?, out);
    Ok(())
}

/// Writes the items of an array; those of further dimensions are arrays in items.
fn items(
    text: &[u8],
    element: Scalar,
    delimiter: u8,
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut unquoted = std::mem::take(&mut work.element);
    // Where the item and the array of each open dimension begin.
    let mut open: Vec<usize> = Vec::new();
    let mut is_open = false;
    let result = array::walk(text, delimiter, &mut unquoted, &mut |step| {
        match step {
            Step::Open if !std::mem::replace(&mut is_open, true) => {}
            Step::Open => open.push(out.len()),
            Step::Next => {}
            Step::Close => {
                if let Some(start) = open.pop() {
                    wrap(ITEM_ARRAY, start, work, out);
                    wrap(ARRAY_ITEMS, start, work, out);
                }
            }
            Step::Null => protobuf::bytes(ARRAY_ITEMS, b"", out),
            Step::Element(text) => protobuf::nested(ARRAY_ITEMS, out, |out| {
                scalar(element, ITEM_VALUE, text, work, out)
            })?,
        }
        Ok(())
    });
    work.element = unquoted;
    result
}

/// Makes a field of everything from `start` on.
fn wrap(number: u32, start: usize, work: &mut Work, out: &mut Vec<u8>) {
    work.inner.clear();
    work.inner.extend_from_slice(&out[start..]);
    out.truncate(start);
    protobuf::bytes(number, &work.inner, out);
}

/// Writes where the dimensions begin, if the array says so: `[0:1][2:3]={…}`.
fn lower_bounds(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if !array::has_bounds(text) {
        return Ok(());
    }
    let end = text.iter().position(|&byte| byte == b'=').ok_or(ValueError::Malformed)?;
    let mut packed = Vec::new();
    for dimension in text[..end].split(|&byte| byte == b'[').skip(1) {
        let end = dimension.iter().position(|&byte| byte == b':').ok_or(ValueError::Malformed)?;
        let bound = number::integer(&dimension[..end])?;
        crate::encode::avro::varint(bound.cast_unsigned(), &mut packed);
    }
    protobuf::bytes(ARRAY_LOWER_BOUNDS, &packed, out);
    Ok(())
}
