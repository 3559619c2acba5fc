//! Dates and times in `DateStyle = ISO`, `TimeZone = UTC` → numbers or ISO 8601.

use super::kind::{Beyond, Unit};
use crate::encode::ValueError;
use crate::encode::civil::Civil;
use crate::encode::clock::{
    DAY_US, clock, day, day_and_time, day_and_time_utc, has_form, infinite, offset, time_of_day,
    write_clock,
};
use crate::json;

/// `PGStatement.DATE_POSITIVE_INFINITY` and `…NEGATIVE…` of the JDBC driver: what Debezium takes for microseconds. As nanoseconds
/// it has the ends of their range.
const STRICT_INFINITY: [i64; 2] = [-9_223_372_036_832_400_000, 9_223_372_036_825_200_000];
/// The same moments.
const STRICT_INFINITY_ISO: [&str; 2] = ["-290308-12-21T19:59:27.6Z", "+294247-01-10T04:00:25.2Z"];
/// PostgreSQL's infinite dates counted from 1970, with Debezium's overflow.
pub(super) const STRICT_INFINITE_DAY: [i32; 2] = [-2_147_472_691, -2_147_472_692];
const STRICT_INFINITE_ISO: [&str; 2] = ["-5877611-06-22Z", "-5877611-06-21Z"];

/// Why an infinite date or timestamp is refused.
pub(super) const INFINITE: &str = "an infinite date has no number";

/// Debezium's number for an infinite timestamp.
pub(super) fn strict_infinity(positive: bool, unit: Unit) -> i64 {
    let micros = STRICT_INFINITY[usize::from(positive)];
    match unit {
        Unit::Millis => micros / 1000,
        Unit::Micros | Unit::Iso => micros,
        Unit::Nanos if positive => i64::MAX,
        Unit::Nanos => i64::MIN,
    }
}

/// Writes a date: days since 1970, or ISO 8601.
pub(super) fn date(
    text: &[u8],
    iso: bool,
    beyond: Beyond,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if let Some(positive) = infinite(text) {
        match beyond {
            Beyond::Strict if iso => json::str(STRICT_INFINITE_ISO[usize::from(positive)], out),
            Beyond::Strict => json::integer(STRICT_INFINITE_DAY[usize::from(positive)], out),
            Beyond::Refused if !iso => return Err(ValueError::OutOfRange(INFINITE)),
            Beyond::Refused | Beyond::Text => json::string(text, out)?,
        }
        return Ok(());
    }
    let civil = day(text)?;
    if iso {
        out.push(b'"');
        civil.write(out);
        out.extend_from_slice(b"Z\"");
    } else {
        json::integer(civil.days(), out);
    }
    Ok(())
}

/// Writes a time of day; `24:00:00` is a whole day.
pub(super) fn time(text: &[u8], unit: Unit, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let micros = time_of_day(text)?;
    match unit {
        Unit::Iso => {
            out.push(b'"');
            write_clock(micros, None, out);
            out.extend_from_slice(b"Z\"");
        }
        Unit::Millis | Unit::Micros | Unit::Nanos => json::integer(in_unit(micros, unit)?, out),
    }
    Ok(())
}

/// Writes a timestamp without time zone, as if it were UTC.
pub(super) fn timestamp(
    text: &[u8],
    unit: Unit,
    beyond: Beyond,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if let Some(positive) = infinite(text) {
        match (beyond, unit) {
            (Beyond::Strict, Unit::Iso) => {
                json::str(STRICT_INFINITY_ISO[usize::from(positive)], out);
            }
            (Beyond::Text, _) | (_, Unit::Iso) => json::string(text, out)?,
            (Beyond::Strict, _) => json::integer(strict_infinity(positive, unit), out),
            (Beyond::Refused, _) => return Err(ValueError::OutOfRange(INFINITE)),
        }
        return Ok(());
    }
    let (civil, micros) = day_and_time(text)?;
    match unit {
        Unit::Iso => {
            out.push(b'"');
            civil.write(out);
            out.push(b'T');
            write_clock(micros, None, out);
            out.extend_from_slice(b"Z\"");
        }
        Unit::Millis | Unit::Micros | Unit::Nanos => {
            json::integer(in_unit(since_1970(civil, micros)?, unit)?, out);
        }
    }
    Ok(())
}

/// Microseconds since 1970.
pub(super) fn since_1970(civil: Civil, micros: i64) -> Result<i64, ValueError> {
    let day = civil.days().checked_mul(DAY_US);
    let since = day.and_then(|day| day.checked_add(micros));
    since.ok_or(ValueError::OutOfRange("microseconds since 1970 end in the year 294247"))
}

/// Microseconds as a number of the unit.
pub(super) fn in_unit(micros: i64, unit: Unit) -> Result<i64, ValueError> {
    match unit {
        Unit::Millis => Ok(micros.div_euclid(1000)),
        Unit::Micros | Unit::Iso => Ok(micros),
        Unit::Nanos => {
            let limit = "nanoseconds since 1970 end in the year 2262";
            micros.checked_mul(1000).ok_or(ValueError::OutOfRange(limit))
        }
    }
}

/// Writes a time with zone in UTC, fraction without trailing zeros.
pub(super) fn time_tz(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (micros, rest) = clock(text).ok_or(ValueError::Malformed)?;
    let offset = offset(rest).ok_or(ValueError::Malformed)?;
    // 24:00:00 in UTC itself stays: Debezium's boundary value.
    let utc = if offset == 0 { micros } else { (micros - offset).rem_euclid(DAY_US) };
    out.push(b'"');
    write_clock(utc, None, out);
    out.extend_from_slice(b"Z\"");
    Ok(())
}

/// Writes a timestamp with zone in UTC, fraction padded to `digits`.
pub(super) fn timestamp_tz(text: &[u8], digits: u8, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if utc(text, digits, out) {
        return Ok(());
    }
    if infinite(text).is_some() {
        return Ok(json::string(text, out)?);
    }
    let (civil, micros) = day_and_time_utc(text)?;
    out.push(b'"');
    civil.write(out);
    out.push(b'T');
    write_clock(micros, Some(digits), out);
    out.extend_from_slice(b"Z\"");
    Ok(())
}

/// Writes what is in that form and in UTC already: nothing needs to be counted. False: it is not.
fn utc(text: &[u8], digits: u8, out: &mut Vec<u8>) -> bool {
    let Some((moment, zone)) = text.split_first_chunk::<19>() else { return false };
    let Some(fraction) = zone.strip_suffix(b"+00") else { return false };
    let fraction = match fraction {
        [] => fraction,
        [b'.', fraction @ ..] => fraction,
        _ => return false,
    };
    let digits = usize::from(digits);
    if digits < fraction.len() || !fraction.iter().all(u8::is_ascii_digit) || !has_form(moment) {
        return false;
    }
    let mut json = *b"\"0000-00-00T00:00:00.000000Z\"";
    json[1..20].copy_from_slice(moment);
    json[11] = b'T';
    json[21..21 + fraction.len()].copy_from_slice(fraction);
    let end = if digits == 0 { 20 } else { 21 + digits };
    json[end..end + 2].copy_from_slice(b"Z\"");
    out.extend_from_slice(&json[..end + 2]);
    true
}
