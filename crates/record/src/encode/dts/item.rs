//! One value → one item of the union (formats/dts-avro.md, section 6.1).

use super::kind::{Kind, OTHER};
use crate::encode::civil::Civil;
use crate::encode::debezium::Work;
use crate::encode::{ValueError, avro, bytea, clock, number};

/// Branches of the union.
mod branch {
    pub(super) const NULL: i64 = 0;
    pub(super) const INTEGER: i64 = 1;
    pub(super) const CHARACTER: i64 = 2;
    pub(super) const DECIMAL: i64 = 3;
    pub(super) const FLOAT: i64 = 4;
    pub(super) const DATE_TIME: i64 = 6;
    pub(super) const TIMESTAMP_WITH_TIME_ZONE: i64 = 7;
    pub(super) const BINARY_GEOMETRY: i64 = 8;
    pub(super) const BINARY_OBJECT: i64 = 10;
    pub(super) const TEXT_OBJECT: i64 = 11;
    pub(super) const EMPTY_OBJECT: i64 = 12;
}

/// Symbol of `EmptyObject` for a value that is not known; the other one makes readers throw.
const NONE: i64 = 1;
/// What the vendor's writer puts beside every float.
const FLOAT_PRECISION: i64 = 8;
const FLOAT_SCALE: i64 = 15;

pub(super) fn null(out: &mut Vec<u8>) {
    avro::long(branch::NULL, out);
}

/// A value that is not known: not logged, or unchanged and stored elsewhere.
pub(super) fn unknown(out: &mut Vec<u8>) {
    avro::long(branch::EMPTY_OBJECT, out);
    avro::long(NONE, out);
}

/// Writes a value that the server sent as `text`.
///
/// # Errors
/// When `text` is no value of the kind; `out` then ends somewhere in it.
pub(super) fn write(
    kind: Kind,
    text: &[u8],
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    match kind {
        Kind::Integer => integer(text, out),
        Kind::Character => character(text, out),
        Kind::Decimal => decimal(text, out),
        Kind::Float => float(text, out),
        Kind::Date | Kind::Timestamp | Kind::TimestampTz if clock::infinite(text).is_some() => {
            text_object(OTHER, text, out)
        }
        Kind::Date => {
            let day = clock::day(text)?;
            avro::long(branch::DATE_TIME, out);
            date_time(Some(day), None, out);
            Ok(())
        }
        Kind::Time => {
            let micros = clock::time_of_day(text)?;
            avro::long(branch::DATE_TIME, out);
            date_time(None, Some(micros), out);
            Ok(())
        }
        Kind::TimeTz => {
            // The zone is what follows the time, as the server prints it.
            let zone = text.iter().position(|byte| matches!(byte, b'+' | b'-'));
            let (time, zone) = text.split_at(zone.ok_or(ValueError::Malformed)?);
            let micros = clock::time_of_day(time)?;
            avro::long(branch::TIMESTAMP_WITH_TIME_ZONE, out);
            date_time(None, Some(micros), out);
            time_zone(zone, out)
        }
        Kind::Timestamp => {
            let (day, micros) = clock::day_and_time(text)?;
            avro::long(branch::DATE_TIME, out);
            date_time(Some(day), Some(micros), out);
            Ok(())
        }
        Kind::TimestampTz => {
            let (day, micros) = clock::day_and_time_utc(text)?;
            avro::long(branch::TIMESTAMP_WITH_TIME_ZONE, out);
            date_time(Some(day), Some(micros), out);
            avro::string("+00:00", out);
            Ok(())
        }
        Kind::Bytes => {
            let digits = text.strip_prefix(b"\\x").ok_or(ValueError::Malformed)?;
            binary(branch::BINARY_OBJECT, "BYTEA", digits, work, out)
        }
        Kind::Geometry => binary(branch::BINARY_GEOMETRY, "WKB", text, work, out),
        Kind::Bool => {
            let word = match text {
                b"t" => "true",
                b"f" => "false",
                _ => return Err(ValueError::Malformed),
            };
            text_object("BOOL", word.as_bytes(), out)
        }
        Kind::Jsonb => {
            check_utf8(text)?;
            avro::long(branch::BINARY_OBJECT, out);
            avro::string("JSON", out);
            avro::bytes(text, out);
            Ok(())
        }
        Kind::Text(type_) => text_object(type_, text, out),
    }
}

fn integer(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    number::check_integer(text)?;
    avro::long(branch::INTEGER, out);
    avro::long(0, out);
    avro::bytes(text, out);
    Ok(())
}

fn character(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    check_utf8(text)?;
    avro::long(branch::CHARACTER, out);
    avro::string("UTF-8", out);
    avro::bytes(text, out);
    Ok(())
}

/// Precision and scale are of the value, as `java.math.BigDecimal` counts them.
fn decimal(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if number::special(text) {
        return text_object(OTHER, text, out);
    }
    let (precision, scale) = number::precision_and_scale(text).ok_or(ValueError::Malformed)?;
    avro::long(branch::DECIMAL, out);
    avro::bytes(text, out);
    avro::length(precision, out);
    avro::length(scale, out);
    Ok(())
}

fn float(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let value = number::parse_float(text)?;
    avro::long(branch::FLOAT, out);
    avro::double(value, out);
    avro::long(FLOAT_PRECISION, out);
    avro::long(FLOAT_SCALE, out);
    Ok(())
}

/// Year, month, day, hour, minute, second and, in the field `millis`, microseconds; what is not given is
/// null. Year 0 is 1 BC.
fn date_time(day: Option<Civil>, micros: Option<i64>, out: &mut Vec<u8>) {
    let mut field = |value: Option<i64>| match value {
        Some(value) => {
            avro::long(1, out);
            avro::long(value, out);
        }
        None => avro::long(0, out),
    };
    field(day.map(|day| day.year));
    field(day.map(|day| day.month));
    field(day.map(|day| day.day));
    let seconds = micros.map(|micros| micros / 1_000_000);
    field(seconds.map(|seconds| seconds / 3600));
    field(seconds.map(|seconds| seconds / 60 % 60));
    field(seconds.map(|seconds| seconds % 60));
    field(micros.map(|micros| micros % 1_000_000));
}

/// `+08` → `+08:00`; minutes that are there stay.
fn time_zone(zone: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if !zone.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b':')) {
        return Err(ValueError::Malformed);
    }
    let minutes: &[u8] = if zone.len() == 3 { b":00" } else { b"" };
    avro::length(zone.len() + minutes.len(), out);
    out.extend_from_slice(zone);
    out.extend_from_slice(minutes);
    Ok(())
}

fn binary(
    branch: i64,
    type_: &str,
    digits: &[u8],
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    bytea::unhex(digits, &mut work.inner)?;
    avro::long(branch, out);
    avro::string(type_, out);
    avro::bytes(&work.inner, out);
    Ok(())
}

fn text_object(type_: &str, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    check_utf8(text)?;
    avro::long(branch::TEXT_OBJECT, out);
    avro::string(type_, out);
    avro::bytes(text, out);
    Ok(())
}

fn check_utf8(text: &[u8]) -> Result<(), ValueError> {
    std::str::from_utf8(text).map(|_| ()).map_err(|_| ValueError::NotUtf8)
}
