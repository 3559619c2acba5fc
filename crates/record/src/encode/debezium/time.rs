//! Dates and times in `DateStyle = ISO`, `TimeZone = UTC` → numbers or ISO 8601.

use super::civil::{Civil, digits};
use super::kind::Unit;
use crate::encode::ValueError;
use crate::json;
use config::Fidelity;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// `PGStatement.DATE_POSITIVE_INFINITY` and `…NEGATIVE…` of the JDBC driver, in whatever unit.
const STRICT_INFINITY: [i64; 2] = [-9_223_372_036_832_400_000, 9_223_372_036_825_200_000];
/// PostgreSQL's infinite dates counted from 1970, with Debezium's overflow.
const STRICT_INFINITE_DAY: [i32; 2] = [-2_147_472_691, -2_147_472_692];
const STRICT_INFINITE_ISO: [&str; 2] = ["-5877611-06-22Z", "-5877611-06-21Z"];

/// `Some(true)`: infinity; `Some(false)`: -infinity.
pub(super) fn infinite(text: &[u8]) -> Option<bool> {
    match text {
        b"infinity" => Some(true),
        b"-infinity" => Some(false),
        _ => None,
    }
}

/// Writes a date: days since 1970, or ISO 8601.
pub(super) fn date(
    text: &[u8],
    iso: bool,
    fidelity: Fidelity,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if let Some(positive) = infinite(text) {
        match fidelity {
            Fidelity::Lossless => json::string(text, out)?,
            Fidelity::Strict if iso => json::str(STRICT_INFINITE_ISO[usize::from(positive)], out),
            Fidelity::Strict => json::integer(STRICT_INFINITE_DAY[usize::from(positive)], out),
        }
        return Ok(());
    }
    let (text, bc) = era(text);
    let (civil, rest) = Civil::parse(text, bc).ok_or(ValueError::Malformed)?;
    if !rest.is_empty() {
        return Err(ValueError::Malformed);
    }
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
    let (micros, rest) = clock(text).ok_or(ValueError::Malformed)?;
    if !rest.is_empty() {
        return Err(ValueError::Malformed);
    }
    match unit {
        Unit::Iso => {
            out.push(b'"');
            write_clock(micros, None, out);
            out.extend_from_slice(b"Z\"");
            Ok(())
        }
        Unit::Millis | Unit::Micros | Unit::Nanos => in_unit(micros, unit, out),
    }
}

/// Writes a timestamp without time zone, as if it were UTC.
pub(super) fn timestamp(
    text: &[u8],
    unit: Unit,
    fidelity: Fidelity,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if let Some(positive) = infinite(text) {
        match (fidelity, unit) {
            (Fidelity::Lossless, _) | (Fidelity::Strict, Unit::Iso) => json::string(text, out)?,
            (Fidelity::Strict, Unit::Millis | Unit::Micros | Unit::Nanos) => {
                json::integer(STRICT_INFINITY[usize::from(positive)], out);
            }
        }
        return Ok(());
    }
    let (civil, micros, rest) = moment(text).ok_or(ValueError::Malformed)?;
    if !rest.is_empty() {
        return Err(ValueError::Malformed);
    }
    match unit {
        Unit::Iso => {
            out.push(b'"');
            civil.write(out);
            out.push(b'T');
            write_clock(micros, None, out);
            out.extend_from_slice(b"Z\"");
            Ok(())
        }
        Unit::Millis | Unit::Micros | Unit::Nanos => {
            let day = civil.days().checked_mul(DAY_US);
            let since = day.and_then(|day| day.checked_add(micros));
            let limit = "microseconds since 1970 end in the year 294247";
            let since = since.ok_or(ValueError::OutOfRange(limit))?;
            in_unit(since, unit, out)
        }
    }
}

fn in_unit(micros: i64, unit: Unit, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let value = match unit {
        Unit::Millis => micros.div_euclid(1000),
        Unit::Micros | Unit::Iso => micros,
        Unit::Nanos => {
            let limit = "nanoseconds since 1970 end in the year 2262";
            micros.checked_mul(1000).ok_or(ValueError::OutOfRange(limit))?
        }
    };
    json::integer(value, out);
    Ok(())
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
    let (mut civil, mut micros, rest) = moment(text).ok_or(ValueError::Malformed)?;
    let offset = offset(rest).ok_or(ValueError::Malformed)?;
    if offset != 0 {
        let shifted = micros - offset;
        civil = Civil::of_days(civil.days() + shifted.div_euclid(DAY_US));
        micros = shifted.rem_euclid(DAY_US);
    }
    out.push(b'"');
    civil.write(out);
    out.push(b'T');
    write_clock(micros, Some(digits), out);
    out.extend_from_slice(b"Z\"");
    Ok(())
}

