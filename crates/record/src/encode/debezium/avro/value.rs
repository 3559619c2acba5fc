//! One value → Avro, by its [`Kind`].

use super::super::geometry;
use super::super::hstore::{self, Step as HstoreStep};
use super::super::interval;
use super::super::kind::{Beyond, Kind, Unit};
use super::super::numeric;
use super::super::time;
use super::super::values::{self, Work};
use crate::encode::array::{self, Step};
use crate::encode::{ValueError, avro, bytea, clock, number};
use config::{Binary, Decimal, Hstore, Interval};

/// What became of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Written {
    Value,
    /// Nothing was written: Debezium has null there.
    Null,
}

/// Writes a value that the server sent as `text`, without the branch of its union.
///
/// # Errors
/// When `text` is no value of the kind, or does not fit; `out` then ends somewhere in it.
pub(super) fn write(
    kind: &Kind,
    text: &[u8],
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<Written, ValueError> {
    match kind {
        Kind::Bool => return boolean(text, b"t", b"f", out),
        Kind::BitBool => return boolean(text, b"1", b"0", out),
        Kind::Integer => avro::long(number::integer(text)?, out),
        Kind::Float { wide, .. } => float(number::parse_float(text)?, *wide, out),
        Kind::Text => string(text, out)?,
        Kind::DecimalWord => string(numeric::word(text), out)?,
        Kind::Bytes(mode) => bytes(text, *mode, work, out)?,
        Kind::Bits => {
            values::unbits(text, &mut work.inner)?;
            avro::bytes(&work.inner, out);
        }
        Kind::Decimal { beyond, .. } | Kind::VariableDecimal { beyond, .. }
            if number::special(text) =>
        {
            return none_or(*beyond, numeric::NOT_A_NUMBER);
        }
        Kind::Decimal { scale, .. } => {
            numeric::fixed_bytes(text, *scale, |bytes| avro::bytes(bytes, out))?;
        }
        Kind::VariableDecimal { scale, .. } => {
            numeric::variable_bytes(text, *scale, |scale, bytes| {
                avro::length(scale, out);
                avro::bytes(bytes, out);
            })?;
        }
        // Too large ones are infinite.
        Kind::DecimalDouble { .. } => avro::double(number::parse_float(text)?, out),
        Kind::Money(mode) => money(text, *mode, work, out)?,
        Kind::Date { iso: true, beyond } => {
            unquoted(work, out, |it| time::date(text, true, *beyond, it))?;
        }
        Kind::Date { iso: false, beyond } => avro::long(date(text, *beyond)?, out),
        Kind::Time(Unit::Iso) => unquoted(work, out, |it| time::time(text, Unit::Iso, it))?,
        Kind::Time(unit) => avro::long(time::in_unit(clock::time_of_day(text)?, *unit)?, out),
        Kind::Timestamp { unit: Unit::Iso, beyond } => {
            unquoted(work, out, |it| time::timestamp(text, Unit::Iso, *beyond, it))?;
        }
        Kind::Timestamp { unit, beyond } => avro::long(timestamp(text, *unit, *beyond)?, out),
        Kind::TimeTz => unquoted(work, out, |text_out| time::time_tz(text, text_out))?,
        Kind::TimestampTz { digits } => {
            unquoted(work, out, |text_out| time::timestamp_tz(text, *digits, text_out))?;
        }
        Kind::Interval { mode, beyond } => return span(text, *mode, *beyond, work, out),
        Kind::Hstore(mode) => hstore(text, *mode, work, out)?,
        Kind::Point { .. } => point(text, out)?,
        Kind::Geometry => geometry(text, work, out)?,
        Kind::Vector { wide } => {
            for item in geometry::items(text)? {
                // A block of one item, which is never null but could be.
                avro::long(1, out);
                avro::long(1, out);
                float(number::parse_float(item)?, *wide, out);
            }
            avro::long(0, out);
        }
        Kind::SparseVector { .. } => sparse_vector(text, out)?,
        Kind::Array { element, delimiter, .. } => items(text, element, *delimiter, work, out)?,
    }
    Ok(Written::Value)
}

/// What Avro has no value for: null where Debezium is followed strictly.
fn none_or(beyond: Beyond, what: &'static str) -> Result<Written, ValueError> {
    match beyond {
        Beyond::Strict => Ok(Written::Null),
        Beyond::Text | Beyond::Refused => Err(ValueError::OutOfRange(what)),
    }
}

fn boolean(text: &[u8], yes: &[u8], no: &[u8], out: &mut Vec<u8>) -> Result<Written, ValueError> {
    out.push(match text {
        text if text == yes => 1,
        text if text == no => 0,
        // An empty varbit(1).
        b"" => return Ok(Written::Null),
        _ => return Err(ValueError::Malformed),
    });
    Ok(Written::Value)
}

fn float(value: f64, wide: bool, out: &mut Vec<u8>) {
    if wide {
        avro::double(value, out);
    } else {
        // The server's text is the shortest that gives the same four bytes again.
        out.extend_from_slice(&(value as f32).to_le_bytes());
    }
}

fn string(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    std::str::from_utf8(text).map_err(|_| ValueError::NotUtf8)?;
    avro::bytes(text, out);
    Ok(())
}

/// Writes a string whose JSON form has no escapes.
fn unquoted(
    work: &mut Work,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let quoted = &mut work.inner;
    quoted.clear();
    write(quoted)?;
    let text = quoted.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    avro::bytes(text.ok_or(ValueError::Malformed)?, out);
    Ok(())
}

fn bytes(text: &[u8], mode: Binary, work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let digits = text.strip_prefix(b"\\x").ok_or(ValueError::Malformed)?;
    bytea::unhex(digits, &mut work.inner)?;
    match mode {
        Binary::Bytes => avro::bytes(&work.inner, out),
        Binary::Hex => avro::bytes(digits, out),
        Binary::Base64 | Binary::Base64UrlSafe | Binary::Latin1 => {
            let mut quoted = std::mem::take(&mut work.element);
            quoted.clear();
            bytea::write_bytes(&work.inner, mode, &mut quoted);
            avro::bytes(&quoted[1..quoted.len() - 1], out);
            work.element = quoted;
        }
    }
    Ok(())
}

fn money(text: &[u8], mode: Decimal, work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let amount = &mut work.inner;
    numeric::money_amount(text, amount)?;
    match mode {
        Decimal::Precise | Decimal::Bytes => {
            numeric::fixed_bytes(amount, 2, |bytes| avro::bytes(bytes, out))?;
        }
        Decimal::Double => avro::double(number::parse_float(amount)?, out),
        Decimal::String => avro::bytes(amount, out),
    }
    Ok(())
}

fn date(text: &[u8], beyond: Beyond) -> Result<i64, ValueError> {
    match (clock::infinite(text), beyond) {
        (None, _) => Ok(clock::day(text)?.days()),
        (Some(positive), Beyond::Strict) => {
            Ok(i64::from(time::STRICT_INFINITE_DAY[usize::from(positive)]))
        }
        (Some(_), Beyond::Text | Beyond::Refused) => Err(ValueError::OutOfRange(time::INFINITE)),
    }
}

fn timestamp(text: &[u8], unit: Unit, beyond: Beyond) -> Result<i64, ValueError> {
    match (clock::infinite(text), beyond) {
        (None, _) => {
            let (day, micros) = clock::day_and_time(text)?;
            time::in_unit(time::since_1970(day, micros)?, unit)
        }
        (Some(positive), Beyond::Strict) => Ok(time::strict_infinity(positive, unit)),
        (Some(_), Beyond::Text | Beyond::Refused) => Err(ValueError::OutOfRange(time::INFINITE)),
    }
}

fn span(
    text: &[u8],
    mode: Interval,
    beyond: Beyond,
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<Written, ValueError> {
    let is_infinite = clock::infinite(text).is_some();
    match mode {
        Interval::Numeric if is_infinite => {
            return none_or(beyond, interval::INFINITE);
        }
        Interval::String if is_infinite && beyond == Beyond::Strict => {
            return Ok(Written::Null);
        }
        Interval::Numeric => avro::long(interval::micros(text)?, out),
        Interval::String => unquoted(work, out, |it| interval::write(text, mode, beyond, it))?,
    }
    Ok(Written::Value)
}

fn hstore(text: &[u8], mode: Hstore, work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut buffer = std::mem::take(&mut work.element);
    let result = match mode {
        Hstore::Map => {
            let result = hstore::walk(text, &mut buffer, &mut |step| {
                match step {
                    HstoreStep::Key(key) => {
                        avro::long(1, out);
                        string(key, out)?;
                    }
                    HstoreStep::Null => avro::long(0, out),
                    HstoreStep::Value(value) => {
                        avro::long(1, out);
                        string(value, out)?;
                    }
                }
                Ok(())
            });
            avro::long(0, out);
            result
        }
        Hstore::Json => {
            work.inner.clear();
            let result = hstore::object(text, &mut buffer, &mut work.inner);
            avro::bytes(&work.inner, out);
            result
        }
    };
    work.element = buffer;
    result
}

fn point(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (x, y) = geometry::coordinates(text)?;
    let (x, y) = (number::parse_float(x)?, number::parse_float(y)?);
    avro::double(x, out);
    avro::double(y, out);
    avro::long(1, out);
    avro::bytes(&geometry::wkb(x, y), out);
    // No SRID.
    avro::long(0, out);
    Ok(())
}

fn geometry(text: &[u8], work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
    bytea::unhex(text, &mut work.inner)?;
    avro::bytes(&work.inner, out);
    match geometry::srid(&work.inner).ok_or(ValueError::Malformed)? {
        Some(srid) => {
            avro::long(1, out);
            avro::long(i64::from(srid), out);
        }
        None => avro::long(0, out),
    }
    Ok(())
}

fn sparse_vector(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (dimensions, entries) = geometry::sparse(text, true)?;
    avro::long(i64::from(dimensions), out);
    for entry in entries {
        let (index, value) = entry?;
        avro::long(1, out);
        avro::long(i64::from(index), out);
        avro::double(number::parse_float(value)?, out);
    }
    avro::long(0, out);
    Ok(())
}

/// Writes an array, each item as a block of its own: its number of items is not known before its end.
fn items(
    text: &[u8],
    element: &Kind,
    delimiter: u8,
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut buffer = std::mem::take(&mut work.element);
    let mut depth = 0;
    let result = array::walk(text, delimiter, &mut buffer, &mut |step| {
        match step {
            Step::Open if depth == 1 => {
                return Err(ValueError::OutOfRange(array::NESTED));
            }
            Step::Open => depth += 1,
            Step::Next => {}
            Step::Close => avro::long(0, out),
            Step::Null => {
                avro::long(1, out);
                avro::long(0, out);
            }
            Step::Element(text) => {
                avro::long(1, out);
                let start = out.len();
                avro::long(1, out);
                if write(element, text, work, out)? == Written::Null {
                    out.truncate(start);
                    avro::long(0, out);
                }
            }
        }
        Ok(())
    });
    work.element = buffer;
    result
}
