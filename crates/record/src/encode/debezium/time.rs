//! Dates and times in `DateStyle = ISO`, `TimeZone = UTC` → numbers or ISO 8601.

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

/// A day of the proleptic Gregorian calendar; year 0 is 1 BC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Civil {
    year: i64,
    month: i64,
    day: i64,
}

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

/// Splits off the era.
fn era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |text| (text, true))
}

/// Day, microseconds of the day, and what follows.
fn moment(text: &[u8]) -> Option<(Civil, i64, &[u8])> {
    let (text, bc) = era(text);
    let (civil, rest) = Civil::parse(text, bc)?;
    let (micros, rest) = clock(rest.strip_prefix(b" ")?)?;
    Some((civil, micros, rest))
}

/// Takes `min` to `max` digits off the front.
fn digits(text: &[u8], min: usize, max: usize) -> Option<(i64, &[u8])> {
    let count = text.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
    if count < min {
        return None;
    }
    let (digits, rest) = text.split_at(count);
    let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some((number, rest))
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
    let (seconds, mut rest) = digits(rest.strip_prefix(b":")?, 2, 2)?;
    if 59 < minutes || 60 < seconds {
        return None;
    }
    let mut micros = (minutes * 60 + seconds) * 1_000_000;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let (number, after) = digits(fraction, 1, 6)?;
        let missing = 6 - (fraction.len() - after.len());
        micros += number * 10i64.pow(u32::try_from(missing).ok()?);
        rest = after;
    }
    Some((i128::from(hours) * i128::from(HOUR_US) + i128::from(micros), rest))
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

impl Civil {
    fn parse(text: &[u8], bc: bool) -> Option<(Self, &[u8])> {
        let (year, rest) = digits(text, 4, 7)?;
        let (month, rest) = digits(rest.strip_prefix(b"-")?, 2, 2)?;
        let (day, rest) = digits(rest.strip_prefix(b"-")?, 2, 2)?;
        let valid = (1..=12).contains(&month) && (1..=31).contains(&day);
        let year = if bc { 1 - year } else { year };
        valid.then_some((Self { year, month, day }, rest))
    }

    /// Days since 1970-01-01. Years are counted from March, so that the leap day comes last.
    fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (cycle, year_of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        let day_of_cycle =
            year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
        cycle * 146_097 + day_of_cycle - 719_468
    }

    fn of_days(days: i64) -> Self {
        let shifted = days + 719_468;
        let (cycle, day_of_cycle) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let leaps = day_of_cycle / 1460 - day_of_cycle / 36_524 + day_of_cycle / 146_096;
        let year_of_cycle = (day_of_cycle - leaps) / 365;
        let day_of_year =
            day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self { year: cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day }
    }

    /// Java's `ISO_LOCAL_DATE`: four digits at least, `+` before more, year 0 for 1 BC.
    fn write(self, out: &mut Vec<u8>) {
        let Self { year, month, day } = self;
        if year < 0 {
            out.push(b'-');
        } else if 9999 < year {
            out.push(b'+');
        }
        let mut text = *b"0000-00-00";
        let mut put = |at: usize, number: i64| {
            text[at] += u8::try_from(number / 10 % 10).unwrap_or(0);
            text[at + 1] += u8::try_from(number % 10).unwrap_or(0);
        };
        put(5, month);
        put(8, day);
        let year = year.abs();
        if year <= 9999 {
            put(0, year / 100);
            put(2, year % 100);
            out.extend_from_slice(&text);
        } else {
            json::integer(year, out);
            out.extend_from_slice(&text[4..]);
        }
    }
}