/// The form of nearly all timestamps.
const FORM: &[u8; 19] = b"0000-00-00 00:00:00";

fn has_form(text: &[u8; 19]) -> bool {
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        sign => byte == sign,
    };
    text.iter().zip(FORM).fold(true, |all, pair| all & fits(pair))
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

/// Splits off the era.
fn era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |text| (text, true))
}

/// Day, microseconds of the day, and what follows.
fn moment(text: &[u8]) -> Option<(Civil, i64, &[u8])> {
    if let Some((head, rest)) = text.split_first_chunk::<19>()
        && has_form(head)
        && !rest.ends_with(b" BC")
    {
        let two = |at: usize| i64::from(head[at] - b'0') * 10 + i64::from(head[at + 1] - b'0');
        let civil = Civil { year: two(0) * 100 + two(2), month: two(5), day: two(8) };
        let (fraction, rest) = fraction(rest)?;
        let seconds = (two(11) * 60 + two(14)) * 60 + two(17);
        let fits = civil.is_valid() && two(11) < 25 && two(14) < 60 && two(17) <= 60;
        return fits.then_some((civil, seconds * 1_000_000 + fraction, rest));
    }
    let (text, bc) = era(text);
    let (civil, rest) = Civil::parse(text, bc)?;
    let (micros, rest) = clock(rest.strip_prefix(b" ")?)?;
    Some((civil, micros, rest))
}

/// `hh:mm:ss[.ffffff]` of a day → microseconds and what follows.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (micros, rest) = hours(text)?;
    let micros = i64::try_from(micros).ok()?;
    (micros < 25 * HOUR_US).then_some((micros, rest))
}

/// As [`clock`], of as many hours as an interval has.
pub(super) fn hours(text: &[u8]) -> Option<(i128, &[u8])> {
    let (hours, rest) = digits(text, 2, 10)?;
    let (minutes, rest) = digits(rest.strip_prefix(b":")?, 2, 2)?;
    let (seconds, rest) = digits(rest.strip_prefix(b":")?, 2, 2)?;
    if 59 < minutes || 60 < seconds {
        return None;
    }
    let (fraction, rest) = fraction(rest)?;
    let micros = (minutes * 60 + seconds) * 1_000_000 + fraction;
    Some((i128::from(hours) * i128::from(HOUR_US) + i128::from(micros), rest))
}

/// `.ffffff`, which may be missing → microseconds and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let (number, rest) = digits(text, 1, 6)?;
    let missing = 6 - (text.len() - rest.len());
    Some((number * 10i64.pow(u32::try_from(missing).ok()?), rest))
}

/// `+hh[:mm[:ss]]` → microseconds east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'+', text @ ..] => (1, text),
        [b'-', text @ ..] => (-1, text),
        _ => return None,
    };
    let (hours, rest) = digits(text, 2, 2)?;
    let part = |rest: &'_ [u8]| -> Option<(i64, usize)> {
        match rest.strip_prefix(b":") {
            Some(after) => digits(after, 2, 2).map(|(number, _)| (number, 3)),
            None => Some((0, 0)),
        }
    };
    let (minutes, taken) = part(rest)?;
    let rest = &rest[taken..];
    let (seconds, taken) = part(rest)?;
    rest[taken..].is_empty().then_some(sign * ((hours * 60 + minutes) * 60 + seconds) * 1_000_000)
}

/// Writes `hh:mm:ss` and the fraction: so many digits, or without trailing zeros.
fn write_clock(micros: i64, width: Option<u8>, out: &mut Vec<u8>) {
    let seconds = micros / 1_000_000;
    let mut text = *b"00:00:00.000000";
    let mut put = |at: usize, number: i64| {
        text[at] += u8::try_from(number / 10 % 10).unwrap_or(0);
        text[at + 1] += u8::try_from(number % 10).unwrap_or(0);
    };
    put(0, seconds / 3600);
    put(3, seconds / 60 % 60);
    put(6, seconds % 60);
    let fraction = micros % 1_000_000;
    put(9, fraction / 10_000);
    put(11, fraction / 100 % 100);
    put(13, fraction % 100);
    let kept = match width {
        Some(width) => usize::from(width),
        None => text[9..].iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1),
    };
    out.extend_from_slice(&text[..if kept == 0 { 8 } else { 9 + kept }]);
}
