//! A value of a row, as the server sent it → what conditions compare.

use super::number::Number;
use crate::encode::{civil::Civil, clock};
use std::borrow::Cow;
use wal::Datum;
use wal::types::{Kind, Type, oid};

/// How the bytes of a column become a [`Value`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    Bool,
    /// Of so many bytes.
    Integer(u8),
    Numeric,
    Float4,
    Float8,
    Text,
    /// `char(n)`: blanks at the end do not count.
    Padded,
    Date,
    Timestamp,
    Timestamptz,
    Time,
    Uuid,
    /// A label of an enum.
    Label,
}

/// A value that is not null.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Bool(bool),
    Number(Number),
    Float(f64),
    Text(Cow<'a, [u8]>),
    /// Microseconds since 2000-01-01, of the day or of the moment; the ends of the range: infinite.
    Moment(i128),
    Uuid([u8; 16]),
}

/// Days from 1970 to 2000.
const EPOCH_DAYS: i64 = 10_957;

impl Reading {
    /// `None`: values of the type are not compared. Domains are of their base.
    pub(super) fn of(type_: &Type) -> Option<Self> {
        match &type_.kind {
            Kind::Domain { base, .. } => return Self::of(base),
            Kind::Enum { .. } => return Some(Self::Label),
            Kind::Base => {}
            Kind::Array { .. }
            | Kind::Composite { .. }
            | Kind::Range { .. }
            | Kind::Multirange { .. }
            | Kind::Unknown => return None,
        }
        Some(match type_.oid {
            oid::BOOL => Self::Bool,
            oid::INT2 => Self::Integer(2),
            oid::INT4 => Self::Integer(4),
            oid::INT8 => Self::Integer(8),
            oid::NUMERIC => Self::Numeric,
            oid::FLOAT4 => Self::Float4,
            oid::FLOAT8 => Self::Float8,
            oid::TEXT | oid::VARCHAR => Self::Text,
            oid::BPCHAR => Self::Padded,
            oid::DATE => Self::Date,
            oid::TIMESTAMP => Self::Timestamp,
            oid::TIMESTAMPTZ => Self::Timestamptz,
            oid::TIME => Self::Time,
            oid::UUID => Self::Uuid,
            _ => return None,
        })
    }

    /// `None`: the bytes are no value of the type, or were not sent.
    pub(super) fn read(self, datum: Datum<'_>) -> Option<Option<Value<'_>>> {
        match datum {
            Datum::Null => Some(None),
            Datum::Unchanged => None,
            Datum::Text(text) => self.text(text).map(Some),
            Datum::Binary(bytes) => self.binary(bytes).map(Some),
        }
    }

    /// Reads the text form of the type's output function.
    pub(super) fn text(self, text: &[u8]) -> Option<Value<'_>> {
        let utf8 = || std::str::from_utf8(text).ok();
        Some(match self {
            Self::Bool => match text {
                b"t" => Value::Bool(true),
                b"f" => Value::Bool(false),
                _ => return None,
            },
            Self::Integer(_) => {
                Value::Number(Number::Small(utf8()?.parse::<i64>().ok()?.into(), 0))
            }
            Self::Numeric => Value::Number(Number::parse(text)?),
            Self::Float4 => Value::Float(utf8()?.parse::<f32>().ok()?.into()),
            Self::Float8 => Value::Float(utf8()?.parse().ok()?),
            Self::Text | Self::Label => Value::Text(text.into()),
            Self::Padded => Value::Text(trimmed(text).into()),
            Self::Date => Value::Moment(match clock::infinite(text) {
                Some(infinite) => end(infinite),
                None => micros(clock::day(text).ok()?, 0),
            }),
            Self::Timestamp => Value::Moment(match clock::infinite(text) {
                Some(infinite) => end(infinite),
                None => {
                    let (day, time) = clock::day_and_time(text).ok()?;
                    micros(day, time)
                }
            }),
            Self::Timestamptz => Value::Moment(match clock::infinite(text) {
                Some(infinite) => end(infinite),
                None => {
                    let (day, time) = clock::day_and_time_utc(text).ok()?;
                    micros(day, time)
                }
            }),
            Self::Time => Value::Moment(clock::time_of_day(text).ok()?.into()),
            Self::Uuid => Value::Uuid(uuid(text)?),
        })
    }

    /// Reads the form of the type's send function.
    fn binary(self, bytes: &[u8]) -> Option<Value<'_>> {
        let long = || bytes.try_into().ok().map(i64::from_be_bytes);
        Some(match self {
            Self::Bool => match bytes {
                [flag @ (0 | 1)] => Value::Bool(*flag == 1),
                _ => return None,
            },
            Self::Integer(2) => whole(i16::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::Integer(4) => whole(i32::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::Integer(_) => whole(long()?),
            Self::Numeric => Value::Number(Number::parse_binary(bytes)?),
            Self::Float4 => Value::Float(f32::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::Float8 => Value::Float(f64::from_be_bytes(bytes.try_into().ok()?)),
            Self::Text | Self::Label => Value::Text(bytes.into()),
            Self::Padded => Value::Text(trimmed(bytes).into()),
            Self::Date => Value::Moment(match i32::from_be_bytes(bytes.try_into().ok()?) {
                i32::MAX => i128::MAX,
                i32::MIN => i128::MIN,
                days => i128::from(days) * i128::from(clock::DAY_US),
            }),
            Self::Timestamp | Self::Timestamptz => Value::Moment(match long()? {
                i64::MAX => i128::MAX,
                i64::MIN => i128::MIN,
                micros => micros.into(),
            }),
            Self::Time => Value::Moment(long()?.into()),
            Self::Uuid => Value::Uuid(bytes.try_into().ok()?),
        })
    }
}

fn whole(number: i64) -> Value<'static> {
    Value::Number(Number::Small(number.into(), 0))
}

pub(super) fn end(infinite: bool) -> i128 {
    if infinite { i128::MAX } else { i128::MIN }
}

pub(super) fn micros(day: Civil, time: i64) -> i128 {
    i128::from(day.days() - EPOCH_DAYS) * i128::from(clock::DAY_US) + i128::from(time)
}

pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
    &text[..end]
}

/// Reads 8-4-4-4-12 hexadecimal digits.
pub(super) fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|&at| text[at] != b'-') {
        return None;
    }
    let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let mut uuid = [0; 16];
    let mut digits = text.iter().filter(|&&byte| byte != b'-').map(digit);
    for byte in &mut uuid {
        *byte = digits.next()?? << 4 | digits.next()??;
    }
    digits.next().is_none().then_some(uuid)
}
