//! What a condition says of a row: true, false or, as `None`, unknown.

use super::Unjudged;
use super::reading::{Reading, Value};
use super::syntax::{Arithmetic, Comparison};
use crate::row::Row;
use std::cmp::Ordering;
use wal::Datum;

/// Says true, false or unknown.
#[derive(Debug)]
pub(super) enum Test {
    /// The value of a boolean.
    Value(Operand),
    Compare(Comparison, Operand, Operand),
    Distinct(Operand, Operand),
    /// One of the values, of which one may be null.
    In(Operand, Box<[Value<'static>]>, bool),
    Like(Operand, Pattern),
    /// Of any column, whatever its type.
    ColumnIsNull(usize),
    IsNull(Operand),
    Is(Option<bool>, Box<Self>),
    Not(Box<Self>),
    And(Box<[Self]>),
    Or(Box<[Self]>),
}

/// Has a value, or is null.
#[derive(Debug)]
pub(super) enum Operand {
    Column(usize, Reading),
    Constant(Option<Value<'static>>),
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    Negate(Box<Self>),
    /// An exact number, compared with a double.
    ToFloat(Box<Self>, usize),
    Test(Box<Test>),
}

impl Test {
    pub(super) fn evaluate(&self, row: &Row<'_>) -> Result<Option<bool>, Unjudged> {
        Ok(match self {
            Self::Value(operand) => match operand.evaluate(row)? {
                Some(Value::Bool(truth)) => Some(truth),
                Some(_) | None => None,
            },
            Self::Compare(comparison, left, right) => {
                match (left.evaluate(row)?, right.evaluate(row)?) {
                    (Some(left), Some(right)) => Some(comparison.holds(order(&left, &right))),
                    _ => None,
                }
            }
            Self::Distinct(left, right) => {
                Some(match (left.evaluate(row)?, right.evaluate(row)?) {
                    (Some(left), Some(right)) => order(&left, &right) != Ordering::Equal,
                    (None, None) => false,
                    (Some(_), None) | (None, Some(_)) => true,
                })
            }
            Self::In(operand, values, has_null) => {
                let Some(value) = operand.evaluate(row)? else { return Ok(None) };
                let found = values.iter().any(|it| order(&value, it) == Ordering::Equal);
                if found { Some(true) } else { (!has_null).then_some(false) }
            }
            Self::Like(operand, pattern) => match operand.evaluate(row)? {
                Some(Value::Text(text)) => Some(pattern.matches(&text)),
                _ => None,
            },
            Self::ColumnIsNull(column) => Some(match row.value(*column) {
                Datum::Null => true,
                Datum::Text(_) | Datum::Binary(_) => false,
                Datum::Unchanged => return Err(Unjudged { column: *column }),
            }),
            Self::IsNull(operand) => Some(operand.evaluate(row)?.is_none()),
            Self::Is(truth, test) => Some(test.evaluate(row)? == *truth),
            Self::Not(test) => test.evaluate(row)?.map(|truth| !truth),
            Self::And(tests) => all(tests, row, false)?,
            Self::Or(tests) => all(tests, row, true)?,
        })
    }
}

/// AND, where `decisive` is false; OR, where it is true.
fn all(tests: &[Test], row: &Row<'_>, decisive: bool) -> Result<Option<bool>, Unjudged> {
    let mut result = Some(!decisive);
    for test in tests {
        match test.evaluate(row)? {
            Some(truth) if truth == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => result = None,
        }
    }
    Ok(result)
}

impl Operand {
    fn evaluate<'a>(&'a self, row: &Row<'a>) -> Result<Option<Value<'a>>, Unjudged> {
        Ok(match self {
            Self::Column(column, reading) => {
                reading.read(row.value(*column)).ok_or(Unjudged { column: *column })?
            }
            Self::Constant(value) => value.clone(),
            Self::Arithmetic(operator, left, right) => {
                match (left.evaluate(row)?, right.evaluate(row)?) {
                    (Some(Value::Number(left)), Some(Value::Number(right))) => {
                        Some(Value::Number(match operator {
                            Arithmetic::Add => left.add(&right),
                            Arithmetic::Subtract => left.add(&right.negate()),
                            Arithmetic::Multiply => left.multiply(&right),
                        }))
                    }
                    _ => None,
                }
            }
            Self::Negate(operand) => match operand.evaluate(row)? {
                Some(Value::Number(number)) => Some(Value::Number(number.negate())),
                _ => None,
            },
            Self::ToFloat(operand, column) => match operand.evaluate(row)? {
                Some(Value::Number(number)) => {
                    Some(Value::Float(number.to_float().ok_or(Unjudged { column: *column })?))
                }
                _ => None,
            },
            Self::Test(test) => test.evaluate(row)?.map(Value::Bool),
        })
    }
}

/// The order of two values of one family. As in PostgreSQL, a NaN equals itself and is greater than all
/// numbers, and the two zeros are equal.
fn order(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => left.compare(right),
        (Value::Float(left), Value::Float(right)) => {
            left.partial_cmp(right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
        }
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Moment(left), Value::Moment(right)) => left.cmp(right),
        (Value::Uuid(left), Value::Uuid(right)) => left.cmp(right),
        // Families are never mixed: `compile` has seen to that.
        (
            Value::Bool(_)
            | Value::Number(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Moment(_)
            | Value::Uuid(_),
            _,
        ) => Ordering::Less,
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::Different => order != Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterOrEqual => order != Ordering::Less,
        }
    }

    /// Whether it asks for an order, not only for equality.
    pub(super) fn is_ordered(self) -> bool {
        !matches!(self, Self::Equal | Self::Different)
    }

    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Different => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// A pattern of LIKE.
#[derive(Debug)]
pub(super) struct Pattern(Box<[Part]>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Byte(u8),
    /// `_`: one character.
    Character,
    /// `%`: any text.
    Any,
}

impl Pattern {
    /// `None`: a backslash at the end, which escapes nothing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => parts.push(Part::Byte(bytes.next()?)),
                b'_' => parts.push(Part::Character),
                b'%' if parts.last() == Some(&Part::Any) => {}
                b'%' => parts.push(Part::Any),
                byte => parts.push(Part::Byte(byte)),
            }
        }
        Some(Self(parts.into()))
    }

    /// Goes back to the last `%` only: what an earlier one took need never change.
    fn matches(&self, text: &[u8]) -> bool {
        let parts = &self.0;
        let (mut at, mut part) = (0, 0);
        let mut retry = None;
        while at < text.len() {
            let step = match parts.get(part) {
                Some(Part::Any) => {
                    retry = Some((part + 1, at));
                    part += 1;
                    continue;
                }
                Some(Part::Character) => character_len(&text[at..]),
                Some(&Part::Byte(byte)) if byte == text[at] => 1,
                Some(Part::Byte(_)) | None => 0,
            };
            if 0 < step {
                at += step;
                part += 1;
                continue;
            }
            let Some((after, from)) = retry else { return false };
            let from = from + character_len(&text[from..]);
            retry = Some((after, from));
            (part, at) = (after, from);
        }
        parts[part..].iter().all(|part| *part == Part::Any)
    }
}

/// Bytes of the first character of a UTF-8 text that is not empty.
fn character_len(text: &[u8]) -> usize {
    let is_inside = |byte: &&u8| **byte & 0xC0 == 0x80;
    1 + text[1..].iter().take(3).take_while(is_inside).count()
}
