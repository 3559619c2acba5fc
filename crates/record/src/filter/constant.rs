//! Constants of a condition. Only forms that every session reads in the same way are taken.

use super::FilterError;
use super::number::Number;
use super::reading::{Reading, Value, end, micros, trimmed, uuid};
use super::syntax::ConstantType;
use crate::encode::{civil::Civil, clock};
use wal::types::{Kind, Type};

impl ConstantType {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Date => "DATE",
            Self::Timestamp => "TIMESTAMP",
            Self::Timestamptz => "TIMESTAMPTZ",
            Self::Time => "TIME",
            Self::Uuid => "UUID",
        }
    }

    pub(super) fn reading(self) -> Reading {
        match self {
            Self::Date => Reading::Date,
            Self::Timestamp => Reading::Timestamp,
            Self::Timestamptz => Reading::Timestamptz,
            Self::Time => Reading::Time,
            Self::Uuid => Reading::Uuid,
        }
    }
}

/// A quoted constant, compared with a column of this type.
pub(super) fn of_type(
    type_: &Type,
    reading: Reading,
    text: &str,
) -> Result<Value<'static>, FilterError> {
    if reading == Reading::Label && !has_label(type_, text) {
        let text = format!("'{text}' is no label of {}.{}", type_.schema, type_.name);
        return Err(FilterError::syntax(text));
    }
    quoted(reading, text)
}

fn has_label(type_: &Type, label: &str) -> bool {
    match &type_.kind {
        Kind::Enum { labels } => labels.iter().any(|it| **it == *label),
        Kind::Domain { base, .. } => has_label(base, label),
        Kind::Base
        | Kind::Array { .. }
        | Kind::Composite { .. }
        | Kind::Range { .. }
        | Kind::Multirange { .. }
        | Kind::Unknown => false,
    }
}

/// A quoted constant, read as this type.
pub(super) fn quoted(reading: Reading, text: &str) -> Result<Value<'static>, FilterError> {
    let bytes = text.as_bytes();
    let (value, form) = match reading {
        Reading::Bool => (
            match text {
                "t" | "true" => Some(Value::Bool(true)),
                "f" | "false" => Some(Value::Bool(false)),
                _ => None,
            },
            "TRUE or FALSE",
        ),
        Reading::Integer(width) => (integer(width, text), "a whole number of the column's range"),
        Reading::Numeric => (
            Number::parse(bytes).filter(|_| !text.starts_with('+')).map(Value::Number),
            "digits with one point",
        ),
        Reading::Float4 => {
            let fits = |it: &f32| it.is_finite() && !is_lost(it.to_bits() << 1 == 0, text);
            let number = || text.parse::<f32>().ok().filter(fits);
            (float(text).then(number).flatten().map(|it| Value::Float(it.into())), "1.5 or 'NaN'")
        }
        Reading::Float8 => {
            let fits = |it: &f64| it.is_finite() && !is_lost(it.to_bits() << 1 == 0, text);
            let number = || text.parse::<f64>().ok().filter(fits);
            (float(text).then(number).flatten().map(Value::Float), "digits with one point")
        }
        Reading::Text | Reading::Label => (Some(Value::Text(bytes.to_vec().into())), "a text"),
        Reading::Padded => (Some(Value::Text(trimmed(bytes).to_vec().into())), "a text"),
        Reading::Date => (infinite(text).or_else(|| date(bytes)), "'2024-01-31'"),
        Reading::Timestamp => (
            infinite(text).or_else(|| date(bytes)).or_else(|| moment(bytes, false)),
            "'2024-01-31 23:59:59'",
        ),
        Reading::Timestamptz => {
            (infinite(text).or_else(|| moment(bytes, true)), "'2024-01-31 23:59:59+00'")
        }
        Reading::Time => (time(bytes).map(|time| Value::Moment(time.into())), "'23:59:59'"),
        Reading::Uuid => (uuid(bytes).map(Value::Uuid), "'5b30857f-0bfa-48b5-ac0b-5c64e28078d1'"),
    };
    value.ok_or_else(|| {
        FilterError::syntax(format!("'{text}' is not taken as a constant there; write {form}"))
    })
}

fn integer(width: u8, text: &str) -> Option<Value<'static>> {
    let number: i64 = text.parse().ok().filter(|_| !text.starts_with('+'))?;
    let fits = match width {
        2 => i16::try_from(number).is_ok(),
        4 => i32::try_from(number).is_ok(),
        _ => true,
    };
    fits.then_some(Value::Number(Number::Small(number.into(), 0)))
}

/// Digits with one point and a sign; neither exponent nor words.
fn float(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Whether a number became zero that is none: PostgreSQL calls it out of range.
fn is_lost(is_zero: bool, text: &str) -> bool {
    is_zero && text.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}

fn infinite(text: &str) -> Option<Value<'static>> {
    clock::infinite(text.as_bytes()).map(|infinite| Value::Moment(end(infinite)))
}

/// A day that the calendar has, of years with four digits.
fn day(text: &[u8]) -> Option<(Civil, &[u8])> {
    let (day, rest) = Civil::parse(text, false)?;
    let is_real = Civil::of_days(day.days()) == day && (1..=9999).contains(&day.year);
    is_real.then_some((day, rest))
}

fn date(text: &[u8]) -> Option<Value<'static>> {
    match day(text)? {
        (day, []) => Some(Value::Moment(micros(day, 0))),
        _ => None,
    }
}

/// `hh:mm:ss[.ffffff]`, not after 24:00:00.
fn time_and_rest(text: &[u8]) -> Option<(i64, &[u8])> {
    let (time, rest) = clock::clock(text)?;
    let seconds_fit = text.get(6..8).is_none_or(|seconds| seconds != b"60");
    (time <= clock::DAY_US && seconds_fit).then_some((time, rest))
}

fn time(text: &[u8]) -> Option<i64> {
    match time_and_rest(text)? {
        (time, []) => Some(time),
        _ => None,
    }
}

fn moment(text: &[u8], zoned: bool) -> Option<Value<'static>> {
    let (day, rest) = day(text)?;
    let rest = rest.strip_prefix(b" ").or_else(|| rest.strip_prefix(b"T"))?;
    let (time, rest) = time_and_rest(rest)?;
    let offset = match (zoned, rest) {
        (true, b"Z") => 0,
        (true, rest) => clock::offset(rest).filter(|it| it.abs() < 16 * clock::HOUR_US)?,
        (false, []) => 0,
        (false, _) => return None,
    };
    Some(Value::Moment(micros(day, time - offset)))
}
